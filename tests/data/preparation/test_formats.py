import ast
import gzip
import json
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import pytest
from raw_files import (
    CATEGORIES,
    LOG,
    TEXTS,
    content_of,
    json_lines,
    plain_table,
    table,
    write,
    write_raw_files,
)

from genrec_bench.data.preparation.formats import FORMATS, ItemText, Row
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

ROWS = [(user, item, seconds * 1000) for user, item, seconds in LOG]
AMAZON = ("amazon-2014", "amazon-2018", "amazon-2023")
NAMES = Columns()


def rows(format: str, path: Path, columns: Columns = NAMES) -> list[Row]:
    return list(FORMATS[format].interactions(path, Malformed(0), columns))


def items(
    format: str, path: Path, wanted: Container[str] = TEXTS, columns: Columns = NAMES
) -> list[tuple[str, ItemText]]:
    return list(FORMATS[format].items(path, wanted, Malformed(0), columns))


def texts_of(format: str) -> dict[str, ItemText]:
    """What is expected of the small files."""
    categories = () if format == "csv" else CATEGORIES
    found = {name: ItemText(*texts, categories) for name, texts in TEXTS.items()}
    if format == "yelp":
        said = "Tools, Hand Tools, Tucson"
        return {name: replace(text, description=said) for name, text in found.items()}
    if format == "movielens":
        return {
            name: replace(text, description="Tools, Hand Tools") for name, text in found.items()
        }
    return found


def test_reviews_of_2014_may_be_literals(tmp_path: Path) -> None:
    path = write_raw_files("amazon-2014", tmp_path).interactions
    lines = [repr(json.loads(line)) for line in content_of(path).splitlines()]
    assert rows("amazon-2014", write(tmp_path / "loose.json", "\n".join(lines))) == ROWS


@pytest.mark.parametrize("format", AMAZON)
def test_ratings_are_read_as_reviews_are(tmp_path: Path, format: str) -> None:
    files = write_raw_files(format, tmp_path, ratings=True)
    assert ".csv" in files.interactions.suffixes
    assert rows(format, files.interactions) == ROWS


@pytest.mark.parametrize("format", FORMATS)
def test_both_files_are_read_as_written_and_gzip_is_told_by_content(
    tmp_path: Path, format: str
) -> None:
    files = write_raw_files(format, tmp_path)
    for compress in (gzip.compress, bytes):
        for path in (files.interactions, files.items):
            content = path.read_bytes()
            plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            path.write_bytes(compress(plain))
        assert rows(format, files.interactions) == ROWS
        assert dict(items(format, files.items)) == texts_of(format)


@pytest.mark.parametrize("format", FORMATS)
def test_shuffled_lines_hold_the_same(tmp_path: Path, format: str) -> None:
    files = write_raw_files(format, tmp_path, shuffle=3)
    assert rows(format, files.interactions) != ROWS
    assert sorted(rows(format, files.interactions)) == sorted(ROWS)
    assert dict(items(format, files.items)) == texts_of(format)


@pytest.mark.parametrize("format", FORMATS)
def test_only_items_that_are_wanted_are_yielded(tmp_path: Path, format: str) -> None:
    files = write_raw_files(format, tmp_path)
    assert [name for name, _ in items(format, files.items, {"B00C", "B00X"})] == ["B00C"]
    assert items(format, files.items, set()) == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_texts_the_best_one_counts(tmp_path: Path, format: str, turned: bool) -> None:
    """B00A has its title in one of two lines, B00B in both, B00C has none; in either order."""
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    first = write_raw_files(
        format, one, texts={"B00A": ("", "x"), "B00B": ("Saw", "1"), "B00C": ("", "first")}
    )
    second = write_raw_files(
        format, two, texts={"B00A": ("Rake", "y"), "B00B": ("Axe", "2"), "B00C": ("", "second")}
    )
    if turned:
        first, second = second, first
    opened = [gzip.open if path.items.suffix == ".gz" else open for path in (first, second)]
    with opened[0](first.items, "rb") as a, opened[1](second.items, "rb") as b:
        lines = b.readlines()
        headless = lines if format not in ("recbole", "movielens", "csv") else lines[1:]
        path = write(tmp_path / "items", a.read() + b"".join(headless))
    found = dict(items(format, path))
    titles = {name: text.title for name, text in found.items()}
    assert titles == {"B00A": "Rake", "B00B": "Axe", "B00C": ""}
    if format not in ("yelp", "movielens"):
        described = {name: text.description for name, text in found.items()}
        assert described == {"B00A": "y", "B00B": "2", "B00C": "first"}


def test_wanted_items_are_parsed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The literal's parser is slow: a line of an item that nobody wants must not reach it."""
    files = write_raw_files("amazon-2014", tmp_path, texts={n: ("a", "b") for n in "ABCDEF"})
    parsed = []
    literal_eval = ast.literal_eval

    def spy(line: str) -> object:
        parsed.append(line)
        return literal_eval(line)

    monkeypatch.setattr(ast, "literal_eval", spy)
    assert [name for name, _ in items("amazon-2014", files.items, {"C"})] == ["C"]
    assert len(parsed) == 1


