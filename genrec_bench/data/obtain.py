"""Getting a dataset: what is missing of it is fetched, prepared and built first, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.data.cards import Card, load_card
from genrec_bench.data.dataset import Contents, Dataset
from genrec_bench.data.dataset_store import (
    card_recipe,
    dataset_of,
    draw_contents,
    is_prepared,
    load_contents,
    read_manifest,
    save_contents,
    split_name,
    ways_to_prepare,
)
from genrec_bench.data.preparation.raw_recipe import Raw
from genrec_bench.data.sids.sid_store import check_label, labels
from genrec_bench.data.sightings import code_lines
from genrec_bench.data.standing import dataset_stands, refuse_replacing
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import Unsound
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.files import inside
from genrec_bench.storage.locks import in_turn

if TYPE_CHECKING:
    from genrec_bench.data.preparation.prepare import PreparationReport

DOWNLOADS = "downloads"


def obtain(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """Return a dataset, made now as far as it is not there: raw files, examples, SIDs.

    ``name`` is a card's, or ``NAME@LABEL`` for SIDs that were built; see `load_dataset`.

    Raises:
        UserError: it is unknown or damaged, a file cannot be had, or counts are not the card's; the
            message says what to do.
        StorageError: the disk refuses.
    """
    base, label = split_name(name)
    card = load_card(base)
    if label:
        check_label(base, label, data_dir)  # nothing is fetched for SIDs that are not there
    if label or card.sids is None:
        return dataset_of(obtain_contents(base, data_dir, progress), label, data_dir)
    contents = _sound_contents(card, data_dir)
    dataset = None if contents is None else dataset_by_card(contents, data_dir)
    # A data directory that has everything need not be writable.
    if dataset is None:
        from genrec_bench.data.sids.build import VECTORS
        from genrec_bench.data.vectors.item_vectors import check_source

        with _alone(base, data_dir, progress):
            # While we waited for the lock, others may have prepared the dataset or built its SIDs.
            kept = None if contents is None else read_manifest(base, data_dir)["fingerprint"]
            if contents is None:
                check_source(card.sids.embeddings, data_dir / VECTORS)
            if contents is None or contents.fingerprint != kept:
                contents = _make_contents(card, data_dir, progress)
            dataset = dataset_by_card(contents, data_dir)
            return dataset or _build_sids(contents, data_dir, progress)
    return dataset


def dataset_by_card(contents: Contents, data_dir: Path) -> Dataset | None:
    """Return the dataset with the SIDs that its source brings, or else those of the card's recipe.

    None where the recipe's are to be built: those that are damaged, or made of other contents or
    vectors, are as good as missing.
    """
    if contents.sids is not None:
        return contents.own
    # What it needs takes its time to import.
    from genrec_bench.data.sids.build import load_built

    sids = load_built(contents, *card_recipe(contents.card), data_dir)
    name = contents.card.name
    return contents.with_sids(sids.codes, sids.codes_per_level, name) if sids else None


def obtain_contents(name: str, data_dir: Path, progress: Progress) -> Contents:
    """Return all of a card's dataset but its SIDs, made now if it is not there; see `obtain`."""
    card = load_card(name)
    found = _sound_contents(card, data_dir)
    if found is not None:
        return found
    if card.raw is None and card.synthetic is None:
        return load_contents(name, data_dir)  # which says what to type
    with _alone(name, data_dir, progress):
        return _make_contents(card, data_dir, progress)


def _sound_contents(
    card: Card, data_dir: Path, say: Callable[[str], None] = lambda line: None
) -> Contents | None:
    """Return contents that are there; None for none, or damaged ones that can be made again.

    Raises:
        UserError: they are of another version of the card.
        Unsound: they are damaged, and what they were made of is not there.
    """
    if not is_prepared(card.name, data_dir):
        return None
    try:
        return load_contents(card.name, data_dir)
    except Unsound as error:
        if not _can_be_made_again(card, data_dir):
            raise
        say(f"{str(error).partition('; ')[0]}; the dataset is made again")
        return None


def _can_be_made_again(card: Card, data_dir: Path) -> bool:
    """Return whether a damaged dataset would come out as it was: it is drawn, or its files stay."""
    if card.synthetic is not None:
        return True
    try:
        manifest = read_manifest(card.name, data_dir)
        kept = data_dir / DOWNLOADS / card.name
        made = manifest["made"] == "prepared" and card.raw is not None
        sources = manifest["sources"].items()
        return made and all(file_sha256(inside(kept, file)) == found for file, found in sources)
    except (OSError, UserError):
        return False


def _make_contents(card: Card, data_dir: Path, progress: Progress) -> Contents:
    """Return contents, made unless others have just done it; for whoever holds the lock."""
    name = card.name
    found = _sound_contents(card, data_dir, progress.say)
    if found is not None:
        return found
    if card.synthetic is not None:
        return draw_contents(card, data_dir)
    if card.raw is None:
        return load_contents(name, data_dir)
    said = f"{name} is not prepared yet: making it from {card.raw.interactions.file}"
    if card.imports:
        first, *others = card.imports
        said += f" (or stop, and `genrec-bench data import {first} DIR --as {name}`"
        said += f"; other layouts: {', '.join(others)})" if others else ")"
    progress.say(said)
    return _prepare(card, data_dir, progress)[0]


