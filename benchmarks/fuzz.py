"""Good files and command lines changed at random, and given to the commands that read them.

    python benchmarks/fuzz.py --count 2000 --quick    # what CI runs
    python benchmarks/fuzz.py --kinds record,card --minutes 10
    python benchmarks/fuzz.py --only 1234 --keep DIR    # one input again, and its traceback

Whatever a file holds, a command must end with exit code 0 or with 2 and one line: without a
traceback, within ten seconds of the processor, without control characters on the screen, and
without a write outside the folders that it was given. `fuzz_mutations.py` changes files,
`fuzz_world.py` says which there are and what reads them.

Inputs are numbered; a number and the seed say all of an input, since the good files are the same
each time (`fuzz_frozen.py`). They run in this program, a few
hundred to a forked process, so that one that eats memory or dies takes nothing with it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import fuzz_world as world
from fuzz_frozen import frozen
from fuzz_inputs import Finding, Ground, Guard, good_files, listing, try_input, unchanged
from fuzz_kinds import Kind, kinds

PATIENCE = 90
"""Seconds after which a process that begins nothing new is given up."""

BATCH = 400
"""Inputs of one process."""

MEMORY = 3_000_000_000
"""Bytes that a process may take beside those that it begins with."""

WEIGHTS = {"record": 2, "command line": 4, "config": 2}
"""How often a kind comes where others come once, but for those that take long."""

ROUNDS = 16

RARE = {"backbone": 16, "study": 16, "comparison": 16, "checkpoint": 8, "policy": 4} | {
    "own metrics": 8, "embeddings": 4, "card": 2, "card of a world": 2, "outcomes and curves": 2,
    "tokenizer": 2, "SFT archive": 2,
}  # fmt: skip
"""Of which only every so manieth input is made."""


SLOW = {"outcomes and curves", "card", "card of a world", "own metrics", "embeddings"} | {
    "policy", "checkpoint", "backbone", "study", "comparison",
}  # fmt: skip
EVERY = 8
"""Kinds that take long, records apart, and of how many of their inputs `--quick` tries one."""


def schedule() -> list[Kind]:
    """Return the kinds in the order of the inputs' numbers, which begins again at the end."""
    found: list[Kind] = []
    for number in range(ROUNDS):
        for kind in kinds():
            if number % RARE.get(kind.name, 1) == 0:
                found += [kind] * WEIGHTS.get(kind.name, 1)
    return found


def set_up() -> None:
    """Have no network, no waiting, no MLflow server, and little memory; for this process alone."""
    mock.patch.object(socket.socket, "connect", world.refuse_to_connect).start()
    mock.patch.object(socket, "create_connection", world.refuse_to_connect).start()
    mock.patch.object(time, "sleep", lambda seconds: None).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000_000, 500_000_000))


def try_batch(ground: Ground, inputs: Sequence[tuple[int, Kind]], seed: int, log: Path) -> None:
    """Try some inputs in this process, and write down each before and after it."""
    set_up()
    guard = Guard()
    others, parent = good_files(ground), os.getppid()
    with log.open("w", buffering=1) as file:
        for number, kind in inputs:
            if os.getppid() != parent:
                return  # It was killed, and another one may work on this ground by now.
            file.write(json.dumps({"begun": number}) + "\n")
            began = time.process_time()
            found = try_input(ground, kind, seed, number, guard, others)
            seconds = round(time.process_time() - began, 3)
            told = {"done": number, "seconds": seconds, "found": [asdict(one) for one in found]}
            file.write(json.dumps(told) + "\n")


def in_child(
    ground: Ground, inputs: Sequence[tuple[int, Kind]], seed: int
) -> tuple[list[Finding], Counter[str], Counter[str]]:
    """Try inputs in a forked process, and in another one what is left if it dies.

    Returns:
        What was found; how many inputs of each kind were tried; their seconds of the processor.
    """
    findings: list[Finding] = []
    tried: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    log = ground.top / "log.jsonl"
    left = list(inputs)
    while left:
        before = listing(ground)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            code = 70
            try:
                try_batch(ground, left, seed, log)
                code = 0
            except BaseException:  # also an exit that a command asked for
                (ground.top / "died").write_text(traceback.format_exc())
            finally:  # a copy of this process must never go on as the first one does
                os._exit(code)
        status = _awaited(child, log)
        kinds = dict(left)
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        done = [entry for entry in entries if "done" in entry]
        for entry in done:
            tried[kinds[entry["done"]].name] += 1
            seconds[kinds[entry["done"]].name] += entry["seconds"]
            findings += [Finding(**one) for one in entry["found"]]
        left = left[len(done) :]
        if status and left:
            number, kind = left.pop(0)
            tried[kind.name] += 1
            died = ground.top / "died"
            told = died.read_text() if died.exists() else ""
            died.unlink(missing_ok=True)
            findings.append(
                Finding("died", f"{kind.name} {status}", kind.name, number, [], "", told)
            )
        ignored = {str(log), str(ground.top)}
        new = {path for path, *_ in listing(ground) - before} - ignored
        if new:
            told = ", ".join(sorted(new)[:3])
            last = done[-1]["done"] if done else inputs[0][0]
            findings.append(Finding("stray write", told[-60:], "batch", last, [], "", told))
    return findings, tried, seconds


