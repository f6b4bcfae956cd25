"""Run files: the ranked lists of any system, one for each test example, read and checked.

    .csv, .jsonl, .parquet   a row a place: `example`, `rank`, and `item` or `sid`
    .jsonl, .parquet         a row an example: `example`, and `items` or `sids`, lists, best first
    .trec, .run, .txt        a place a line, as TREC has it: example Q0 item rank score tag

Examples are numbers, from 0 on, in the order of the test split; items go by their names in the
dataset, and SIDs as in `sid_spelling`. Where each user has one test example, a column `user` with
their names will do. Ranks count from 0 or from 1. What `genrec-bench recommend --input` writes and
the kept lists of a run are run files too. A file that is wrong in any place is refused as a whole.

Source of TREC's layout: https://github.com/usnistgov/trec_eval, README, "results_file".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.data.sids.sid_spelling import parse_sid
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.row_files import ENDINGS, read_rows
from genrec_bench.storage.text_files import read_text
from genrec_bench.training.candidate_lists import MISSING
from genrec_bench.training.list_figures import Lists

TREC = (".trec", ".run", ".txt")
"""Endings of files in TREC's layout."""

SPLIT = "test"

_EXAMPLE, _ROW, _USER, _RANK, _SCORE = "example", "row", "user", "rank", "score"
_NAMED = {"sids": "sid", "items": "item", "item": "item", "sid": "sid"}
"""Columns that name what is ranked, and what that is: the first that is there counts."""


@dataclass(frozen=True, eq=False)
class RunFile:
    """A run file that holds what it should.

    Attributes:
        lists: of all test examples, with what a world knows of them.
        ranked: "item" or "sid".
        notes: what was understood of it, one line each.
    """

    lists: Lists
    ranked: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Places:
    """The places of all lists, in the order of the file.

    Attributes:
        path: of the file.
        lines: [m] where each place stands in the file; `word` says what these numbers count.
        columns: [m] `example`, or `user`, `rank`, perhaps `score`, and `item` or `sid`.
        ranked: which of the two.
    """

    path: Path
    lines: NDArray[np.int64]
    word: str
    columns: pd.DataFrame
    ranked: str

    def refuse(self, wrong: NDArray[np.bool_], what: str, **cells: Any) -> None:
        """Raise UserError with the first place where something is wrong, if there is one.

        Args:
            what: with names of columns, or of `cells` ([m] arrays), in braces.
        """
        places = np.flatnonzero(wrong)
        if not len(places):
            return
        first = int(places[0])
        named = {str(name): self.columns[name].iloc[first] for name in self.columns}
        named |= {name: value[first] for name, value in cells.items()}
        more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
        told = what.format(**{name: str(value)[:80] for name, value in named.items()})
        raise UserError(f"{self.path}, {self.word} {self.lines[first]}: {told}{more}")


def read_run_file(path: Path, dataset: Dataset) -> RunFile:
    """Read a file of ranked lists, and check it against the test split of a dataset.

    Raises:
        UserError: the file cannot be read, or is wrong: columns that are missing, unknown examples,
            items or SIDs, an example without a list, two things at one rank, ranks with gaps, an
            item or SID twice in a list, or scores that rise where ranks fall. Names the line.
    """
    found = _read(path)
    if not len(found.columns):
        raise UserError(f"{path}: holds no list")
    examples = _examples(found, dataset)
    ranks = _whole(found, _RANK)
    things = _items(found, dataset) if found.ranked == "item" else _sids(found, dataset)
    num_examples = len(dataset.splits[SPLIT])
    lists = _lists(found, examples, ranks, things, num_examples)
    catalog, targets = dataset.catalog, dataset.splits[SPLIT].targets
    world = dataset.world
    utilities = None if world is None else world.utilities(dataset.splits[SPLIT])
    if found.ranked == "item":
        made = Lists.of_items(lists, targets, catalog, utilities)
    else:
        made = Lists(lists, targets, catalog, catalog.unique_sids[lists], utilities)
    return RunFile(made, found.ranked, tuple(_notes(lists, found)))


