"""SIDs that were made for a dataset, on disk: apart from it, by name and label.

    <data directory>/sids/<name>/<label>/{sids.parquet, manifest.json, quality.png}

They hold for the contents that they were made of, and are refused for others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from genrec_bench.data.dataset import Contents
from genrec_bench.data.sids.sid_recipe import as_label, reads_as_recipe
from genrec_bench.errors import DAMAGE, UserError, nearest, one_line
from genrec_bench.storage.cached import Unsound, read_sealed, sealed
from genrec_bench.storage.digests import content_digest, file_sha256
from genrec_bench.storage.field_kinds import Facts, Line, Sha256, Word
from genrec_bench.storage.files import write_json
from genrec_bench.storage.folders import written_whole
from genrec_bench.storage.parquet import read_table
from genrec_bench.storage.validation import between, checked

FOLDER = "sids"
TABLE, MANIFEST, FIGURE = "sids.parquet", "manifest.json", "quality.png"
TEXTS = "descriptions_sha256"
"""Key of a recipe whose SIDs were made of texts; titles are part of the contents' fingerprint."""

LONGEST_LABEL = 100
"""Characters; folders may have names of 255 bytes."""


@dataclass(frozen=True, eq=False)
class SIDs:
    """SIDs of all items of a dataset.

    Attributes:
        codes: [num_items, L] zero-based, in the order of the dataset's items.
        codes_per_level: codes available on each level.
        recipe: how they were made, as JSON holds it.
        quality: what they are worth, as JSON holds it.
    """

    codes: NDArray[np.int32]
    codes_per_level: tuple[int, ...]
    recipe: Mapping[str, Any]
    quality: Mapping[str, Any]


@dataclass(frozen=True)
class _Manifest:
    """What is kept beside SIDs."""

    contents: Line
    codes_per_level: tuple[Annotated[int, between(1, 2**31 - 1)], ...]
    recipe: Mapping[Word, Facts]
    quality: Mapping[Word, Any]
    sha256: Sha256


def labels(name: str, data_dir: Path) -> list[str]:
    """Return the labels of the SIDs that were made for a dataset, sorted."""
    found = (data_dir / FOLDER / name).glob(f"*/{MANIFEST}")
    return sorted(path.parent.name for path in found)


def sids_folder(name: str, label: str, data_dir: Path) -> Path:
    """Return where the SIDs of a label lie, or would.

    Raises:
        UserError: the label is no name of a folder.
    """
    good = label and label == as_label(label) and not label.startswith(".")
    if not good or len(label) > LONGEST_LABEL:
        raise UserError(
            f"label {label!r}: must be letters, digits, '-', '_' and '.', at most {LONGEST_LABEL} "
            "of them, and not begin with '.'"
        )
    return data_dir / FOLDER / name / label


def check_label(name: str, label: str, data_dir: Path) -> None:
    """Refuse a label of which a dataset has no SIDs; what they hold is not looked at.

    Raises:
        UserError: there are none, and the message says which there are and what to type; or the
            label is no name of a folder.
    """
    sids_folder(name, label, data_dir)
    known = labels(name, data_dir)
    if label not in known:
        there = f"; there are {', '.join(known)}" if known else ""
        raise UserError(
            f"dataset {name!r} has no SIDs {label!r}{nearest(label, known)}{there}; "
            f"make them with {_command(name, label)}"
        )


def _command(name: str, label: str) -> str:
    """What to type for SIDs of a label; those of a recipe are called so by their options."""
    if reads_as_recipe(label):
        return f"`genrec-bench sids build {name}` and the options that the label tells"
    return f"`genrec-bench sids build {name} --as {label}`, or import them"


def save_sids(
    sids: SIDs, contents: Contents, label: str, data_dir: Path, figure: bytes | None
) -> Path:
    """Write SIDs of contents, replacing earlier ones of that label; return the folder.

    ``figure`` shows their quality, as PNG; None for none.

    Raises:
        UserError: the label is no name of a folder.
        StorageError: the disk refuses.
    """
    folder = sids_folder(contents.card.name, label, data_dir)
    with written_whole(folder) as new:
        offsets = np.arange(len(sids.codes) + 1) * sids.codes.shape[1]
        column = pa.LargeListArray.from_arrays(offsets, sids.codes.reshape(-1))
        pq.write_table(pa.table({"sid": column}), new / TABLE)
        manifest = {
            "contents": contents.fingerprint,
            "codes_per_level": list(sids.codes_per_level),
            "recipe": dict(sids.recipe),
            "quality": dict(sids.quality),
            "sha256": file_sha256(new / TABLE),
        }
        write_json(new / MANIFEST, sealed(manifest))
        if figure is not None:
            (new / FIGURE).write_bytes(figure)
    return folder


def manifest_of(name: str, label: str, data_dir: Path) -> dict[str, Any] | None:
    """Return what is kept beside SIDs; None where it, or their table, is damaged or missing."""
    folder = sids_folder(name, label, data_dir)
    try:
        manifest = _read(folder)
        whole = manifest["sha256"] == file_sha256(folder / TABLE)
    except (OSError, Unsound):
        return None
    return manifest if whole else None


def _read(folder: Path) -> dict[str, Any]:
    """Return a manifest; Unsound where it is missing, none, or was changed."""
    manifest = read_sealed(folder / MANIFEST)[0]
    found, wrong = checked(_Manifest, manifest, extra="ignore")
    if found is None:
        raise Unsound(f"{MANIFEST}: {'; '.join(wrong)}")
    return manifest


def load_sids(contents: Contents, label: str, data_dir: Path) -> SIDs:
    """Return the SIDs of a label that were made for a dataset.

    Raises:
        UserError: there are none of that label, they were made of other contents, or their files
            are damaged; the message says what to type.
    """
    name = contents.card.name
    folder = sids_folder(name, label, data_dir)
    check_label(name, label, data_dir)
    again = f"make them again with {_command(name, label)} and --replace"
    try:
        manifest = _read(folder)
        content = (folder / TABLE).read_bytes()
        if manifest["sha256"] != content_digest(content):
            raise ValueError("the table is not the one that was written")
        column = read_table(content)["sid"].combine_chunks()
        per_level = tuple(manifest["codes_per_level"])
        codes = np.array(column.flatten(), dtype=np.int32).reshape(len(column), len(per_level))
        if (codes < 0).any() or (codes >= per_level).any():
            raise ValueError("codes are not below the codes per level")
        made_of, recipe, quality = (manifest[key] for key in ("contents", "recipe", "quality"))
        if made_of == contents.fingerprint and len(codes) != len(contents.item_names):
            raise ValueError(f"{len(codes)} SIDs for {len(contents.item_names)} items")
    except (OSError, Unsound, *DAMAGE, pa.ArrowException) as error:
        raise UserError(f"{folder} cannot be read ({one_line(error)}); {again}") from error
    texts = contents.descriptions_sha256
    if made_of != contents.fingerprint or recipe.get(TEXTS, texts) != texts:
        raise UserError(f"{folder}: these SIDs were made for other contents; {again}")
    return SIDs(codes, per_level, recipe, quality)
