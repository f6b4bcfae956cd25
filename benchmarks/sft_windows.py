"""What does it cost, and lose, to learn cut histories together? JSON lines, one a trained start.

    python benchmarks/sft_windows.py [--dataset NAME] [--arms 1,10] [--seeds 3] [--share 0.1]

Trains the SFT start of `tiny` once for each value of `sft_targets` and each seed, and ranks the
test split with it. After each seed a line says how far each other arm is from the first in NDCG@10,
paired by seed and user, with a 95% interval (from two seeds on) and the least difference that so
many seeds and users see. Nothing is cached or kept: each start is trained anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.data.dataset_store import data_directory
from genrec_bench.data.obtain import obtain
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.progress import Progress
from genrec_bench.statistics.conclusions import Entrant, conclude
from genrec_bench.storage.files import read_json
from genrec_bench.training.evaluate import evaluate, judged
from genrec_bench.training.metrics import values_of
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_training import START_FILE, train_start
from genrec_bench.training.workers import Workers

METRIC = "NDCG@10"


def numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    return [int(word) for word in text.split(",")]


def part_of(dataset: Dataset, share: float) -> Dataset:
    """Leave a share of the users in the training split, the same for equal shares."""
    users = np.unique(dataset.train.users)
    chosen = np.random.default_rng(0).permutation(users)[: max(1, round(share * len(users)))]
    rows = np.flatnonzero(np.isin(dataset.train.users, chosen))
    splits = {**dataset.splits, "train": dataset.train.subset(rows)}
    return dataclasses.replace(dataset, splits=splits)


def trained(
    dataset: Dataset, settings: Settings, workers: Workers, progress: Progress
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Train and judge a start; return what it took, and the metric of each test example."""
    backbone = find_backbone("tiny")
    with tempfile.TemporaryDirectory() as folder:
        began, processor = time.perf_counter(), time.process_time()
        train_start(backbone, dataset, settings, Path(folder), {}, workers, progress)
        clock, processor = time.perf_counter() - began, time.process_time() - processor
        said = read_json(Path(folder) / START_FILE)
        weights = Path(folder) / "policy"
        policy = make_policy(backbone, dataset, settings, workers.device, weights=weights)
    chains = policy.prompt_format.chains(dataset.train, settings.sft_targets)
    examples, width = judged(dataset, "test", settings), settings.beam_width
    found = evaluate(policy, examples, dataset.catalog, workers, width, progress, title="test")
    spent = said["spent"]["sft"]
    took = {
        "sequences": len(chains),
        "targets": int(chains.num_targets.sum()),
        "steps": max(point["step"] for point in said["curve"]),
        "seconds": round(spent["seconds"], 1),
        "seconds with looks": round(clock, 1),
        "processor seconds with looks": round(processor, 1),
        "TFLOP": round(spent["flops"] / 1e12, 3),
        "looks": [round(point[METRIC], 4) for point in said["curve"]],
        METRIC: found.metrics[METRIC],
        "HR@10": found.metrics["HR@10"],
    }
    return took, values_of(METRIC, found.outcomes["item_rank"].to_numpy())


def told(**line: Any) -> None:
    """Print a line at once, so that what was cut short has said all that was done."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="instruments")
    parser.add_argument("--data-dir")
    parser.add_argument("--arms", type=numbers, default=[1, 10], help="values of sft_targets")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, 2, ...")
    parser.add_argument("--share", type=float, default=1.0, help="of the training users")
    parser.add_argument("--epochs", type=float, default=Settings().sft_epochs)
    parser.add_argument("--test-examples", type=int, default=0, help="to rank; 0 for all")
    parser.add_argument("--precision", default="auto", help="of --set precision")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    args = parser.parse_args()
    progress = Progress()
    workers = Workers(Accelerator(cpu=True) if args.device == "cpu" else None)
    dataset = obtain(args.dataset, data_directory(args.data_dir), progress)
    dataset = part_of(dataset, args.share)
    device = str(workers.device)
    if workers.device.type == "cuda":
        device = torch.cuda.get_device_name(workers.device)
    values: dict[int, list[NDArray[np.float64]]] = {arm: [] for arm in args.arms}
    for seed in range(args.seeds):
        for arm in args.arms:
            settings = Settings(
                sft_targets=arm,
                sft_seed=seed,
                sft_epochs=args.epochs,
                test_examples=args.test_examples,
                precision=args.precision,
            )
            took, of_users = trained(dataset, settings, workers, progress)
            values[arm].append(of_users)
            what = {"dataset": dataset.name, "share": args.share, "precision": settings.precision}
            told(sft_targets=arm, seed=seed, **what, device=device, **took)
        seeds = tuple(range(seed + 1))
        entrants = {str(arm): Entrant(np.stack(table), seeds) for arm, table in values.items()}
        for pair in conclude(entrants, np.random.default_rng(0)).pairs:
            if pair.first != str(args.arms[0]):
                continue
            low, high = pair.interval.low, pair.interval.high
            told(
                sft_targets=int(pair.second),
                over=args.arms[0],
                seeds=len(seeds),
                difference=-pair.difference,
                interval=[-high, -low] if np.isfinite(high) else None,
                p=pair.p_bootstrap,
                p_users=pair.p_user,
                seen=pair.smallest_difference if np.isfinite(pair.smallest_difference) else None,
            )


if __name__ == "__main__":
    main()
