"""Getting a dataset: what is missing of it is fetched, prepared and built first, once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.data.cards import Card, card_place, load_card
from genrec_bench.data.contents import Contents
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.dataset_store import (
    is_prepared,
    load_contents,
    load_dataset,
    save_contents,
    split_name,
    ways_to_prepare,
)
from genrec_bench.data.preparation.raw_recipe import Raw
from genrec_bench.data.sids.sid_store import check_label, labels
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.locks import in_turn

if TYPE_CHECKING:
    from genrec_bench.data.preparation.prepare import Prepared

DOWNLOADS = "downloads"


def obtain(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """Return a dataset, made now as far as it is not there: raw files, examples, SIDs.

    Args:
        name: a card's name, or ``NAME@LABEL`` for SIDs that were built; see ``store.load_dataset``.
        data_dir: see ``store.data_directory``.
        progress: shows what takes its time.

    Raises:
        UserError: it is unknown or damaged, a file cannot be had, or counts are not the card's; the
            message says what to do.
        StorageError: the disk refuses.
    """
    base, label = split_name(name)
    card = load_card(base)
    if label:
        check_label(base, label, data_dir)  # nothing is fetched for SIDs that are not there
    # A data directory that has everything need not be writable.
    if card.raw is not None and _is_missing(base, label, data_dir):
        with _alone(base, data_dir, progress):
            contents = _contents(card, data_dir, progress)
            if not label:
                build_missing_sids(contents, data_dir, progress)
    return load_dataset(name, data_dir)


def _is_missing(base: str, label: str, data_dir: Path) -> bool:
    if not is_prepared(base, data_dir):
        return True
    return not label and missing_sids(load_contents(base, data_dir), data_dir) is not None


def obtain_contents(name: str, data_dir: Path, progress: Progress) -> Contents:
    """Return all of a dataset but its SIDs, made now if it is not there; see `obtain`.

    Args:
        name: a card's name.
        data_dir: see ``store.data_directory``.
        progress: shows what takes its time.
    """
    card = load_card(name)
    if card.raw is not None and not is_prepared(name, data_dir):
        with _alone(name, data_dir, progress):
            return _contents(card, data_dir, progress)
    return load_contents(name, data_dir)


def _contents(card: Card, data_dir: Path, progress: Progress) -> Contents:
    """Do what `obtain_contents` does, for whoever is alone: others may just have done it."""
    name = card.name
    if card.raw is not None and not is_prepared(name, data_dir):
        said = f"{name} is not prepared yet: making it from {card.raw.interactions.file}"
        if card.layout:
            said += f" (or stop, and `genrec-bench data import {card.layout} DIR --as {name}`)"
        progress.say(said)
        _prepare(card, data_dir, progress)
    return load_contents(name, data_dir)


def _alone(name: str, data_dir: Path, progress: Progress) -> AbstractContextManager[None]:
    """Keep others from making the same dataset: several processes of one run come at once."""
    said = f"{name}: another process is making it; waiting"
    return in_turn(data_dir / f".{name}.lock", lambda: progress.say(said))


def prepare_dataset(
    card: Card,
    data_dir: Path,
    progress: Progress,
    *,
    interactions: Path | None = None,
    items: Path | None = None,
    accept_counts: bool = False,
) -> tuple[Prepared, Path]:
    """Make a dataset from its raw files, alone; return what came of it, and its folder.

    Args:
        card: of the dataset.
        data_dir: see ``store.data_directory``.
        progress: shows downloads and lines read.
        interactions: the user's own copy of the file; None to fetch it.
        items: likewise. With the one given and the other not, the other is fetched.
        accept_counts: whether counts may differ from the card's.

    Raises:
        UserError: the card has no raw files, a file cannot be had or read, or counts differ.
        StorageError: the disk refuses.
    """
    # A mistake in what is given leaves nothing behind, not even a lock.
    check_own_files(_raw(card), interactions, items)
    with _alone(card.name, data_dir, progress):
        return _prepare(card, data_dir, progress, interactions, items, accept_counts)


def _raw(card: Card) -> Raw:
    if card.raw is None:
        way = "it is drawn when it is asked for" if card.synthetic else ways_to_prepare(card)
        raise UserError(f"dataset {card.name!r} has no raw files: {way}")
    return card.raw


def _prepare(
    card: Card,
    data_dir: Path,
    progress: Progress,
    interactions: Path | None = None,
    items: Path | None = None,
    accept_counts: bool = False,
) -> tuple[Prepared, Path]:
    """Do what `prepare_dataset` does, for whoever is alone."""
    from genrec_bench.data.preparation.prepare import check_counts, format_report, prepare

    raw = _raw(card)
    interactions, items = raw_files(card.name, raw, interactions, items, data_dir, progress)
    prepared = prepare(
        raw,
        card.filters,
        card.protocol,
        card.history_length,
        interactions,
        items,
        progress,
        card_place(card.name),
    )
    counts = ("users", "items", "interactions", "train_rows", "valid_rows", "test_rows")
    differing = check_counts(prepared, {name: getattr(card.expected, name) for name in counts})
    if differing and not accept_counts:
        progress.say(format_report(prepared.report))
        raise UserError(
            f"{card.name}: counts are not the card's: {'; '.join(differing)}. Nothing was written; "
            f"if these files are what you want: `genrec-bench data prepare {card.name} "
            "--accept-counts`, and the same files"
        )
    if not any(getattr(card.expected, name) for name in counts):
        progress.say(f"{card.name}: its card expects no counts, so that nothing was compared")
    if differing:
        progress.say(f"counts that are not the card's, and are accepted: {'; '.join(differing)}")
    contents = Contents(
        card=card,
        item_names=tuple(prepared.item_names),
        titles=tuple(prepared.titles),
        splits=prepared.splits,
        sids=None,
        descriptions=tuple(prepared.descriptions),
        categories=tuple(prepared.categories),
        times=prepared.target_times,
        report=prepared.report.as_dict() | {"differing_counts": differing},
    )
    return prepared, save_contents(contents, data_dir, prepared.report.files)


def raw_files(
    name: str,
    raw: Raw,
    interactions: Path | None,
    items: Path | None,
    data_dir: Path,
    progress: Progress,
) -> tuple[Path, Path | None]:
    """Return the raw files of a card, downloaded now if they are not there.

    Args:
        name: of the dataset.
        raw: its files.
        interactions: the user's own copy of that file; None for the one in the downloads.
        items: likewise.
        data_dir: see ``store.data_directory``.
        progress: shows the download.

    Returns:
        Interactions, and items or None if the card has none and the user gave none.

    Raises:
        UserError: one cannot be had; the message says how to get it.
        StorageError: the disk refuses.
    """
    from genrec_bench.data.preparation.download import fetch, find

    folder = data_dir / DOWNLOADS / name
    # What cannot be had is told before anything is fetched.
    pairs = (("--reviews", interactions, raw.interactions), ("--metadata", items, raw.items))
    wanted = {option: source for option, own, source in pairs if own is None and source is not None}
    by_hand = {option: source for option, source in wanted.items() if not source.url}
    lacking = {o: source for o, source in by_hand.items() if find(source, folder) is None}
    if lacking:
        files = " and ".join(str(folder / source.file) for source in lacking.values())
        given = [option for option, own, _ in pairs if own is not None]
        options = " ".join(f"{option} FILE" for option in (*given, *lacking))
        told = f"{files} {'is' if len(lacking) == 1 else 'are'} not there"
        raise UserError(
            f"{told}, and no program may fetch what is missing: {raw.how}; or "
            f"`genrec-bench data prepare {name} {options}`"
        )
    fetched = {option: fetch(source, folder, progress) for option, source in wanted.items()}
    return interactions or fetched["--reviews"], items or fetched.get("--metadata")


def check_own_files(raw: Raw, interactions: Path | None, items: Path | None) -> None:
    """Refuse the user's own files where they are not there, or not those that the card means.

    Args:
        raw: the files of the card.
        interactions: the user's own copy; None for none.
        items: likewise.

    Raises:
        UserError: naming the file.
    """
    for own, source in ((interactions, raw.interactions), (items, raw.items)):
        if own is not None and not own.is_file():
            raise UserError(f"{own} is {'no file' if own.exists() else 'missing'}")
        known = source.sha256 if source is not None else ""
        if own is not None and known and (found := file_sha256(own)) != known:
            raise UserError(
                f"{own}: its sha256 is {found}, the card's is {known}; give the file that the card "
                "means, or write a card of your own"
            )


def missing_sids(contents: Contents, data_dir: Path) -> str | None:
    """Return the label of the SIDs of the card's recipe that are to be built; None for none.

    None is to be built where the source files bring SIDs. Those that are damaged, or made of other
    contents or vectors, are as good as missing.
    """
    card = contents.card
    if contents.sids is not None or card.sids is None:
        return None
    # What it needs takes its time to import.
    from genrec_bench.data.sids.build import is_built

    codes = card.codes_per_level
    label = card.sids.label(codes)
    return None if is_built(contents, label, data_dir, card.sids, codes) else label


def build_missing_sids(contents: Contents, data_dir: Path, progress: Progress) -> None:
    """Build the SIDs of the card's recipe, unless they are there or the source brought its own.

    Raises:
        UserError: what they are made of cannot be had.
        StorageError: the disk refuses.
    """
    card, label = contents.card, missing_sids(contents, data_dir)
    if label is None or card.sids is None:
        return
    from genrec_bench.data.sids.build import build

    there = label in labels(card.name, data_dir)
    why = "has SIDs that are damaged or made of something else" if there else "has no SIDs yet"
    progress.say(f"{card.name} {why}: building {label}")
    build(contents, card.sids, card.codes_per_level, label, data_dir, progress)
