"""Prepared datasets on disk: one folder each, parquet tables beside a manifest.

    <data directory>/<name>/{items,train,valid,test}.parquet, manifest.json, and users.parquet

The last has users' names by their index, where the source has any.

A folder is written whole under another name and then put in place, so that a reader sees either
the old dataset or the new one. SIDs that the source files bring lie in its table of items; those
that are made here lie apart (`genrec_bench/data/sids/sid_store.py`).
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from genrec_bench.data.cards import MARK, Card, load_card
from genrec_bench.data.columns import TextLists, Texts
from genrec_bench.data.dataset import Contents, Dataset, Examples
from genrec_bench.data.sids.sid_recipe import SIDRecipe
from genrec_bench.data.sids.sid_store import load_sids
from genrec_bench.data.synthetic import generate, world_of
from genrec_bench.errors import DAMAGE, UserError, one_line
from genrec_bench.storage.cached import Unsound, read_sealed, sealed
from genrec_bench.storage.digests import file_sha256, json_digest, known_sha256
from genrec_bench.storage.field_kinds import Count, Figures, Line, Sha256, Word
from genrec_bench.storage.files import write_json
from genrec_bench.storage.folders import at_home, written_whole
from genrec_bench.storage.parquet import read_table
from genrec_bench.storage.validation import PlainName, checked, one_of

SPLITS = ("train", "valid", "test")
TABLES = ("items", *SPLITS)

MADE = ("imported", "prepared", "drawn")
"""How a dataset may have come about."""

USERS = "users"
"""A table of names, where the source has any."""


@dataclasses.dataclass(frozen=True)
class _Report:
    """What is asked of a report; it may say more."""

    counts: Mapping[Word, Count] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """What a manifest says; it may say more."""

    made: Annotated[str, one_of(MADE)]
    card: Sha256
    fingerprint: Sha256
    sid_fingerprint: Line
    sources: Mapping[Line, Sha256]
    files: Mapping[PlainName, Sha256]
    ceiling: Mapping[Word, Figures]
    report: _Report
    items: Count
    rows: Mapping[Word, Count]
    partial: bool
    layout: Word = ""
    differs_from_card: tuple[Line, ...] = ()


def data_directory(argument: str | None) -> Path:
    """Return the folder of prepared datasets.

    It is what `--data-dir` said, else $GENREC_BENCH_DATA, else the user's cache folder.
    """
    chosen = argument or os.environ.get("GENREC_BENCH_DATA")
    if chosen:
        return at_home(chosen, "--data-dir" if argument else "$GENREC_BENCH_DATA")
    if sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return at_home(cache, "the user's cache folder") / "genrec-bench"


def ways_to_prepare(card: Card, *, again: bool = False) -> str:
    """Return the commands that prepare the card's dataset, ``again`` over one that is there."""
    prepare, more = [], " --replace" if again else ""
    if card.raw:
        files = (("--reviews", card.raw.interactions), ("--metadata", card.raw.items))
        # Nobody knows where files that no program may fetch lay the first time.
        own = [f" {option} FILE" for option, file in files if again and file and not file.url]
        prepare.append(f"`genrec-bench data prepare {card.name}{''.join(own)}{more}`")
    load = [
        f"`genrec-bench data import {layout} DIR --as {card.name}{more}`" for layout in card.imports
    ]
    told = " or ".join(prepare + load)
    return f"{told}, where DIR holds the source files" if load else told


def split_name(name: str) -> tuple[str, str]:
    """Split ``NAME@LABEL`` into a card's name and a label, "" for none; UserError for ``NAME@``."""
    base, mark, label = name.partition(MARK)
    if mark and not label:
        raise UserError(f"dataset {name!r}: behind {MARK} belongs a label of SIDs")
    return base, label


def is_prepared(name: str, data_dir: Path) -> bool:
    """Return whether the dataset's folder has a manifest."""
    return (data_dir / name / "manifest.json").is_file()


def load_dataset(name: str, data_dir: Path) -> Dataset:
    """Return the dataset `name`; `synthetic` is drawn and kept when it is not there yet.

    A card's name stands for the SIDs that its files bring, or else those of the card's recipe;
    ``NAME@LABEL`` for SIDs that `genrec-bench sids build` made.

    Raises:
        UserError: unknown name; not prepared yet (the message is the command to type), or made
            from another version of the card.
        Unsound: files are missing, unreadable or altered.
    """
    base, label = split_name(name)
    return dataset_of(load_contents(base, data_dir), label, data_dir)


def dataset_of(contents: Contents, label: str, data_dir: Path) -> Dataset:
    """Return the dataset with the SIDs of a label; see `load_dataset` for "" and for errors."""
    if not label and contents.sids is not None:
        return contents.own
    sids = load_sids(contents, label or card_recipe(contents.card)[2], data_dir)
    name = f"{contents.card.name}{MARK}{label}" if label else contents.card.name
    return contents.with_sids(sids.codes, sids.codes_per_level, name)


