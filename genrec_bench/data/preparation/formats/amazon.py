"""Amazon reviews, as McAuley's group has published them in 2014, 2018 and 2023.

Interactions are reviews (a JSON object a line) or ratings only (CSV), told apart by the file's
name. The order of columns in ratings differs: 2014 has user, item, rating, time; 2018 has item,
user, rating, time, both without a header; 2023 has a header.

Sources: https://jmcauley.ucsd.edu/data/amazon, https://nijianmo.github.io/amazon,
https://amazon-reviews-2023.github.io.
"""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import Layout, Table, table_rows
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    clean_categories,
    clean_description,
    clean_title,
    number_of_milliseconds,
    number_of_seconds,
    whole_milliseconds,
    whole_seconds,
)
from genrec_bench.data.preparation.formats.json_lines import (
    json_items,
    json_rows,
    read_loose_object,
    read_object,
)
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

RATINGS_2014 = Layout(header=("reviewerID", "asin", "rating", "unixReviewTime"))
RATINGS_2018 = Layout(header=("asin", "reviewerID", "rating", "unixReviewTime"))
RATINGS_2023 = Layout()

KEYS = ("reviewerID", "asin", "unixReviewTime")
KEYS_2023 = ("user_id", "parent_asin", "timestamp")


def interactions_2014(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield reviews or ratings of 2014; their times are days, and reviews may be literals."""
    return _seconds(path, malformed, RATINGS_2014, read_loose_object)


def interactions_2018(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield reviews or ratings of 2018; their times are days."""
    return _seconds(path, malformed, RATINGS_2018, read_object)


def interactions_2023(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield reviews or ratings of 2023; an item is what all its variants have in common."""
    if not is_table(path):
        return json_rows(path, malformed, KEYS_2023, whole_milliseconds, read_object)
    table = Table(path, malformed, RATINGS_2023)
    return table_rows(table, KEYS_2023, number_of_milliseconds)


def items_2014(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield items; most lines are Python literals rather than JSON.

    The same item again where a better text comes.
    """
    return json_items(path, wanted, malformed, "asin", _text_2014, read_loose_object)


def items_2018(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield items; the same one again where a better text comes."""
    return json_items(path, wanted, malformed, "asin", _text_2018, read_object)


def items_2023(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield items; the same one again where a better text comes."""
    return json_items(path, wanted, malformed, "parent_asin", _text_2014, read_object)


def is_table(path: Path) -> bool:
    """Return whether a file's name says that it is CSV."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def _seconds(
    path: Path,
    malformed: Malformed,
    ratings: Layout,
    parse: Callable[[str], dict[str, object]],
) -> Iterator[Row]:
    if not is_table(path):
        return json_rows(path, malformed, KEYS, whole_seconds, parse)
    table = Table(path, malformed, ratings)
    return table_rows(table, KEYS, number_of_seconds)


def _text_2014(entry: dict[str, object]) -> ItemText:
    return _text(entry, "categories")


def _text_2018(entry: dict[str, object]) -> ItemText:
    return _text(entry, "category")


def _text(entry: dict[str, object], categories: str) -> ItemText:
    return ItemText(
        clean_title(entry.get("title"), "title"),
        clean_description(entry.get("description"), "description"),
        clean_categories(entry.get(categories), categories),
    )
