"""A paper's ablation as data: which rows its tables have, and what the paper says of each.

An ablation is a YAML file, in the package's folder ``ablations`` or anybody's own: adding one needs
no Python. Rows that are the same run are run once, in however many tables they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.text_files import read_text
from genrec_bench.storage.validation import Must, PlainName, is_plain_name, require, validated

SUFFIX = ".yaml"


def _are_words(words: Sequence[str]) -> bool:
    names = [word.partition("=")[0] for word in words]
    return all("=" in word for word in words) and len(set(names)) == len(names)


def _distinct(attribute: str | None = None) -> Must:
    """Return the condition that a list has entries, with names that are neither empty nor equal."""

    def holds(entries: Sequence[Any]) -> bool:
        names = [getattr(entry, attribute) if attribute else entry for entry in entries]
        return bool(names) and all(names) and len(set(names)) == len(names)

    return Must(holds, "a list that is not empty, without the same name twice")


Words = Annotated[tuple[str, ...], Must(_are_words, "words key=value, each key once")]


@dataclass(frozen=True)
class Metric:
    """A column of a table: the mean of some of a record's metrics, which `mean` names."""

    name: str
    mean: Annotated[tuple[str, ...], _distinct()]


@dataclass(frozen=True)
class AblationRow:
    """A line of a table: what is trained, and how it is evaluated.

    Attributes:
        sft: whether it is the SFT start, which is not trained any further.
        algorithm: instead of the ablation's.
        set: words of ``--set`` for the training.
        evaluate: words that change inference alone: the trained policy is evaluated with them.
        published: the paper's figures by dataset, one for each metric; None where it has none.
    """

    label: str
    sft: bool = False
    algorithm: str | None = None
    set: Words = ()
    evaluate: Words = ()
    published: Mapping[PlainName, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class AblationTable:
    """A table of the paper; its name is the paper's number of it."""

    name: str
    metrics: Annotated[tuple[Metric, ...], _distinct("name")]
    rows: Annotated[tuple[AblationRow, ...], _distinct("label")]
    note: str = ""


@dataclass(frozen=True)
class Ablation:
    """All that a file says.

    Attributes:
        setting: in words, what the published figures were measured with.
        algorithm: of the rows that name none; a name, or the path of a Python file.
    """

    title: str
    paper: str
    setting: str
    algorithm: str
    tables: Annotated[tuple[AblationTable, ...], _distinct("name")]

    def only(self, names: Sequence[str]) -> Ablation:
        """Return the ablation with the tables of these names alone.

        Raises:
            UserError: there is no table of one of these names.
        """
        known = [table.name for table in self.tables]
        for name in names:
            if name not in known:
                hint = nearest(name, known)
                raise UserError(f"--tables {name}: must be of {', '.join(known)}{hint}")
        return replace(self, tables=tuple(table for table in self.tables if table.name in names))


def ablation_names() -> list[str]:
    """Return the names of the package's own ablations, sorted."""
    return sorted(
        entry.name.removesuffix(SUFFIX)
        for entry in (files("genrec_bench") / "studies" / "ablations").iterdir()
        if entry.name.endswith(SUFFIX)
    )


def load_ablation(argument: str) -> tuple[str, Ablation]:
    """Read and check an ablation, given by its name or by its file; return its name and content.

    Raises:
        UserError: there is none, or the file is not as it should be (names file and key).
    """
    if argument.endswith(SUFFIX) or not is_plain_name(argument):
        path, where = Path(argument), argument
        text = read_text(path, f"ablation {argument}")
        name = path.stem
    else:
        names = ablation_names()
        if argument not in names:
            raise UserError(
                f"unknown ablation {argument!r}{nearest(argument, names)}; the ablations are "
                f"{', '.join(names)}, or a file of your own: ./mine.yaml"
            )
        name, where = argument, f"ablations/{argument}{SUFFIX}"
        resource = files("genrec_bench") / "studies" / "ablations" / f"{argument}{SUFFIX}"
        text = resource.read_text(encoding="utf-8")
    ablation = validated(Ablation, _spelled_out(parse_yaml(text, where)), where)
    _check(ablation, where)
    return name, ablation


def _spelled_out(content: Any) -> Any:
    """Write a metric that is given as a key alone as the mean of that key."""
    if not isinstance(content, dict) or not isinstance(content.get("tables"), list):
        return content
    tables = []
    for table in content["tables"]:
        metrics = table.get("metrics") if isinstance(table, dict) else None
        if isinstance(metrics, list):
            spelled = [{"name": m, "mean": [m]} if isinstance(m, str) else m for m in metrics]
            table = table | {"metrics": spelled}
        tables.append(table)
    return content | {"tables": tables}


def _check(ablation: Ablation, where: str) -> None:
    """Raise UserError where the parts do not fit together."""
    for number, table in enumerate(ablation.tables, start=1):
        place, columns = f"tables.{number}.rows", len(table.metrics)
        for line, row in enumerate(table.rows, start=1):
            trained = row.algorithm is not None or bool(row.set) or bool(row.evaluate)
            alone = not (row.sft and trained)
            require(alone, where, f"{place}.{line}.sft", "without algorithm, set and evaluate")
            for dataset, figures in row.published.items():
                each = f"a list of {columns}, one for each metric"
                fits = len(figures) == columns
                require(fits, where, f"{place}.{line}.published.{dataset}", each)
        more = "more than the SFT start, which is read from another row's record"
        require(not all(row.sft for row in table.rows), where, place, more)
