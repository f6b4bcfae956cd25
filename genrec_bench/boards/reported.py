"""Published figures, as their papers report them: other data, backbones and budgets than ours.

They are in `reported.yaml` and shown in a table of their own, without ranks, tests or comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from genrec_bench.errors import UserError
from genrec_bench.storage.strict_yaml import parse_yaml, read_fields

FILE = "reported.yaml"

_METRIC = re.compile(r"(?:HR|NDCG|Pass)@[1-9]\d*")


@dataclass(frozen=True)
class Reported:
    """One line of a table in a paper.

    Attributes:
        paper: its short name.
        table: where the figures stand.
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
    dataset: str
    algorithm: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class _Table:
    paper: str
    table: str
    setting: str
    rows: tuple[_Line, ...]


@dataclass(frozen=True)
class _File:
    tables: tuple[_Table, ...]


def load_reported(dataset: str) -> tuple[Reported, ...]:
    """What papers report of a dataset, in order of the file.

    Args:
        dataset: name of the card.
    """
    text = (files("genrec_bench.boards") / FILE).read_text(encoding="utf-8")
    return tuple(line for line in parse_reported(text, FILE) if line.dataset == dataset)


def parse_reported(text: str, where: str) -> tuple[Reported, ...]:
    """Read and check the file's text.

    Args:
        text: of the file.
        where: the file's name, for messages.

    Raises:
        UserError: a key is missing or unknown, a figure is no share, or a line is there twice.
    """
    found: dict[tuple[str, ...], Reported] = {}
    for table in read_fields(_File, parse_yaml(text, where), where).tables:
        for row in table.rows:
            line = Reported(
                table.paper, table.table, row.dataset, row.algorithm, row.metrics, table.setting
            )
            place = (line.paper, line.table, line.dataset, line.algorithm)
            named = f"{where}: {', '.join(place)}"
            if not all(place) or not line.setting or not line.metrics:
                raise UserError(f"{named}: a text is empty, or there is no figure")
            if place in found:
                raise UserError(f"{named}: is there twice")
            for metric, value in line.metrics.items():
                if not _METRIC.fullmatch(metric):
                    raise UserError(f"{named}: {metric!r} is no HR@K, NDCG@K or Pass@K")
                if not 0 <= value <= 1:
                    raise UserError(f"{named}: {metric} is {value}, not between 0 and 1")
            found[place] = line
    return tuple(found.values())
