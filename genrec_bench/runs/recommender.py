"""A trained policy put to use: histories of items in, ranked items out.

All that it takes lies in the policy's folder, so that it works wherever the folder is copied to.
Candidates are found as the run's evaluation found them, and expand to items by the same rule.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.errors import UserError, one_line
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import spell_codes
from genrec_bench.progress import Progress
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.candidate_lists import expand
from genrec_bench.training.evaluate import PROMPTS_AT_ONCE, ranked_leaves

COLUMNS = ("rank", "item", "title", "sid", "log_prob")
"""Of a table of recommendations."""

SUGGESTIONS = 3
"""Items that are told of where one is unknown."""

Unknown = Literal["refuse", "skip"]
Tell = Callable[[str], None]


def as_warning(line: str) -> None:
    """Tell whoever called the package, as a warning of their own line."""
    warnings.warn(line, UserWarning, stacklevel=5)


@dataclass(frozen=True, eq=False)
class Recommender:
    """A policy with its catalog.

    Attributes:
        folder: that it was read from.
        about: the content of its ``policy.json``.
        algorithm: ranks as evaluation did, where it has a way to; None for the harness's beam.
        tell: is told in one line what a caller may not expect; by default as a warning.
    """

    folder: Path
    about: Mapping[str, Any]
    catalog: Catalog
    policy: Policy
    algorithm: Algorithm | None = None
    tell: Tell = as_warning
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Number the items by their names."""
        self._numbers.update((name, i) for i, name in enumerate(self.catalog.item_names))

    @property
    def items(self) -> pd.DataFrame:
        """The catalog: item, title, SID."""
        catalog = self.catalog
        columns = {"item": catalog.item_names, "title": catalog.titles}
        return pd.DataFrame(columns | {"sid": self._spelled(np.arange(catalog.num_items))})

    def recommend(
        self, history: Sequence[str], k: int = 10, *, exclude_seen: bool = False
    ) -> pd.DataFrame:
        """Return the k items that the policy expects next, best first.

        Args:
            history: names of items as the dataset has them, oldest first.
            exclude_seen: whether to leave out items of the history; others move up.

        Returns:
            Columns `COLUMNS`. Items that share a SID share its log-probability: they are a tie, in
            the order that the dataset's card declares. Where an algorithm ranks anew, its order is
            not that of the log-probability.

        Raises:
            UserError: an item is unknown, or k is not positive.
        """
        found = self.recommend_many([history], k, exclude_seen=exclude_seen)
        return found.drop(columns="row")

    def recommend_many(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        unknown: Unknown = "refuse",
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Return the k items that the policy expects next for each of many histories.

        Args:
            unknown: what becomes of items that the catalog has not: an error, or they are left out.
            progress: shows how far it has come; None for nobody.

        Returns:
            As `recommend`, after a column ``row``: the place of the history, from 0.

        Raises:
            UserError: see `recommend`; the row is named.
        """
        if not isinstance(k, Integral) or k < 1:
            raise UserError(f"k={k!r}: must be a whole number of at least 1")
        if isinstance(histories, str) or not isinstance(histories, Collection):
            raise UserError("histories: must be a list of lists of items")
        known = [
            self._known(history, unknown, "" if len(histories) == 1 else f"row {row}: ")
            for row, history in enumerate(histories)
        ]
        seen = max((len(set(items)) for items in known if exclude_seen), default=0)
        places = min(k + seen, self.catalog.num_items)
        width = self._width(k, places)
        cut = self._cut(known)
        examples = Examples.from_lists(range(len(cut)), cut, [0] * len(cut))
        order = np.argsort(examples.history_lengths, kind="stable")
        tables: dict[int, pd.DataFrame] = {}
        at_once = max(1, PROMPTS_AT_ONCE * self.about["beam_width"] // width)
        with (progress or Progress(quiet=True)).bar("recommending", len(cut)) as bar:
            for start in range(0, len(cut), at_once):
                part = order[start : start + at_once]
                prompts = self.policy.prompt_format.encode(examples, part).to(self.policy.device)
                leaves, log_probs = ranked_leaves(self.policy, prompts, width, self.algorithm)
                sids = self.policy.trie.sid_index(leaves).cpu().numpy()
                scores = log_probs.float().cpu().numpy()
                items = expand(sids.astype(np.int32), self.catalog, places)
                for row, its in zip(
                    part.tolist(), zip(sids, scores, items, strict=True), strict=True
                ):
                    left_out = known[row] if exclude_seen else []
                    tables[row] = self._table(*its, left_out, k)
                bar.advance(len(part))
        parts = [tables[row].assign(row=row) for row in range(len(cut))]
        whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        return whole.reindex(columns=["row", *COLUMNS])

    def _known(self, history: Sequence[str], unknown: Unknown, where: str) -> list[int]:
        """Return the numbers of a history's items."""
        if isinstance(history, str) or not isinstance(history, Iterable):
            raise UserError(f"{where}history: must be a list of items, such as ['3', '8']")
        lost = [item for item in map(str, history) if item not in self._numbers]
        if lost and unknown == "refuse":
            raise UserError(f"{where}history: {self._unknown(lost[0])}")
        found = [self._numbers[str(item)] for item in history if str(item) in self._numbers]
        if not found and self.policy.prompt_format.name != "compact":
            raise UserError(
                f"{where}history: is empty, and this policy's prompts name at least one item"
            )
        return found

    def _unknown(self, item: str) -> str:
        """Say that there is no such item, and which ones may be meant, by name or by title."""
        catalog = self.catalog
        wanted = item.lower()
        near = difflib.get_close_matches(item, catalog.item_names, SUGGESTIONS, cutoff=0.8)
        meant = [self._numbers[name] for name in near]
        inside = (
            i
            for i, title in enumerate(catalog.titles)
            if len(wanted) > 2 and wanted in title.lower()
        )
        meant += [i for i, _ in zip(inside, range(SUGGESTIONS), strict=False)]
        if not meant:
            titles = {title.lower(): i for i, title in enumerate(catalog.titles) if title}
            close = difflib.get_close_matches(wanted, titles, SUGGESTIONS, cutoff=0.5)
            meant = [titles[title] for title in close]
        told = " or ".join(
            f"{catalog.item_names[i]!r}" + (f" ({catalog.titles[i]})" if catalog.titles[i] else "")
            for i in list(dict.fromkeys(meant))[:SUGGESTIONS]
        )
        hint = f"did you mean {told}?" if told else f"one that is there: {catalog.item_names[0]!r}"
        return f"there is no item {one_line(item)!r} in {self.about['dataset']}; {hint}"

    def _width(self, k: int, places: int) -> int:
        """Return how many candidates to find: as evaluation did, or as many as places take."""
        catalog = self.catalog
        usual: int = self.about["beam_width"]
        if k > catalog.num_items:
            self.tell(f"k={k}: the catalog has {catalog.num_items} items, and all are ranked")
        needed = min(places, len(catalog.unique_sids))
        if needed > usual:
            self.tell(
                f"{needed} candidates are needed; evaluation had {usual}, and a wider search may "
                "order the first ones otherwise"
            )
        return max(needed, usual)

    def _cut(self, known: Sequence[list[int]]) -> list[list[int]]:
        """Return the ends of histories that prompts were made of in training."""
        most: int = self.about["history_length"]
        long = sum(len(items) > most for items in known)
        if long:
            which = "the history" if len(known) == 1 else f"{long} of {len(known)} histories"
            self.tell(f"of {which} the last {most} items are read, as in training")
        return [items[-most:] for items in known]

    def _table(
        self,
        sids: NDArray[np.int64],
        scores: NDArray[np.float32],
        items: NDArray[np.int32],
        seen: Sequence[int],
        k: int,
    ) -> pd.DataFrame:
        """Return one history's recommendations.

        Args:
            sids: [W] candidates, best first, -1 for none; ``scores``: [W] their log-probabilities.
            items: what they expand to, -1 for none.
        """
        found = items[(items >= 0) & ~np.isin(items, np.asarray(seen, dtype=np.int32))][:k]
        places = (sids == self.catalog.sid_of_item[found][:, None]).argmax(axis=1)
        catalog = self.catalog
        return pd.DataFrame(
            {
                "rank": np.arange(1, len(found) + 1),
                "item": [catalog.item_names[i] for i in found],
                "title": [catalog.titles[i] for i in found],
                "sid": self._spelled(found),
                "log_prob": scores[places].astype(float),
            }
        )

    def _spelled(self, items: NDArray[Any]) -> list[str]:
        codes = spell_codes(self.catalog.codes_per_level)
        rows = self.catalog.sids[items].tolist()
        return ["".join(codes[level][code] for level, code in enumerate(sid)) for sid in rows]
