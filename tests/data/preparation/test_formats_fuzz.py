"""Files changed at random: rows or one line of complaint, and every line accounted for."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import TEXTS, RawFiles, content_of, write, write_raw_files

from genrec_bench.data.preparation.formats import FORMATS
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError

Kind = tuple[str, RawFiles]
Changes = list[tuple[str, int, bytes]]

JSON = ("amazon-2014", "amazon-2018", "amazon-2023", "yelp")
KINDS = [(format, False) for format in FORMATS]
KINDS += [(format, True) for format in ("amazon-2014", "amazon-2018", "amazon-2023")]
NASTY = st.sampled_from(
    [b"\n", b'"', b"'", b"\r", b",", b"\t", b"\x00", b"\xff", b"{", b"[", b"\\"]
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "insert"]),
        st.integers(0, 10_000),
        st.one_of(NASTY, st.binary(min_size=1, max_size=8)),
    ),
    min_size=1,
    max_size=6,
)


def change(content: bytes, changes: Changes) -> bytes:
    for kind, place, piece in changes:
        at = place % (len(content) + 1)
        if kind == "cut":  # a few bytes, or all that follow
            content = content[:at] + (content[at + len(piece) :] if place % 3 else b"")
        elif kind == "flip":
            content = content[:at] + piece[:1] + content[at + 1 :]
        else:
            content = content[:at] + piece + content[at:]
    return content


class Ledger(Malformed):
    """Remembers how many lines a file is said to have."""

    lines = -1

    def end(self, file: Path, lines: int) -> None:
        self.lines = lines
        super().end(file, lines)


def check_accounts(format: str, path: Path, text: bytes | None) -> None:
    """Read a file: an error of one line, or every line is a row, rejected, blank or the header.

    Args:
        format: of the file.
        path: its interactions.
        text: what is in it; None where it may be damaged beyond knowing.
    """
    ledger = Ledger(1)
    try:
        rows = list(FORMATS[format].interactions(path, ledger, Columns()))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    rejected = sum(ledger.counts.get(path.name, {}).values())
    assert len(rows) + rejected == ledger.lines
    for user, item, time in rows:
        assert user.isprintable() and item.isprintable() and 0 <= time <= 4_102_444_800_000
    is_json = format in JSON and ".csv" not in path.name
    if text is None or (b'"' in text and not is_json):  # a quoted row may run over lines
        return
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    blank = sum(not line.strip() for line in lines)
    header = not is_json and format not in ("amazon-2014", "amazon-2018")
    assert len(rows) + rejected + blank + header == len(lines)


def check_items(format: str, path: Path) -> None:
    malformed = Malformed(1)
    try:
        found = list(FORMATS[format].items(path, TEXTS, malformed, Columns()))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    names = [name for name, _ in found]
    assert len(set(names)) == len(names) and set(names) <= set(TEXTS)
    for _, text in found:
        for part in (text.title, text.description, *text.categories):
            assert part == " ".join(part.split()) and part.encode().decode() == part


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[0] + "-ratings" * kind[1])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    format, ratings = request.param
    folder = tmp_path_factory.mktemp("raw")
    return format, write_raw_files(format, folder, ratings=ratings)


@given(changes=CHANGES)
@settings(max_examples=60)
def test_any_change_of_the_text_is_accounted_for(kind: Kind, changes: Changes) -> None:
    format, files = kind
    text = change(content_of(files.interactions), changes)
    path = files.interactions.with_name("changed" + "".join(files.interactions.suffixes))
    check_accounts(format, write(path, text), text)
    path = files.items.with_name("changed_items" + "".join(files.items.suffixes))
    check_items(format, write(path, change(content_of(files.items), changes)))


@given(changes=CHANGES)
@settings(max_examples=60)
def test_any_change_of_the_bytes_on_disk(kind: Kind, changes: Changes) -> None:
    format, files = kind
    path = files.interactions.with_name("on-disk" + "".join(files.interactions.suffixes))
    path.write_bytes(change(files.interactions.read_bytes(), changes))
    check_accounts(format, path, None)
    path = files.items.with_name("on-disk-items" + "".join(files.items.suffixes))
    path.write_bytes(change(files.items.read_bytes(), changes))
    check_items(format, path)


@given(text=st.binary(max_size=200))
@settings(max_examples=40)
def test_any_bytes_at_all(kind: Kind, text: bytes) -> None:
    format, files = kind
    name = "any.csv" if ".csv" in files.interactions.suffixes else "any"
    path = write(files.interactions.with_name(name), text)
    check_accounts(format, path, None if text.startswith(b"\x1f\x8b") else text)
    check_items(format, path)
