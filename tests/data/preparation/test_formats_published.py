"""Files as their makers publish them: RecBole's types, MovieLens' releases, Amazon of 2023."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from raw_files import WRITERS, write, write_raw_files

from genrec_bench.data.preparation.formats import FORMATS, ItemText, Row
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError


def rows(format: str, path: Path, least: float | None = None, **columns: Any) -> list[Row]:
    malformed = Malformed(0, least)
    return list(FORMATS[format].interactions(path, malformed, Columns(**columns)))


def items(format: str, path: Path, *wanted: str, **columns: Any) -> dict[str, ItemText]:
    found = FORMATS[format].items(path, set(wanted), Malformed(0), Columns(**columns))
    return dict(found)


INTER = "user_id:token{}item_id:token{}rating:float{}timestamp:float"
WANTED: list[Row] = [("u", "i", 978300760000), ("v", "i", 978302109500)]


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|", "::", " ", " | "])
def test_recbole_columns_are_separated_by_anything(separator: str, tmp_path: Path) -> None:
    lines = [("u", "i", "5", "978300760"), ("v", "i", "3", "978302109.5")]
    text = "\n".join([INTER.format(*[separator] * 3), *map(separator.join, lines)])
    assert rows("recbole", write(tmp_path / "a.inter", text)) == WANTED


@pytest.mark.parametrize(
    ("header", "columns", "scale"),
    [
        ("uid:token\titem_id:token\tx:token_seq\ttimestamp:float", {"user": "uid"}, 1),
        ("user_id:token\tiid:token\tvector:float_seq\tt:float", {"item": "iid", "time": "t"}, 1),
        ("user_id:token\titem_id:token\tx:float\ttimestamp:token", {"time_unit": "ms"}, 1000),
    ],
)
def test_recbole_columns_may_have_other_names_and_types(
    header: str, columns: Mapping[str, Any], scale: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.inter", f"{header}\nu\ti\t1 2\t{978300760 * scale}\n")
    assert rows("recbole", path, **columns) == WANTED[:1]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (INTER.replace("user_id:token", "user_id:float"), "'user_id' is of the type float, and mu"),
        (INTER.replace("item_id:token", "item_id:token_seq"), "'item_id' is of the type token_seq"),
        (INTER.replace("timestamp:float", "timestamp:float_seq"), "'timestamp' is of the type flo"),
        (INTER.replace("rating:float", "rating:flaot"), "type 'flaot'; did you mean 'float'"),
        (INTER.replace("rating:float", "rating"), "not every column is called name:type"),
        (INTER.replace("timestamp:float", "time:float"), "no column is called 'timestamp'; there"),
    ],
)
def test_recbole_types_are_those_of_its_documentation(
    header: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.inter", header.format("\t", "\t", "\t") + "\nu\ti\t5\t1\n")
    with pytest.raises(UserError, match=rf"a\.inter, line 1: .*{message}"):
        rows("recbole", path)


@pytest.mark.parametrize(
    ("kind", "field", "separator", "found"),
    [
        ("token_seq", "Animation Children's Comedy", "", ("Animation", "Children's", "Comedy")),
        ("token_seq", "Animation|Children's", "", ("Animation", "Children's")),
        ("token_seq", "Drama, School Life", "", ("Drama", "School Life")),
        ("token_seq", "Drama/School Life", "/", ("Drama", "School Life")),
        ("token_seq", "'Food & Drink', 'Tea'", "", ("Food & Drink", "Tea")),
        ("token_seq", "['Food & Drink', 'Tea']", "", ("Food & Drink", "Tea")),
        ("token", "Food & Drink", "", ("Food & Drink",)),
        ("token_seq", "", "", ()),
    ],
)
def test_recbole_sequences_are_split_by_their_separator(
    kind: str, field: str, separator: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    text = f"item_id:token\tmovie_title:token_seq\tgenre:{kind}\n1\tToy Story\t{field}\n"
    path = write(tmp_path / "a.item", text)
    (item,) = items("recbole", path, "1", sequence_separator=separator).values()
    assert item == ItemText("Toy Story", "", found)


def test_a_file_of_users_is_told_for_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.user", "user_id:token\tage:token\n1\t30\n")
    with pytest.raises(UserError, match=r"a\.user tells of users .*; nothing of it is needed"):
        items("recbole", path, "1")


FLAGS = "0|0|0|1|1|1" + "|0" * 13
RELEASES: dict[str, tuple[str, str, str, str]] = {
    "100K": (
        "u.data",
        "u\ti\t3\t978300760\n",
        "u.item",
        f"i|Été (1995)|01-Jan-1995||http|{FLAGS}\n",
    ),
    "1M": (
        "ratings.dat",
        "u::i::3::978300760\n",
        "movies.dat",
        "i::Été (1995)::Animation|Children's|Comedy\n",
    ),
    "25M": (
        "ratings.csv",
        "userId,movieId,rating,timestamp\nu,i,3.0,978300760\n",
        "movies.csv",
        "movieId,title,genres\ni,Été (1995),Animation|Children's|Comedy\n",
    ),
}


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_of_movielens_is_known_by_its_text(release: str, tmp_path: Path) -> None:
    log, ratings, names, movies = RELEASES[release]
    encoding = "utf-8" if release == "25M" else "latin-1"
    assert rows("movielens", write(tmp_path / log, ratings)) == WANTED[:1]
    path = write(tmp_path / names, movies.encode(encoding))
    genres = ("Animation", "Children's", "Comedy")
    assert items("movielens", path, "i", "x") == {
        "i": ItemText("Été (1995)", ", ".join(genres), genres)
    }
    if release == "1M":  # that of 10M is UTF-8
        path = write(tmp_path / names, movies.replace("Animation|Children's|Comedy", "Drama"))
        assert items("movielens", path, "i")["i"] == ItemText("Été (1995)", "Drama", ("Drama",))
    path = write(tmp_path / "movies.csv", "movieId,title,genres\ni,Rake,(no genres listed)\n")
    assert items("movielens", path, "i")["i"] == ItemText("Rake", "", ())
    with pytest.raises(UserError, match="no column is called 'userId'; it begins 'movieId,title"):
        rows("movielens", path)


@pytest.mark.parametrize("separator", ["::", "||", " - "])
def test_a_plain_table_may_have_a_longer_separator(separator: str, tmp_path: Path) -> None:
    lines = [("item", "user", "time"), ('a "b"', "u", "978300760")]
    path = write(tmp_path / "log", "\n".join(map(separator.join, lines)))
    assert rows("csv", path, separator=separator) == [("u", 'a "b"', 978300760000)]


@pytest.mark.parametrize(
    ("entry", "described"),
    [
        ({"description": ["A rake."], "features": ["Steel", "Light"]}, "A rake. Steel Light"),
        ({"description": [], "features": ["Steel"]}, "Steel"),
        ({"description": ["A rake."]}, "A rake."),
        ({"features": None}, ""),
    ],
)
def test_features_of_amazon_2023_follow_the_description(
    entry: Mapping[str, Any], described: str, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "meta.jsonl", json.dumps({"parent_asin": "i", "title": "Rake", **entry})
    )
    assert items("amazon-2023", path, "i") == {"i": ItemText("Rake", described, ())}


RATED: dict[str, Callable[[int], str]] = {
    "amazon-2014": lambda n: json.dumps(
        {"reviewerID": "u", "asin": f"i{n}", "unixReviewTime": n, "overall": float(n)}
    ),
    "amazon-2023": lambda n: json.dumps(
        {"user_id": "u", "parent_asin": f"i{n}", "timestamp": n * 1000, "rating": n}
    ),
    "yelp": lambda n: json.dumps(
        {"user_id": "u", "business_id": f"i{n}", "date": f"1970-01-01 00:00:0{n}", "stars": n}
    ),
    "recbole": lambda n: f"u\ti{n}\t{n}\t{n}",
    "movielens": lambda n: f"u::i{n}::{n}::{n}",
    "csv": lambda n: f"u,i{n},{n},{n}.0",
}
RATED_HEADERS = {"recbole": INTER.format("\t", "\t", "\t"), "csv": "user,item,time,score"}


@pytest.mark.parametrize("format", RATED)
def test_low_ratings_are_left_out_and_counted(format: str, tmp_path: Path) -> None:
    lines = [*filter(None, [RATED_HEADERS.get(format)]), *map(RATED[format], range(1, 6))]
    path = write(tmp_path / "log", "\n".join(lines))
    columns = {"rating": "score"} if format == "csv" else {}
    assert [row[1] for row in rows(format, path, 4, **columns)] == ["i4", "i5"]
    for least, told in (
        (4, "3 of 5 are below 4, and are left out"),
        (None, "all count as interactions, whatever they are"),
    ):
        malformed = Malformed(0, least)
        assert list(FORMATS[format].interactions(path, malformed, Columns(**columns)))
        assert malformed.ratings.told() == [f"ratings from 1 to 5, 3.00 on average: {told}"]


def test_what_has_no_ratings_says_nothing_of_them(tmp_path: Path) -> None:
    for format in ("csv", "amazon-2018"):
        malformed = Malformed(0)
        path = write_raw_files(format, tmp_path).interactions
        assert list(FORMATS[format].interactions(path, malformed, Columns()))
        assert malformed.ratings.told() == []
    assert set(WRITERS) == set(FORMATS)
