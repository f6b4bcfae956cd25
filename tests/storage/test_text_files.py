"""Text that people hand in is decoded, or the line is named that cannot be."""

import json
from pathlib import Path

import pytest

from genrec_bench.errors import UserError
from genrec_bench.storage.row_files import read_rows
from genrec_bench.storage.source_files import Folder
from genrec_bench.storage.text_files import json_lines, read_text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\r\nb\r\nGr\xf6\xdfe\r\n", ", line 3: not UTF-8 (byte f6, '\xf6' in Latin-1)"),
        (b"\xe9", ", line 1: not UTF-8 (byte e9"),
        ("a\nb".encode("utf-16"), ": is UTF-16 text, and UTF-8 text is needed"),
        (b"\x1f\x8b\x08", ": is a gzip file, and"),
        (b"PK\x03\x04", ": is a zip archive, and"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    for read in (read_text, read_rows, Folder(tmp_path).text):
        with pytest.raises(UserError) as error:
            read(path)
        message = str(error.value)
        assert message.startswith(f"{path}{said}") and "position" not in message


def test_byte_order_marks_and_line_ends_are_no_text(tmp_path: Path) -> None:
    for content in ('history,user\n"1,2",a\n', 'history,user\r\n"1,2",a\r\n'):
        path = tmp_path / "file.csv"
        path.write_bytes(content.encode("utf-8-sig"))
        assert read_rows(path).to_dict("list") == {"history": ["1,2"], "user": ["a"]}
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"history": [1, 2]}\r\n\r\n{"history": ["a"]}\r\n')
    assert read_rows(path).to_dict("list") == {"history": [[1, 2], ["a"]]}


@pytest.mark.parametrize("name", ["none.csv", "folder.csv"])
def test_what_is_no_file_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="no such file|is a folder, and a file is needed"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl"])
def test_an_empty_file_is_called_that(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(" \n")
    with pytest.raises(UserError, match=f"{name}: is empty"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"history": [1, 2}', "malformed JSON: Expecting ',' delimiter"),
        ("not JSON", "malformed JSON: Expecting value"),
        ("[1, 2]", "must be a JSON object"),
        ("[" * 100_000, "malformed JSON: lists or objects are nested more than"),
    ],
)
def test_a_damaged_line_of_json_is_named(line: str, said: str) -> None:
    good = json.dumps({"history": ["a\u2028b"]}, ensure_ascii=False)
    assert json_lines(f"{good}\n{good}", "x.jsonl") == [{"history": ["a\u2028b"]}] * 2
    with pytest.raises(UserError) as error:
        json_lines(f"{good}\n\n{line}\n", "x.jsonl")
    assert str(error.value).startswith(f"x.jsonl, line 3: {said}")