def _awaited(child: int, log: Path) -> int:
    """Wait for a process; kill it if it begins nothing new for too long. Returns its status."""
    size, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        now = log.stat().st_size if log.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)


# -------------------------------------------------------------------------------------- main


def told(finding: Finding, count: int, seed: int) -> str:
    """What is printed of a finding that came `count` times."""
    again = f"python benchmarks/fuzz.py --seed {seed} --only {finding.number} --keep DIR"
    lines = [f"{finding.what} ({count} times): {finding.key}", f"  {finding.kind}: {finding.file}"]
    lines += [f"  words: {' '.join(map(repr, finding.words))[:400]}", f"  again: {again}"]
    return "\n".join([*lines, *(f"    {line}" for line in finding.told.splitlines()[-6:])])


def main() -> int:
    """Try inputs, print what was found, and return 1 if anything was."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="of these alone, separated by commas")
    parser.add_argument("--quick", action="store_true", help=f"of slow kinds every {EVERY}th one")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try one input in this process")
    parser.add_argument("--sound", action="store_true", help="try the good files as they are")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the ground there")
    args = parser.parse_args()
    top = args.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        return fuzz(Ground(top.resolve()), args)
    finally:
        if args.keep is None:
            os.chdir("/")
            shutil.rmtree(top, ignore_errors=True)


def fuzz(ground: Ground, args: argparse.Namespace) -> int:
    """Do what the options ask for on a ground; see `main`."""
    world.shrink()
    world.warm_up()
    if not ground.good.is_dir():
        ground.good.mkdir(parents=True)
        os.environ.update(world.environment(ground.good))
        os.chdir(ground.good)
        began = time.monotonic()
        with frozen():
            world.build(ground.good)
        print(f"the world took {time.monotonic() - began:.0f} s", flush=True)
    plan = schedule()
    if args.only is not None:
        set_up()
        others = good_files(ground)
        kind = plan[args.only % len(plan)]
        for one in try_input(ground, kind, args.seed, args.only, Guard(), others):
            print(f"{told(one, 1, args.seed)}\n{one.told}")
        print(f"{kind.name}, left in {ground.case}")
        return 0
    if args.sound:
        wrong = [line for kind in kinds() for line in unchanged(ground, kind)]
        print("\n".join(wrong) or "all good files are read")
        return 1 if wrong else 0
    wanted = set(filter(None, args.kinds.split(",")))
    unknown = wanted - {kind.name for kind in plan}
    if unknown:
        print(f"no such kinds: {unknown}; there are {sorted({kind.name for kind in plan})}")
        return 2
    began, number, findings = time.monotonic(), args.first, dict[str, list[Finding]]()
    tried, seconds = Counter[str](), Counter[str]()
    while tried.total() < args.count and time.monotonic() - began < 60 * args.minutes:
        inputs: list[tuple[int, Kind]] = []
        while len(inputs) < min(BATCH, args.count - tried.total()):
            kind = plan[number % len(plan)]
            is_passed_over = args.quick and kind.name in SLOW and number % EVERY
            if (not wanted or kind.name in wanted) and not is_passed_over:
                inputs.append((number, kind))
            number += 1
        found, more, longer = in_child(ground, inputs, args.seed)
        tried.update(more)
        seconds.update(longer)
        for one in found:
            same = findings.setdefault(f"{one.what} {one.key}", [])
            same.append(one)
            if len(same) == 1:
                print(told(one, 1, args.seed), flush=True)
    print(f"\n{tried.total()} inputs, numbers {args.first} to {number - 1}, seed {args.seed}:")
    for name, count in sorted(tried.items()):
        print(f"  {count:6} {name:24} {1000 * seconds[name] / count:6.0f} ms")
    print(f"{len(findings)} findings")
    for same in findings.values():
        print(f"  {len(same):5} {same[0].what}: {same[0].key}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
