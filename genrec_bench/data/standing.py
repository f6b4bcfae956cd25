"""What stands under a name already: told, and never replaced unless somebody asks for it.

Damaged files are no loss, and what takes their place says so. All else is refused, with what is
there and how to go on: another name, or ``--replace``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from genrec_bench.data.cards import MARK, Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.dataset_store import changed_files, is_current, is_prepared, read_manifest
from genrec_bench.data.sids.sid_store import TEXTS, labels, manifest_of
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress


def dataset_stands(
    card: Card,
    data_dir: Path,
    sources: Mapping[str, str],
    made: str,
    layout: str = "",
    contents: Contents | None = None,
) -> bool:
    """Return whether a dataset is there as it would be made: of the same files, in the same way.

    Args:
        sources: sha256 of the files by their places; made: "imported" or "prepared".
        contents: what would be written, where it is known already.
    """
    if not is_prepared(card.name, data_dir) or is_damaged(card.name, data_dir):
        return False
    manifest = read_manifest(card.name, data_dir)
    wanted = {"made": made, "sources": dict(sources)} | ({"layout": layout} if layout else {})
    if contents is not None:
        wanted["fingerprint"] = contents.fingerprint
        wanted["sid_fingerprint"] = "" if contents.sids is None else contents.own.sid_fingerprint
    return is_current(card, manifest) and wanted.items() <= manifest.items()


def is_damaged(name: str, data_dir: Path) -> bool:
    """Return whether files of a dataset that is there are missing or not as they were written."""
    try:
        return bool(changed_files(name, data_dir))
    except UserError:
        return True


def refuse_replacing(
    card: Card,
    data_dir: Path,
    progress: Progress,
    what: str,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Raise UserError where a whole dataset has the card's name; ``what`` would take its place.

    Args:
        sources: sha256 of the files of which that would be made, by their places.
    """
    name = card.name
    if not is_prepared(name, data_dir):
        return
    if is_damaged(name, data_dir):
        progress.say(f"{data_dir / name} is damaged, and is replaced")
        return
    manifest = read_manifest(name, data_dir)
    way = f"imported from {manifest['layout']}" if manifest["made"] == "imported" else "prepared"
    files = ", ".join(sorted(manifest["sources"])[:3])
    rows = ", ".join(f"{number} {split}" for split, number in manifest["rows"].items())
    made_for = labels(name, data_dir)
    lost = f", for which there are the SIDs {', '.join(made_for)}" if made_for else ""
    there, sources = manifest["sources"], sources or {}
    alike = [file for file in sorted(sources) if there.get(file, sources[file]) != sources[file]]
    if alike:
        which = ", ".join(
            f"{file} (sha256 {sources[file][:8]} and not {there[file][:8]})" for file in alike[:3]
        )
        what = f"{what}, with another content of {which},"
    raise UserError(
        f"{name} is there already, {way} ({files}): {manifest['items']} items, rows: {rows}{lost}. "
        f"{what} would take its place: --replace allows it; a card of its own, under another name, "
        "keeps both"
    )


def refuse_replacing_sids(
    contents: Contents,
    label: str,
    data_dir: Path,
    progress: Progress,
    what: str,
    sha256: str = "",
) -> None:
    """Raise UserError where there are SIDs of a label; ``what`` would take their place.

    Args:
        sha256: of the file that ``what`` names, where it is made of one.
    """
    name = contents.card.name
    if label not in labels(name, data_dir):
        return
    manifest = manifest_of(name, label, data_dir)
    if manifest is None:
        progress.say(f"SIDs {name}{MARK}{label} are damaged, and are replaced")
        return
    recipe = manifest["recipe"]
    same_name = str(recipe.get("file", recipe.get("embeddings"))) in what.split()
    if same_name and sha256 and sha256 != recipe.get("sha256", sha256):
        what += f" (another file of that name, sha256 {sha256[:12]})"
    told = ", ".join(
        f"{key} {str(value)[:12] if key == 'sha256' else value}"
        for key, value in recipe.items()
        if key != TEXTS
    )
    other = "" if manifest["contents"] == contents.fingerprint else ", made for other contents"
    raise UserError(
        f"SIDs {name}{MARK}{label} are there already ({told}{other}). {what} would take their "
        "place: take another label with --as, or --replace"
    )
