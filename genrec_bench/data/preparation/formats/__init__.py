"""The formats of raw files: streaming readers that turn lines into interactions and items.

Nothing here holds a file in memory. A malformed line is skipped, counted and reported, and a file
with too many of them is refused: see ``preparation.malformed``.
"""

from collections.abc import Mapping

from genrec_bench.data.preparation.formats import amazon, delimited, movielens, yelp
from genrec_bench.data.preparation.formats.fields import Format, ItemText, Row

__all__ = ["FORMATS", "Format", "ItemText", "Row"]

FORMATS: Mapping[str, Format] = {
    "amazon-2014": amazon.AMAZON_2014,
    "amazon-2018": amazon.AMAZON_2018,
    "amazon-2023": amazon.AMAZON_2023,
    "yelp": Format(yelp.interactions, yelp.items),
    "recbole": Format(delimited.recbole_interactions, delimited.recbole_items),
    "movielens": Format(movielens.movielens_interactions, movielens.movielens_items),
    "csv": Format(delimited.csv_interactions, delimited.csv_items),
}
