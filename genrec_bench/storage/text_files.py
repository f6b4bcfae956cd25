"""Text that people hand in: decoded, with every mistake named by file and line."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import MOST_BYTES, parse_json, read_at_most

UNREADABLE = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh91AY&SY": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1\x15": "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
"""What else a file may turn out to be, by how it begins."""


def read_text(path: Traversable, where: str = "", *, most: int = MOST_BYTES) -> str:
    """Return a file's text, without a byte order mark.

    Args:
        where: what messages call the file; its path by default.
        most: bytes that it may have.

    Raises:
        UserError: it is missing, no plain file, too large or no UTF-8 text; the message names the
            line.
    """
    where = where or str(path)
    try:
        # Devices and pipes may never end.
        if isinstance(path, Path) and path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{where}: is not a file")
        with path.open("rb") as file:
            content = read_at_most(file, most + 1)
        if len(content) > most:
            raise UserError(f"{where}: is longer than {most:,} bytes")
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    except IsADirectoryError:
        raise UserError(f"{where}: is a folder, and a file is needed") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from None
    return text_of(content, where)


def text_of(content: bytes, where: str) -> str:
    """Return the text of a file's bytes; UserError where they are none."""
    for magic, what in UNREADABLE.items():
        if content.startswith(magic):
            raise UserError(f"{where}: is {what}, and UTF-8 text is needed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start : error.start + 1]
        raise UserError(
            f"{where}, line {line}: not UTF-8 (byte {wrong.hex()}, {wrong.decode('latin-1')!r} in "
            "Latin-1); save the file as UTF-8"
        ) from None


def json_lines(text: str, where: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines; UserError, with the line, where one is none."""
    entries = []
    # Other characters that end a line elsewhere may stand within a text of JSON.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            entry = parse_json(line, f"{where}, line {number}")
            if not isinstance(entry, dict):
                raise UserError(f"{where}, line {number}: must be a JSON object, as in {{...}}")
            entries.append(entry)
    return entries
