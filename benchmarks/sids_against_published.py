"""Are SIDs built here as good as those that come with the data? HR@10 and NDCG@10, as Markdown.

    python benchmarks/sids_against_published.py --dataset industrial --json industrial.json

The same SFT is trained on the SIDs of an imported dataset and on SIDs of each method, built from
titles and descriptions where there are any, else from training interactions, and evaluated on the
test split, by item. A seed is that of SFT and SIDs alike.

The file of --json has all runs that are done, so that the same words go on where they were cut
short. One process writes it: datasets that are measured side by side need a file each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from transformers.utils import logging as transformers_logging

from genrec_bench import benchmark_version
from genrec_bench.data.dataset import Contents, Dataset
from genrec_bench.data.dataset_store import data_directory, dataset_of
from genrec_bench.data.obtain import obtain_contents
from genrec_bench.data.sids.build import build_sids as build_sids
from genrec_bench.data.sids.build import load_built
from genrec_bench.data.sids.sid_recipe import COLLISIONS, METHODS, SIDRecipe
from genrec_bench.errors import StorageError, UserError, nearest
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.progress import Progress
from genrec_bench.runs.jobs import split_words
from genrec_bench.statistics.resampling import Interval, estimate
from genrec_bench.storage.files import read_json, write_atomically
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.settings import SETTING_NAMES, Settings
from genrec_bench.training.sft_start import evaluate_start, sft_start
from genrec_bench.training.workers import Workers

Floats = NDArray[np.float64]
Key = tuple[str, str, int, str]  # of a run: dataset, SIDs, seed, setup
Wish = tuple[str, int]  # `PUBLISHED` or a method, and a seed

PUBLISHED = "published"
METRICS = ("HR@10", "NDCG@10")
LENGTH = 10  # of the lists that both metrics look at
DRAWS = 0  # seed; each figure draws anew, so that it is the same whatever else is in the table
ONE_SEED = "Intervals of a single seed speak of other users under this seed alone."


@dataclass(frozen=True)
class Run:
    """One SFT on one kind of SIDs: `PUBLISHED`, or the label of those built, without their seed.

    ``setup`` is a hash of whatever else bears on the figures, the SIDs themselves among it;
    ``sharing`` counts items whose SID another item has too; ``hits`` has the target's zero-based
    rank by number of the test example, where it is in the list; ``seconds`` are few where the SFT
    start was in the cache.
    """

    dataset: str
    sids: str
    seed: int
    setup: str
    items: int
    sharing: int
    examples: int
    hits: Mapping[str, int]
    seconds: float

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.dataset, self.sids, self.seed, self.setup

    def values(self, metric: str) -> Floats:
        """Return [U] the metric of each test example; one relevant item, so the ideal DCG is 1."""
        values = np.zeros(self.examples)
        for example, rank in self.hits.items():
            values[int(example)] = 1.0 / np.log2(rank + 2.0) if metric == "NDCG@10" else 1.0
        return values


@dataclass(frozen=True, eq=False)
class Bench:
    """What all runs on a dataset share; ``words`` are settings, ``name`` tells of partial data."""

    name: str
    contents: Contents
    embeddings: str
    words: Mapping[str, str]
    data_dir: Path
    workers: Workers
    progress: Progress
    collisions: str = "move"

    def settings(self, seed: int) -> Settings:
        """Return the settings of a seed; without Pass@k, which nobody asks for, it is faster."""
        return from_words(Settings, {"pass_samples": "0", **self.words, "sft_seed": str(seed)})

    def key(self, sids: str, seed: int) -> Key:
        """Return the key that a run on SIDs, `PUBLISHED` or of a method, has or would have."""
        settings, dataset = self.settings(seed), self.dataset(sids, seed)
        parts = [benchmark_version(), find_backbone("tiny").fingerprint]
        parts += [dataset.fingerprint, dataset.sid_fingerprint]
        setup = json.dumps([*parts, settings.prompt, settings.beam_width, settings.sft()])
        digest = hashlib.sha256(setup.encode()).hexdigest()
        return self.name, self.label(sids), seed, digest[:16]

    def label(self, sids: str, seed: int = 0) -> str:
        """Return `PUBLISHED`, or the label of a method's SIDs, which has no seed if that is 0."""
        if sids == PUBLISHED:
            return sids
        recipe = SIDRecipe(sids, self.embeddings, self.collisions, seed)
        return recipe.label(self.contents.card.codes_per_level)

    def has(self, sids: str, seed: int) -> bool:
        """Return whether SIDs need not be built."""
        if sids == PUBLISHED:
            return True
        recipe = SIDRecipe(sids, self.embeddings, self.collisions, seed)
        by = recipe, self.contents.card.codes_per_level
        return load_built(self.contents, *by, self.label(sids, seed), self.data_dir) is not None

    def dataset(self, sids: str, seed: int) -> Dataset:
        """Return the dataset with its SIDs, built now if they are not there."""
        if sids == PUBLISHED:
            return self.contents.own
        card, recipe = self.contents.card, SIDRecipe(sids, self.embeddings, self.collisions, seed)
        label = self.label(sids, seed)
        if not self.has(sids, seed):
            where = label, self.data_dir, self.progress
            build_sids(self.contents, recipe, card.codes_per_level, *where)
        return dataset_of(self.contents, label, self.data_dir)

    def run(self, sids: str, seed: int) -> Run:
        """Train and evaluate; the harness's cache of SFT starts spares what it has."""
        started = time.perf_counter()
        what = find_backbone("tiny"), self.dataset(sids, seed), self.settings(seed)
        start = sft_start(*what, self.data_dir, self.workers, self.progress)
        found = evaluate_start(start, *what, self.workers, self.progress, splits=["test"])
        ranks = found["test"].outcomes["item_rank"].to_numpy()
        items_of_sid = np.bincount(what[1].catalog.sid_of_item)
        return Run(
            *self.key(sids, seed),
            items=int(items_of_sid.sum()),
            sharing=int(items_of_sid[items_of_sid > 1].sum()),
            examples=len(ranks),
            hits={str(row): int(rank) for row, rank in enumerate(ranks) if 0 <= rank < LENGTH},
            seconds=round(time.perf_counter() - started, 1),
        )


