"""RecBole's benchmark files: interactions that are split already, as LC-Rec publishes them too.

    CATEGORY.{train,valid,test}.inter

They are atomic files: the header names each column with its type, ``user_id:token``. Where there is
a column ``item_id_list:token_seq``, each row is an example with its history. Where there is none,
rows are interactions, and the history of one is what the user took before, in earlier splits too:
by ``timestamp`` if the files have it, else as the rows stand. Items are called as in the files;
``CATEGORY.item``, ``CATEGORY.index.json`` and ``CATEGORY.item.json`` are read where they are there.

Source: https://recbole.io/docs/user_guide/data/atomic_files.html and
https://recbole.io/docs/user_guide/config/data_settings.html (benchmark_filename).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.layouts.catalog_files import catalog_beside, examples_of, in_order
from genrec_bench.data.preparation.formats.atomic import AtomicHeader
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
USER, ITEM, HISTORY, TIME = "user_id", "item_id", "item_id_list", "timestamp"

Row = tuple[str, Sequence[str], str]
"""User, history and target, by their names in the files."""


def read_recbole_splits(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read three files of interactions; ``notes`` gets what there is to say of them."""
    before: dict[str, list[str]] = {}
    named: dict[str, list[Row]] = {}
    for split in SUFFIXES:
        path = _file(folder.path, category, split)
        named[split] = list(_rows(folder, path, before, notes if split == "train" else []))
        if not named[split]:
            raise UserError(f"{path} has no row with a history")
    examples = [row for rows in named.values() for row in rows]
    names = in_order({item for _, history, target in examples for item in (*history, target)})
    index = {name: place for place, name in enumerate(names)}
    users: dict[str, int] = {}
    splits = {}
    for split, rows in named.items():
        splits[split] = examples_of(
            [
                (
                    users.setdefault(user, len(users)),
                    [index[item] for item in history[-card.history_length :]],
                    index[target],
                )
                for user, history, target in rows
            ]
        )
    contents = catalog_beside(folder, folder.path, card, category, names, splits, notes)
    return replace(contents, user_names=tuple(users))


def _file(root: Path, category: str, split: str) -> Path:
    for suffix in SUFFIXES[split]:
        if (path := root / f"{category}.{suffix}.inter").is_file():
            return path
    return root / f"{category}.{SUFFIXES[split][0]}.inter"


def _rows(
    folder: Folder, path: Path, before: dict[str, list[str]], notes: list[str]
) -> Iterator[Row]:
    """Yield the examples of a file; ``before`` has what each user took so far, and gets more."""
    first, *lines = folder.text(path).split("\n")
    header = AtomicHeader.of(first.rstrip("\r"), str(path))
    user, item = header.find(USER, "token"), header.find(ITEM, "token")
    history = header.find(HISTORY, "token_seq") if HISTORY in header.names else None
    time = header.find(TIME, "float", "token") if TIME in header.names else None
    notes.append(f"{path.name}: {header.told}")
    rows = []
    for number, line in enumerate(lines, start=2):
        if line.strip():
            where, fields = f"{path}, line {number}", header.split(line.rstrip("\r"))
            if len(fields) != (width := len(header.names)):
                raise UserError(f"{where}: {len(fields)} fields, the header has {width}")
            if not fields[user] or not fields[item]:
                raise UserError(f"{where}: user_id or item_id is empty")
            rows.append((where, fields))
    if history is not None:
        for _, fields in rows:
            if items := header.sequence(fields[history]):
                yield fields[user], items, fields[item]
        return
    if time is not None:
        rows.sort(key=lambda row: _number(row[1][time], row[0]))
    for _, fields in rows:
        earlier = before.setdefault(fields[user], [])
        if earlier:
            yield fields[user], tuple(earlier), fields[item]
        earlier.append(fields[item])


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: timestamp {text[:40]!r} is not a number") from None
