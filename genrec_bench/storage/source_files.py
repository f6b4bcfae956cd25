"""Reading the files that others publish, with every mistake named by file and line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import parse_json
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.text_files import read_text


@dataclass
class Folder:
    """The source folder; it remembers which files were read, for their checksums."""

    path: Path
    used: list[Path] = field(default_factory=list)

    def text(self, path: Path) -> str:
        """Return a file's text; UserError where it is missing, empty or not UTF-8."""
        self.used.append(path)
        if not path.is_file():
            raise UserError(f"{path} is missing")
        text = read_text(path)
        if not text.strip():
            raise UserError(f"{path} is empty")
        return text

    def mapping(self, path: Path) -> dict[str, Any]:
        """Return a JSON file's object; UserError (with the line) where it is malformed."""
        content = parse_json(self.text(path), str(path))
        if not isinstance(content, dict) or not content:
            raise UserError(f"{path}: expected a JSON object with at least one entry")
        return content

    def checksums(self) -> dict[str, str]:
        """Return the sha256 of each file read, by its path in the folder."""
        return {p.relative_to(self.path).as_posix(): file_sha256(p) for p in sorted(self.used)}


def csv_rows(
    folder: Folder, path: Path, columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of a CSV file with its place (file and first line).

    Raises:
        UserError: the header lacks one of `columns`, or a row does not parse.
    """
    reader = csv.reader(io.StringIO(folder.text(path), newline=""), strict=True)
    line = 1
    try:
        header = next(reader)
        missing = [column for column in columns if column not in header]
        if missing:
            raise UserError(f"{path}, line 1: missing column {', '.join(map(repr, missing))}")
        line = reader.line_num + 1
        for fields in reader:
            where = f"{path}, line {line}"
            if len(fields) != len(header):
                raise UserError(f"{where}: {len(fields)} fields, the header has {len(header)}")
            yield where, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: {error}") from error


def only_file(folder: Path, pattern: str) -> Path:
    """Return the one file that matches; several would be several categories or periods."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing")
    matches = sorted(folder.glob(pattern))
    if len(matches) == 1:
        return matches[0]
    others = [path.name for path in (matches or sorted(folder.iterdir()))]
    shown = ", ".join(others[:5]) or "nothing"
    raise UserError(
        f"{folder}: expected exactly one file {pattern!r}, found {len(matches)}; it holds {shown}"
    )
