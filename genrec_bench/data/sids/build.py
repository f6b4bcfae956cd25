"""SIDs of a dataset: vectors of its items, quantized, collisions resolved, quality measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from genrec_bench.data.cards import MARK
from genrec_bench.data.dataset import Contents
from genrec_bench.data.sids.collisions import resolve
from genrec_bench.data.sids.methods import quantize
from genrec_bench.data.sids.quality_figure import quality_png
from genrec_bench.data.sids.sid_quality import Quality, quality, quality_of
from genrec_bench.data.sids.sid_recipe import SIDRecipe
from genrec_bench.data.sids.sid_store import TEXTS, SIDs, load_sids, save_sids, sids_folder
from genrec_bench.data.standing import refuse_replacing_sids
from genrec_bench.data.vectors.item_vectors import check_source, item_vectors
from genrec_bench.data.vectors.text_encoder import model_files
from genrec_bench.data.vectors.vector_cache import fingerprint
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.locks import in_turn

VECTORS = "embeddings"
"""The cache of item vectors, in the data directory."""


def load_built(
    contents: Contents,
    recipe: SIDRecipe,
    codes_per_level: Sequence[int],
    label: str,
    data_dir: Path,
    exactly: bool = False,
) -> SIDs | None:
    """Return the SIDs of a label if they are whole, of these contents and by this recipe.

    A file of vectors must be the one that they were made of; one that is gone is no reason to
    doubt them. Models are known by name, as their files may be gigabytes; only ``exactly`` asks
    whether a folder of that name holds the same ones.
    """
    try:
        sids = load_sids(contents, label, data_dir)
    except UserError:
        return None
    wanted = dataclasses.asdict(recipe) | {"codes_per_level": list(codes_per_level)}
    if "sha256" in sids.recipe:
        del wanted["embeddings"]
        source = Path(recipe.embeddings)
        if source.suffix == ".npy" and source.is_file():
            wanted["sha256"] = file_sha256(source)
        elif exactly:
            wanted["sha256"] = fingerprint(model_files(recipe.embeddings))
    return sids if wanted.items() <= dict(sids.recipe).items() else None


def build_sids(
    contents: Contents,
    recipe: SIDRecipe,
    codes_per_level: Sequence[int],
    label: str,
    data_dir: Path,
    progress: Progress,
    *,
    replace: bool = False,
) -> tuple[SIDs, Quality, Path]:
    """Make SIDs of a dataset's items and keep them under a label.

    Those that are there already, made by the same recipe of the same vectors, are returned as they
    are. Others of that label are only replaced where ``replace`` says so.

    Of programs that build the same label at once, one does, and the others wait and find it.

    Titles, descriptions and, for collaborative embeddings, training examples are read; nothing of
    valid or test is. ``codes_per_level`` are those before collisions are resolved.

    Returns:
        The SIDs, their quality, and their folder.

    Raises:
        UserError: what they are made of cannot be had, or collisions cannot be resolved; there are
            others of that label.
        StorageError: the disk refuses.
    """
    check_source(recipe.embeddings, data_dir / VECTORS)
    name = f"{contents.card.name}{MARK}{label}"
    folder = sids_folder(contents.card.name, label, data_dir)  # refuses a label before long work
    waiting = f"{name}: another process is building these SIDs; waiting"
    with in_turn(data_dir / f".{name}.lock", lambda: progress.say(waiting)):
        return _build(contents, recipe, codes_per_level, label, data_dir, progress, folder, replace)


def _build(
    contents: Contents,
    recipe: SIDRecipe,
    codes_per_level: Sequence[int],
    label: str,
    data_dir: Path,
    progress: Progress,
    folder: Path,
    replace: bool,
) -> tuple[SIDs, Quality, Path]:
    """Do what `build_sids` does, for whoever holds the lock."""
    name = contents.card.name
    if not replace:
        there = load_built(contents, recipe, codes_per_level, label, data_dir, exactly=True)
        worth = None if there is None else _known_quality(there)
        if there is not None and worth is not None:
            progress.say(f"{name}{MARK}{label} is there already, made so; nothing is built")
            return there, worth, folder
        what = f"SIDs of {Path(recipe.embeddings).name} by {recipe.method}"
        refuse_replacing_sids(contents, label, data_dir, progress, what, _sha256_of(recipe))
    vectors = item_vectors(
        recipe.embeddings,
        contents.titles,
        contents.descriptions,
        contents.splits["train"],
        data_dir / VECTORS,
        progress,
    )
    found = quantize(vectors, recipe.method, codes_per_level, recipe.seed, progress)
    codes, per_level = resolve(
        found.codes, codes_per_level, recipe.collisions, found.distances, found.codebooks[-1]
    )
    known = any(contents.categories)
    # Where items moved, what their SIDs stand for is known but for the last level.
    moved = recipe.collisions == "move" and bool((codes != found.codes).any())
    worth = quality(
        codes,
        per_level,
        vectors,
        None if moved else found.reconstruction,
        contents.categories if known else None,
        found.errors[:-1] if moved else found.errors,
    )
    made_of = dataclasses.asdict(recipe) | {"codes_per_level": list(codes_per_level)}
    # Where files lie is nobody's business; what they hold is.
    if sha256 := _sha256_of(recipe):
        made_of |= {"embeddings": Path(recipe.embeddings).resolve().name, "sha256": sha256}
    if recipe.embeddings != "collaborative" and not recipe.embeddings.endswith(".npy"):
        made_of[TEXTS] = contents.descriptions_sha256
    sids = SIDs(codes, per_level, made_of, dataclasses.asdict(worth))
    figure = quality_png(worth, f"{name}{MARK}{label}")
    return sids, worth, save_sids(sids, contents, label, data_dir, figure)


def _sha256_of(recipe: SIDRecipe) -> str:
    """Return the hash of the file or the folder that holds vectors or a model; "" for neither."""
    if recipe.embeddings.endswith(".npy"):
        return file_sha256(Path(recipe.embeddings))
    files = model_files(recipe.embeddings)
    return fingerprint(files) if files else ""


def _known_quality(found: SIDs) -> Quality | None:
    """Return the quality that was stored with SIDs; None if it was not written so, as by others."""
    try:
        return quality_of(found.quality)
    except ValueError:
        return None
