"""From a card's raw files to examples, with a report of every step."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from tabulate import tabulate

from genrec_bench.data.cards import Card, card_place
from genrec_bench.data.dataset import Contents
from genrec_bench.data.preparation.filters import Counts, Filtered, apply_step, drop, too_few
from genrec_bench.data.preparation.formats import FORMATS, Format, ItemText
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.leaks import Leaks, find_leaks
from genrec_bench.data.preparation.malformed import Malformed, Rejected
from genrec_bench.data.preparation.raw_recipe import Raw, Step
from genrec_bench.data.preparation.splits import PROTOCOLS
from genrec_bench.data.sightings import copy_lines, log_lines, tie_lines
from genrec_bench.errors import UserError, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import file_sha256

T = TypeVar("T")

NO_TEXT = ItemText("", "", ())
EARLIEST = "1990-01-01"
"""Nobody has recorded interactions before; seconds read as milliseconds are in 1970."""

ATOMIC = (".inter", ".item")
"""How the names of RecBole's files end, which publish the data of other formats too."""

BETWEEN_UPDATES = 10_000
"""Entries of a file between two updates of the bar."""

Row = dict[str, Any]
"""One line of a table, by column heading."""


@dataclass(frozen=True)
class PreparationReport:
    """How raw files became examples; all values are plain, as JSON holds them.

    Attributes:
        files: sha256 of each file, by its name.
        raw: what the file of interactions holds, malformed lines aside.
        days: the first and the last day of these in UTC; odd ones give a wrong unit away.
        malformed: lines that were skipped, by file and reason; and some of them.
        steps: one for each filter, and one for users whom the split leaves out.
        counts: users, items, interactions; then rows of each split, such as ``train_rows``.
        untitled: items without a title.
        leaks: what splits give away of each other.
        notes: what else was seen; ``warning:`` begins what looks wrong.
    """

    files: Mapping[str, str]
    raw: Counts
    days: tuple[str, str]
    malformed: Mapping[str, Mapping[str, int]]
    malformed_examples: tuple[Rejected, ...]
    steps: tuple[Filtered, ...]
    counts: Mapping[str, int]
    untitled: int
    leaks: Leaks
    notes: tuple[str, ...] = ()


class Source:
    """The raw files of a card, each of which is read once."""

    def __init__(
        self, raw: Raw, interactions: Path, items: Path | None, progress: Progress
    ) -> None:
        """Look for the files; UserError where one is missing, or two have one name."""
        self.files = [path for path in (interactions, items) if path is not None]
        for path in self.files:
            if not path.is_file():
                raise UserError(f"{path} is missing")
        if items is not None and items.samefile(interactions):
            raise UserError(f"{interactions} was given for interactions and items alike")
        # The report tells files apart by their names.
        if items is not None and items.name == interactions.name:
            raise UserError(f"{interactions} and {items} have one name; rename one of them")
        self.malformed = Malformed(raw.malformed, raw.least_rating)
        self._format = raw.format
        self._columns = raw.columns
        self._interactions, self._items = interactions, items
        self._progress = progress
        self._texts: dict[str, ItemText] | None = None

    def interactions(self) -> Interactions:
        """Read the interactions; UserError where there are none."""
        path = self._interactions
        rows = self._reader(path).interactions(path, self.malformed, self._columns)
        found = Interactions.gather(self._watched(path, rows))
        ratings = self.malformed.ratings
        if ratings.least is not None and not ratings.counts:
            raise UserError(f"{path} has no ratings, and the card has 'raw.least_rating'")
        if not len(found):
            few = f" with a rating of {ratings.least:g} or more" if ratings.below else ""
            raise UserError(f"{path} holds no interactions{few}")
        return found

    def texts(self, names: Sequence[str]) -> dict[str, ItemText]:
        """Return what is known of items; whoever asks again asks for some of the same items.

        Raises:
            UserError: the file knows none of them, or cannot be used.
        """
        if self._texts is None:
            self._texts = {}
            if (path := self._items) is not None:
                wanted = frozenset(names)
                found = self._reader(path).items(path, wanted, self.malformed, self._columns)
                self._texts.update(self._watched(path, found))
                if not self._texts:
                    raise UserError(
                        f"{path} has none of the {len(names):,} items of {self._interactions}, "
                        f"such as {names[0]!r}; is it the right file?"
                    )
        return {name: self._texts.get(name, NO_TEXT) for name in names}

    def _reader(self, path: Path) -> Format:
        """Return how to read a file: as the card says, but RecBole's files are known by name."""
        if self._format != "recbole" and path.name.removesuffix(".gz").endswith(ATOMIC):
            self._progress.say(f"{path.name} is read as an atomic file of RecBole")
            return FORMATS["recbole"]
        return FORMATS[self._format]

    def _watched(self, path: Path, entries: Iterator[T]) -> Iterator[T]:
        """Yield the entries of a file, and show how much of it is read."""
        self._progress.say(f"reading {path}")
        size = max(path.stat().st_size, 1)
        with self._progress.bar("reading", total=1) as bar:
            for number, entry in enumerate(entries):
                if number % BETWEEN_UPDATES == 0:
                    bar.update(self.malformed.position / size)
                yield entry


