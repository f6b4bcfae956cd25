"""Downloads that are cut short, and go on."""

from email.utils import formatdate
from pathlib import Path

import pytest
from download_world import (
    CONTENT,
    NAME,
    OTHER,
    Watched,
    WatchedBar,
    check_whole,
    get,
    names,
    refused,
    source,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import Answer, LocalServer, local_server

from genrec_bench.data.preparation import checksums, download
from genrec_bench.data.preparation.download import fetch, find_file
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.progress import Progress


def test_a_cut_download_is_resumed(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000), Answer(cut=15_000)]
    check_whole(get(source(server), tmp_path))
    assert server.range_headers() == ["", "bytes=15000-", "bytes=30000-"]
    assert [seen.headers.get("If-Range") for seen in server.seen] == [None, '"one"', '"one"']
    assert [seen.status for seen in server.seen] == [200, 206, 206]
    assert server.sent() == [15_000, 15_000, 10_000]


def test_a_date_will_do_where_there_is_no_etag(server: LocalServer, tmp_path: Path) -> None:
    date = formatdate(1_000_000_000, usegmt=True)
    server.validators = {"ETag": 'W/"weak"', "Last-Modified": date}
    server.script = [Answer(cut=15_000)]
    check_whole(get(source(server), tmp_path))
    assert server.seen[1].headers["If-Range"] == date
    assert server.sent() == [15_000, 25_000]


@pytest.mark.parametrize("validators", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_validator_it_starts_anew(
    validators: dict[str, str], server: LocalServer, tmp_path: Path
) -> None:
    server.validators = validators
    server.script = [Answer(cut=15_000)]
    check_whole(get(source(server), tmp_path))
    assert server.range_headers() == ["", ""]


def test_a_server_that_ignores_ranges(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000), Answer(ranges=False)]
    progress = Watched()
    check_whole(get(source(server), tmp_path, progress))
    assert server.range_headers() == ["", "bytes=15000-"]
    assert server.sent() == [15_000, 40_000]
    assert [sum(bar.amounts) for _, _, bar in progress.bars] == [15_000, 40_000]


def test_a_file_that_changes_in_between_starts_anew(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000)]
    server.versions = {1: (OTHER, {"ETag": '"two"'})}
    check_whole(get(source(server), tmp_path), OTHER)
    assert [seen.status for seen in server.seen] == [200, 200]


@pytest.mark.parametrize("content", [OTHER, OTHER[:10_000], OTHER + OTHER])
def test_a_file_that_changes_on_a_server_that_ignores_if_range(
    content: bytes, server: LocalServer, tmp_path: Path
) -> None:
    """Longer than what is there, or shorter: the parts of two versions never meet."""
    server.script = [Answer(cut=15_000), Answer(conditions=False)]
    server.versions = {1: (content, {"ETag": '"two"'})}
    check_whole(get(source(server), tmp_path), content)
    second = 206 if len(content) > 15_000 else 416
    assert [seen.status for seen in server.seen] == [200, second, 200]


@pytest.mark.parametrize(
    "span", ["bytes 14999-39999/40000", "bytes 15000-39999/40001", "bytes */40000", "15000", ""]
)
def test_another_range_than_asked_for_is_no_continuation(
    span: str, server: LocalServer, tmp_path: Path
) -> None:
    server.script = [Answer(cut=15_000), Answer(headers={"Content-Range": span})]
    check_whole(get(source(server), tmp_path))
    assert [seen.status for seen in server.seen] == [200, 206, 200]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_sends_less_than_was_asked_for(
    chunked: bool, server: LocalServer, tmp_path: Path
) -> None:
    server.script = [Answer(cut=10_000, chunked=chunked), *[Answer(at_most=10_000)] * 3]
    check_whole(get(source(server), tmp_path))
    assert server.sent() == [10_000] * 4


