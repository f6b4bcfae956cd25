"""The formats of raw files: streaming readers that turn lines into interactions and items.

Nothing here holds a file in memory. What is malformed is skipped, counted and reported, or refused:
see ``preparation.malformed``.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from genrec_bench.data.preparation.formats import amazon, plain_csv, recbole, yelp
from genrec_bench.data.preparation.formats.fields import ItemText, Row
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

__all__ = ["FORMATS", "Format", "ItemText", "Row"]


@dataclass(frozen=True)
class Format:
    """How to read the raw files of a dataset; gzip files and plain ones alike.

    Both readers raise ``UserError`` where a file is missing, not whole, or too much of it is
    malformed, and ``StorageError`` where the disk refuses; while they are iterated, too.

    Attributes:
        name: its key in `FORMATS`.
        interactions: yields user, item and time of each line, in the file's order.
        items: yields each item that is wanted, with its texts; an item that a file has twice is
            yielded again where the second text is better (``fields.best_texts``): the last one
            counts. What a card calls its columns only ``csv`` asks.
    """

    name: str
    interactions: Callable[[Path, Malformed, Columns], Iterator[Row]]
    items: Callable[[Path, Container[str], Malformed, Columns], Iterator[tuple[str, ItemText]]]


FORMATS: Mapping[str, Format] = {
    format.name: format
    for format in (
        Format("amazon-2014", amazon.interactions_2014, amazon.items_2014),
        Format("amazon-2018", amazon.interactions_2018, amazon.items_2018),
        Format("amazon-2023", amazon.interactions_2023, amazon.items_2023),
        Format("yelp", yelp.interactions, yelp.items),
        Format("recbole", recbole.interactions, recbole.items),
        Format("csv", plain_csv.interactions, plain_csv.items),
    )
}
