"""Whatever is in a raw file: rows or one line of complaint, and no line is lost in silence."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from raw_files import LOG, TEXTS, content_of, write, write_raw_files

from genrec_bench.data.preparation.formats import FORMATS, Row
from genrec_bench.data.preparation.malformed import Malformed, Rejected
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError

GOOD: Mapping[str, dict[str, Any]] = {
    "amazon-2014": {"reviewerID": "u", "asin": "i", "unixReviewTime": 1},
    "amazon-2018": {"reviewerID": "u", "asin": "i", "unixReviewTime": 1},
    "amazon-2023": {"user_id": "u", "parent_asin": "i", "timestamp": 1000},
    "yelp": {"user_id": "u", "business_id": "i", "date": "1970-01-01 00:00:01"},
}
ROW: Row = ("u", "i", 1000)
HEADERS = {"csv": "user,item,time", "recbole": "user_id:token\titem_id:token\ttimestamp:float"}


def read(
    format: str, path: Path, limit: float = 1, columns: Columns | None = None
) -> tuple[list[Row], Malformed]:
    malformed = Malformed(limit)
    rows = FORMATS[format].interactions(path, malformed, columns or Columns())
    return list(rows), malformed


def check_skipped(format: str, path: Path, reason: str, line: int = 2) -> None:
    """One malformed line among good ones: skipped within the limit, else refused in one line."""
    rows, malformed = read(format, path)
    assert set(rows) == {ROW}
    assert malformed.counts == {path.name: {reason: 1}}
    assert malformed.examples == [Rejected(path.name, line, reason)]
    with pytest.raises(UserError, match=f"1 of {len(rows) + 1} lines are mal") as caught:
        read(format, path, limit=0)
    assert f"{reason}: 1, first in line {line}" in str(caught.value)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("format", GOOD)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"reviewerID": "u", "asin"', "not JSON"),
        (b"{'asin': 'i'}", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\x00", "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a": "Gr\xf6\xdfe"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b"[1, 2]", "not a JSON object"),
        (b"12", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"NaN", "not a JSON object"),
        (b"[" * 200_000, "JSON nested too deep"),
        (b'{"a":' * 200_000, "JSON nested too deep"),
        (b'{"a": "' + b"x" * (8 << 20) + b'"}', "longer than 8 MiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_line_that_is_no_object(tmp_path: Path, format: str, line: bytes, reason: str) -> None:
    if format == "amazon-2014" and line.startswith(b"{") and "JSON" in reason:
        reason = "neither JSON nor a short Python literal"
        reason = reason.replace(" short", "") if len(line) < 10_000 else reason
        reason = "missing key 'reviewerID'" if line == b"{'asin': 'i'}" else reason
    good = json.dumps(GOOD[format]).encode()
    path = write(tmp_path / "a.json.gz", b"\n".join([good, line, good]))
    check_skipped(format, path, reason)


UNPRINTABLE = "{} has characters that cannot be printed"


@pytest.mark.parametrize("format", GOOD)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "{} is empty"),
        ("   ", "{} is empty"),
        ("a\nb", UNPRINTABLE),
        ("a\x00", UNPRINTABLE),
        ("\ud800", UNPRINTABLE),
        ("x" * 257, "{} is longer than 256 characters"),
        (7, "{} is not text"),
        (None, "{} is not text"),
        (["u"], "{} is not text"),
        (True, "{} is not text"),
        (..., "missing key '{}'"),
    ],
)
def test_an_id_that_names_nobody(
    tmp_path: Path, format: str, place: int, value: object, reason: str
) -> None:
    key = list(GOOD[format])[place]
    entry = {name: old for name, old in GOOD[format].items() if name != key}
    if value is not ...:
        entry[key] = value
    good = json.dumps(GOOD[format])
    path = write(tmp_path / "a.json", f"{good}\n{json.dumps(entry)}\n")
    check_skipped(format, path, reason.format(key))


@pytest.mark.parametrize("format", ["amazon-2014", "amazon-2018", "amazon-2023"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-1", "negative time"),
        ("9" * 25, "absurd time (wrong unit?)"),
        ("9" * 4000, "absurd time (wrong unit?)"),
        ("-" + "9" * 25, "negative time"),
        ("4102444800001", "absurd time (wrong unit?)"),
        ("1.5", "{} is not an integer"),
        ("1e9", "{} is not an integer"),
        ("NaN", "{} is not an integer"),
        ("-Infinity", "{} is not an integer"),
        ("true", "{} is not an integer"),
        ("null", "{} is not an integer"),
        ('"1"', "{} is not an integer"),
        ("{}", "{} is not an integer"),
    ],
)
def test_a_time_that_never_was(tmp_path: Path, format: str, value: str, reason: str) -> None:
    key = list(GOOD[format])[2]
    good = json.dumps(GOOD[format])
    bad = json.dumps(GOOD[format] | {key: "?"}).replace('"?"', value)
    path = write(tmp_path / "a.json", f"{good}\n{bad}\n")
    check_skipped(format, path, reason.format(key))


NO_DATE = "{} is not a date such as 2018-07-07 or 2018-07-07 22:09:11"
NO_SUCH_DATE = "{} is a date that does not exist"


@pytest.mark.parametrize("format", ["yelp", "csv"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2018-02-30", NO_SUCH_DATE),
        ("2018-02-03 25:00:00", NO_SUCH_DATE),
        ("0000-01-01", NO_SUCH_DATE),
        ("1969-12-31", "negative time"),
        ("0001-01-01T00:00+23:59", "negative time"),
        ("9999-12-31T23:59-23:59", "absurd time (wrong unit?)"),
        ("2101-01-01", "absurd time (wrong unit?)"),
        ("20180707", NO_DATE),
        ("2018-W01-1", NO_DATE),
        ("07/07/2018", NO_DATE),
        ("1500000000", NO_DATE),
        ("٢٠١٨-٠٧-٠٧", NO_DATE),
        ("", NO_DATE),
    ],
)
def test_a_date_that_never_was(tmp_path: Path, format: str, value: str, reason: str) -> None:
    if format == "yelp":
        good, bad = GOOD["yelp"], GOOD["yelp"] | {"date": value}
        path = write(tmp_path / "a.json", f"{json.dumps(good)}\n{json.dumps(bad)}\n")
        check_skipped("yelp", path, reason.format("date"))
        return
    text = f"user,item,time\nu,i,1970-01-01 00:00:01\nu,i,{value}\n"
    path = write(tmp_path / "a.csv", text)
    rows, malformed = read("csv", path, columns=Columns(time_unit="iso"))
    assert rows == [ROW] and malformed.counts == {"a.csv": {reason.format("time"): 1}}


@pytest.mark.parametrize("format", HEADERS)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("u", "i"), "fewer fields than columns"),
        (("u", "i", "1", "2"), "more fields than columns"),
        (("u", "", "1"), "{1} is empty"),
        (("\x7f", "i", "1"), "{0} has characters that cannot be printed"),
        (("u", "i\r", "1"), "{1} has characters that cannot be printed"),
        (("u", "i", ""), "{2} is not a number"),
        (("u", "i", "1 000"), "{2} is not a number"),
        (("u", "i", "1_000"), "{2} is not a number"),
        (("u", "i", "nan"), "{2} is not a number"),
        (("u", "i", "inf"), "{2} is not a number"),
        (("u", "i", "0x10"), "{2} is not a number"),
        (("u", "i", "١٢"), "{2} is not a number"),
        (("u", "i", "-0.5"), "negative time"),
        (("u", "i", "-1e999"), "negative time"),
        (("u", "i", "1e999"), "absurd time (wrong unit?)"),
        (("u", "i", "1500000000000"), "absurd time (wrong unit?)"),
        (("u", "i", "9" * 100_000), "absurd time (wrong unit?)"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_row_that_cannot_be_used(
    tmp_path: Path, format: str, fields: tuple[str, ...], reason: str
) -> None:
    separator = "," if format == "csv" else "\t"
    names = [name.split(":")[0] for name in HEADERS[format].split(separator)]
    lines = [HEADERS[format], separator.join(("u", "i", "1")), separator.join(fields)]
    path = write(tmp_path / "a", "\n".join(lines))
    check_skipped(format, path, reason.format(*names), line=3)


@pytest.mark.parametrize("format", ["amazon-2014", "amazon-2018", "amazon-2023"])
def test_ratings_that_cannot_be_used(tmp_path: Path, format: str) -> None:
    path = write_raw_files(format, tmp_path, list(LOG) * 20, ratings=True).interactions
    lines = content_of(path).split(b"\n")
    lines[2:5] = [b"a,b,c", b"u,i,5.0,soon,", b"\xff,i,5.0,1,"]
    if format != "amazon-2023":  # it has one column more
        lines[3:5] = [b"u,i,5.0,soon", b"\xff,i,5.0,1"]
    _, malformed = read(format, write(path, b"\n".join(lines)))
    key = "timestamp" if format == "amazon-2023" else "unixReviewTime"
    expected = ["fewer fields than columns", f"{key} is not a number", "not UTF-8"]
    assert [(r.line, r.reason) for r in malformed.examples] == [
        *zip((3, 4, 5), expected, strict=True)
    ]


def test_a_quote_too_many_swallows_no_rows(tmp_path: Path) -> None:
    """The first quote would otherwise pair with the next, and take the rows between with them."""
    lines = ["user,item,time", 'u,"i,1', "u,i,1", "", "u,i,2", '"u",i,3', 'u,"j",4', "u,i,5"]
    rows, malformed = read("csv", write(tmp_path / "a.csv", "\n".join(lines)))
    assert rows == [("u", "j" if second == 4 else "i", second * 1000) for second in range(1, 6)]
    assert malformed.examples == [Rejected("a.csv", 2, "',' expected after '\"'")]
    lines = ["user,item,time", 'u,"i,1', "u,i,1", 'u,",1', "u,i,1"]
    rows, malformed = read("csv", write(tmp_path / "b.csv", "\n".join(lines)))
    assert rows == [ROW] * 2
    assert [(r.line, r.reason) for r in malformed.examples] == [
        (2, UNPRINTABLE.format("item")),
        (4, "unexpected end of data"),
    ]


def test_a_quote_left_open_to_the_end(tmp_path: Path) -> None:
    lines = ["user,item,time", "u,i,1", 'u,i,"1', *["u,i,1"] * 5]
    check_skipped("csv", write(tmp_path / "a.csv", "\n".join(lines)), "unexpected end of data", 3)


def test_a_field_beyond_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    huge = '"' + "x" * 140_000 + '"'
    lines = ["user,item,time", "u,i,1", f"u,{huge},1", 'u,"i,1', *["u,i,1"] * 40_000]
    path = write(tmp_path / "a.csv", "\n".join(lines))
    rows, malformed = read("csv", path)
    assert len(rows) == 40_001
    reason = "field larger than field limit (131072)"
    assert malformed.examples == [Rejected("a.csv", line, reason) for line in (3, 4)]


def test_a_row_over_lines_with_a_bad_one_among_them(tmp_path: Path) -> None:
    content = b'user,item,time,note\nu,i,1,"a\n\xff\nb"\nu,i,1,"c\n\nd"\n'
    path = write(tmp_path / "a.csv", content)
    rows, malformed = read("csv", path)
    assert rows == [ROW]
    assert malformed.examples == [
        Rejected("a.csv", 2, "not UTF-8"),
        Rejected("a.csv", 3, "not UTF-8"),
        Rejected("a.csv", 4, "fewer fields than columns"),
    ]
    with pytest.raises(UserError, match="3 of 4 lines"):  # a row over several lines counts once
        read("csv", path, limit=0)


@pytest.mark.parametrize(
    ("format", "header", "message"),
    [
        ("csv", "user,thing,time", "line 1: no column is called 'item'; there are 'user', 'thing'"),
        ("csv", "uid,sku,at", "there are 'uid', 'sku', 'at'; the card says what they are called"),
        (
            "csv",
            "user;item;time",
            ";time' is one column where ',' .* `columns: {sep.* ';'",
        ),
        ("csv", "user\titem\ttime", r"`columns: {separator: '\\t'}`"),
        ("csv", "user::item::time", "`columns: {separator: '::'}`"),
        ("csv", "user|item|time", "`columns: {separator: '|'}`".replace("|", "[|]")),
        ("csv", "user", "no column is called 'item'; there are 'user'"),
        ("csv", "user,user,item,time", "line 1: two columns are called 'user'"),
        ("csv", 'user,"item,time', "line 1: not a header: unexpected end of data"),
        ("csv", "user,it\xe9m,time", "line 1: not a header: 'utf-8' codec can't decode"),
        ("csv", "", "is empty: it has no header"),
        ("csv", "\n \n", "is empty: it has no header"),
        ("csv", "user,item,time\n\n", "is empty: it has no line of data"),
        ("recbole", "user_id:token\titem_id:token", "no column is called 'timestamp'"),
        ("recbole", "user_id,item_id,timestamp", "no column is called name:type, with the types"),
        ("recbole", HEADERS["recbole"], "is empty: it has no line of data"),
        ("amazon-2023", "user_id,asin,rating,timestamp", "no column is called 'parent_asin'"),
    ],
)
def test_a_header_that_cannot_be_used(
    tmp_path: Path, format: str, header: str, message: str
) -> None:
    path = write(tmp_path / "a.csv", header.encode("latin-1"))
    with pytest.raises(UserError, match=message) as caught:
        read(format, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("which", ["interactions", "items"])
def test_files_that_are_none(tmp_path: Path, format: str, which: str) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            if which == "items":
                list(FORMATS[format].items(path, TEXTS, Malformed(1), Columns()))
            else:
                read(format, path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "absent", "is missing")
    refused(tmp_path, "is not a file")
    for number, content in enumerate((b"", b"\n\r\n \n", b"\xef\xbb\xbf", gzip.compress(b""))):
        refused(write(tmp_path / f"empty{number}", content), "is empty")
    whole = gzip.compress(content_of(getattr(write_raw_files(format, tmp_path), which)))
    refused(write(tmp_path / "cut", whole[:-1]), "is cut short near line")
    refused(write(tmp_path / "page", "<!DOCTYPE html>\n<p>\n"), "no line can be used|no column")
