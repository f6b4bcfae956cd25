"""Downloads from a server that misbehaves or refuses; see ``local_server.py``."""

import contextlib
import socket
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
from download_world import CONTENT, NAME, Watched, check_whole, get, names, refused, sha256, source
from local_server import Answer, LocalServer

from genrec_bench.data.preparation.download import fetch, find_file
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress

Sleeps = list[float]


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """The pauses that were made, in seconds, without making them."""
    made: Sleeps = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def test_a_file_is_fetched_once(server: LocalServer, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    wanted = source(server, sha256(CONTENT))
    assert find_file(wanted, folder) is None
    path = get(wanted, folder)
    assert path == folder / NAME == find_file(wanted, folder) == get(wanted, folder)
    check_whole(path)
    (seen,) = server.seen
    assert seen.path == f"/raw/{NAME}"
    assert seen.headers["Accept-Encoding"] == "identity"
    assert seen.headers["User-Agent"].startswith("genrec-bench/")
    assert "Range" not in seen.headers


def test_what_the_server_calls_encoded_is_stored_as_it_is(
    server: LocalServer, tmp_path: Path
) -> None:
    """Some servers call a .gz file an encoding of what is in it."""
    server.script = [Answer(headers={"Content-Encoding": "gzip"}, cut=20_000), Answer()]
    check_whole(get(source(server), tmp_path))
    assert server.sent() == [20_000, 20_000]


def test_redirects_are_followed(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(302, {"Location": "/elsewhere"}), Answer(cut=100)]
    server.script += [Answer(307, {"Location": f"{server.url}/elsewhere"})]
    check_whole(get(source(server), tmp_path))
    first, again = f"/raw/{NAME}", "/elsewhere"
    assert [seen.path for seen in server.seen] == [first, again, first, again]
    assert server.sent() == [0, 100, 0, len(CONTENT) - 100]


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_a_body_in_chunks_has_no_length(
    content: bytes, server: LocalServer, tmp_path: Path
) -> None:
    server.content = content
    server.script = [Answer(chunked=True)]
    check_whole(get(source(server, sha256(content)), tmp_path), content)


def test_the_bar_counts_bytes_and_a_pause_is_explained(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000)]
    progress = Watched()
    get(source(server), tmp_path, progress)
    assert [bar[:2] for bar in progress.bars] == [(NAME, 40_000)] * 2
    first, second = (bar.amounts for _, _, bar in progress.bars)
    assert sum(first) == 15_000
    assert second[0] == 15_000 and sum(second) == 40_000
    assert progress.lines == [
        f"{NAME}: the network failed (connection closed too early); next attempt in 0 s"
    ]


def test_a_busy_server_is_asked_again_when_it_says(
    server: LocalServer, tmp_path: Path, sleeps: Sleeps
) -> None:
    soon = formatdate(time.time() + 60, usegmt=True)
    server.script = [
        Answer(503, {"Retry-After": "0"}),
        Answer(429, {"Retry-After": "7"}),
        Answer(503, {"Retry-After": soon}),
        Answer(503, {"Retry-After": formatdate(0, usegmt=True)}),
    ]
    check_whole(fetch(source(server), tmp_path, Progress(quiet=True)))
    assert sleeps[:2] == [0.0, 7.0]
    assert 50 < sleeps[2] <= 60
    assert sleeps[3] == 0.0


def test_pauses_grow(server: LocalServer, tmp_path: Path, sleeps: Sleeps) -> None:
    server.script = [Answer(500), Answer(502, {"Retry-After": "soon"}), Answer(504)]
    check_whole(fetch(source(server), tmp_path, Progress(quiet=True), pause=3.0))
    assert sleeps == [3.0, 6.0, 12.0]


def test_attempts_come_to_an_end(server: LocalServer, tmp_path: Path, sleeps: Sleeps) -> None:
    server.script = [Answer(503)] * 9
    said = refused(lambda: fetch(source(server), tmp_path, Progress(quiet=True), attempts=3))
    assert "the server answered 503 Service Unavailable; try again later" in said
    assert len(server.seen) == 3 and len(sleeps) == 2


