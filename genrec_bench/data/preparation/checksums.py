"""What the raw files in a folder of downloads must be, by their sha256.

``checksums.json`` holds the sha256 of every file, with the size and the time of change at which it
was computed: a file that has kept both is not read again. Where nobody has published a checksum,
the recorded one is what the file must have from then on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.errors import StorageError, UserError
from genrec_bench.storage.bounded_json import load_json
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.files import write_json
from genrec_bench.storage.locks import locked

CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class _Seen:
    """A file as it was when its checksum was computed."""

    sha256: str
    size: int
    mtime_ns: int


def check_file(source: SourceFile, folder: Path, fetched: Path | None = None) -> None:
    """Check a file in the folder of downloads, and record its checksum.

    Args:
        fetched: what was fetched and does not have the file's name yet; a wrong one is renamed to
            ``FILE.rejected``, for the user to look at. None for the file under its own name.

    Raises:
        UserError: it is not the file that was published, or not the one that was here first.
        StorageError: its first checksum cannot be recorded.
        OSError: it cannot be read or renamed.
    """
    path = folder / source.file
    known = _recorded(folder).get(source.file)
    seen = _look(path, known) if fetched is None else _look(fetched, None)
    wrong = _contradiction(seen, source, known)
    forget = f"delete the entry {source.file!r} in {folder / CHECKSUMS}"
    if wrong and fetched is None:
        accept = "" if source.sha256 else f"; to accept it, {forget}"
        raise UserError(
            f"{path} {wrong}: delete it to have it fetched again, or put the right one there"
            + accept
        )
    if wrong and fetched is not None:
        rejected = fetched.replace(path.with_name(f"{path.name}.rejected"))
        go_on = (
            f"try again, or put the right one at {path}"
            if source.sha256
            else f"to accept it, rename it to {path.name} and {forget}"
        )
        raise UserError(
            f"what {source.url} gave ({seen.size} bytes, kept as {rejected}) {wrong}: {go_on}"
        )
    _remember(source, folder, seen, known)


def _look(path: Path, known: _Seen | None) -> _Seen:
    # Before it is read: if the file changes meanwhile, the next look reads it again.
    stat = path.stat()
    if known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return known
    return _Seen(file_sha256(path), stat.st_size, stat.st_mtime_ns)


def _contradiction(seen: _Seen, source: SourceFile, known: _Seen | None) -> str:
    """Say which checksum is not the expected one; "" where all is well."""
    if source.sha256:
        wanted, by = source.sha256.lower(), "the card asks for"
    elif known is not None:
        wanted, by = known.sha256, "the first one here had"
    else:
        return ""
    return "" if seen.sha256 == wanted else f"has sha256 {seen.sha256}, {by} {wanted}"


def _recorded(folder: Path) -> dict[str, _Seen]:
    path = folder / CHECKSUMS
    try:
        entries = load_json(path)
        return {file: _Seen(**entry) for file, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{path} is damaged: delete it, and the checksums of the files that are there are "
            "recorded anew"
        ) from None


def _remember(source: SourceFile, folder: Path, seen: _Seen, known: _Seen | None) -> None:
    if seen == known:
        return
    try:
        # Another process may be recording another file's.
        with locked(folder / f"{CHECKSUMS}.lock", wait=True):
            entries = {**_recorded(folder), source.file: seen}
            plain = {file: dataclasses.asdict(entry) for file, entry in entries.items()}
            write_json(folder / CHECKSUMS, plain)
    except StorageError:
        # Where a checksum is published, the recorded one saves time and nothing else.
        if not source.sha256:
            raise
