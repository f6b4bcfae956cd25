"""Whether a change of the code leaves every result as it was.

    python benchmarks/same_results.py record before.json     # with the code as it was
    python benchmarks/same_results.py check before.json      # with the code as it is now

Both run all built-in algorithms, a sweep, a comparison, an ablation and two analyses on the
synthetic data at fixed seeds, in an empty folder, and keep what the commands print and every file
that they write. Left out of the comparison is what differs between two runs of the same code:
times, seconds, memory, paths, run ids, the commit and digests of code. Weights, SFT starts,
per-user outcomes and curves are compared to the last bit: record and check on the same machine.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench.storage.parquet import read_frame

SETTINGS = (
    "steps=6 prompts_per_step=32 group_size=8 beam_width=10 pass_samples=5 sft_epochs=1 "
    "sft_valid_examples=128 validations=2 validation_examples=64"
).split()
RUNS = ("sft", "grpo", "ugr", "srpo", "vstar")
OTHERS = (
    "run ugr --budget 12Gflop --seed 3 --set {} rerank=true beta=0.01",
    "run vstar --budget 12Gflop --seed 3 --set {} inference=ved objective=siblings training=top-k",
    "run srpo --seed 1 --set {} updates_per_rollout=2 minibatches=2 logprob_space=trie",
    "sweep grpo --total-budget 24Gflop --trial-budget 8Gflop --set {}",
    "compare --algorithms grpo,vstar --budget 50Gflop --tuning-budget 60Gflop"
    " --trial-budget 30Gflop --seeds 2 --set {}",
    "ablate srpo --seed 0 --set {}",
    "analyze correlation --examples 64 --size 8 --set {}",
    "analyze dynamics --alphas 0,1 --windows 3 --set {}",
    "leaderboard verify",
)
# The values of these keys, and columns of these names, differ between two runs of the same code.
VOLATILE = (
    "algorithm_digest commit configuration_digest cpu finished memory_bytes peak_memory_bytes "
    "command request run_id runs seconds sha256 started versions outcomes code pid host"
).split()
# Digests of data and weights, which have to stay.
FINGERPRINTS = ("dataset", "sids", "sft", "weights")
# Identifiers, digests, points in time; seconds in words, in board.csv and in board.md's bill.
CHANGING = (
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}"), "<run>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+00:00|Z| UTC)?"), "<time>"),
    (re.compile(r"(?<![\w.])[0-9a-f]{12,64}\b"), "<digest>"),
    (re.compile(r"\d+(\.\d+)? (s|ms|min|h)\b( \d+ s\b)?"), "<seconds>"),
    (re.compile(r"\d+(\.\d+)? [GM]i?B"), "<memory>"),
    (re.compile(r"(?<=/seconds,)[\d.]+"), "<seconds>"),
    (re.compile(r"^(\| [^|]*\|) +\d+\.\d \|", re.MULTILINE), r"\1 <seconds> |"),
)


def main() -> int:
    """Record, or check and say what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs-only", action="store_true", help="the five runs, and nothing else")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = observe(Path(folder), runs_only=words.runs_only)
    if words.what == "record":
        words.file.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
        print(f"{len(found)} facts recorded in {words.file}")
        return 0
    before = json.loads(words.file.read_text(encoding="utf-8"))
    if words.runs_only:
        before = {name: fact for name, fact in before.items() if _of_first_runs(name)}
        found = {name: fact for name, fact in found.items() if _of_first_runs(name)}
    differing = [name for name in sorted({*before, *found}) if before.get(name) != found.get(name)]
    for name in differing[:100]:
        print(f"{name}\n  before: {before.get(name)}\n  now:    {found.get(name)}")
    print(f"{len(differing)} of {len({*before, *found})} facts differ")
    return 1 if differing else 0


def observe(folder: Path, *, runs_only: bool) -> dict[str, Any]:
    """Run the commands in an empty folder, and return all facts by name."""
    facts: dict[str, Any] = {}
    commands = [f"run {name} --set {{}}" for name in RUNS]
    for command in commands if runs_only else [*commands, *OTHERS]:
        before, _, after = command.partition("{}")
        words = [*before.split(), *(SETTINGS if "{}" in command else ()), *after.split()]
        if "verify" in words:
            words.append("runs")
        else:
            place = words.index("--set")
            words[place:place] = ["--data-dir", "data", "--output", "runs", "--no-mlflow"]
        print("genrec-bench", command, file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "genrec_bench", *words],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        for stream, text in (("out", done.stdout), ("err", done.stderr)):
            for number, line in enumerate(_steady(text).splitlines()):
                facts[f"{command}: {stream} {number:03}"] = line
        facts[f"{command}: exit code"] = done.returncode
    # Names hold times and digests of code: those that are equal but for them are told apart by age.
    met: Counter[str] = Counter()
    for path in sorted(folder.rglob("*"), key=lambda path: path.stat().st_mtime_ns):
        if path.is_file():
            name = _steady(str(path.relative_to(folder)))
            met[name] += 1
            facts.update(_facts_of(path, f"{name} ({met[name]})"))
    return facts


def _facts_of(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".json":
        yield from _leaves(json.loads(path.read_text(encoding="utf-8")), name)
    elif path.suffix == ".parquet":
        table = read_frame(path)
        for column in table.columns:
            if not any(word in str(column) for word in ("seconds", "memory")):
                hashed = pd.util.hash_pandas_object(
                    table[column].map(
                        lambda cell: (
                            str(list(cell))
                            if hasattr(cell, "__len__") and not isinstance(cell, str)
                            else cell
                        )
                    ),
                    index=False,
                )
                yield f"{name}: {column}", f"{len(table)} rows {int(hashed.sum() % 2**61)}"
    elif path.suffix == ".safetensors":
        yield name, hashlib.sha256(path.read_bytes()).hexdigest()
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                kept = [cell for key, cell in row.items() if "seconds" not in key]
                yield f"{name}: {number:04}", _steady(",".join(map(str, kept)))
    elif path.suffix == ".md":
        for number, line in enumerate(_steady(path.read_text(encoding="utf-8")).splitlines()):
            yield f"{name}: {number:04}", line
    else:
        yield name, "is there"


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in VOLATILE:
                if key in FINGERPRINTS and isinstance(inner, str):
                    yield f"{name}: {key}", inner
                else:
                    yield from _leaves(inner, f"{name}: {key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{place}]")
    else:
        yield name, _steady(value) if isinstance(value, str) else value


def _steady(text: str) -> str:
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text


def _of_first_runs(name: str) -> bool:
    """Whether a fact is of the five runs: they are the first of their names."""
    said = any(name.startswith(f"run {run} --set {{}}") for run in RUNS)
    wrote = any(name.startswith(f"runs/synthetic/{run}-seed0-") for run in RUNS)
    return said or (wrote and "(1)" in name)


if __name__ == "__main__":
    sys.exit(main())
