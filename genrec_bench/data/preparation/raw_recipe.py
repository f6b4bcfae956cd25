"""What a card says of how a dataset is made from raw files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceFile:
    """A raw file.

    Attributes:
        file: its name, in the folder of downloads or wherever the user keeps it.
        url: where it is fetched from; "" where it must be fetched by hand.
        sha256: its checksum; "" where nobody has published one: then that of the first download is
            recorded and asked for ever after.
    """

    file: str
    url: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Columns:
    """What the columns of a plain table are called; of the formats only ``csv`` asks.

    Attributes:
        user: who.
        item: what.
        time: when.
        time_unit: "s" or "ms" since 1970 in UTC, or "iso" for dates and times such as
            ``2018-07-07`` and ``2018-07-07 22:09:11``.
        title: of an item, in the table of items.
        description: of an item, in the table of items; may be missing.
        separator: between columns.
    """

    user: str = "user"
    item: str = "item"
    time: str = "time"
    time_unit: str = "s"
    title: str = "title"
    description: str = "description"
    separator: str = ","


@dataclass(frozen=True)
class Raw:
    """The raw files of a dataset.

    Attributes:
        format: a key of ``preparation.formats.FORMATS``.
        interactions: who took what, and when; a line each.
        items: titles and descriptions; None where there are none.
        licence: what may be done with the files, in a line.
        how: what to fetch by hand and where to put it; "" where files are fetched from their URLs.
        malformed: the share of a file's lines that may be malformed, and are then skipped and
            reported; more than that is refused.
        columns: names, where the format leaves them open.
    """

    format: str
    interactions: SourceFile
    items: SourceFile | None = None
    licence: str = ""
    how: str = ""
    malformed: float = 0.001
    columns: Columns = Columns()


@dataclass(frozen=True)
class Step:
    """One filter; a card lists them in the order in which they are applied.

    Attributes:
        step: which one:
            "titles"      drops interactions with items that have no usable title;
            "window"      keeps interactions of a period;
            "duplicates"  keeps one of the interactions of a user with an item;
            "core"        drops users and items with too few interactions, until none is left.
        longest_title: of "titles": most words of a usable title; 0 for any number.
        since: of "window": first day, such as 2016-10-01, in UTC; "" for the beginning of time.
        until: of "window": the day after the last one; "" for the end of time.
        keep: of "duplicates": "first" or "last" in order of time, or "exact" to drop only what has
            the same time too.
        users: of "core": fewest interactions of a user.
        items: of "core": fewest interactions of an item.
    """

    step: str
    longest_title: int = 0
    since: str = ""
    until: str = ""
    keep: str = ""
    users: int = 0
    items: int = 0
