"""SIDs from a file that others made, in the layout of MiniOneRec and LC-Rec, as they are.

The file is a JSON object from item names to lists of tokens: ``{"0": ["<a_12>", "<b_3>"], ...}``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from genrec_bench.data.dataset import Contents
from genrec_bench.data.importers import parse_sid
from genrec_bench.data.sids.sid_quality import quality
from genrec_bench.data.sids.sid_store import SIDs, save_sids
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder


def import_index(contents: Contents, file: Path, label: str, data_dir: Path) -> tuple[SIDs, Path]:
    """Read a file of SIDs, keep them for a dataset under a label, and return them and the folder.

    Raises:
        UserError: the file is malformed, an item has no SID, a SID is for no item, or SIDs differ
            in length.
        StorageError: the disk refuses.
    """
    folder = Folder(file.parent)
    index = folder.mapping(file)
    names = contents.item_names
    missing = [name for name in names if name not in index]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of {len(names)} items of {contents.card.name} have no SID, "
            f"such as {missing[0]!r}; the keys must be the dataset's item names"
        )
    known = set(names)
    strangers = [name for name in index if name not in known]
    if strangers:
        raise UserError(
            f"{file}: {len(strangers)} SIDs are for no item of {contents.card.name}, such as that "
            f"of {strangers[0]!r}"
        )
    for name in names:
        if not isinstance(index[name], list) or not index[name]:
            raise UserError(f"{file}: item {name!r} must have a list of SID tokens")
    levels = len(index[names[0]])
    sids = [parse_sid(index[name], levels, f"{file}, item {name!r}") for name in names]
    codes = np.array(sids, dtype=np.int32)
    declared = contents.card.codes_per_level
    least = declared if len(declared) == levels else (0,) * levels
    per_level = tuple(
        max(count, int(code) + 1) for count, code in zip(least, codes.max(axis=0), strict=True)
    )
    (checksum,) = folder.checksums().values()
    worth = quality(codes, per_level, None, None, contents.categories or None)
    found = SIDs(codes, per_level, {"file": file.name, "sha256": checksum}, asdict(worth))
    return found, save_sids(found, contents, label, data_dir, None)