def runs_of(bench: Bench, wanted: Sequence[Wish], file: Path | None, end: float) -> list[Run]:
    """Return runs by SIDs and seed, from the file or made now and put there; none is made late."""
    try:
        entries = read_json(file)["runs"] if file is not None and file.exists() else []
        done = {run.key: run for run in (Run(**entry) for entry in entries)}
    except (KeyError, TypeError):
        raise StorageError(f"{file}: holds no runs of this script; name another file") from None
    found = []
    for number, (sids, seed) in enumerate(wanted, start=1):
        told, run = "was done", None
        late = time.monotonic() >= end
        if bench.has(sids, seed) or not late:
            run = done.get(key := bench.key(sids, seed))
            if run is None and not late:
                done[key] = run = bench.run(sids, seed)
                if file is not None:
                    content = {"runs": [asdict(run) for run in done.values()]}
                    write_atomically(file, json.dumps(content).encode())
                told = f"{run.seconds:.0f} s"
        if run is not None:
            found.append(run)
            means = (f"{name} {run.values(name).mean():.4f}" for name in METRICS)
            told = ", ".join([*means, told])
        else:
            told = "left for another time"
        what = f"{bench.name}, {bench.label(sids)}, seed {seed}"
        bench.progress.say(f"[{number}/{len(wanted)}] {what}: {told}")
    return found


def change(ours: Floats, theirs: Floats) -> tuple[float, Interval]:
    """By how much the mean of [S, U] values is above that of others, as a share of that.

    The interval is that of the ratio's linear part, (ours - r theirs) / mean(theirs) with r the
    ratio of the means (the delta method): what is not known of the denominator is in it too.
    """
    base = float(theirs.mean())
    ratio = float(ours.mean()) / base
    linear = estimate((ours - ratio * theirs) / base, np.random.default_rng(DRAWS)).interval
    return ratio - 1.0, Interval(ratio - 1.0 + linear.low, ratio - 1.0 + linear.high)


def table(runs: Sequence[Run]) -> str:
    """Return a line of Markdown for each kind of SIDs; changes are of runs with the same seeds."""
    by_sids: dict[str, dict[int, Run]] = {}
    for run in runs:
        by_sids.setdefault(run.sids, {})[run.seed] = run
    rows = []
    for sids, found in by_sids.items():
        share = np.mean([run.sharing / run.items for run in found.values()])
        row = {"dataset": runs[0].dataset, "SIDs": sids, "seeds": str(len(found))}
        row["items that share a SID"] = f"{share:.2%}"
        theirs = by_sids.get(PUBLISHED, {}) if sids != PUBLISHED else {}
        paired = sorted(found.keys() & theirs.keys())
        for metric in METRICS:
            values = np.stack([run.values(metric) for run in found.values()])
            told = estimate(values, np.random.default_rng(DRAWS))
            row[metric] = f"{told.mean:.4f} [{told.interval.low:.4f}, {told.interval.high:.4f}]"
            both = [[each[seed].values(metric) for seed in paired] for each in (found, theirs)]
            row[f"{metric}, change"] = "-"
            if np.any(both[1]):
                ratio, by = change(np.stack(both[0]), np.stack(both[1]))
                row[f"{metric}, change"] = f"{ratio:+.1%} [{by.low:+.1%}, {by.high:+.1%}]"
        rows.append(row)
    note = f"\n\n{ONE_SEED}" if any(len(found) == 1 for found in by_sids.values()) else ""
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) + note


def bench_of(args: argparse.Namespace) -> Bench:
    """Return what the command line asks for; UserError if it cannot be had."""
    words, data_dir, progress = split_words(args.set), data_directory(args.data_dir), Progress()
    for name in words:
        if name not in SETTING_NAMES or name == "sft_seed":
            hint = "; --seeds says how many" if name == "sft_seed" else nearest(name, SETTING_NAMES)
            raise UserError(f"--set {name}: no setting of this script{hint}")
    contents = obtain_contents(args.dataset, data_dir, progress)
    if contents.sids is None:
        raise UserError(f"dataset {args.dataset!r} brings no SIDs; `genrec-bench data import` it")
    name = f"{args.dataset} (partial)" if contents.partial else args.dataset
    source = "text" if any((*contents.titles, *contents.descriptions)) else "collaborative"
    source = args.embeddings or source
    return Bench(name, contents, source, words, data_dir, Workers(), progress, args.collisions)


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dataset", default="industrial", help="imported; default: industrial")
    parser.add_argument("--data-dir", help="prepared data, SIDs and SFT starts")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--embeddings", help="default: text if there is any, else collaborative")
    parser.add_argument("--collisions", choices=COLLISIONS, default="move", help="default: move")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--json", type=Path, metavar="FILE", help="runs that are done")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS")
    args, began = parser.parse_args(), time.monotonic()
    if args.seeds < 1:
        parser.error("--seeds: must be at least 1")
    transformers_logging.disable_progress_bar()
    wanted = [(sids, seed) for seed in range(args.seeds) for sids in (PUBLISHED, *args.methods)]
    try:
        print(table(runs_of(bench_of(args), wanted, args.json, began + args.limit)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
