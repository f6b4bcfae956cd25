"""What was malformed in raw files, within a declared limit.

A reader never guesses what a malformed line meant: the line is skipped, counted and reported, and
where a file has more of them than its card allows, the file is refused.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from genrec_bench.errors import UserError

EXAMPLES = 3
"""Lines that are remembered of each file and kind of reason."""

PATIENCE = 1000
"""A file is refused at once if this many of its first 2 * PATIENCE lines are malformed."""


class MalformedLine(Exception):
    """A line that cannot be used; the message is its kind of reason, of which there are few."""


@dataclass(frozen=True)
class Rejected:
    """A line, counted from 1, that was skipped, and for which kind of reason."""

    file: str
    line: int
    reason: str


@dataclass
class Ratings:
    """The ratings that came with interactions, and those for which these are left out.

    Attributes:
        least: interactions with a lower rating are left out; None for none.
        counts: interactions by rating, those left out included.
        below: how many were left out.
    """

    least: float | None = None
    counts: Counter[float] = field(default_factory=Counter)
    below: int = 0

    def wanted(self, rating: float) -> bool:
        """Count a rating; return whether its interaction stays."""
        self.counts[rating] += 1
        if self.least is None or rating >= self.least:
            return True
        self.below += 1
        return False

    def told(self) -> list[str]:
        """Return a line on what there was, and what was left out; none where nothing is rated."""
        if not (number := self.counts.total()):
            return []
        mean = sum(rating * count for rating, count in self.counts.items()) / number
        line = f"ratings from {min(self.counts):g} to {max(self.counts):g}, {mean:.2f} on average"
        if self.least is None:
            return [f"{line}: all count as interactions, whatever they are"]
        return [f"{line}: {self.below:,} of {number:,} are below {self.least:g}, and are left out"]


class Malformed:
    """What was malformed, within a declared limit.

    Attributes:
        limit: the share of a file's lines that may be malformed.
        counts: lines rejected, by file name and kind of reason.
        examples: the first few of each file and kind, in the order in which they were met.
        position: bytes of the file now being read that are behind us, compressed as they lie on
            disk: for a progress bar.
        ratings: those of the interactions that were read.
    """

    def __init__(self, limit: float, least_rating: float | None = None) -> None:
        self.limit = limit
        self.ratings = Ratings(least_rating)
        self.counts: dict[str, dict[str, int]] = {}
        self.examples: list[Rejected] = []
        self.position = 0
        self._rejected: dict[Path, int] = {}  # of the files now being read

    def reject(self, file: Path, line: int, reason: str) -> None:
        """Count a line (from 1) as malformed, for a kind of reason such as "not JSON".

        Raises:
            UserError: hardly a line of the file's beginning can be used, so that it is most likely
                another file than it was taken for.
        """
        counts = self.counts.setdefault(file.name, {})
        counts[reason] = counts.get(reason, 0) + 1
        if counts[reason] <= EXAMPLES:
            self.examples.append(Rejected(file.name, line, reason))
        rejected = self._rejected[file] = self._rejected.get(file, 0) + 1
        if rejected == PATIENCE and line < 2 * PATIENCE and rejected > self.limit * line:
            raise UserError(
                f"{file}: {rejected} of its first {line} lines are malformed "
                f"({self._shown(file)}); is it the right file, in the right format?"
            )

    def end(self, file: Path, lines: int) -> None:
        """Judge a file that was read to its end.

        ``lines`` counts those rejected too, and neither blank ones nor a header.

        Raises:
            UserError: no line can be used, or more than the limit were rejected.
        """
        rejected = self._rejected.pop(file, 0)
        if not lines:
            raise UserError(f"{file} is empty: it has no line of data")
        if rejected >= lines:
            raise UserError(
                f"{file}: no line can be used ({self._shown(file)}); "
                "is it the right file, in the right format?"
            )
        if rejected > self.limit * lines:
            raise UserError(
                f"{file}: {rejected} of {lines} lines are malformed, more than the limit of "
                f"{self.limit:.3%} that the card sets as 'raw.malformed': {self._shown(file)}"
            )

    def _shown(self, file: Path) -> str:
        """Return the kinds of reasons, the most frequent ones first, each with its first line."""
        counts = self.counts[file.name]
        first = {r.reason: r.line for r in reversed(self.examples) if r.file == file.name}
        kinds = sorted(counts, key=lambda kind: (-counts[kind], first[kind]))
        shown = [f"{kind}: {counts[kind]}, first in line {first[kind]}" for kind in kinds[:3]]
        return "; ".join(shown) + ("; ..." if len(kinds) > 3 else "")
