"""How fast are raw files prepared, and in how much memory? On reviews that are drawn for it.

    python benchmarks/prepare_benchmark.py [--reviews N] [--folder DIR]

Reviews and items are written in the format of Amazon 2018, gzipped, with lines as long as theirs:
items by Zipf's law, users more evenly, days as times. Few texts are drawn and often repeated, so
that the files are smaller than real ones. They are prepared as a card would ask for it, in a
process of its own, whose time and peak memory are printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

SEED = 0
BLOCK = 50_000
"""Reviews that are drawn at once."""

REVIEWS_PER_ITEM = 30
REVIEWS_PER_USER = 4
FIRST_DAY, DAYS = 11_000, 6_800
"""Days since 1970: 2000 to 2018."""

TEXTS, TEXT_WORDS = 2_000, 40
WORDS = (
    "the a it is was this of for and with very great product works well price size box drill saw "
    "glue tape fits used bought would recommend again quality sturdy cheap expensive broke after "
    "weeks days perfect exactly what needed shipping fast arrived late item described good better"
).split()


def main() -> None:
    """Draw the files, prepare them in another process, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reviews", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help="where to draw the files; they stay there")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        print(json.dumps(measure(arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        draw(folder, arguments.reviews)
        drawn = time.perf_counter() - started
        command = [sys.executable, __file__, "--prepare", "--folder", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        sizes = {name: path.stat().st_size / 1e6 for name, path in files(folder).items()}
    figures = json.loads(done.stdout)
    rows = [
        ("reviews", f"{arguments.reviews:,} ({sizes['reviews']:.0f} MB gzipped)"),
        ("items", f"{figures['items']:,} ({sizes['items']:.0f} MB gzipped)"),
        ("drawing them", f"{drawn:.1f} s"),
        ("preparing them", f"{figures['seconds']:.1f} s"),
        ("of which computing", f"{figures['cpu_seconds']:.1f} s"),
        ("lines read a second", f"{figures['lines'] / figures['seconds']:,.0f}"),
        ("peak memory", f"{figures['peak_bytes'] / 2**30:.2f} GiB"),
        ("interactions left", f"{figures['interactions']:,}"),
        ("examples", f"{figures['examples']:,}"),
    ]
    print(tabulate(rows, tablefmt="simple"))


def files(folder: Path) -> dict[str, Path]:
    """Return where the files lie."""
    return {name: folder / f"{name}.json.gz" for name in ("reviews", "items")}


def measure(folder: Path) -> dict[str, float]:
    """Prepare the files in `folder`; return seconds, peak bytes of this process, and counts."""
    # Imported here, so that the process that draws is small: a child starts with its parent's peak.
    from genrec_bench.data.cards import load_card
    from genrec_bench.data.preparation.prepare import prepare
    from genrec_bench.data.preparation.raw_recipe import Raw, SourceFile, Step
    from genrec_bench.progress import Progress

    raw = Raw("amazon-2018", SourceFile("reviews.json.gz"), SourceFile("items.json.gz"))
    steps = (Step("titles", longest_title=20), Step("core", users=5, items=5))
    card = replace(
        load_card("office"), raw=raw, filters=steps, protocol="chronological", history_length=10
    )
    paths = files(folder)
    started, computed = time.perf_counter(), time.process_time()
    contents, report = prepare(card, paths["reviews"], paths["items"], Progress())
    seconds = time.perf_counter() - started
    cpu_seconds = time.process_time() - computed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak if sys.platform == "darwin" else peak * 1024,
        "lines": report.raw.interactions + report.raw.items,
        "items": report.raw.items,
        "interactions": report.counts["interactions"],
        "examples": sum(len(part) for part in contents.splits.values()),
    }


def draw(folder: Path, reviews: int) -> None:
    """Write `reviews` reviews, and their items, into `folder`."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    num_items, num_users = max(reviews // REVIEWS_PER_ITEM, 1), max(reviews // REVIEWS_PER_USER, 1)
    popularity = np.cumsum(1 / np.arange(1, num_items + 1))
    activity = np.cumsum(np.arange(1, num_users + 1) ** -0.6)
    texts = [text_of(rng, TEXT_WORDS) for _ in range(TEXTS)]
    with gzip.open(files(folder)["reviews"], "wt", compresslevel=1, encoding="utf-8") as file:
        for start in range(0, reviews, BLOCK):
            n = min(BLOCK, reviews - start)
            columns = (
                np.searchsorted(activity, rng.random(n) * activity[-1]).tolist(),
                np.searchsorted(popularity, rng.random(n) * popularity[-1]).tolist(),
                (86_400 * (FIRST_DAY + (rng.random(n) * DAYS).astype(np.int64))).tolist(),
                (rng.random(n) * TEXTS).astype(np.int64).tolist(),
            )
            file.writelines(
                f'{{"overall": 5.0, "verified": true, "reviewTime": "09 1, 2016", "reviewerID": '
                f'"A{user:013d}", "asin": "B{item:09d}", "style": {{"Size:": " Large"}}, '
                f'"reviewerName": "Shelly F", "reviewText": "{texts[text]}", '
                f'"summary": "Five Stars", "unixReviewTime": {when}}}\n'
                for user, item, when, text in zip(*columns, strict=True)
            )
    with gzip.open(files(folder)["items"], "wt", compresslevel=1, encoding="utf-8") as file:
        for item in range(num_items):
            title = " ".join(texts[item % TEXTS].split()[:8])
            description = " ".join(texts[(item + k) % TEXTS] for k in range(3))
            entry = {
                "category": ["Industrial & Scientific", "Test, Measure & Inspect"],
                "description": [description],
                "title": f"{title} {item}",
                "also_buy": [f"B{(item * 7 + k) % num_items:09d}" for k in range(20)],
                "asin": f"B{item:09d}",
            }
            file.write(json.dumps(entry) + "\n")


def text_of(rng: np.random.Generator, words: int) -> str:
    """Draw a text of that many words."""
    return " ".join(WORDS[int(place)] for place in rng.random(words) * len(WORDS))


if __name__ == "__main__":
    main()