@pytest.mark.parametrize("quote", ["'", '"'])
def test_an_item_is_found_however_its_id_is_written(tmp_path: Path, quote: str) -> None:
    line = f"{{{quote}asin{quote} : {quote}B\\u00300A{quote}, 'title': 'Rake'}}\n"
    path = write(tmp_path / "meta.json.gz", line)
    assert items("amazon-2014", path) == [("B00A", ItemText("Rake", "", ()))]
    nested = '{"related": {"asin": "B99"}, "asin": "it\'s", "title": "Rake"}\n'
    path = write(tmp_path / "meta.json.gz", nested)
    assert items("amazon-2014", path, {"it's"}) == [("it's", ItemText("Rake", "", ()))]


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("Tom &amp; Jerry&#39;s &quot;Best&quot;", 'Tom & Jerry\'s "Best"'),
        ("  two\n\twords\u2028here ", "two words here"),
        ("nul\x00, half a \ud83d character", "nul , half a character"),
        ('<span id="productTitle">Rake</span>', ""),
        ("&lt;span id=1", ""),
        ("var aPageStart = (new Date()).getTime();\nvar ue_t0=", ""),
        ("Größe \U0001f600", "Größe \U0001f600"),
        (None, ""),
    ],
)
def test_titles_are_cleaned(tmp_path: Path, title: str | None, read: str) -> None:
    path = write(tmp_path / "meta.json.gz", json_lines([{"asin": "B00A", "title": title}]))
    assert items("amazon-2018", path) == [("B00A", ItemText(read, "", ()))]


def test_descriptions_and_categories_of_each_shape(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {"asin": "B00A", "description": [" one &amp;", "two\n"], "category": ["a", "b ", "a", ""]},
        {"asin": "B00B", "description": "", "category": ""},
        {"asin": "B00C", "description": None, "category": [["a"], ["a", "b"]]},
    ]
    path = write(tmp_path / "meta.json.gz", json_lines(entries))
    assert dict(items("amazon-2018", path)) == {
        "B00A": ItemText("", "one & two", ("a", "b")),
        "B00B": ItemText("", "", ()),
        "B00C": ItemText("", "", ("a", "b")),
    }


def test_a_business_without_categories(tmp_path: Path) -> None:
    entry = {"business_id": "B00A", "name": "Joe's", "city": "Tucson", "categories": None}
    path = write(tmp_path / "business.json", json_lines([entry]))
    assert items("yelp", path) == [("B00A", ItemText("Joe's", "Tucson", ()))]


def test_variants_of_2023_are_one_item(tmp_path: Path) -> None:
    entries = [
        {"user_id": "u", "asin": asin, "parent_asin": "P", "timestamp": 1588687728923}
        for asin in ("V1", "V2")
    ]
    path = write(tmp_path / "Tools.jsonl", json_lines(entries))
    assert rows("amazon-2023", path) == [("u", "P", 1588687728923)] * 2


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [("1405555555", 1405555555000), ("1405555555.0", 1405555555000), ("1.4e9", 1400000000000),
     ("0", 0), ("1405555555.1236", 1405555555124)],
)  # fmt: skip
def test_recbole_columns_stand_in_any_order(
    tmp_path: Path, seconds: str, milliseconds: int
) -> None:
    header = ("timestamp:float", "item_id:token", "x:float", "user_id:token")
    path = write(tmp_path / "a.inter", plain_table([header, (seconds, "i", "", "u")]))
    assert rows("recbole", path) == [("u", "i", milliseconds)]


def test_recbole_titles_by_any_name_and_quotes_as_they_are(tmp_path: Path) -> None:
    header = ("item_id:token", "item_name:token_seq", "class:token_seq")
    lines = [header, ("B00A", 'Pipe 12"', "['Tools', 'Hand Tools']"), ("B00C", "", "")]
    path = write(tmp_path / "a.item", plain_table(lines))
    assert items("recbole", path) == [
        ("B00A", ItemText('Pipe 12"', "", CATEGORIES)),
        ("B00C", ItemText("", "", ())),
    ]


@pytest.mark.parametrize(
    ("unit", "time", "milliseconds"),
    [
        ("s", "1500000000", 1500000000000),
        ("s", "1500000000.25", 1500000000250),
        ("ms", "1500000000123", 1500000000123),
        ("iso", "2017-07-14", 1499990400000),
        ("iso", "2017-07-14 02:40:00", 1500000000000),
        ("iso", "2017-07-14T02:40:00.250", 1500000000250),
        ("iso", "2017-07-14T04:40:00+02:00", 1500000000000),
        ("iso", "2017-07-14T02:40Z", 1500000000000),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t", "|", ";"])
def test_a_plain_table_of_any_names_and_units(
    tmp_path: Path, unit: str, time: str, milliseconds: int, separator: str
) -> None:
    columns = Columns("who", "what", "when", unit, "name", "about", separator)
    written = [("when", "note", "what", "who"), (time, 'a "b"\n\nc, d', "i,1", "u")]
    path = write(tmp_path / "a.csv", table(written, separator))
    assert rows("csv", path, columns) == [("u", "i,1", milliseconds)]
    path = write(tmp_path / "b.csv", table([("name", "what"), ('a "b"\n\nc', "B00A")], separator))
    assert items("csv", path, columns=columns) == [("B00A", ItemText('a "b" c', "", ()))]


def test_a_quote_within_a_field_is_a_letter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'item,title\nB00A,Pipe 12"\nB00B,"Pipe 14"""\n')
    assert [text.title for _, text in items("csv", path)] == ['Pipe 12"', 'Pipe 14"']


def test_a_byte_order_mark_and_carriage_returns_are_no_mistake(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbfuser,item,time\r\nu,i,1\r\n\r\nu,j,2\r\n")
    assert rows("csv", path) == [("u", "i", 1000), ("u", "j", 2000)]
    review = json.dumps({"reviewerID": "u", "asin": "i", "unixReviewTime": 1}).encode()
    path = write(tmp_path / "a.json.gz", b"\xef\xbb\xbf" + review + b"\r\n")
    assert rows("amazon-2014", path) == [("u", "i", 1000)]