def _read(path: Path) -> _Places:
    if path.suffix in TREC:
        return _trec(path)
    if path.suffix not in ENDINGS:
        known = ", ".join((*ENDINGS, *TREC))
        raise UserError(f"{path}: must end in {known}, which says how it is to be read")
    table = read_rows(path)
    named = next((name for name in _NAMED if name in table and _fits(table[name], name)), None)
    who = next((name for name in (_EXAMPLE, _ROW, _USER) if name in table), None)
    listed = named in ("items", "sids")
    for there, wanted in ((who, _EXAMPLE), (named, "item"), (listed or _RANK in table, _RANK)):
        if not there:
            known = ", ".join(map(str, table.columns)) or "none"
            hint = nearest(wanted, map(str, table.columns))
            raise UserError(f"{path}: there is no column {wanted!r} (columns: {known}){hint}")
    assert who is not None and named is not None
    word, first = ("line", 2) if path.suffix == ".csv" else ("line", 1)
    if path.suffix == ".parquet":
        word, first = "row", 0
    if "split" in table:
        table = table[table["split"] == SPLIT]
    lines = table.index.to_numpy(np.int64) + first
    columns = pd.DataFrame({_USER if who == _USER else _EXAMPLE: table[who].to_numpy()})
    if listed:
        values = table[named].tolist()
        if wrong := [n for n, value in enumerate(values) if not isinstance(value, _LIST)]:
            raise UserError(f"{path}, {word} {lines[wrong[0]]}: {named} must be a list")
        lengths = np.array([len(value) for value in values], dtype=np.int64)
        columns = columns.loc[np.repeat(np.arange(len(values)), lengths)].reset_index(drop=True)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns[_RANK] = np.arange(len(columns)) - starts
        columns[_NAMED[named]] = [thing for value in values for thing in value]
        # A second list of an example would else be told as ranks that are there twice.
        lines = np.repeat(lines, lengths)
    else:
        columns[_RANK] = table[_RANK].to_numpy()
        columns[_NAMED[named]] = table[named].to_numpy()
    return _Places(path, lines, word, columns, _NAMED[named])


_LIST = (list, tuple, np.ndarray)


def _fits(column: pd.Series, name: str) -> bool:
    """Whether a column can be what its name says: `items` of CSV, which has no lists, is none."""
    return name not in ("items", "sids") or isinstance(next(iter(column), []), _LIST)


def _trec(path: Path) -> _Places:
    lines = read_text(path).split("\n")
    numbers, rows = [], []
    for number, line in enumerate(lines, start=1):
        if fields := line.split():
            if len(fields) != 6:
                told = f"{len(fields)} fields; TREC has six: example Q0 item rank score tag"
                raise UserError(f"{path}, line {number}: {told}")
            numbers.append(number)
            rows.append((fields[0], fields[2], fields[3], fields[4]))
    columns = pd.DataFrame(rows, columns=[_EXAMPLE, "item", _RANK, _SCORE], dtype=object)
    return _Places(path, np.array(numbers, dtype=np.int64), "line", columns, "item")


def _examples(found: _Places, dataset: Dataset) -> NDArray[np.int64]:
    """[m] the example of each place."""
    examples = dataset.splits[SPLIT]
    if _EXAMPLE in found.columns:
        numbers = _whole(found, _EXAMPLE)
        last = len(examples) - 1
        what = f"there is no example {{example}}; {SPLIT} of {dataset.name} has 0 to {last}"
        found.refuse((numbers < 0) | (numbers > last), what)
        return numbers
    users, names = examples.users, dataset.contents.user_names
    if not names:
        raise UserError(
            f"{found.path}: {dataset.name} was prepared without the names of users: "
            "a column 'example' must say which example a list is of"
        )
    if len(np.unique(users)) < len(users):
        raise UserError(
            f"{found.path}: users have several test examples each: a column 'example' must say "
            "which one a list is of"
        )
    place = {names[user]: example for example, user in enumerate(users.tolist())}
    numbers = _looked_up(found.columns[_USER], place)
    found.refuse(numbers < 0, f"user {{user}} has no test example in {dataset.name}")
    return numbers


def _whole(found: _Places, name: str) -> NDArray[np.int64]:
    """[m] a column of whole numbers."""
    numbers = pd.to_numeric(found.columns[name], errors="coerce").to_numpy(np.float64)
    wrong = ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (np.abs(numbers) > 1e15)
    found.refuse(wrong, f"{name} {{{name}}} is no whole number")
    return numbers.astype(np.int64)


def _items(found: _Places, dataset: Dataset) -> NDArray[np.int64]:
    """[m] the item at each place."""
    place = {name: index for index, name in enumerate(dataset.catalog.item_names)}
    items = _looked_up(found.columns["item"], place)
    what = f"{dataset.name} has no item {{item}}, among {len(place):,} of names such as "
    found.refuse(items < 0, what + repr(dataset.catalog.item_names[0]))
    return items


