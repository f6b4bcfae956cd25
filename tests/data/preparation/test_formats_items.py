"""Files of items with malformed lines; literals of Python are read, never evaluated."""

import json
import warnings
from pathlib import Path

import pytest
from raw_files import TEXTS, content_of, write, write_raw_files

from genrec_bench.data.preparation.formats import FORMATS
from genrec_bench.data.preparation.malformed import Malformed, Rejected
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError


@pytest.mark.parametrize("format", FORMATS)
def test_items_that_cannot_be_used(tmp_path: Path, format: str) -> None:
    """The first line is lost, the others are read; an item that is not wanted is not judged."""
    path = write_raw_files(format, tmp_path).items
    lines = content_of(path).split(b"\n")
    first = 1 if format in ("csv", "movielens", "recbole") else 0
    lines[first] = lines[first].replace(b"Rake", b"R\xe4ke")
    path = write(path, b"\n".join(lines))
    malformed = Malformed(1)
    found = dict(FORMATS[format].items(path, TEXTS, malformed, Columns()))
    assert set(found) == {"B00B", "B00C"}
    assert malformed.examples == [Rejected(path.name, first + 1, "not UTF-8")]
    with pytest.raises(UserError, match=f"1 of 3 lines .* first in line {first + 1}"):
        list(FORMATS[format].items(path, TEXTS, Malformed(0.3), Columns()))


@pytest.mark.parametrize("format", ["amazon-2014", "amazon-2018", "amazon-2023", "yelp"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": 3}, "title is not text"),
        ({"description": {"a": 1}}, "description is not text"),
        ({"categories": [["a"], [1]]}, "categories is not text"),
        ({"id": 3}, "id is not text"),
        ({"id": None}, "id is not text"),
        ({"id": "B00A\u200b"}, "id has characters that cannot be printed"),
        ({}, "missing key 'id'"),
    ],
)
def test_an_item_of_wrong_types(
    tmp_path: Path, format: str, change: dict[str, object], reason: str
) -> None:
    ids = {"yelp": "business_id", "amazon-2023": "parent_asin"}
    names: dict[str, str] = {"id": ids.get(format, "asin")}
    if format == "amazon-2018":
        names["categories"] = "category"
    if format == "yelp":
        names |= {"title": "name", "description": "city"}
    known = bool(change) and "id" not in change
    entry: dict[str, object] = {names["id"]: "B00A"} if known else {}
    entry |= {names.get(key, key): value for key, value in change.items()}
    lines = [json.dumps(entry), json.dumps({names["id"]: "B00B"})]
    path = write(tmp_path / "items.json", "\n".join(lines))
    malformed = Malformed(0.5)
    found = FORMATS[format].items(path, {"B00A", "B00B", "B00A\u200b"}, malformed, Columns())
    assert [name for name, _ in found] == ["B00B"]
    for key, name in names.items():
        reason = reason.replace(key, name) if reason.startswith((key, "missing")) else reason
    assert malformed.counts == {"items.json": {reason: 1}}


@pytest.mark.parametrize("format", ["amazon-2014", "amazon-2018"])
def test_lines_of_other_items_are_judged_by_their_braces(tmp_path: Path, format: str) -> None:
    lines = [
        '{"asin": "B00A"}',
        '{"asin": "other", "title": 3}',
        '{"asin": "other", "ti',
        '"asin": "x"}',
    ]
    path, malformed = write(tmp_path / "items.json", "\n".join(lines)), Malformed(1)
    assert [name for name, _ in FORMATS[format].items(path, {"B00A"}, malformed, Columns())] == [
        "B00A"
    ]
    assert sum(malformed.counts["items.json"].values()) == 2
    assert [shown.line for shown in malformed.examples] == [3, 4]


LITERAL = "neither JSON nor a Python literal"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{'asin': 'B00A', 'title': __import__('os').getpid()}", LITERAL),
        ("{'asin': 'B00A', 'title': 'a' + 'b'}", LITERAL),
        ("{'asin': 'B00A', ", LITERAL),
        ("{'asin': 'B00A', 'title': '\x00'}", LITERAL),
        ("{'asin': 'B00A', ['a']: 1}", LITERAL),
        ("{'asin': 'B00A', 'title': f'a'}", LITERAL),
        ("{'asin'}", LITERAL),
        ("{'asin': 'B00A', 'x': " + "-" * 90_000 + "1}", LITERAL),
        ("{'asin': 'B00A', 'x': " + "1+" * 60_000 + "1}", LITERAL),
        ("{'asin': 'B00A', 'x': " + "[" * 90_000 + "}", LITERAL),
        ("{'asin': 'B00A', 'x': " + "9" * 5000 + "}", LITERAL),
        ("{'asin': 'B00A', 'x': [" + "1," * 200_000 + "]}", LITERAL.replace("a P", "a short P")),
        ("{'asin': b'B00A'}", "asin is not text"),
        ("{'asin': 'B00A', 'title': ('a',)}", "title is not text"),
        ("os.getpid()", "not JSON"),
        ("['asin']", "not JSON"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_a_literal_is_read_and_never_evaluated(tmp_path: Path, line: str, reason: str) -> None:
    good = r"{'asin': 'B00B', 'title': '12\d', 'price': None}"
    path = write(tmp_path / "meta.json.gz", f"{good}\n{line}\n")
    malformed = Malformed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(FORMATS["amazon-2014"].items(path, TEXTS, malformed, Columns()))
    assert [(name, text.title) for name, text in found] == [("B00B", r"12\d")]
    assert malformed.counts == {"meta.json.gz": {reason: 1}}
