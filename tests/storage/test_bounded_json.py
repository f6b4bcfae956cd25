"""JSON within bounds: what Python's reader takes and nobody behind it can bear is refused."""

import os
import tracemalloc
from pathlib import Path

import pytest

from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs.histories import read_histories
from genrec_bench.storage.bounded_json import MOST_DEPTH, decode_json, load_json, read_at_most
from genrec_bench.storage.confined import own_bytes
from genrec_bench.storage.files import read_json
from genrec_bench.storage.source_files import Folder
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.text_files import read_text

ODD = [
    ("[" * 100_000, "line 1: malformed JSON: lists or objects are nested more than"),
    ('{"a":' * 100_000, "line 1: malformed JSON: lists or objects are nested more than"),
    ("[" * 65 + "]" * 65, "nested more than 64 deep"),
    ('["[[", ' + "[" * 64 + "]" * 65, "nested more than 64 deep"),
    ("9" * 5000, "line 1: malformed JSON: 999999999999999999999999 has more than 64 bits"),
    ("[1,\n" + str(2**63) + "]", "line 2: malformed JSON: 9223372036854775808 has more than"),
    ("[\n-1" + "0" * 400 + "]", "line 2: malformed JSON: -10000000000000000000000 has more"),
    ("[\n\n1e400]", "line 3: malformed JSON: 1e400 is too large a number"),
    ("1" + "0" * 400 + ".5", "is too large a number"),
    ("[\nNaN]", "line 2: malformed JSON: NaN is no number"),
    ('{"a": -Infinity}', "-Infinity is no number"),
    ('{"a": 1,\n"b": {"c": 1,\n"c": 2}}', "line 3: malformed JSON: key 'c' stands twice"),
    ('{"a": "\\ud800"}', "line 1: malformed JSON: half of a character in a text, '\\ud800'"),
    ('{"a\\udfff":\n"b"}', "half of a character in a text"),
    ('["\\ude00\\ud83d"]', "half of a character in a text"),
    ('{"a\\u0000b": 1}', "NUL in a text"),
    ('["a\\u0000b"]', "line 1: malformed JSON: NUL in a text, 'a"),
    (b"[1,\n\xff]", "line 2: not UTF-8"),
    (b"\xff\xfe[\x001\x00]\x00", "line 1: not UTF-8"),
    ('["a\0b"]', "line 1: malformed JSON"),
    ("", "line 1: malformed JSON"),
    ("[1,\n", "line 2: malformed JSON"),
]


@pytest.mark.parametrize(("text", "message"), ODD, ids=range(len(ODD)))
def test_what_is_odd_is_refused_in_one_line_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        decode_json(text)
    assert message in str(error.value)
    assert str(error.value).isprintable() and len(str(error.value)) < 200
    assert isinstance(error.value, ValueError) and not isinstance(error.value, UnicodeError)


def test_what_is_well_is_read_as_it_stands() -> None:
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert str(decode_json(deep)) == deep
    assert decode_json('["[", ' * 60 + "1" + "]" * 60)[0] == "["
    assert decode_json('"\\ud83d\\ude00 \\\\u0000"') == "\U0001f600 \\u0000"
    assert decode_json(f"[{2**63 - 1}, {-(2**63)}, 1e308, 1E-400]") == [
        2**63 - 1, -(2**63), 1e308, 0.0
    ]  # fmt: skip
    assert decode_json(b'\xef\xbb\xbf{"a": [{"b": 1}, {"b": 2}]}') == {"a": [{"b": 1}, {"b": 2}]}
    infinite = decode_json('[Infinity, "\\u0041"]', constants=True)
    assert infinite == [float("inf"), "A"]


def test_a_file_has_a_size_and_an_end(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" + "1," * 100 + "1]")
    assert len(load_json(file, most=203)) == 101
    with pytest.raises(ValueError, match="longer than 202 bytes"):
        load_json(file, most=202)
    with pytest.raises(StorageError, match=r"a\.json: holds no JSON object"):
        read_json(file)
    with pytest.raises(StorageError, match=r"none\.json: cannot be read: .*No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(StorageError, match="cannot be read"):
        read_json(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(StorageError, match="zero: cannot be read: is not a file"):
            read_json(Path("/dev/zero"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match="pipe: cannot be read: is not a file"):
        read_json(pipe)


@pytest.mark.parametrize("text", [text for text, _ in ODD if text], ids=range(len(ODD) - 1))
def test_readers_of_files_name_them(tmp_path: Path, text: str | bytes) -> None:
    content = text.encode() if isinstance(text, str) else text
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_bytes(content)
    for read in (
        lambda: read_json(tmp_path / "a.json"),
        lambda: Folder(tmp_path).mapping(tmp_path / "a.json"),
        lambda: read_histories(tmp_path / "a.jsonl"),
    ):
        with pytest.raises(UserError, match=r"^[^\n]*a\.json[^\n]*$"):
            read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1" + "0" * 5000, "not valid YAML"),
        ("a: 1" + "0" * 400, "more than 64 bits"),
        ('a: "\\ud800"', "half of a character"),
        ('a: "b\\0"', "NUL in a text"),
        ("a: " + "[" * 100 + "]" * 100, "nested more than"),
        ("[" * 100_000, "not valid YAML"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\n", "line 2: write it out: aliases"),
        ("a: " + "b" * 2**20, "longer than"),
        ("? [1, 2]\n: 3\n? {a: 1}\n: 4", "not valid YAML"),
    ],
    ids=range(9),
)
def test_yaml_has_the_same_bounds(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"\Acard\.yaml: ") as error:
        parse_yaml(text, "card.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_small_file_asks_for_little_memory(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text("[1]")
    tracemalloc.start()
    try:
        assert load_json(tmp_path / "small.json") == [1]
        assert read_text(tmp_path / "small.json") == "[1]"
        assert own_bytes(tmp_path, "small.json", most=2**30) == b"[1]"
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    with (tmp_path / "small.json").open("rb") as opened:
        assert read_at_most(opened, 2) == b"[1"
