"""How long does it take to make SIDs, and how good are they? A table of all methods, as Markdown.

    python benchmarks/sids_benchmark.py [--items N] [--levels L] [--codes K]

The vectors are drawn: clusters within clusters of unequal size, with noise. Everything runs on one
thread, whatever the machine has.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from genrec_bench.data.sids.methods import quantize
from genrec_bench.data.sids.sid_quality import quality
from genrec_bench.data.sids.sid_recipe import METHODS
from genrec_bench.progress import Progress

SEED = 0
WIDTH = 64
TOPICS, SUBTOPICS = 20, 300
TOPIC_SPREAD, SUBTOPIC_SPREAD, NOISE = 1.0, 0.6, 0.4
EVENNESS = 0.5
"""Of the subtopics' sizes: the smaller, the more of them are nearly empty (Dirichlet)."""


def clustered_vectors(
    items: int, seed: int = SEED
) -> tuple[NDArray[np.float32], list[tuple[str, ...]]]:
    """Return item vectors [items, WIDTH], and topic and subtopic of each as its categories."""
    rng = np.random.default_rng(seed)
    topics = TOPIC_SPREAD * rng.normal(size=(TOPICS, WIDTH))
    topic_of = rng.integers(TOPICS, size=SUBTOPICS)
    subtopics = topics[topic_of] + SUBTOPIC_SPREAD * rng.normal(size=(SUBTOPICS, WIDTH))
    sizes = rng.dirichlet(np.full(SUBTOPICS, EVENNESS))
    subtopic_of = rng.choice(SUBTOPICS, p=sizes, size=items)
    vectors = subtopics[subtopic_of] + NOISE * rng.normal(size=(items, WIDTH))
    names: list[tuple[str, ...]] = [
        (f"topic {topic_of[s]}", f"subtopic {s}") for s in subtopic_of.tolist()
    ]
    return vectors.astype(np.float32), names


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=3700)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--codes", type=int, default=256)
    args = parser.parse_args()
    vectors, categories = clustered_vectors(args.items)
    codes_per_level = (args.codes,) * args.levels
    rows = []
    for method in METHODS:
        start = time.perf_counter()
        found = quantize(vectors, method, codes_per_level, SEED, Progress())
        seconds = time.perf_counter() - start
        told = quality(
            found.codes, codes_per_level, vectors, found.reconstruction, categories, found.errors
        )
        rows.append(
            {
                "method": method,
                "items": args.items,
                "seconds": f"{seconds:.1f}",
                "items that share": f"{told.sharing:.2%}",
                "error": f"{told.error:.4f}",
                "perplexity": " ".join(f"{level.perplexity:.0f}" for level in told.levels),
                "neighbours": f"{told.neighbours:.3f}",
                "any two": f"{told.strangers:.3f}",
            }
        )
    print(tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
