"""Yelp's open dataset: ``review.json`` and ``business.json``, a JSON object a line.

Items are businesses; a description says what they offer and in which city. Nobody says in which
time zone a review's date is; it is taken for UTC.

Source: https://business.yelp.com/data/resources/open-dataset.
"""

from collections.abc import Container, Iterator
from pathlib import Path

from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    clean_description,
    clean_title,
    date,
    split_categories,
)
from genrec_bench.data.preparation.formats.json_lines import json_items, json_rows, read_object
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns


def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield reviews of businesses."""
    keys = ("user_id", "business_id", "date")
    return json_rows(path, malformed, keys, date, read_object, "stars")


def items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield businesses."""
    return json_items(path, wanted, malformed, "business_id", _text, read_object)


def _text(entry: dict[str, object]) -> ItemText:
    categories = split_categories(entry.get("categories"), "categories")
    city = clean_description(entry.get("city"), "city")
    description = ", ".join(part for part in (*categories, city) if part)
    return ItemText(clean_title(entry.get("name"), "name"), description, categories)
