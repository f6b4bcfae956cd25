"""A server on this machine that misbehaves as told, and remembers what it was asked and sent.

Without a script it is a good one: it knows ranges and validators, and closes after each answer.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    Attributes:
        status: other than 200 has no body, and ranges mean nothing.
        headers: beside those that belong there, or in their place.
        cut: the connection is closed after so many bytes of the body.
        ranges: whether ranges are known.
        conditions: whether If-Range is obeyed.
        chunked: whether the body comes in chunks, without its length.
        at_most: bytes of a range that are sent, however many were asked for.
        silent: seconds in which nothing happens, before anything is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    conditions: bool = True
    chunked: bool = False
    at_most: int | None = None
    silent: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A request, the status of its answer, and how many bytes of the body were sent."""

    path: str
    headers: dict[str, str]
    status: int
    sent: int


@dataclass
class LocalServer:
    """What it serves, whatever the path, and what it has seen.

    Attributes:
        validators: headers ETag and Last-Modified, as far as it tells them.
        script: answers to the next requests; a good one to all others.
        versions: content and validators from a certain request on; the first one is number 0.
        seen: all requests, in the order in which they were answered.
    """

    url: str
    content: bytes
    validators: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    script: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    versions: dict[int, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    _asked: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self) -> Answer:
        """Take the next answer off the script."""
        with self._lock:
            version = self.versions.get(next(self._asked))
            if version is not None:
                self.content, self.validators = version
            return self.script.pop(0) if self.script else Answer()

    def range_headers(self) -> list[str]:
        """What each request has asked for; "" for everything."""
        return [seen.headers.get("Range", "") for seen in self.seen]

    def sent(self) -> list[int]:
        """Bytes of each answer's body."""
        return [seen.sent for seen in self.seen]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    served: LocalServer


@contextmanager
def local_server(content: bytes) -> Iterator[LocalServer]:
    """Serve a file until the end of the ``with`` statement."""
    # Whatever proxy this machine has, it does not lead here.
    direct = mock.patch.dict(os.environ, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    with direct, _Server(("127.0.0.1", 0), _Handler) as server:
        server.served = LocalServer(f"http://127.0.0.1:{server.server_port}", content)
        # The interval is how long the shutdown waits.
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield server.served
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        served, asked = self.server.served, dict(self.headers)
        answer = served.next_answer()
        # Not by time.sleep, which tests replace to see how long a client pauses.
        threading.Event().wait(answer.silent)
        status, headers, body = _compose(served, answer, asked)
        whole = answer.cut is None or (answer.cut >= len(body) and not answer.chunked)
        sent = body[: answer.cut]
        # Noted before it is sent: who has the last byte may ask at once.
        served.seen.append(Seen(self.path, asked, status, len(sent)))
        headers["Connection"] = "close"
        # A client that has heard enough is gone by now.
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(_in_chunks(sent, whole) if answer.chunked else sent)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def _compose(
    served: LocalServer, answer: Answer, asked: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the whole body of an answer (RFC 9110)."""
    if answer.status != 200:
        return answer.status, {"Content-Length": "0", **answer.headers}, b""
    body, size = served.content, len(served.content)
    status, headers = 200, dict(served.validators)
    span = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
    same = not answer.conditions or asked.get("If-Range") in (None, *served.validators.values())
    if span and same and answer.ranges:
        first = int(span[1])
        if first >= size:
            return 416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"}, b""
        body = body[first:][: answer.at_most]
        status = 206
        headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{size}"
    length = {"Transfer-Encoding": "chunked"} if answer.chunked else {"Content-Length": len(body)}
    headers |= {name: str(value) for name, value in length.items()}
    return status, headers | answer.headers, body


def _in_chunks(body: bytes, whole: bool) -> bytes:
    """In chunks of uneven lengths; without the last one, the empty one, where it is cut."""
    edges = sorted({0, len(body) // 7, len(body) // 2, len(body)})
    chunks = [body[first:last] for first, last in itertools.pairwise(edges)]
    wire = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return wire + b"0\r\n\r\n" * whole
