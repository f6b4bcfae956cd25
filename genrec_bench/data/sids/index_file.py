"""SIDs from a file that others made, kept as they are.

`sid_file` says which files there are, `sid_spelling` how a SID may be spelled in them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from genrec_bench.data.dataset import Contents
from genrec_bench.data.sids.sid_file import off_by_one, read_sid_file
from genrec_bench.data.sids.sid_quality import quality
from genrec_bench.data.sids.sid_spelling import spelled_sids
from genrec_bench.data.sids.sid_store import SIDs, manifest_of, save_sids
from genrec_bench.data.standing import refuse_replacing_sids
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.source_files import Folder


def import_index(
    contents: Contents,
    file: Path,
    label: str,
    data_dir: Path,
    progress: Progress,
    *,
    replace: bool = False,
) -> tuple[SIDs, Path, tuple[str, ...]]:
    """Read a file of SIDs, keep them for a dataset under a label.

    Those of the same file may be there already. Others of that label are only replaced where
    ``replace`` says so.

    Returns:
        The SIDs, their folder, and what was understood, in lines.

    Raises:
        UserError: the file is malformed, an item has no SID, a SID is for no item, or SIDs differ
            in length; there are others of that label.
        StorageError: the disk refuses.
    """
    folder = Folder(file.parent)
    names = contents.item_names
    index, notes = read_sid_file(folder, file, names)
    missing = [name for name in names if name not in index]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of {len(names)} items of {contents.card.name} have no SID, "
            f"such as {missing[0]!r}; the keys must be the dataset's item names"
            + off_by_one(index, names)
        )
    known = set(names)
    strangers = [name for name in index if name not in known]
    if strangers:
        raise UserError(
            f"{file}: {len(strangers)} SIDs are for no item of {contents.card.name}, such as that "
            f"of {strangers[0]!r}"
        )
    declared = contents.card.codes_per_level
    read = spelled_sids(((f"{file}, item {name!r}", index[name]) for name in names), declared)
    levels = read.codes.shape[1]
    least = declared if len(declared) == levels else (0,) * levels
    per_level = tuple(
        max(count, int(code) + 1) for count, code in zip(least, read.codes.max(axis=0), strict=True)
    )
    (checksum,) = folder.checksums().values()
    same = {"file": file.name, "sha256": checksum}
    if not replace:
        there = manifest_of(contents.card.name, label, data_dir)
        if there is None or (there["contents"], there["recipe"]) != (contents.fingerprint, same):
            what = f"Those of {file.name}"
            refuse_replacing_sids(contents, label, data_dir, progress, what, checksum)
    worth = quality(read.codes, per_level, None, None, contents.categories or None)
    found = SIDs(read.codes, per_level, same, asdict(worth))
    folder_of_sids = save_sids(found, contents, label, data_dir, None)
    return found, folder_of_sids, (*notes, *read.notes)
