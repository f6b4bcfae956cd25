import gzip
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.data.preparation import lines as module
from genrec_bench.data.preparation.lines import CHUNK, LONGEST_LINE, TOO_LONG, Lines
from genrec_bench.data.preparation.malformed import EXAMPLES, PATIENCE, Malformed, Rejected
from genrec_bench.errors import StorageError, UserError

TEXT = b"one\ntwo\n\n  \t\r\nfive\r\nsix"
READ = [(1, b"one"), (2, b"two"), (5, b"five"), (6, b"six")]


def put(folder: Path, content: bytes) -> Path:
    path = folder / "raw.json"
    path.write_bytes(content)
    return path


def read(path: Path) -> list[tuple[int, bytes]]:
    return list(Lines(path, Malformed(0)))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_lines_have_numbers_and_no_ends(tmp_path: Path, start: bytes, end: bytes) -> None:
    content = start + TEXT + end
    assert read(put(tmp_path, content)) == READ
    assert read(put(tmp_path, gzip.compress(content))) == READ
    half = len(content) // 2
    members = gzip.compress(content[:half]) + gzip.compress(content[half:])
    assert read(put(tmp_path, members)) == READ


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    for content in (TEXT, TEXT + b"\n"):
        lines = Lines(put(tmp_path, content), Malformed(0))
        assert len(list(lines)) == 4 and (lines.number, lines.blank) == (6, 2)


@given(content=st.binary(max_size=300), chunk=st.integers(1, 40), longest=st.integers(1, 20))
@settings(max_examples=300)
def test_pieces_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, chunk: int, longest: int
) -> None:
    """Whatever the size of the pieces, it is as if the file were split at its line feeds."""
    content = b"." + content.replace(b"a", b"\n").replace(b"b", b"\r\n")
    expected, rejected = [], 0
    for number, line in enumerate(content.split(b"\n"), start=1):
        if len(line) > longest:
            rejected += 1
        elif line.strip():
            expected.append((number, line.removesuffix(b"\r")))
    path = put(tmp_path_factory.mktemp("lines"), content)
    malformed = Malformed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        patch.setattr(module, "LONGEST_LINE", longest)
        assert list(Lines(path, malformed)) == expected
    counts = malformed.counts.get("raw.json", {})
    assert counts == ({TOO_LONG: rejected} if rejected else {})


@pytest.mark.parametrize("compressed", [False, True])
def test_a_huge_line_is_rejected_and_never_held(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "raw.json"
    with gzip.open(path, "wb", 1) if compressed else path.open("wb") as file:
        file.write(b"first\n")
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b"\nlast\n")
    malformed = Malformed(1)
    tracemalloc.start()
    found = list(Lines(path, malformed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(1, b"first"), (3, b"last")]
    assert malformed.examples == [Rejected("raw.json", 2, "longer than 8 MiB")]
    assert peak < 3 * LONGEST_LINE


def test_a_line_of_the_longest_length_is_read(tmp_path: Path) -> None:
    content = b"x" * LONGEST_LINE + b"\n" + b"y" * (LONGEST_LINE + 1) + b"\nz"
    malformed = Malformed(1)
    found = list(Lines(put(tmp_path, content), malformed))
    assert [(number, len(line)) for number, line in found] == [(1, LONGEST_LINE), (3, 1)]
    assert malformed.counts == {"raw.json": {TOO_LONG: 1}}


def test_a_gzip_file_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"line": %d}\n' % n for n in range(50)))
    for length in range(2, len(whole)):
        path = put(tmp_path, whole[:length])
        with pytest.raises(UserError, match=r"raw\.json is cut short near line \d+: .* fetch"):
            read(path)
    assert len(read(put(tmp_path, whole))) == 50


