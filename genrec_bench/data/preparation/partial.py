"""The beginning of a file that is being fetched, kept for the next attempt.

The bytes are in ``FILE.part``, and ``FILE.part.json`` says what they are the beginning of: a server
may have another version of the file by the time that it is asked for the rest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests

from genrec_bench.storage.bounded_json import load_json
from genrec_bench.storage.files import write_atomically

CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-\d{1,18}/(?P<size>\d{1,18}|\*)", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Begun:
    """What bytes are the beginning of.

    Attributes:
        url: as on the card, before redirects.
        validator: an ETag or a date by which the server tells versions of the file apart, as it
            was written; "" where it gives none.
        size: bytes of the whole file; None where the server did not say.
    """

    url: str
    validator: str
    size: int | None

    @classmethod
    def by(cls, response: requests.Response, url: str) -> Begun:
        """Read it off the answer that brings the first byte."""
        etag = response.headers.get("ETag", "")
        # A weak ETag stands for files that mean the same, and need not be the same bytes.
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        length = response.headers.get("Content-Length", "")
        known = _LENGTH.fullmatch(length) and "Transfer-Encoding" not in response.headers
        return cls(url, validator, int(length) if known else None)

    def continued_by(self, response: requests.Response, have: int) -> Begun | None:
        """Return the same, with the size if only the answer tells it.

        None where the answer does not bring the bytes from ``have`` on, of the same version.
        """
        span = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if response.status_code != HTTPStatus.PARTIAL_CONTENT or span is None:
            return None
        size = self.size if span["size"] == "*" else int(span["size"])
        # The validator need not be there again, but it gives servers away that ignore If-Range.
        name = "ETag" if self.validator.startswith('"') else "Last-Modified"
        same = response.headers.get(name, self.validator) == self.validator
        if int(span["first"]) != have or self.size not in (None, size) or not same:
            return None
        return dataclasses.replace(self, size=size)


class PartialFile:
    """The bytes of a file that have come, and a note of what they are the beginning of."""

    def __init__(self, path: Path, url: str) -> None:
        """Name the files; nothing is read or written yet."""
        self.path = path
        self.url = url
        self.file = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")

    def length(self) -> int:
        """Return how many bytes are there."""
        try:
            return self.file.stat().st_size
        except FileNotFoundError:
            return 0

    def so_far(self) -> tuple[int, Begun | None]:
        """Return how many bytes can be kept, and what they begin; 0 and None where none can."""
        try:
            begun = Begun(**load_json(self._note))
        except (FileNotFoundError, TypeError, ValueError):
            return 0, None
        have = self.length()
        can_go_on = begun.validator or have == begun.size
        return (have, begun) if have and can_go_on and begun.url == self.url else (0, None)

    def start_anew(self, begun: Begun | None) -> None:
        """Drop all bytes; what comes next is the beginning of something else."""
        # In this order, and on the disk: a note must never stand beside bytes of another version.
        with self.file.open("wb") as file:
            os.fsync(file.fileno())
        if begun is None:
            self._note.unlink(missing_ok=True)
        else:
            write_atomically(self._note, json.dumps(dataclasses.asdict(begun)).encode())

    def finish(self) -> None:
        """Give the whole file its name."""
        with self.file.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.file, self.path)
        self._note.unlink(missing_ok=True)
