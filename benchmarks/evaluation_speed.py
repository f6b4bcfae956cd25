"""How long does the evaluation of a user take, with `tiny` and default settings? A Markdown table.

    python benchmarks/evaluation_speed.py [--dataset NAME] [--users N] [--rounds N]

What is compared takes turns, so that whatever else the machine does meets all of it alike; the
least of the rounds says what the machine can do, the median what it did. Seconds of the processor
are those of all threads together. The SFT start is trained first if there is none.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from tabulate import tabulate

from genrec_bench.data.dataset_store import data_directory
from genrec_bench.data.obtain import obtain
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import sample
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.progress import Progress
from genrec_bench.training.evaluate import LOOK_BEAM, PROMPTS_AT_ONCE, evaluate
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_start import sft_start
from genrec_bench.training.workers import Workers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data-dir")
    parser.add_argument("--users", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    data_dir, progress, workers = data_directory(args.data_dir), Progress(), Workers()
    dataset, settings, backbone = obtain(args.dataset, data_dir, progress), Settings(), "tiny"
    found = find_backbone(backbone)
    start = sft_start(found, dataset, settings, data_dir, workers, progress)
    policy = make_policy(found, dataset, settings, workers.device, weights=start.folder / "policy")
    rows = np.linspace(0, len(dataset.test) - 1, min(args.users, len(dataset.test)), dtype=np.int64)
    examples = dataset.test.subset(rows)
    quiet = Progress(quiet=True)

    def evaluated(width: int, sampling: Settings | None) -> None:
        evaluate(
            policy,
            examples,
            dataset.catalog,
            workers,
            width,
            quiet,
            title="test",
            sampling=sampling,
            world=dataset.world,
        )

    def apart() -> None:
        """Do the beam, then the draws, each with a prefill of its own."""
        order = np.argsort(examples.history_lengths, kind="stable")
        for first in range(0, len(order), PROMPTS_AT_ONCE):
            part = order[first : first + PROMPTS_AT_ONCE]
            prompts = policy.prompt_format.encode(examples, part).to(policy.device)
            beam_search(policy, prompts, settings.beam_width)
            sample(
                policy,
                prompts,
                settings.pass_samples,
                temperature=settings.pass_temperature,
                top_p=settings.pass_top_p,
                key=0,
            )

    contenders: dict[str, Callable[[], None]] = {
        f"a look: beam {LOOK_BEAM}": lambda: evaluated(LOOK_BEAM, None),
        f"beam {settings.beam_width}": lambda: evaluated(settings.beam_width, None),
        f"beam {settings.beam_width} and {settings.pass_samples} draws": lambda: evaluated(
            settings.beam_width, settings
        ),
        "both, one after the other": apart,
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for round_ in range(args.rounds + 1):
        for name, contender in contenders.items():
            clock, processor = time.perf_counter(), time.process_time()
            contender()
            if round_:  # the first is for warming up
                spent = time.perf_counter() - clock, time.process_time() - processor
                seconds[name].append(spent)
    table = []
    for name, rounds in seconds.items():
        row: dict[str, str] = {"what": name}
        for column, values in zip(("clock", "processor"), zip(*rounds, strict=True), strict=True):
            per_user = [1000 * value / len(examples) for value in values]
            row[f"{column}, ms a user"] = f"{min(per_user):.2f}"
            row[f"{column}, median"] = f"{statistics.median(per_user):.2f}"
        table.append(row)
    print(f"{dataset.name}: {len(examples)} users, {torch.get_num_threads()} threads\n")
    print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
