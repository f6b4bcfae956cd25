"""What a card says of how a dataset is made from raw files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from genrec_bench.storage.validation import Must, PlainName, at_least, one_of, require

_SHA256 = re.compile("[0-9a-fA-F]{64}|")
_NO_SEPARATORS = set('"\r\n\0')
"""Characters that cannot stand between the columns of a table."""
_LONGEST_SEPARATOR = 8

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "titles": ("longest_title",),
    "window": ("since", "until"),
    "duplicates": ("keep",),
    "core": ("users", "items"),
}
"""Which options each step has."""

KEEP = ("first", "last", "exact")


def _is_day(text: str) -> bool:
    try:
        return not text or date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


Day = Annotated[str, Must(_is_day, "a day such as 2016-10-01")]
Fewest = Annotated[int, at_least(0)]


@dataclass(frozen=True)
class SourceFile:
    """A raw file.

    Attributes:
        file: its name, in the folder of downloads or wherever the user keeps it.
        url: where it is fetched from; "" where it must be fetched by hand.
        sha256: its checksum; "" where nobody has published one: then that of the first download is
            recorded, and every later file must have it.
        most_bytes: of a download; a server that sends more does not send this file.
    """

    file: PlainName
    url: str = ""
    sha256: Annotated[str, Must(_SHA256.fullmatch, "64 hexadecimal digits")] = ""
    most_bytes: Annotated[int, at_least(1)] = 100_000_000_000


@dataclass(frozen=True)
class Columns:
    """What the columns of a plain table are called.

    The format ``csv`` leaves all of it open, ``recbole`` the names of user, item and time if they
    are not RecBole's own, the unit of time, and what separates the parts of a sequence.

    Attributes:
        time_unit: "s" or "ms" since 1970 in UTC, or "iso" for dates and times such as
            ``2018-07-07`` and ``2018-07-07 22:09:11``.
        title: in the table of items, like `description`, which the table may lack.
        separator: between columns, such as "," or "::"; with a longer one nothing is quoted.
        rating: of the column of ratings; "" where there is none, or none is asked for.
        sequence_separator: RecBole's ``seq_separator``; "" for the first of ``|``, ``;`` and ``,``
            that a field has, and blanks where it has none.
    """

    user: str = "user"
    item: str = "item"
    time: str = "time"
    time_unit: Annotated[str, one_of(("s", "ms", "iso"))] = "s"
    title: str = "title"
    description: str = "description"
    separator: Annotated[
        str,
        Must(
            lambda text: 0 < len(text) <= _LONGEST_SEPARATOR and not set(text) & _NO_SEPARATORS,
            f"one character, or up to {_LONGEST_SEPARATOR}",
        ),
    ] = ","
    rating: str = ""
    sequence_separator: str = ""


@dataclass(frozen=True)
class Raw:
    """The raw files of a dataset.

    Attributes:
        format: a key of ``preparation.formats.FORMATS``.
        interactions: who took what, and when; one line each.
        items: titles and descriptions; None where there are none.
        licence: what may be done with the files, in one line.
        how: what to fetch by hand and where to put it; "" where files are fetched from their URLs.
        malformed: the share of a file's lines that may be malformed, and are then skipped and
            reported; more than that is refused.
        least_rating: interactions with a lower rating are left out; None where all count.
    """

    format: str
    interactions: SourceFile
    items: SourceFile | None = None
    licence: str = ""
    how: str = ""
    malformed: Annotated[float, Must(lambda share: 0 <= share < 1, "a share from 0 to below 1")] = (
        0.001
    )
    columns: Columns = Columns()
    least_rating: float | None = None


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

    step: Annotated[str, one_of(OPTIONS)]
    longest_title: Annotated[int, at_least(0)] = 0
    since: Day = ""
    until: Day = ""
    keep: Annotated[str, one_of(("", *KEEP))] = ""
    users: Fewest = 0
    items: Fewest = 0


def check_steps(steps: Sequence[Step], where: str) -> None:
    """Raise UserError unless each step of a card has the options that it needs, and no other.

    ``where`` is the card's file. Each option by itself is as its annotation says.
    """
    for place, step in enumerate(steps, start=1):
        key, window = f"filters.{place}.", (step.since, step.until)
        for name, own in OPTIONS.items():
            for option in own:
                usual = getattr(step, option) == getattr(Step, option)
                other = f"left out of {step.step!r}: it is of {name!r}"
                require(usual or name == step.step, where, key + option, other)
        if step.step == "window":
            require(any(window), where, f"{key}since", "a day such as 2016-10-01, or else 'until'")
            before = f"a day before {step.until}, which 'until' says, not {step.since}"
            require(not all(window) or step.since < step.until, where, f"{key}since", before)
        if step.step == "duplicates":
            require(step.keep, where, f"{key}keep", f"one of {', '.join(KEEP)}, not ''")
        if step.step == "core":
            require(step.users or step.items, where, f"{key}users", "at least 1, or else 'items'")
