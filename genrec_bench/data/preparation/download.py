"""Raw files, fetched once and resumed where they were cut short.

In the folder of downloads a file's own name stands for the whole of it; until that is there,
``partial.py`` keeps its beginning. Whoever fetches the file holds ``FILE.lock``. Resuming follows
RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges).
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from pathlib import Path

import requests
import urllib3.exceptions

from genrec_bench import __version__
from genrec_bench.data.preparation.checksums import check_file
from genrec_bench.data.preparation.partial import Begun, PartialFile
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.errors import UserError, one_line, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.storage.locks import in_turn

SCHEMES = ("http", "https")

LONGEST_PAUSE = 120.0
"""Seconds between two attempts; a server that asks for more is left alone."""

CHUNK = 1 << 18

HEADERS = {
    # A file is stored as it was published, and ranges count its bytes, not those of a copy that
    # the server compresses on the way.
    "Accept-Encoding": "identity",
    "User-Agent": f"genrec-bench/{__version__}",
}

USABLE = (
    HTTPStatus.OK,
    HTTPStatus.PARTIAL_CONTENT,
    # What is here is no beginning of what is there.
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
)


class _Failed(Exception):
    """An attempt that another one may mend."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        """Say why, and how many seconds the server wants to be left alone."""
        super().__init__(reason)
        self.wait = wait


def find_file(source: SourceFile, folder: Path) -> Path | None:
    """Return a file that is in the folder of downloads, without the network.

    A file that was put there by hand is as good as a fetched one. Where no checksum is published,
    that of the first one seen is recorded. None stands for no file.

    Raises:
        UserError: it is not the file that was published, or not the one that was there first.
        StorageError: the disk refuses.
    """
    path = folder / source.file
    with storage_errors():
        if not path.exists():
            return None
        if not path.is_file():
            raise UserError(f"{path} is in the way: it is no file, and {source.file} goes there")
        check_file(source, folder)
    return path


def fetch(
    source: SourceFile,
    folder: Path,
    progress: Progress,
    *,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Return the file in the folder of downloads, fetched now if it is not there.

    A download that was cut short, by the network or by the user, goes on where it ended if the
    server still has the same file, and starts anew otherwise. While another process fetches the
    file, this one waits for it.

    Args:
        folder: of downloads; made if missing.
        attempts: how many in a row may bring nothing new. What is tried again: connections that
            fail or fall silent, bodies cut short, and the answers 429 and 5xx.
        pause: seconds before the second attempt, doubled before each further one; where the server
            names a time, that is waited for instead.
        timeout: seconds to wait for a connection, and for each further byte.

    Raises:
        UserError: it cannot be fetched, or is not the file that was published, or not the one that
            was there first; the message says how to go on.
        StorageError: the disk refuses.
    """
    path = folder / source.file
    found = find_file(source, folder)
    if found is not None:
        return found
    if source.url.partition("://")[0].lower() not in SCHEMES:
        why = f"{source.url} is not http(s)" if source.url else "nobody knows a URL of it"
        raise UserError(f"{path} is missing, and {why}: {_by_hand(path)}")
    part = PartialFile(path, source.url)
    said = f"{path.name}: another process is fetching it; waiting"
    turn = in_turn(path.with_name(f"{path.name}.lock"), lambda: progress.say(said))
    with storage_errors(), turn:
        # Another process may have fetched it by now.
        if find_file(source, folder) is None:
            _download(part, source.most_bytes, progress, attempts, pause, timeout)
            check_file(source, folder, part.file)
            part.finish()
    return path


def _by_hand(path: Path) -> str:
    return f"fetch it by hand and put it at {path}"