def test_lines_before_the_cut_are_met_and_the_place_is_named(tmp_path: Path) -> None:
    lines = [os.urandom(40).hex().encode() for _ in range(5000)]
    whole = gzip.compress(b"\n".join(lines))
    found = []
    with pytest.raises(UserError, match="cut short near line") as caught:
        for _number, line in Lines(put(tmp_path, whole[: len(whole) // 2]), Malformed(0)):
            found.append(line)
    assert found == lines[: len(found)] and 2000 < len(found) < 3000
    assert f"near line {len(found) + 1}:" in str(caught.value)


@given(place=st.integers(0, 10**6), byte=st.integers(1, 255))
def test_a_damaged_gzip_file_gives_lines_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    content = bytearray(gzip.compress(TEXT * 20, mtime=0))
    content[place % len(content)] ^= byte
    path = put(tmp_path_factory.mktemp("lines"), bytes(content))
    try:
        found = read(path)
    except UserError as error:
        assert "raw.json" in str(error) and "\n" not in str(error)
    else:  # in the header: its time, its flags, or what makes it a gzip file
        assert len(found) == len(READ) * 20 or place % len(content) < 10


def test_a_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(TEXT))
    content[-5] ^= 1
    with pytest.raises(UserError, match="damaged near line 6 .CRC check failed"):
        read(put(tmp_path, bytes(content)))
    with pytest.raises(UserError, match="damaged near line 6 .*; fetch the gzip file again"):
        read(put(tmp_path, gzip.compress(TEXT) + b"and more"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\x14\x00", "a zip archive"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "a gzip file within a gzip file"),
        (b"BZh91AY&SY..", "a bzip2 file"),
        ("{}\n".encode("utf-16"), "UTF-16 text"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(UserError, match=f"raw.json is {what}; unpack it"):
        read(put(tmp_path, content))


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> io.BufferedReader:
        raise PermissionError(13, "Permission denied", "raw.json")

    path = put(tmp_path, TEXT)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match="cannot use raw.json: Permission denied"):
        read(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_position_ends_at_the_size_on_disk(tmp_path: Path, compressed: bool) -> None:
    content = os.urandom(2 * CHUNK).hex().encode().replace(b"0", b"\n")
    path = put(tmp_path, gzip.compress(content, 1) if compressed else content)
    malformed, positions = Malformed(0), set()
    for _ in Lines(path, malformed):
        positions.add(malformed.position)
    assert len(positions) > 3
    assert path.stat().st_size - 16 <= max(positions) <= path.stat().st_size


def test_rejected_lines_are_counted_by_kind_and_the_first_ones_kept() -> None:
    malformed, path = Malformed(0.5), Path("folder/a.json")
    for line in range(1, 6):
        malformed.reject(path, line, "not JSON")
    malformed.reject(path, 9, "negative time")
    malformed.reject(Path("b.json"), 1, "not JSON")
    assert malformed.counts == {
        "a.json": {"not JSON": 5, "negative time": 1},
        "b.json": {"not JSON": 1},
    }
    assert malformed.examples == [
        *(Rejected("a.json", line, "not JSON") for line in range(1, EXAMPLES + 1)),
        Rejected("a.json", 9, "negative time"),
        Rejected("b.json", 1, "not JSON"),
    ]
    malformed.end(path, 12)  # six of twelve: at the limit, not above
    malformed.end(path, 1)  # read again from its start, and nothing was rejected
    assert malformed.counts["a.json"] == {"not JSON": 5, "negative time": 1}


def test_the_limit_is_a_share_of_the_lines() -> None:
    malformed, path = Malformed(0.001), Path("a.json")
    for line in (2, 4):
        malformed.reject(path, line, "not JSON")
    malformed.reject(path, 7, "not UTF-8")
    with pytest.raises(UserError) as caught:
        malformed.end(path, 2999)
    assert str(caught.value) == (
        "a.json: 3 of 2999 lines are malformed, more than the limit of 0.100% "
        "that the card sets as 'raw.malformed': "
        "not JSON: 2, first in line 2; not UTF-8: 1, first in line 7"
    )


def test_no_usable_line_is_refused_whatever_the_limit() -> None:
    malformed, path = Malformed(1), Path("a.json")
    with pytest.raises(UserError, match="a.json is empty: it has no line of data"):
        malformed.end(path, 0)
    malformed.reject(path, 1, "not JSON")
    with pytest.raises(UserError, match="no line can be used .not JSON: 1, first in line 1.; is"):
        malformed.end(path, 1)


def test_a_file_of_another_kind_is_given_up_early() -> None:
    malformed, path = Malformed(0.001), Path("a.json")
    with pytest.raises(UserError, match=f"{PATIENCE} of its first {PATIENCE} lines are malformed"):
        for line in range(1, 10 * PATIENCE):
            malformed.reject(path, line, "not JSON")
    tolerant = Malformed(1)
    for line in range(1, 3 * PATIENCE):
        tolerant.reject(path, line, "not JSON")
    tolerant.end(path, 3 * PATIENCE)


def test_a_file_of_blank_lines_is_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "blank.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(8):
            file.write(b"\n" * 2**22)
    lines = Lines(path, Malformed(0.5))
    with pytest.raises(UserError, match="1,000,001 lines are blank, most of all"):
        list(lines)
    assert lines.number < 1_100_000