def _sids(found: _Places, dataset: Dataset) -> NDArray[np.int64]:
    """[m] the SID at each place, as a row of the catalog's distinct ones."""
    catalog, column = dataset.catalog, found.columns["sid"]
    place = {tuple(codes): index for index, codes in enumerate(catalog.unique_sids.tolist())}
    texts = [one if isinstance(one, str) else str(list(one)) for one in column]
    read: dict[str, int] = {}
    for line, text in zip(found.lines.tolist(), texts, strict=True):
        if text not in read:
            where = f"{found.path}, {found.word} {line}"
            read[text] = place.get(parse_sid(text, catalog.num_levels, where), MISSING)
    sids = np.array([read[text] for text in texts], dtype=np.int64)
    found.refuse(sids < 0, f"{dataset.name} has no SID {{sid}}, among {len(place):,}")
    return sids


def _looked_up(column: pd.Series, place: Mapping[str, int]) -> NDArray[np.int64]:
    """[m] the place of each name, -1 where it has none."""
    found = column.astype(str).str.strip().map(place)
    return np.asarray(found.fillna(MISSING), dtype=np.int64)


def _lists(
    found: _Places,
    examples: NDArray[np.int64],
    ranks: NDArray[np.int64],
    things: NDArray[np.int64],
    num_examples: int,
) -> NDArray[np.int32]:
    """[n, W] what stands at each place, -1 behind the end of a list."""
    lengths = np.bincount(examples, minlength=num_examples).astype(np.int64)
    if len(missing := np.flatnonzero(lengths == 0)):
        more = f" and {len(missing) - 1:,} others have" if len(missing) > 1 else " has"
        raise UserError(
            f"{found.path}: example {missing[0]}{more} no list; every one of the {num_examples:,} "
            f"examples of {SPLIT} must have one"
        )
    what = f"{found.ranked} {{{found.ranked}}} stands twice in the list of example {{of}}"
    found.refuse(_again(examples, things), what, of=examples)
    found.refuse(_again(examples, ranks), "example {of} has rank {rank} twice", of=examples)
    first = int(ranks.min())
    if first not in (0, 1):
        raise UserError(f"{found.path}: the first rank is {first}; ranks count from 0 or from 1")
    order = np.lexsort((ranks, examples))
    begins = np.cumsum(lengths) - lengths
    due = np.empty(len(ranks), dtype=np.int64)
    due[order] = first + np.arange(len(ranks)) - np.repeat(begins, lengths)
    what = "example {of} has a gap: rank {rank} stands where {due} is due"
    found.refuse(due != ranks, what, of=examples, due=due)
    if _SCORE in found.columns:
        _check_scores(found, order, examples)
    lists = np.full((num_examples, int(lengths.max())), MISSING, dtype=np.int32)
    lists[examples, ranks - first] = things
    return lists


def _again(examples: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[m] whether an example has had this value before, in the order of the file."""
    order = np.lexsort((values, examples))
    same = np.diff(examples[order], prepend=-1) == 0
    same &= np.diff(values[order], prepend=values[order[:1]] - 1) == 0
    again = np.zeros(len(values), dtype=np.bool_)
    again[order] = same
    return again


def _check_scores(found: _Places, order: NDArray[np.int64], examples: NDArray[np.int64]) -> None:
    """TREC's own programs go by scores; a file in which these say something else means neither."""
    scores = pd.to_numeric(found.columns[_SCORE], errors="coerce").to_numpy(np.float64)
    found.refuse(np.isnan(scores), "score {score} is no number")
    rises = np.zeros(len(scores), dtype=np.bool_)
    inner = np.diff(examples[order], prepend=-1) == 0
    rises[order] = inner & (np.diff(scores[order], prepend=np.inf) > 0)
    found.refuse(rises, "rank {rank} has a higher score than the rank before it: {score}")


def _notes(lists: NDArray[np.int32], found: _Places) -> Sequence[str]:
    num_examples, longest = lists.shape
    notes = [f"{num_examples:,} lists of up to {longest} {found.ranked}s"]
    if short := int((lists[:, -1] < 0).sum()):
        notes.append(
            f"{short:,} lists are shorter than the longest; what is not there counts as a miss"
        )
    return notes
