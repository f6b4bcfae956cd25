"""Small raw files in the formats in which they are published, from a plain list of interactions."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Log = Sequence[tuple[str, str, int]]  # user, item, seconds since 1970 in UTC
Texts = Mapping[str, tuple[str, str]]  # title and description by item

CATEGORIES = ("Tools", "Hand Tools")

LOG: Log = (
    ("A1Q", "B00A", 1_400_000_000),
    ("A1Q", "B00B", 1_400_086_400),
    ("A2R", "B00A", 1_400_000_000),
    ("A2R", "B00C", 1_500_000_000),
    ("A3S", "B00C", 1_300_000_001),
)
TEXTS: Texts = {
    "B00A": ("Rake", "Rakes leaves."),
    "B00B": ("Säge, 12 inch", "Cuts wood, and \u201cmore\u201d."),
    "B00C": ("Hose", ""),
}


@dataclass(frozen=True)
class RawFiles:
    interactions: Path
    items: Path


def write_raw_files(
    format: str,
    folder: Path,
    log: Log = LOG,
    texts: Texts = TEXTS,
    *,
    ratings: bool = False,
    shuffle: int | None = None,
) -> RawFiles:
    """Write both files of a format, compressed where they are published so.

    Args:
        ratings: of the Amazon formats, the ratings-only CSV in place of reviews.
        shuffle: seed of an order for the lines of both files; None for the order given.
    """
    writer = WRITERS[format]
    write_log = writer.ratings if ratings and writer.ratings else writer.reviews
    log, described = list(log), list(texts.items())
    if shuffle is not None:
        order = random.Random(shuffle)
        order.shuffle(log)
        order.shuffle(described)
    name, content = write_log(log)
    interactions = write(folder / name, content)
    name, content = writer.items(described)
    return RawFiles(interactions, write(folder / name, content))


def write(path: Path, content: str | bytes) -> Path:
    """Write a file, compressed if its name ends in .gz; the same bytes whenever it is written."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def content_of(path: Path) -> bytes:
    """Return what was written."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


Content = tuple[str, str]  # the file's name, and what is in it
Described = Sequence[tuple[str, tuple[str, str]]]


@dataclass(frozen=True)
class Writer:
    reviews: Callable[[Log], Content]
    items: Callable[[Described], Content]
    ratings: Callable[[Log], Content] | None = None


def json_lines(entries: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def table(rows: Iterable[Sequence[object]], separator: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def plain_table(rows: Iterable[Sequence[object]]) -> str:
    """Return rows separated by tabs, without any quoting."""
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def review(user: str, item: str, seconds: int) -> dict[str, Any]:
    when = datetime.fromtimestamp(seconds, UTC)
    return {
        "reviewerID": user,
        "asin": item,
        "reviewText": 'It\'s a tool.\n"asin": not here. Größe \U0001f600',
        "unixReviewTime": seconds,
        "reviewTime": f"{when:%m %d, %Y}",
    }


def reviews_2014(log: Log) -> Content:
    return "reviews_Tools_5.json.gz", json_lines(review(*row) for row in log)


def ratings_2014(log: Log) -> Content:
    return "ratings_Tools.csv", table((u, i, 5.0, seconds) for u, i, seconds in log)


def items_2014(described: Described) -> Content:
    """Every second line is a Python literal, as most are; the others are JSON."""
    lines = []
    for number, (item, (title, description)) in enumerate(described):
        entry = {
            "asin": item,
            "title": title,
            "description": description,
            "related": {"also_bought": ["B00X", "B00Y"]},
            "categories": [[CATEGORIES[0]], list(CATEGORIES)],
        }
        lines.append(json.dumps(entry) if number % 2 else repr(entry))
    return "meta_Tools.json.gz", "".join(line + "\n" for line in lines)


def reviews_2018(log: Log) -> Content:
    extra = {"style": {"Color:": " Red"}}
    return "Tools_5.json.gz", json_lines(review(*row) | extra for row in log)


def ratings_2018(log: Log) -> Content:
    return "Tools.csv", table((i, u, 5.0, seconds) for u, i, seconds in log)


def items_2018(described: Described) -> Content:
    entries = (
        {
            "category": list(CATEGORIES),
            "description": [description] if description else [],
            "title": title.replace("&", "&amp;").replace('"', "&quot;"),
            "also_buy": ["B00X"],
            "asin": item,
        }
        for item, (title, description) in described
    )
    return "meta_Tools.json.gz", json_lines(entries)


def reviews_2023(log: Log) -> Content:
    entries = (
        {
            "title": "Good",
            "asin": f"{item}V",
            "parent_asin": item,
            "user_id": user,
            "timestamp": seconds * 1000,
        }
        for user, item, seconds in log
    )
    return "Tools.jsonl.gz", json_lines(entries)


def ratings_2023(log: Log) -> Content:
    header = ("user_id", "parent_asin", "rating", "timestamp", "history")
    rows = [(u, i, 5.0, seconds * 1000, "B00X B00Y") for u, i, seconds in log]
    return "Tools.csv.gz", table([header, *rows])


def items_2023(described: Described) -> Content:
    entries = (
        {
            "main_category": "Tools",
            "title": title,
            "description": [description] if description else [],
            "categories": list(CATEGORIES),
            "details": {"Color": "Red"},
            "parent_asin": item,
        }
        for item, (title, description) in described
    )
    return "meta_Tools.jsonl.gz", json_lines(entries)


def yelp_reviews(log: Log) -> Content:
    entries = (
        {
            "user_id": user,
            "business_id": item,
            "text": "Nice.\n\nWill come again",
            "date": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}",
        }
        for user, item, seconds in log
    )
    return "yelp_academic_dataset_review.json", json_lines(entries)


def businesses(described: Described) -> Content:
    """Descriptions cannot be chosen: Yelp has none."""
    entries = (
        {
            "business_id": item,
            "name": title,
            "city": "Tucson",
            "attributes": None,
            "categories": ", ".join(CATEGORIES),
        }
        for item, (title, _) in described
    )
    return "yelp_academic_dataset_business.json", json_lines(entries)


def inter(log: Log) -> Content:
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    rows = [(u, i, 5.0, float(seconds)) for u, i, seconds in log]
    return "Tools.inter", plain_table([header, *rows])


def item(described: Described) -> Content:
    header = ("item_id:token", "title:token", "categories:token", "x:float", "description:token")
    rows = [
        (name, title, ", ".join(CATEGORIES), "", description)
        for name, (title, description) in described
    ]
    return "Tools.item", plain_table([header, *rows])


def csv_log(log: Log) -> Content:
    return "interactions.csv", table([("user", "item", "time"), *log])


def csv_items(described: Described) -> Content:
    rows = [(name, title, description) for name, (title, description) in described]
    return "items.csv", table([("item", "title", "description"), *rows])


def movielens_log(log: Log) -> Content:
    rows = [(u, i, 4.5, seconds) for u, i, seconds in log]
    return "ratings.csv", table([("userId", "movieId", "rating", "timestamp"), *rows])


def movielens_items(described: Described) -> Content:
    """Descriptions cannot be chosen: they are the genres."""
    rows = [(name, title, "|".join(CATEGORIES)) for name, (title, _) in described]
    return "movies.csv", table([("movieId", "title", "genres"), *rows])


WRITERS: Mapping[str, Writer] = {
    "amazon-2014": Writer(reviews_2014, items_2014, ratings_2014),
    "amazon-2018": Writer(reviews_2018, items_2018, ratings_2018),
    "amazon-2023": Writer(reviews_2023, items_2023, ratings_2023),
    "yelp": Writer(yelp_reviews, businesses),
    "recbole": Writer(inter, item),
    "movielens": Writer(movielens_log, movielens_items),
    "csv": Writer(csv_log, csv_items),
}