def card_recipe(card: Card) -> tuple[SIDRecipe, tuple[int, ...], str]:
    """Return a card's recipe of SIDs, its codes per level, and the label of such SIDs."""
    assert card.sids is not None, "files without SIDs come from a card with a recipe"
    return card.sids, card.codes_per_level, card.sids.label(card.codes_per_level)


def load_contents(name: str, data_dir: Path) -> Contents:
    """Return a card's dataset without SIDs; see `load_dataset`, also for what it raises."""
    card = load_card(name)
    manifest = read_manifest(name, data_dir) if is_prepared(name, data_dir) else None
    current = manifest is not None and is_current(card, manifest)
    if card.layout == "synthetic" and not current:
        return draw_contents(card, data_dir)
    if manifest is None:
        raise UserError(f"dataset {name!r} is not in {data_dir}: {ways_to_prepare(card)}")
    folder = data_dir / name
    if not current:
        raise UserError(f"{folder} was made from another version of the card; {_again(card)}")
    if changed := changed_files(name, data_dir):
        what = "is missing" if not Path(changed[0]).exists() else "was changed since it was written"
        raise Unsound(f"{changed[0]} {what}; {_again(card)}")
    tables = {table: _read_table(folder / f"{table}.parquet", card) for table in TABLES}
    try:
        contents = _contents(card, tables, manifest, _user_names(folder, card))
        sid_fingerprint = "" if contents.sids is None else contents.own.sid_fingerprint
        found = contents.fingerprint, sid_fingerprint
    except (*DAMAGE, pa.ArrowException) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise Unsound(f"{folder} is not a prepared dataset ({reason}); {_again(card)}") from error
    kept = manifest["fingerprint"], manifest["sid_fingerprint"]
    if found != kept:
        raise Unsound(f"{folder}: contents differ from its manifest; {_again(card)}")
    return contents


def draw_contents(card: Card, data_dir: Path) -> Contents:
    """Return the contents of a card that is drawn, drawn and kept now."""
    contents = generate(card)
    save_contents(contents, data_dir, {})
    return contents


def save_contents(contents: Contents, data_dir: Path, sources: Mapping[str, str]) -> Path:
    """Write the dataset's folder, replacing an earlier one as a whole, and return it.

    ``sources`` holds the sha256 of each source file, by its path in the source folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    card, num_items = contents.card, len(contents.item_names)
    items: dict[str, Any] = {
        "name": pa.array(contents.item_names, pa.string()),
        "title": pa.array(contents.titles, pa.string()),
        "description": pa.array(contents.descriptions, pa.string()),
        "categories": pa.array(contents.categories, pa.list_(pa.string())),
    }
    if contents.sids is not None:
        offsets = np.arange(num_items + 1) * contents.sids.shape[1]
        items["sid"] = pa.LargeListArray.from_arrays(offsets, contents.sids.reshape(-1))
    tables = {"items": items}
    if contents.user_names:
        tables[USERS] = {"name": pa.array(contents.user_names, pa.string())}
    for split, part in contents.splits.items():
        history = pa.LargeListArray.from_arrays(part.history_offsets, part.history_items)
        tables[split] = {"user": part.users, "history": history, "target": part.targets}
        if split in contents.times:
            tables[split]["time"] = contents.times[split]
    manifest = {
        "name": card.name,
        "version": card.version,
        "made": contents.made,
        "layout": contents.layout or card.layout,
        "card": _card_hash(card, contents.made, contents.layout or card.layout),
        "sources": dict(sources),
        "differs_from_card": differing_sources(card, sources),
        "rows": {split: len(part) for split, part in contents.splits.items()},
        "items": num_items,
        "partial": contents.partial,
        "fingerprint": contents.fingerprint,
        "sid_fingerprint": "" if contents.sids is None else contents.own.sid_fingerprint,
        "ceiling": contents.ceiling,
        "report": contents.report,
    }
    with written_whole(data_dir / card.name) as folder:
        for table, columns in tables.items():
            pq.write_table(pa.table(columns), folder / f"{table}.parquet")
        files = {path.name: file_sha256(path) for path in folder.iterdir()}
        write_json(folder / "manifest.json", sealed(manifest | {"files": files}))
    return data_dir / card.name


def read_manifest(name: str, data_dir: Path) -> dict[str, Any]:
    """Return the manifest of a prepared dataset.

    Raises:
        Unsound: it is missing, none, or was changed.
    """
    path = data_dir / name / "manifest.json"
    try:
        manifest = read_sealed(path)[0]
    except Unsound as error:
        raise Unsound(f"{error}; {_again(load_card(name))}") from None
    _, wrong = checked(_Manifest, manifest, extra="ignore")
    if wrong:
        raise Unsound(f"{path} is not a manifest ({wrong[0]}); {_again(load_card(name))}")
    return manifest


def changed_files(name: str, data_dir: Path) -> list[str]:
    """Return the prepared files that are missing or differ from their checksum."""
    expected = read_manifest(name, data_dir)["files"]
    tables = [*TABLES, *([USERS] if f"{USERS}.parquet" in expected else [])]
    paths = [data_dir / name / f"{table}.parquet" for table in tables]
    return [
        str(path)
        for path in paths
        if not path.is_file() or known_sha256(path) != expected.get(path.name)
    ]


def _user_names(folder: Path, card: Card) -> Texts:
    """The users' own names; empty for data that were prepared without."""
    path = folder / f"{USERS}.parquet"
    return Texts.of(_read_table(path, card)["name"] if path.exists() else ())


