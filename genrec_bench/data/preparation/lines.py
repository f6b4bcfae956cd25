"""The lines of a raw file, streamed: plain or gzip, of any size, damaged or not."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.errors import UserError, storage_errors
from genrec_bench.storage.text_files import UNREADABLE

LONGEST_LINE = 8 * 1024 * 1024
"""Bytes; a longer line is malformed, and is not held in memory."""

MOST_BLANK = 1_000_000
"""Lines; more are refused where they are most of those that were read."""

CHUNK = 1024 * 1024
"""Bytes, decompressed, that are asked for at a time."""

TOO_LONG = f"longer than {LONGEST_LINE >> 20} MiB"

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"

Content = io.BufferedReader | gzip.GzipFile


class Lines:
    """The lines of a file, each with its number; iterate once.

    A file that begins as gzip files do is decompressed, whatever its name. Lines end with a line
    feed, or a carriage return and a line feed, neither of which is yielded. Blank lines and a byte
    order mark are passed over. A line that is too long is rejected and discarded piece by piece.

    Attributes:
        malformed: hears of lines that are too long, and how many bytes were read.
        number: of the last line that was met, counted from 1.
        blank: how many lines were passed over as blank.
    """

    def __init__(self, path: Path, malformed: Malformed) -> None:
        self.path = path
        self.malformed = malformed
        self.number = 0
        self.blank = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of each line.

        Raises:
            UserError: the file is missing, is no text, or is a gzip file that is cut short or
                damaged; hardly a line can be used.
            StorageError: the disk refuses.
        """
        tail = bytearray()  # of a line whose end is still to come
        for chunk in self._chunks():
            first, *lines = chunk.split(b"\n")
            if len(tail) <= LONGEST_LINE:
                tail += first
            if not lines:
                continue
            lines.insert(0, bytes(tail))
            tail = bytearray(lines.pop())
            for line in lines:
                self.number += 1
                if len(line) > LONGEST_LINE:
                    self.malformed.reject(self.path, self.number, TOO_LONG)
                    continue
                if self.number == 1:
                    line = line.removeprefix(BOM)
                if line.endswith(b"\r"):
                    line = line[:-1]
                if not line or line.isspace():
                    self.blank += 1
                    if self.blank > MOST_BLANK and 2 * self.blank > self.number:
                        raise UserError(f"{self.path}: {self.blank:,} lines are blank, most of all")
                else:
                    yield self.number, line

    def _chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces, and an end for the last line where it has none."""
        with ExitStack() as files:
            with storage_errors():
                if not self.path.is_file():
                    what = "is not a file" if self.path.exists() else "is missing"
                    raise UserError(f"{self.path} {what}")
                raw = files.enter_context(self.path.open("rb"))
            content: Content = raw
            if self._read(raw.peek, len(GZIP)).startswith(GZIP):
                content = files.enter_context(gzip.GzipFile(fileobj=raw))
            # read1 returns what is there, so that all lines before any damage are met first.
            chunk = last = self._read(content.read1, CHUNK)
            for magic, what in UNREADABLE.items():
                if chunk.startswith(magic):
                    what += " within a gzip file" * (magic == GZIP)  # one was unpacked
                    raise UserError(f"{self.path} is {what}; unpack it to UTF-8 text or gzip")
            while chunk:
                self.malformed.position = raw.tell()
                yield chunk
                last, chunk = chunk, self._read(content.read1, CHUNK)
            if last and not last.endswith(b"\n"):
                yield b"\n"

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        """Return the next piece; b"" at the end."""
        place = f"near line {self.number + 1}"
        try:
            with storage_errors():
                return read(size)
        except EOFError as error:
            raise UserError(
                f"{self.path} is cut short {place}: the gzip file is not whole; fetch it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{self.path} is damaged {place} ({error}); fetch the gzip file again"
            ) from error
        except OSError as error:
            raise UserError(f"{self.path} cannot be read {place}: {error.strerror}") from error
