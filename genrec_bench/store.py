"""Prepared datasets on disk: one folder each, parquet tables beside a manifest.

    <data directory>/<name>/{items,train,valid,test}.parquet, manifest.json

A folder is written whole under another name and then put in place, so that a reader sees either
the old dataset or the new one.
"""

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from genrec_bench.cards import Card, load_card
from genrec_bench.dataset import Dataset, Examples, build_dataset
from genrec_bench.errors import UserError
from genrec_bench.synthetic import generate

SPLITS = ("train", "valid", "test")
TABLES = ("items", *SPLITS)
REPLACE_ATTEMPTS = 5


def data_directory(argument: str | None) -> Path:
    """Return the folder of prepared datasets.

    Args:
        argument: what `--data-dir` said; None falls back on $GENREC_BENCH_DATA, then on the
            platform's cache folder of the user.
    """
    chosen = argument or os.environ.get("GENREC_BENCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "genrec-bench"


def import_command(card: Card) -> str:
    """Return the command that prepares the card's dataset."""
    return f"genrec-bench data import {card.layout} DIR --as {card.name}"


def is_prepared(name: str, data_dir: Path) -> bool:
    """Return whether the dataset's folder has a manifest."""
    return (data_dir / name / "manifest.json").is_file()


def load_dataset(name: str, data_dir: Path) -> Dataset:
    """Return the dataset `name`; `synthetic` is drawn and kept when it is not there yet.

    Args:
        name: a card's name.
        data_dir: see `data_directory`.

    Raises:
        UserError: unknown name; not imported yet (the message is the command to type); files
            missing, unreadable, altered, or made from another version of the card.
    """
    card = load_card(name)
    if card.layout == "synthetic" and not _is_current(card, data_dir):
        dataset = generate(card)
        save_dataset(dataset, data_dir, {})
        return dataset
    if not is_prepared(name, data_dir):
        raise UserError(
            f"dataset {name!r} is not in {data_dir}: import it with `{import_command(card)}`, "
            "where DIR holds the source files"
        )
    folder, manifest = data_dir / name, read_manifest(name, data_dir)
    if manifest["card"] != _card_hash(card):
        raise UserError(f"{folder} was made from another version of the card; {_again(card)}")
    tables = {table: _read_table(folder / f"{table}.parquet", card) for table in TABLES}
    try:
        items = tables["items"]
        dataset = build_dataset(
            card,
            _numpy(items["sid"].combine_chunks().flatten(), np.int32).reshape(
                items.num_rows, card.num_levels
            ),
            items["name"].to_pylist(),
            items["title"].to_pylist(),
            {split: _examples(tables[split]) for split in SPLITS},
            manifest["ceiling"],
        )
        fingerprints = (manifest["fingerprint"], manifest["sid_fingerprint"])
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{folder} is not a prepared dataset ({error}); {_again(card)}") from error
    if fingerprints != (dataset.fingerprint, dataset.sid_fingerprint):
        raise UserError(f"{folder}: contents differ from its manifest; {_again(card)}")
    return dataset


def save_dataset(dataset: Dataset, data_dir: Path, sources: Mapping[str, str]) -> Path:
    """Write the dataset's folder, replacing an earlier one as a whole.

    Args:
        dataset: what to write.
        data_dir: see `data_directory`.
        sources: sha256 of each source file, by path in the source folder.

    Returns:
        The folder.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{dataset.name}-") as temporary:
            # One level down, so that the folder gets ordinary permissions.
            new = Path(temporary) / "new"
            new.mkdir()
            _write(dataset, new, sources)
            _replace(new, data_dir / dataset.name, Path(temporary))
    except OSError as error:
        raise UserError(f"cannot write to {data_dir}: {error}") from error
    return data_dir / dataset.name


def read_manifest(name: str, data_dir: Path) -> dict[str, Any]:
    """Return the manifest of a prepared dataset.

    Raises:
        UserError: missing, or not a manifest.
    """
    path = data_dir / name / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; {_again(load_card(name))}") from error
    needed = {"card", "fingerprint", "sid_fingerprint", "sources", "files", "ceiling"}
    if not isinstance(manifest, dict) or not needed <= manifest.keys():
        raise UserError(f"{path} is not a manifest; {_again(load_card(name))}")
    return manifest


def changed_files(name: str, data_dir: Path) -> list[str]:
    """Return the prepared files that are missing or differ from their checksum."""
    expected = read_manifest(name, data_dir)["files"]
    paths = [data_dir / name / f"{table}.parquet" for table in TABLES]
    return [
        str(path)
        for path in paths
        if not path.is_file() or file_sha256(path) != expected.get(path.name)
    ]


def file_sha256(path: Path) -> str:
    """Return the file's sha256 as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(dataset: Dataset, folder: Path, sources: Mapping[str, str]) -> None:
    catalog = dataset.catalog
    offsets = np.arange(catalog.num_items + 1) * catalog.num_levels
    items = {
        "name": pa.array(catalog.item_names, pa.string()),
        "title": pa.array(catalog.titles, pa.string()),
        "sid": pa.LargeListArray.from_arrays(offsets, catalog.sids.reshape(-1)),
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    for split, examples in dataset.splits.items():
        columns = {
            "user": examples.users,
            "history": pa.LargeListArray.from_arrays(
                examples.history_offsets, examples.history_items
            ),
            "target": examples.targets,
        }
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    manifest = {
        "name": dataset.name,
        "version": dataset.card.version,
        "layout": dataset.card.layout,
        "card": _card_hash(dataset.card),
        "sources": dict(sources),
        "differs_from_card": differing_sources(dataset.card, sources),
        "rows": {split: len(examples) for split, examples in dataset.splits.items()},
        "items": catalog.num_items,
        "partial": dataset.partial,
        "fingerprint": dataset.fingerprint,
        "sid_fingerprint": dataset.sid_fingerprint,
        "ceiling": dataset.ceiling,
        "files": {f"{table}.parquet": file_sha256(folder / f"{table}.parquet") for table in TABLES},
    }
    text = json.dumps(manifest, sort_keys=True, indent=2) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def differing_sources(card: Card, sources: Mapping[str, str]) -> list[str]:
    """Return the source files whose sha256 is not the one on the card."""
    return sorted(
        path for path, checksum in sources.items() if card.sha256.get(path, checksum) != checksum
    )


def _replace(new: Path, final: Path, aside: Path) -> None:
    """Put folder `new` at `final`; what was there goes into `aside`, and back if that fails."""
    for attempt in range(REPLACE_ATTEMPTS):
        old = aside / f"old-{attempt}"
        try:
            final.rename(old)
        except FileNotFoundError:
            pass
        try:
            new.rename(final)
            return
        except OSError:
            if final.exists():
                continue  # another process put its own there in between
            if old.exists():
                old.rename(final)
            raise
    raise OSError(f"another process keeps writing {final}")


def _is_current(card: Card, data_dir: Path) -> bool:
    name = card.name
    return is_prepared(name, data_dir) and read_manifest(name, data_dir)["card"] == _card_hash(card)


def _card_hash(card: Card) -> str:
    """Hash what the prepared data depend on, so that rewording a card changes nothing."""
    parts = {
        "name": card.name,
        "version": card.version,
        "layout": card.layout,
        "history_length": card.history_length,
        "codes_per_level": card.codes_per_level,
        "shared_sids": card.shared_sids,
        "synthetic": dataclasses.asdict(card.synthetic) if card.synthetic else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _again(card: Card) -> str:
    if card.layout == "synthetic":
        return "delete the folder, and the dataset is drawn anew"
    return f"import it again with `{import_command(card)}`"


def _read_table(path: Path, card: Card) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        what = "cannot be read" if path.exists() else "is missing"
        raise UserError(f"{path} {what}; {_again(card)}") from error


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
    return np.array(column.to_numpy(zero_copy_only=False), dtype=dtype)
