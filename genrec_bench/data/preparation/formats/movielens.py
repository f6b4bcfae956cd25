"""MovieLens, as GroupLens has published it: each release in a form of its own, told by its text.

    100K         u.data       user, item, rating, time by tabs    u.item      24 columns by ``|``
    1M, 10M      ratings.dat  user::item::rating::time            movies.dat  item::title::genres
    20M and on   ratings.csv  userId,movieId,rating,timestamp     movies.csv  movieId,title,genres

Times are in seconds. Genres are separated by ``|``, and are marks in columns of that of 100K;
they are what a description says. Files of 100K and 1M are not UTF-8 but Latin-1.

Source: https://grouplens.org/datasets/movielens and the README of each release.
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import DelimitedTable, table_rows
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    number_of_seconds,
    usable_id,
)
from genrec_bench.data.preparation.lines import Lines
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError

NAMES = ("userId", "movieId", "timestamp")
RATINGS = ("userId", "movieId", "rating", "timestamp")
MOVIES = ("movieId", "title", "genres")
NO_GENRES = "(no genres listed)"
LATIN = "latin-1"

GENRES = (
    "unknown,Action,Adventure,Animation,Children's,Comedy,Crime,Documentary,Drama,Fantasy,Film-Noir,"
    "Horror,Musical,Mystery,Romance,Sci-Fi,Thriller,War,Western"
).split(",")
"""Of the release of 100K, in the order of its columns (its file u.genre)."""
MOVIES_100K = ("movieId", "title", "released", "video", "url", *GENRES)


def movielens_interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the ratings of any release."""
    line = _first_line(path)
    if "::" in line:
        table = DelimitedTable(path, malformed, "::", quoted=False, header=RATINGS)
    elif "\t" in line:
        table = DelimitedTable(path, malformed, "\t", quoted=False, header=RATINGS)
    elif line.startswith("userId"):
        table = DelimitedTable(path, malformed)
    else:
        raise UserError(f"{path}: no column is called 'userId'; it begins {line[:60]!r}")
    return table_rows(table, NAMES, number_of_seconds, "rating")


def movielens_items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the movies of any release."""
    line = _first_line(path)
    if "::" in line:
        table = DelimitedTable(path, malformed, "::", quoted=False, header=MOVIES, fallback=LATIN)
    elif line.count("|") == len(MOVIES_100K) - 1:
        table = DelimitedTable(
            path, malformed, "|", quoted=False, header=MOVIES_100K, fallback=LATIN
        )
    elif line.startswith("movieId"):
        table = DelimitedTable(path, malformed)
    else:
        raise UserError(f"{path}: no column is called 'movieId'; it begins {line[:60]!r}")
    movie, title = table.find("movieId"), table.find("title")
    genres = None if table.columns == MOVIES_100K else table.find("genres")
    first = len(MOVIES_100K) - len(GENRES)

    def item(fields: Sequence[str]) -> tuple[str, ItemText] | None:
        name = usable_id(fields[movie], "movieId")
        if name not in wanted:
            return None
        if genres is None:
            marks = zip(GENRES, fields[first:], strict=True)
            found = tuple(genre for genre, mark in marks if mark.strip() == "1")
        else:
            parts = map(clean, fields[genres].split("|"))
            found = tuple(part for part in parts if part and part != NO_GENRES)
        return name, ItemText(clean_title(fields[title], "title"), ", ".join(found), found)

    return best_texts(table.rows(item))


def _first_line(path: Path) -> str:
    for _, line in Lines(path, Malformed(0.0)):
        return line.decode(LATIN)
    raise UserError(f"{path} is empty: it has no line of data")