def _build_sids(contents: Contents, data_dir: Path, progress: Progress) -> Dataset:
    """Build the SIDs of the card's recipe, and return the dataset with them."""
    from genrec_bench.data.sids.build import build_sids

    name, recipe = contents.card.name, card_recipe(contents.card)
    source, texts = recipe[0].embeddings, (*contents.titles, *contents.descriptions)
    if source != "collaborative" and not source.endswith(".npy") and not any(texts):
        raise UserError(
            f"{name}: its card makes SIDs of texts, and the files that were imported have none: "
            f"`genrec-bench sids build {name} --embeddings collaborative`, and then "
            f"--dataset {name}@LABEL with the label that it prints"
        )
    there = recipe[2] in labels(name, data_dir)
    why = "has SIDs that are damaged or made of something else" if there else "has no SIDs yet"
    progress.say(f"{name} {why}: building {recipe[2]}")
    sids = build_sids(contents, *recipe, data_dir, progress, replace=True)[0]
    for line in code_lines(sids.codes, sids.codes_per_level):
        progress.say(f"{name}: {line}")
    return contents.with_sids(sids.codes, sids.codes_per_level, name)


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
    replace: bool = False,
) -> PreparationReport | None:
    """Make a dataset from its raw files, and wait while others make it.

    ``interactions`` and ``items`` are the user's own copies; None stands for one to be fetched.
    Another dataset of that name is only replaced where ``replace`` says so.

    Returns:
        What was done; None where it was prepared already from the same files.

    Raises:
        UserError: the card has no raw files, a file cannot be had or read, counts differ, or there
            is another dataset of that name.
        StorageError: the disk refuses.
    """
    from genrec_bench.data.preparation.prepare import Source, check_counts

    # A mistake in what is given leaves nothing behind, not even a lock.
    if card.raw is None:
        way = "it is drawn when it is asked for" if card.synthetic else ways_to_prepare(card)
        raise UserError(f"dataset {card.name!r} has no raw files: {way}")
    check_own_files(card.raw, interactions, items)
    with _alone(card.name, data_dir, progress):
        if not replace and is_prepared(card.name, data_dir):
            files = raw_files(card.name, card.raw, interactions, items, data_dir, progress)
            read = Source(card.raw, *files, progress).files  # refuses one file for both
            sources = {path.name: file_sha256(path) for path in read}
            if dataset_stands(card, data_dir, sources, "prepared"):
                counts = read_manifest(card.name, data_dir)["report"]["counts"]
                if accept_counts or not check_counts(counts, dataclasses.asdict(card.expected)):
                    return None
                return _prepare(card, data_dir, progress, interactions, items)[1]  # which refuses
            what = f"What is made of {', '.join(sources)} by the card of today"
            refuse_replacing(card, data_dir, progress, what, sources)
        return _prepare(card, data_dir, progress, interactions, items, accept_counts)[1]


def _prepare(
    card: Card,
    data_dir: Path,
    progress: Progress,
    interactions: Path | None = None,
    items: Path | None = None,
    accept_counts: bool = False,
) -> tuple[Contents, PreparationReport]:
    """Do what `prepare_dataset` does, for whoever holds the lock."""
    from genrec_bench.data.preparation.prepare import check_counts, format_report, prepare

    assert card.raw is not None
    interactions, items = raw_files(card.name, card.raw, interactions, items, data_dir, progress)
    contents, report = prepare(card, interactions, items, progress)
    differing = check_counts(report.counts, dataclasses.asdict(card.expected))
    if differing and not accept_counts:
        progress.say(format_report(report))
        raise UserError(
            f"{card.name}: counts are not the card's: {'; '.join(differing)}. Nothing was written; "
            f"if these files are what you want: `genrec-bench data prepare {card.name} "
            "--accept-counts`, and the same files"
        )
    if not any(getattr(card.expected, name) for name in report.counts):
        progress.say(f"{card.name}: its card expects no counts, so that nothing was compared")
    for note in report.notes:
        if note.startswith("warning:"):
            progress.say(f"{card.name}: {note}")
    if differing:
        progress.say(f"counts that are not the card's, and are accepted: {'; '.join(differing)}")
    kept = {**contents.report, "differing_counts": differing}
    contents = dataclasses.replace(contents, report=kept)
    save_contents(contents, data_dir, report.files)
    return contents, report


def raw_files(
    name: str,
    raw: Raw,
    interactions: Path | None,
    items: Path | None,
    data_dir: Path,
    progress: Progress,
) -> tuple[Path, Path | None]:
    """Return the files of interactions and items, downloaded now if they are not there.

    ``interactions`` and ``items`` are the user's own copies; None stands for the download, and is
    what is returned for the items of a card that has none.

    Raises:
        UserError: one cannot be had; the message says how to get it.
        StorageError: the disk refuses.
    """
    from genrec_bench.data.preparation.download import fetch, find_file

    folder = data_dir / DOWNLOADS / name
    # What cannot be had is told before anything is fetched.
    pairs = (("--reviews", interactions, raw.interactions), ("--metadata", items, raw.items))
    wanted = {option: source for option, own, source in pairs if own is None and source is not None}
    by_hand = {option: source for option, source in wanted.items() if not source.url}
    lacking = {o: source for o, source in by_hand.items() if find_file(source, folder) is None}
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
    """Raise UserError where one of the user's own files is missing, or not the card's."""
    for own, source in ((interactions, raw.interactions), (items, raw.items)):
        if own is not None and not own.is_file():
            raise UserError(f"{own} is {'no file' if own.exists() else 'missing'}")
        known = source.sha256 if source is not None else ""
        if own is not None and known and (found := file_sha256(own)) != known:
            raise UserError(
                f"{own}: its sha256 is {found}, the card's is {known}; give the file that the card "
                "means, or write a card of your own"
            )