@storage_errors()
def prepare(
    card: Card, interactions_file: Path, items_file: Path | None, progress: Progress
) -> tuple[Contents, PreparationReport]:
    """Read a card's raw files, filter the interactions and split them into examples.

    Items are read before the first step that asks for titles, else for what is left in the end.
    Users with fewer interactions than the split needs are left out.

    Raises:
        UserError: a file is missing or has too many malformed lines; nothing is left after a
            step; a split has no examples.
        StorageError: the disk refuses.
    """
    raw, steps, protocol, where = card.raw, card.filters, card.protocol, card_place(card.name)
    assert raw is not None
    if items_file is None and any(step.step == "titles" for step in steps):
        raise UserError(
            f"{where}: key 'filters' has the step 'titles', but there are none: "
            "name a file of items under 'raw.items', or leave the step out"
        )
    source = Source(raw, interactions_file, items_file, progress)
    log = source.interactions()
    found = Counts.of(log)
    first, last = log.times[[0, -1]].astype("datetime64[ms]").astype("datetime64[D]").astype(str)
    days = (str(first), str(last))
    if days[0] < EARLIEST:
        progress.say(f"the first interaction is of {first}: is the unit of time the right one?")
    exact = any(step.keep == "exact" for step in steps)
    notes = source.malformed.ratings.told() + log_lines(log, exact)
    split, fewest = PROTOCOLS[protocol]
    log, done = _filtered(log, steps, fewest, source, progress, where)
    texts = source.texts(log.item_names).values()
    if items_file is not None and not any(text.title or text.description for text in texts):
        progress.say(f"{items_file}: not one item has a title or a description")
    notes += tie_lines(log, protocol)
    splits = split(log, card.history_length)
    rows = {f"{name}_rows": len(examples) for name, examples in splits.examples.items()}
    for name, size in rows.items():
        if not size:
            raise UserError(
                f"{where}: the {protocol} split leaves no {name.replace('_', ' ')}: "
                f"{len(log)} interactions of {len(log.user_names)} users are too few"
            )
    report = PreparationReport(
        files={path.name: file_sha256(path) for path in source.files},
        raw=found,
        days=days,
        malformed=source.malformed.counts,
        malformed_examples=tuple(source.malformed.examples),
        steps=tuple(done),
        counts=asdict(Counts.of(log)) | rows,
        untitled=sum(not text.title for text in texts),
        leaks=find_leaks(splits.examples, splits.target_times, protocol),
    )
    contents = Contents(
        card=card,
        item_names=log.item_names,
        titles=tuple(text.title for text in texts),
        splits=splits.examples,
        descriptions=tuple(text.description for text in texts),
        categories=tuple(text.categories for text in texts),
        times=splits.target_times,
        report=asdict(report),
        user_names=log.user_names,
    )
    notes += copy_lines(splits.examples, report.leaks)
    report = dataclasses.replace(report, notes=tuple(notes))
    return dataclasses.replace(contents, report=asdict(report)), report


def _filtered(
    log: Interactions,
    steps: Sequence[Step],
    fewest: int,
    source: Source,
    progress: Progress,
    where: str,
) -> tuple[Interactions, list[Filtered]]:
    """Apply the filters, then drop users with fewer than ``fewest`` interactions, if any."""
    done: list[Filtered] = []

    def note(filtered: Filtered, key: str) -> None:
        before, after = filtered.before.interactions, filtered.after.interactions
        if not after:
            raise UserError(
                f"{where}: key {key!r} ({filtered.step}) leaves none of {before:,} interactions: "
                + _reasons(filtered)
            )
        progress.say(f"{filtered.step}: {after:,} of {before:,} interactions are left")
        done.append(filtered)

    for place, step in enumerate(steps, start=1):
        titles: Mapping[str, str] = {}
        if step.step == "titles":
            titles = {name: text.title for name, text in source.texts(log.item_names).items()}
        log, filtered = apply_step(step, log, titles)
        note(filtered, f"filters.{place}")
    left_out = {f"user with fewer than {fewest}": too_few(log, fewest)}
    log, filtered = drop(log, left_out, "split")
    if filtered.removed:
        note(filtered, "protocol")
    return log, done


def check_counts(
    counts: Mapping[str, int], expected: Mapping[str, int | None], slack: float = 0.01
) -> list[str]:
    """Return one line for each count that differs from the card's by more than a share, ``slack``.

    What is expected is None or missing where nobody says.
    """
    lines = []
    for what, found in counts.items():
        wanted = expected.get(what)
        if wanted is not None and abs(found - wanted) > slack * wanted:
            by = (found - wanted) / wanted
            lines.append(f"{what}: {found:,} found, {wanted:,} expected ({by:+.1%})")
    return lines


def format_report(report: PreparationReport) -> str:
    """Return a report as text for people."""
    first, last = report.days
    given = Filtered(f"raw, {first} to {last}", report.raw, report.raw, {})
    steps: list[Row] = [
        {
            "after": step.step,
            **asdict(step.after),
            "dropped": step.before.interactions - step.after.interactions,
            "because": _reasons(step),
        }
        for step in (given, *report.steps)
    ]
    skipped: list[Row] = [
        {"file": file, "skipped lines": n, "reason": reason}
        for file, reasons in report.malformed.items()
        for reason, n in reasons.items()
    ]
    tables: dict[str, Sequence[Mapping[str, Any]]] = {
        "Files": [{"file": name, "sha256": sha256} for name, sha256 in report.files.items()],
        "Malformed lines": skipped,
        "Some of them": [asdict(shown) for shown in report.malformed_examples],
        "Filters": steps,
        "Counts": [
            {"count": what.replace("_", " "), "found": n} for what, n in report.counts.items()
        ]
        + [{"count": "items without a title", "found": report.untitled}],
        "What splits give away": report.leaks.as_rows(),
        "What was seen": [{"": note} for note in report.notes],
    }
    parts = [f"{title}\n{_table(rows)}" for title, rows in tables.items() if rows]
    return "\n\n".join([*parts, *filter(None, [report.leaks.note])])


def _reasons(filtered: Filtered) -> str:
    return "; ".join(f"{reason}: {n:,}" for reason, n in filtered.removed.items())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return tabulate(
        rows, headers="keys", tablefmt="simple", floatfmt=".4g", intfmt=",", missingval="-"
    )
