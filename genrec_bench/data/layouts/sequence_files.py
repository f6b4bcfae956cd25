"""Sequences as text: S3-Rec's layout, and that of SASRec and BERT4Rec.

    s3rec      CATEGORY.txt    a user a line: the user, then all items in order
    bert4rec   CATEGORY.txt    an interaction a line: user and item, each user's in order

Fields are separated by blanks or tabs. Both projects count users and items from 1; here items are
called as in the file. ``CATEGORY.index.json`` and ``CATEGORY.item.json`` are read where they are
there, by the same names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.layouts.catalog_files import (
    catalog_beside,
    examples_of,
    in_order,
    leave_one_out_rows,
)
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder


def read_s3rec(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read one user a line, and split leave-one-out; ``notes`` gets what there is to say."""
    path = folder.path / f"{category}.txt"
    sequences: dict[str, Sequence[str]] = {}
    pairs = 0
    for where, fields in _lines(folder, path):
        if len(fields) < 2:
            raise UserError(f"{where}: a user needs an item: `user item item ...`")
        if fields[0] in sequences:
            hint = ""
            if pairs == len(sequences):
                hint = "; two fields a line and users on several lines are the layout bert4rec"
            raise UserError(f"{where}: user {fields[0]!r} is there twice{hint}")
        pairs += len(fields) == 2
        sequences[fields[0]] = fields[1:]
    return _contents(folder, card, category, sequences, notes)


def read_bert4rec(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read one interaction a line, and split leave-one-out; ``notes`` gets what there is to say."""
    path = folder.path / f"{category}.txt"
    sequences: dict[str, list[str]] = {}
    for where, fields in _lines(folder, path):
        if len(fields) != 2:
            hint = "; more items a line are the layout s3rec" if len(fields) > 2 else ""
            raise UserError(f"{where}: {len(fields)} fields, expected user and item{hint}")
        sequences.setdefault(fields[0], []).append(fields[1])
    return _contents(folder, card, category, sequences, notes)


def _lines(folder: Folder, path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(folder.text(path).split("\n"), start=1):
        if fields := line.split():
            where = f"{path}, line {number}"
            if wrong := [field for field in fields if "::" in field or "," in field]:
                raise UserError(f"{where}: {wrong[0][:40]!r}: blanks or tabs separate the fields")
            yield where, fields


def _contents(
    folder: Folder,
    card: Card,
    category: str,
    sequences: dict[str, Sequence[str]] | dict[str, list[str]],
    notes: list[str],
) -> Contents:
    names = in_order({item for sequence in sequences.values() for item in sequence})
    index = {name: place for place, name in enumerate(names)}
    if all(len(sequence) < 3 for sequence in sequences.values()):
        raise UserError(
            f"{folder.path / category}.txt: no user has three items; leave-one-out needs 3"
        )
    numbered = [[index[item] for item in sequence] for sequence in sequences.values()]
    if short := sum(len(sequence) < 3 for sequence in numbered):
        notes.append(f"{short} of {len(numbered)} users have fewer than 3 items: they only train")
    rows = leave_one_out_rows(numbered, card.history_length)
    splits = {split: examples_of(part) for split, part in rows.items()}
    contents = catalog_beside(folder, folder.path, card, category, names, splits, notes)
    return replace(contents, user_names=tuple(sequences))
