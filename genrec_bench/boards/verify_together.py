"""Verification of records beside each other, of which not all can be true."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.verify import Finding
from genrec_bench.runs.record_schema import EXTERNAL, SPLITS, digest
from genrec_bench.storage.digests import content_digest
from genrec_bench.training.metrics import TAIL

T = TypeVar("T")


def verify_together(evidence: Sequence[Evidence]) -> list[Finding]:
    """What can only be seen of several records: two that cannot both be true."""
    findings = []
    same = _against_most(evidence, _run_id, lambda one: {"run_id": digest(one.record)})
    for one, place, other in same:
        found = f"{other.name} differs and has the same one"
        findings.append(Finding(one.name, place, _run_id(one), found))
    for one, split, other in _against_most(evidence, _judged_on, _numbers):
        found = f"{len(other.of_split(split))} in {other.name}, on the same dataset"
        stated = f"{len(one.of_split(split))} examples"
        findings.append(Finding(one.name, f"outcomes: {split}", stated, found))
    for one, (split, _), other in _against_most(evidence, _judged_on, _tails):
        found = f"other ones in {other.name}, on the same dataset"
        findings.append(Finding(one.name, f"outcomes: {split}: {TAIL}", "its own", found))
    return findings


def _run_id(one: Evidence) -> str:
    return str(one.record["run_id"])


def contradictions(evidence: Sequence[Evidence]) -> list[Finding]:
    """Find equal runs on equal machines, and equal SFT starts, with different results.

    Rounding alone can do that, since not every record states the number of threads. So this is no
    error and stops no board, which shows the newest of equal runs.
    """
    exact = [one for one in evidence if _exact(one.record)]
    same_result = partial(_first_difference, "metrics", "an equal run")
    same_start = partial(_first_difference, "sft", "of the same SFT start")
    return [*_between(same_result, exact, _request), *_between(same_start, exact, _start)]


def _between(
    compare: Callable[[Evidence, Evidence], Iterator[Finding]],
    evidence: Sequence[Evidence],
    key: Callable[[Evidence], Any],
) -> Iterator[Finding]:
    """Compare each record with the first one of the same key."""
    first: dict[Any, Evidence] = {}
    for one in evidence:
        known = first.setdefault(key(one), one)
        if known is not one:
            yield from compare(known, one)


def _against_most(
    evidence: Sequence[Evidence],
    key: Callable[[Evidence], Any],
    says: Callable[[Evidence], Mapping[T, object]],
) -> Iterator[tuple[Evidence, T, Evidence]]:
    """Find records that say else than most records of the same key; of equally many, the first.

    So what a stranger puts in front of the others cannot stand against them.

    Args:
        says: what of which place.

    Yields:
        The record, the place, and a record that says what most do.
    """
    groups: dict[tuple[Any, T], list[tuple[Evidence, object]]] = {}
    for one in evidence:
        for place, said in says(one).items():
            groups.setdefault((key(one), place), []).append((one, said))
    for (_, place), group in groups.items():
        (most, _), *_ = Counter(said for _, said in group).most_common(1)
        speaker = next(one for one, said in group if said == most)
        yield from ((one, place, speaker) for one, said in group if said != most)


def _judged_on(one: Evidence) -> Any:
    """Which examples a run was judged on."""
    return one.record["track"]["dataset"], one.record["track"].get("test_examples", 0)


def _request(one: Evidence) -> Any:
    """What decides a result; records that failed, and trials of sweeps, are never alike."""
    record = one.record
    if not record["complete"] or not one.on_test:
        return id(one)
    keys = ("algorithm", "benchmark", "track_id", "configuration", "seed", "versions")
    return _sorted(record, *keys, "fingerprints", "hardware", "commit")


def _start(one: Evidence) -> Any:
    """What decides what the SFT start is found to be."""
    return _sorted(one.record, "benchmark", "track_id", "versions", "hardware")


def _sorted(record: Mapping[str, Any], *keys: str) -> str:
    return json.dumps([record[key] for key in keys], sort_keys=True)


def _first_difference(key: str, what: str, first: Evidence, second: Evidence) -> Iterator[Finding]:
    for split in SPLITS:
        one, other = first.record[key][split], second.record[key][split]
        for metric in sorted(one.keys() & other.keys()):
            if one[metric] != other[metric]:
                found = f"{one[metric]!r} in {first.name}, {what}"
                yield Finding(second.name, f"{key}.{split}.{metric}", other[metric], found)
                return


def _exact(record: Mapping[str, Any]) -> bool:
    """Whether a run of ours can be repeated bit by bit: neither a clock nor a GPU had a say."""
    if record.get("kind") == EXTERNAL:
        return False
    limit = record["budget"]["limit"]
    clocked = limit is not None and limit.endswith("s")
    return not clocked and str(record["hardware"].get("device", "cpu")) == "cpu"


def _numbers(one: Evidence) -> dict[str, int]:
    """How many examples of each split there are, where there are any."""
    return {split: count for split in SPLITS if (count := len(one.of_split(split)))}


def _tails(one: Evidence) -> dict[tuple[str, int], str]:
    """Which of the examples of a split, and so many of them, are in the long tail."""
    return {
        (split, count): content_digest(one.of_split(split)[TAIL].to_numpy(np.bool_).tobytes())
        for split, count in _numbers(one).items()
        if TAIL in one.outcomes
    }