def _contents(
    card: Card,
    tables: Mapping[str, pa.Table],
    manifest: Mapping[str, Any],
    user_names: Texts,
) -> Contents:
    items = tables["items"]
    sids = None
    if "sid" in items.column_names:
        codes = _numpy(items["sid"].combine_chunks().flatten(), np.int32)
        sids = codes.reshape(items.num_rows, card.num_levels)
    return Contents(
        card=card,
        item_names=Texts.of(items["name"]),
        titles=Texts.of(items["title"]),
        splits={split: _examples(tables[split]) for split in SPLITS},
        sids=sids,
        descriptions=Texts.of(items["description"]),
        categories=TextLists.of(items["categories"]),
        times={
            split: _numpy(tables[split]["time"], np.int64)
            for split in SPLITS
            if "time" in tables[split].column_names
        },
        ceiling=manifest["ceiling"],
        report=manifest["report"],
        layout=manifest["layout"] if manifest["made"] == "imported" else "",
        world=world_of(card),
        user_names=user_names,
    )


def differing_sources(card: Card, sources: Mapping[str, str]) -> list[str]:
    """Return the source files whose sha256 is not the one on the card."""
    return sorted(
        path for path, checksum in sources.items() if card.sha256.get(path, checksum) != checksum
    )


def is_current(card: Card, manifest: Mapping[str, Any]) -> bool:
    """Return whether a prepared dataset is what its card of today asks for."""
    made, layout = manifest.get("made", ""), manifest.get("layout", "")
    return bool(manifest["card"] == _card_hash(card, made, layout))


def _card_hash(card: Card, made: str, layout: str) -> str:
    """Hash what the prepared data depend on, so that rewording a card changes nothing."""
    parts: dict[str, Any] = {
        "name": card.name,
        "version": card.version,
        "made": made,
        "history_length": card.history_length,
        "shared_sids": card.shared_sids,
    }
    if made == "prepared" and card.raw is not None:
        # Where files are fetched from changes nothing; what they are, their sources' hashes tell.
        parts["protocol"] = card.protocol
        columns = dataclasses.asdict(card.raw.columns)
        for name in ("rating", "sequence_separator"):
            if not columns[name]:
                del columns[name]  # as before there were any
        parts["format"] = [card.raw.format, columns]
        if card.raw.least_rating is not None:
            parts["least_rating"] = card.raw.least_rating
        parts["texts"] = card.raw.items is not None
        parts["filters"] = [dataclasses.asdict(step) for step in card.filters]
    else:
        parts["layout"] = layout if layout in card.imports else card.layout
        parts["codes_per_level"] = card.codes_per_level
        parts["synthetic"] = dataclasses.asdict(card.synthetic) if card.synthetic else None
        if card.synthetic is not None and card.synthetic.world is None:
            del parts["synthetic"]["world"]  # as before there were any
    return json_digest(parts)


def _again(card: Card) -> str:
    if card.layout == "synthetic":
        return "delete the folder, and the dataset is drawn anew"
    return f"make it again: {ways_to_prepare(card, again=True)}"


def _read_table(path: Path, card: Card) -> pa.Table:
    try:
        return read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        what = "cannot be read" if path.exists() else "is missing"
        raise Unsound(f"{path} {what}; {_again(card)}") from error


def _examples(table: pa.Table) -> Examples:
    history = table["history"].combine_chunks()
    offsets = _numpy(history.offsets, np.int64)
    return Examples(
        users=_numpy(table["user"], np.int64),
        history_items=_numpy(history.flatten(), np.int32),
        history_offsets=offsets - offsets[0],
        targets=_numpy(table["target"], np.int32),
    )


def _numpy(column: Any, dtype: DTypeLike) -> NDArray[Any]:
    # A copy, because arrow's memory is read-only and torch warns about such arrays.
    values = column.to_numpy(zero_copy_only=False)
    if len(values) and values.dtype.kind not in "iu":
        raise ValueError(f"{values.dtype} where whole numbers belong")
    return np.array(values, dtype=dtype)
