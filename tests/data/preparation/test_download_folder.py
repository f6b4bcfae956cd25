"""The folder of downloads: checksums, files put there by hand, other processes, full disks."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
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
    sha256,
    source,
)
from local_server import Answer, LocalServer

from genrec_bench.data.preparation import checksums
from genrec_bench.data.preparation.download import find_file
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.errors import StorageError


def test_what_is_not_the_published_file_gets_no_name(server: LocalServer, tmp_path: Path) -> None:
    wanted = source(server, sha256(OTHER))
    said = refused(lambda: get(wanted, tmp_path))
    rejected = tmp_path / f"{NAME}.rejected"
    assert sha256(CONTENT) in said and sha256(OTHER) in said and str(rejected) in said
    assert names(tmp_path) == {rejected.name, f"{NAME}.part.json"}
    assert rejected.read_bytes() == CONTENT
    assert find_file(wanted, tmp_path) is None
    # As it says: the server had a bad day.
    server.content = OTHER
    assert get(wanted, tmp_path).read_bytes() == OTHER
    assert server.range_headers() == ["", ""]


def test_a_published_checksum_may_be_written_in_capitals(
    server: LocalServer, tmp_path: Path
) -> None:
    check_whole(get(source(server, sha256(CONTENT).upper()), tmp_path))


def test_the_first_checksum_is_asked_for_ever_after(server: LocalServer, tmp_path: Path) -> None:
    wanted = source(server)
    get(wanted, tmp_path).unlink()
    server.content, server.validators = OTHER, {"ETag": '"two"'}
    said = refused(lambda: get(wanted, tmp_path))
    rejected, entries = tmp_path / f"{NAME}.rejected", tmp_path / "checksums.json"
    for part in (sha256(CONTENT), sha256(OTHER), str(rejected), str(entries), repr(NAME)):
        assert part in said
    assert find_file(wanted, tmp_path) is None
    # As it says.
    rejected.rename(tmp_path / NAME)
    entries.write_text("{}")
    assert find_file(wanted, tmp_path) == tmp_path / NAME
    assert json.loads(entries.read_text())[NAME]["sha256"] == sha256(OTHER)


@pytest.mark.parametrize("published", [False, True])
def test_a_file_that_changes_in_the_folder_is_found_out_and_left_alone(
    published: bool, server: LocalServer, tmp_path: Path
) -> None:
    wanted = source(server, sha256(CONTENT) if published else "")
    path = get(wanted, tmp_path)
    path.write_bytes(OTHER)
    said = refused(lambda: get(wanted, tmp_path))
    assert sha256(CONTENT) in said and sha256(OTHER) in said and str(path) in said
    assert ("to accept it" in said) is not published
    assert path.read_bytes() == OTHER and len(server.seen) == 1
    # As it says.
    path.unlink()
    check_whole(get(wanted, tmp_path))


@pytest.mark.parametrize("published", [False, True])
def test_a_file_put_there_by_hand(published: bool, server: LocalServer, tmp_path: Path) -> None:
    wanted = source(server, sha256(OTHER) if published else "")
    (tmp_path / NAME).write_bytes(OTHER)
    assert get(wanted, tmp_path) == tmp_path / NAME
    assert not server.seen
    (tmp_path / NAME).write_bytes(CONTENT)
    assert sha256(OTHER) in refused(lambda: find_file(wanted, tmp_path))


def test_a_file_is_read_again_only_if_it_was_touched(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return sha256(path.read_bytes())

    monkeypatch.setattr(checksums, "file_sha256", count)
    path = get(source(server), tmp_path)
    for wanted in (source(server), source(server, sha256(CONTENT))):
        find_file(wanted, tmp_path)
        get(wanted, tmp_path)
    assert read == [tmp_path / f"{NAME}.part"]
    os.utime(path, ns=(1, 1))
    find_file(source(server), tmp_path)
    find_file(source(server), tmp_path)
    assert read[1:] == [path]
    # What is known of the file does not change what it must be.
    refused(lambda: find_file(source(server, sha256(OTHER)), tmp_path))


def test_a_published_checksum_counts_more_than_a_recorded_one(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    find_file(SourceFile(NAME), tmp_path)
    (tmp_path / NAME).write_bytes(OTHER)
    assert find_file(SourceFile(NAME, sha256=sha256(OTHER)), tmp_path)
    assert find_file(SourceFile(NAME), tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": {"sha256": "x"}}'])
def test_damaged_checksums_are_no_checksums(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    (tmp_path / "checksums.json").write_text(text)
    said = refused(lambda: find_file(SourceFile(NAME), tmp_path))
    assert f"{tmp_path / 'checksums.json'} is damaged: delete it" in said


CHILD = """
import pathlib, sys
from genrec_bench.data.preparation.download import fetch
from genrec_bench.data.preparation.raw_recipe import SourceFile
from genrec_bench.progress import Progress
fetch(SourceFile(sys.argv[1], sys.argv[2]), pathlib.Path(sys.argv[3]), Progress())
"""


def test_another_process_waits_and_finds_the_file(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, opened = threading.Event(), threading.Event()

    def hold_up(bar: WatchedBar, amount: float) -> None:
        reached.set()
        assert opened.wait(30)

    monkeypatch.setattr(WatchedBar, "advance", hold_up)
    wanted = source(server)
    first = threading.Thread(target=get, args=(wanted, tmp_path, Watched()))
    first.start()
    assert reached.wait(30)
    command = [sys.executable, "-c", CHILD, wanted.file, wanted.url, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = child.stderr.readline()
        opened.set()
        rest = child.stderr.read()
    first.join()
    assert said == f"{NAME}: another process is fetching it; waiting\n"
    assert (child.returncode, rest) == (0, "")
    check_whole(tmp_path / NAME)
    assert len(server.seen) == 1


def test_many_at_once_download_once(server: LocalServer, tmp_path: Path) -> None:
    """Two files, each wanted by several."""
    server.script = [Answer(silent=0.05, cut=15_000)] * 2
    found: list[Path] = []
    wanted = [SourceFile(name, f"{server.url}/{name}") for name in ("a", "b")] * 4
    threads = [
        threading.Thread(target=lambda each: found.append(get(each, tmp_path)), args=(each,))
        for each in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [tmp_path / "a"] * 4 + [tmp_path / "b"] * 4
    # Whoever met the cut connections: nothing has been sent twice.
    assert sum(server.sent()) == 2 * len(CONTENT) and len(server.seen) == 4
    assert names(tmp_path) == {"a", "b", "checksums.json"}
    assert set(json.loads((tmp_path / "checksums.json").read_text())) == {"a", "b"}


def test_a_full_disk(server: LocalServer, tmp_path: Path) -> None:
    """The system's own refusal, in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            get(source(server), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    check_whole(get(source(server), tmp_path))
    assert len(server.seen) == 2 and server.seen[1].headers["Range"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_disk_that_refuses(
    code: int, name: str, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        with pytest.raises(StorageError, match=os.strerror(code)):
            get(source(server), tmp_path)
    assert find_file(source(server), tmp_path) is None
    check_whole(get(source(server), tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(server: LocalServer, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir(mode=0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        get(source(server), folder)
    assert not server.seen


def test_a_folder_that_is_a_file(server: LocalServer, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.write_text("in the way")
    assert str(folder) in refused(lambda: get(source(server), folder))
    assert not server.seen


def test_something_else_has_the_files_name(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    said = refused(lambda: get(source(server), tmp_path))
    assert said.startswith(f"{tmp_path / NAME} is in the way")


def test_where_nothing_can_be_recorded_a_published_checksum_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)

    def refuse(path: Path, content: bytes) -> None:
        raise StorageError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr(checksums, "write_json", refuse)
    assert find_file(SourceFile(NAME, sha256=sha256(CONTENT)), tmp_path) == tmp_path / NAME
    assert "published" not in refused(lambda: find_file(SourceFile(NAME), tmp_path))
