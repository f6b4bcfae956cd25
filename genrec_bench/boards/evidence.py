"""Records with the tables beside them: all that a board and its verification are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench.runs.record_schema import SPLITS
from genrec_bench.runs.record_tables import OUTCOME_COLUMNS, START_COLUMNS
from genrec_bench.runs.records import has_lists, read_record


@dataclass(frozen=True, eq=False)
class Evidence:
    """A record and the tables beside it.

    Attributes:
        record: checked against its keys and hashes.
        outcomes: of each example, see `records.join_outcomes`; may lack the SFT start's columns.
        curves: what was logged while training.
        path: of the record; None if it was not read from a file.
        lists: the kept lists; None where none were kept or they are not beside the record.
    """

    record: dict[str, Any]
    outcomes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=OUTCOME_COLUMNS))
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    path: Path | None = None
    lists: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return str(self.path) if self.path is not None else str(self.record["run_id"])

    @property
    def on_test(self) -> bool:
        """Whether the run was to be evaluated on the test split; a trial of a sweep is not."""
        return "test" in self.record.get("splits", SPLITS)

    @property
    def knows_start(self) -> bool:
        """Whether the outcomes of the SFT start are kept too."""
        return set(START_COLUMNS) <= set(self.outcomes.columns)

    def of_split(self, split: str) -> pd.DataFrame:
        """Outcomes of one split, in order of examples."""
        chosen = self.outcomes[self.outcomes["split"] == split]
        return chosen.sort_values("example", kind="stable", ignore_index=True)


def read_evidence(path: Path) -> Evidence:
    """Read a record, check keys and hashes, and read the tables beside it.

    Raises:
        UserError: something is missing, damaged or changed; the message names file and key.
    """
    record = read_record(path)
    lists = record.lists if has_lists(path, record) else None
    return Evidence(record, record.outcomes, record.curves, path, lists)
