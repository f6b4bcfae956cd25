"""Published figures, as their papers report them: other data, backbones and budgets than ours.

They are in `reported.yaml` and shown in a table of their own, without ranks, tests or comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated

from genrec_bench.errors import UserError
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.validation import Must, PlainName, Text, validated

FILE = "reported.yaml"

_METRIC = re.compile(r"(?:HR|NDCG|Pass)@[1-9]\d*")

Metric = Annotated[str, Must(_METRIC.fullmatch, "HR@K, NDCG@K or Pass@K")]
Share = Annotated[float, Must(lambda value: 0 <= value <= 1, "between 0 and 1")]
Metrics = Annotated[Mapping[Metric, Share], Must(bool, "a mapping with at least one figure")]


@dataclass(frozen=True)
class Reported:
    """One line of a table in a paper.

    Attributes:
        dataset: name of our card for the dataset that the paper means.
        algorithm: what the line is, in our words where the paper's are not plain.
        metrics: as printed.
        setting: what was fixed in the paper, in our words.
    """

    paper: str
    table: str
    dataset: str
    algorithm: str
    metrics: Mapping[str, float]
    setting: str


@dataclass(frozen=True)
class _Line:
    dataset: PlainName
    algorithm: Text
    metrics: Metrics


@dataclass(frozen=True)
class _Table:
    paper: Text
    table: Text
    setting: Text
    rows: tuple[_Line, ...]


@dataclass(frozen=True)
class _File:
    tables: tuple[_Table, ...]


def load_reported(dataset: str) -> tuple[Reported, ...]:
    """Return what papers report of a dataset, in order of the file."""
    text = (files("genrec_bench.boards") / FILE).read_text(encoding="utf-8")
    return tuple(line for line in parse_reported(text, FILE) if line.dataset == dataset)


def parse_reported(text: str, where: str) -> tuple[Reported, ...]:
    """Read and check a file's text.

    Raises:
        UserError: the file, called `where`, is not as it should be, or says a line twice.
    """
    found: dict[tuple[str, ...], Reported] = {}
    for table in validated(_File, parse_yaml(text, where), where).tables:
        for row in table.rows:
            place = (table.paper, table.table, row.dataset, row.algorithm)
            if place in found:
                raise UserError(f"{where}: {', '.join(place)}: is there twice")
            found[place] = Reported(*place, row.metrics, table.setting)
    return tuple(found.values())
