"""Amazon reviews, as McAuley's group has published them in 2014, 2018 and 2023.

Interactions are reviews (a JSON object a line) or ratings only (CSV), told apart by the file's
name. The order of columns in ratings differs: 2014 has user, item, rating, time; 2018 has item,
user, rating, time, both without a header; 2023 has a header. Times of 2014 and 2018 are days. Lines
of 2014 may be Python literals rather than JSON. An item of 2023 is what all its variants have in
common, and its features follow its description: many have nothing else.

Sources: https://jmcauley.ucsd.edu/data/amazon, https://nijianmo.github.io/amazon,
https://amazon-reviews-2023.github.io.
"""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import DelimitedTable, table_rows
from genrec_bench.data.preparation.formats.fields import (
    Format,
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
    Parse,
    json_items,
    json_rows,
    read_loose_object,
    read_object,
)
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

Milliseconds = tuple[Callable[[object, str], int], Callable[[str, str], int]]
"""How to read the time of a review, and that of a rating."""

SECONDS: Milliseconds = (whole_seconds, number_of_seconds)
MILLISECONDS: Milliseconds = (whole_milliseconds, number_of_milliseconds)

KEYS = ("reviewerID", "asin", "unixReviewTime")
KEYS_2023 = ("user_id", "parent_asin", "timestamp")


def _release(
    keys: tuple[str, str, str],
    header: tuple[str, ...] | None,
    milliseconds: Milliseconds,
    categories: str,
    parse: Parse,
    rating: str = "overall",
    features: str = "",
) -> Format:
    """Return how to read the files of one year.

    ``keys`` are those of user, item and time, in reviews and ratings alike, and that of the item in
    items too; ``header`` names the columns of ratings that have none; ``rating`` is the key of a
    review's rating, and ``features`` that of an item's features, which follow its description.
    """

    def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
        if path.name.lower().endswith((".csv", ".csv.gz")):
            table = DelimitedTable(path, malformed, header=header)
            return table_rows(table, keys, milliseconds[1], "rating")
        return json_rows(path, malformed, keys, milliseconds[0], parse, rating)

    def text(entry: dict[str, object]) -> ItemText:
        return ItemText(
            clean_title(entry.get("title"), "title"),
            " ".join(
                filter(
                    None,
                    (
                        clean_description(entry.get("description"), "description"),
                        clean_description(entry.get(features), features),
                    ),
                )
            ),
            clean_categories(entry.get(categories), categories),
        )

    def items(
        path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
    ) -> Iterator[tuple[str, ItemText]]:
        return json_items(path, wanted, malformed, keys[1], text, parse)

    return Format(interactions, items)


AMAZON_2014 = _release(
    KEYS,
    ("reviewerID", "asin", "rating", "unixReviewTime"),
    SECONDS,
    "categories",
    read_loose_object,
)
AMAZON_2018 = _release(
    KEYS,
    ("asin", "reviewerID", "rating", "unixReviewTime"),
    SECONDS,
    "category",
    read_object,
)
AMAZON_2023 = _release(
    KEYS_2023,
    None,
    MILLISECONDS,
    "categories",
    read_object,
    rating="rating",
    features="features",
)