def test_a_server_that_wants_a_long_rest_gets_it(
    server: LocalServer, tmp_path: Path, sleeps: Sleeps
) -> None:
    server.script = [Answer(429, {"Retry-After": "3600"})]
    said = refused(lambda: get(source(server), tmp_path))
    assert "answered 429 Too Many Requests; try again in 3600 s" in said
    assert len(server.seen) == 1 and not sleeps


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 304])
def test_an_answer_that_no_repetition_mends(
    status: int, server: LocalServer, tmp_path: Path, sleeps: Sleeps
) -> None:
    server.script = [Answer(status)]
    said = refused(lambda: get(source(server), tmp_path))
    assert said.startswith(f"cannot fetch {server.url}/raw/{NAME}: the server answered {status} ")
    assert said.endswith(f"; fetch it by hand and put it at {tmp_path / NAME}")
    assert len(server.seen) == 1 and not sleeps
    assert not names(tmp_path)


def test_a_web_page_is_not_the_file(server: LocalServer, tmp_path: Path) -> None:
    """Where nobody has published a checksum, it would be taken for the file ever after."""
    server.script = [Answer(headers={"Content-Type": "text/html; charset=utf-8"})]
    assert "sent a web page in its place" in refused(lambda: get(source(server), tmp_path))
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/x", "ftp://example.org/x is not http(s)"),
        ("file:///x", "file:///x is not http(s)"),
        ("x.csv", "x.csv is not http(s)"),
        ("", "nobody knows a URL of it"),
        ("http://", "No host"),
        ("http://[::1", "cannot fetch http://[::1: "),
    ],
)
def test_a_url_that_leads_nowhere(url: str, why: str, tmp_path: Path) -> None:
    said = refused(lambda: get(SourceFile(NAME, url), tmp_path))
    assert why in said
    assert said.endswith(f"fetch it by hand and put it at {tmp_path / NAME}")


@pytest.mark.parametrize("place", ["file:///raw", "ftp://example.org/raw", "/again"])
def test_a_redirect_that_leads_nowhere(place: str, server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(302, {"Location": place})] * 50
    assert "fetch it by hand" in refused(lambda: get(source(server), tmp_path))


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "https://example.org/ratings.csv.gz"
    assert refused(lambda: get(SourceFile(NAME, url), tmp_path)) == (
        f"cannot fetch {url}: the network failed (Name or service not known); try again later, it "
        f"goes on where it stopped, or fetch it by hand and put it at {tmp_path / NAME}"
    )


def test_nobody_listens(server: LocalServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = refused(lambda: get(SourceFile(NAME, f"http://127.0.0.1:{port}/"), tmp_path))
    assert "the network failed (Connection refused); try again later" in said


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_sends_more_than_the_card_allows_is_left(
    chunked: bool, server: LocalServer, tmp_path: Path
) -> None:
    server.script = [Answer(chunked=chunked), Answer(chunked=chunked)]
    wanted = source(server, sha256(CONTENT))
    said = refused(lambda: get(replace(wanted, most_bytes=len(CONTENT) - 1), tmp_path))
    assert "sends more than 39,999 bytes; if that is right, say so by 'most_bytes'" in said
    assert not (tmp_path / NAME).exists() and len(server.seen) == 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1000, "nothing is kept"
    check_whole(get(replace(wanted, most_bytes=len(CONTENT)), tmp_path))


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Retry-After": "9" * 5000},
        {"Content-Range": f"bytes 0-1/{'9' * 5000}"},
    ],
)
@pytest.mark.parametrize("status", [200, 206, 503])
def test_numbers_that_no_machine_holds_are_no_numbers(
    status: int, headers: dict[str, str], server: LocalServer, tmp_path: Path, sleeps: Sleeps
) -> None:
    server.script = [Answer(status, headers, cut=0)] * 5
    # Refused or read, by what the header is of; anything else that is raised fails the test.
    with contextlib.suppress(UserError):
        get(source(server, sha256(CONTENT)), tmp_path)


@pytest.mark.parametrize("reason", ["\x1b[2JGone", "Gone\x9b2J", "Go\x08ne" * 1000])
def test_a_reason_phrase_commands_no_terminal(
    reason: str, monkeypatch: pytest.MonkeyPatch, server: LocalServer, tmp_path: Path
) -> None:
    real = requests.get

    def get_with_reason(*words: object, **more: object) -> requests.Response:
        response = real(*words, **more)  # type: ignore[arg-type]
        response.reason = reason
        return response

    monkeypatch.setattr(requests, "get", get_with_reason)
    server.script = [Answer(404)]
    said = refused(lambda: get(source(server), tmp_path))
    assert "the server answered 404" in said and said.isprintable() and len(said) < 1000