def test_chunks_that_are_cut_are_resumed(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000, chunked=True), Answer(cut=100, chunked=True)]
    progress = Watched()
    check_whole(get(source(server), tmp_path, progress))
    assert server.sent() == [15_000, 100, 24_900]
    said = f"{NAME}: the network failed (connection closed too early); next attempt in 0 s"
    assert progress.lines == [said] * 2


def test_a_server_that_falls_silent_is_asked_again(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(silent=0.5)]
    path = fetch(source(server), tmp_path, Progress(quiet=True), pause=0.0, timeout=0.1)
    check_whole(path)


def test_short_bodies_end_in_an_error_that_says_how_to_go_on(
    server: LocalServer, tmp_path: Path
) -> None:
    server.script = [Answer(cut=15_000), *[Answer(cut=0)] * 4]
    said = refused(lambda: get(source(server), tmp_path))
    assert said.startswith(f"cannot fetch {server.url}/raw/{NAME}: the network failed (")
    assert said.endswith(f"or fetch it by hand and put it at {tmp_path / NAME}")
    assert names(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    assert not server.script
    # As it says.
    check_whole(get(source(server), tmp_path))
    assert server.sent()[-1] == 25_000


def test_attempts_that_bring_something_are_not_counted(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=1_000) for _ in range(30)]
    check_whole(get(source(server), tmp_path))
    assert len(server.seen) == 31


def test_an_interrupted_download_is_resumed(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_at_once(bar: WatchedBar, amount: float) -> None:
        if amount:
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "CHUNK", 1_000)
    monkeypatch.setattr(WatchedBar, "advance", interrupt_at_once)
    with pytest.raises(KeyboardInterrupt):
        get(source(server), tmp_path, Watched())
    assert names(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    have = (tmp_path / f"{NAME}.part").stat().st_size
    assert 0 < have <= 1_000
    assert find_file(source(server), tmp_path) is None
    check_whole(get(source(server), tmp_path))
    assert server.range_headers() == ["", f"bytes={have}-"]


def test_an_interruption_after_the_last_byte_costs_nothing(
    server: LocalServer, tmp_path: Path
) -> None:
    # The last byte is on the disk, and its checksum is not computed yet.
    server.script = [Answer()]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checksums, "file_sha256", interrupt)
        get(source(server), tmp_path)
    check_whole(get(source(server), tmp_path))
    assert len(server.seen) == 1


def interrupt(path: Path) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": "", "validator": "x", "size": 9}'])
def test_a_part_of_unknown_origin_is_dropped(
    note: str, server: LocalServer, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:500])
    if note:
        (tmp_path / f"{NAME}.part.json").write_text(note)
    check_whole(get(source(server), tmp_path))
    assert server.range_headers() == [""]


def test_the_part_of_another_url_is_dropped(server: LocalServer, tmp_path: Path) -> None:
    server.script = [Answer(cut=15_000), Answer(404)]
    refused(lambda: get(source(server), tmp_path))
    check_whole(get(SourceFile(NAME, f"{server.url}/second"), tmp_path))
    assert server.range_headers() == ["", "bytes=15000-", ""]


answers = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 503]),
    cut=st.integers(0, 2_100),
    ranges=st.booleans(),
    conditions=st.booleans(),
    chunked=st.booleans(),
    at_most=st.none() | st.integers(1, 2_000),
)


@settings(max_examples=40)
@given(script=st.lists(answers, max_size=6), etag=st.booleans(), version=st.integers(0, 6))
def test_whatever_happens_the_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, script: list[Answer], etag: bool, version: int
) -> None:
    """The file changes after so many requests: what comes is all of the one or all of the other."""
    old, new = CONTENT[:2_000], OTHER[:2_000]
    with local_server(old) as server:
        if not etag:
            server.validators = {}
        server.script = list(script)
        server.versions = {version: (new, {"ETag": '"two"'} if etag else {})}
        path = fetch(
            source(server),
            tmp_path_factory.mktemp("any"),
            Progress(quiet=True),
            attempts=len(script) + 3,
            pause=0.0,
        )
        assert path.read_bytes() == (new if len(server.seen) > version else old)
        check_whole(path, path.read_bytes())