def _download(
    part: PartialFile,
    most: int,
    progress: Progress,
    attempts: int,
    pause: float,
    timeout: float,
) -> None:
    """Attempt it until all bytes are there; UserError if too many attempts bring nothing new."""
    failures, furthest = 0, 0
    while True:
        try:
            _attempt(part, most, progress, timeout)
            return
        except _Failed as error:
            failed = error
        if part.length() > furthest:
            failures, furthest = 0, part.length()
        failures += 1
        wait = failed.wait
        if wait is None:
            wait = min(pause * 2.0 ** (failures - 1), LONGEST_PAUSE)
        if failures >= attempts or wait > LONGEST_PAUSE:
            later = f" in {wait:.0f} s" if wait > LONGEST_PAUSE else " later"
            raise UserError(
                f"cannot fetch {part.url}: {failed}; try again{later}, it goes on where it "
                f"stopped, or {_by_hand(part.path)}"
            )
        progress.say(f"{part.path.name}: {failed}; next attempt in {wait:.3g} s")
        time.sleep(wait)


def _attempt(part: PartialFile, most: int, progress: Progress, timeout: float) -> None:
    """Ask for what is missing, and append it, up to so many bytes in all.

    Raises:
        _Failed: some of it is still missing.
        UserError: it makes no sense to ask again.
    """
    have, begun = part.so_far()
    if begun is not None and have == begun.size:
        return
    headers = dict(HEADERS)
    if begun is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": begun.validator}
    with _request(part, headers, timeout) as response:
        if response.status_code == HTTPStatus.OK:
            have, begun = 0, Begun.by(response, part.url)
            part.start_anew(begun)
        else:
            begun = begun and begun.continued_by(response, have)
        if begun is None:
            part.start_anew(None)
            raise _Failed("the file has changed on the server")
        if (begun.size or 0) > most:
            raise _too_large(part, most)
        with part.file.open("ab") as file, progress.bar(part.path.name, begun.size or 0) as bar:
            bar.advance(have)
            for chunk in _body(response):
                have += len(chunk)
                if have > most:
                    raise _too_large(part, most)
                file.write(chunk)
                bar.advance(len(chunk))
    if begun.size not in (None, part.length()):
        raise _Failed(f"{part.length()} of {begun.size} bytes came")


def _too_large(part: PartialFile, most: int) -> UserError:
    part.start_anew(None)
    return UserError(
        f"cannot fetch {part.url}: the server sends more than {most:,} bytes; if that is "
        f"right, say so by 'most_bytes' on the card, or {_by_hand(part.path)}"
    )


def _request(part: PartialFile, headers: dict[str, str], timeout: float) -> requests.Response:
    """Return an answer that brings bytes, or says that there are none at this place."""
    try:
        response = requests.get(part.url, headers=headers, stream=True, timeout=timeout)
    except (ValueError, requests.TooManyRedirects) as error:
        # The URL is none, or leads to one that is none, or nowhere.
        raise UserError(
            f"cannot fetch {part.url}: {one_line(error)}; {_by_hand(part.path)}"
        ) from None
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise _Failed(_reason(error)) from None
    code = response.status_code
    answer = one_line(f"the server answered {code} {response.reason or ''}".rstrip())
    if code == HTTPStatus.OK and _is_page(response, part.path):
        answer = "the server sent a web page in its place"
    elif code in USABLE:
        return response
    response.close()
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _Failed(answer, _retry_after(response))
    raise UserError(f"cannot fetch {part.url}: {answer}; {_by_hand(part.path)}")


def _is_page(response: requests.Response, path: Path) -> bool:
    """Return whether it is a form to log in, or an excuse, that calls itself an answer."""
    kind = response.headers.get("Content-Type", "")
    return kind.lower().startswith("text/html") and path.suffix not in (".html", ".htm")


def _body(response: requests.Response) -> Iterator[bytes]:
    """Yield bytes as they come, and as they were published, whatever encoding the server claims."""
    try:
        # `read1` never holds back what has come, to be lost if the connection is.
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield chunk
    except urllib3.exceptions.HTTPError as error:
        raise _Failed(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Return what the system said at the bottom of a network library's error."""
    while isinstance(error.__context__, OSError | HTTPException | urllib3.exceptions.HTTPError):
        error = error.__context__
    if isinstance(error, IncompleteRead):
        said = "connection closed too early"
    else:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"the network failed ({one_line(said or type(error).__name__)})"


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds that the server asks to wait, given as such or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
