"""Boards as no run has made them: realistic in size, made up in their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from genrec_bench.boards.board import RANKED, Board, BoardRow, Kind, Link, Reached, Section
from genrec_bench.boards.reported import Reported
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.statistics.resampling import Components, Estimate, Interval

TARGETS = {"25%": 0.0712, "50%": 0.0731, "75%": 0.0750, "100%": 0.0769}
MILESTONES = tuple(share / 10 for share in range(11))
BUDGET = 6e12

TRACK = {"backbone": "tiny", "budget": "6Tflop", "group_size": 16, "sft": "98" * 32, "tuning": None}
TUNING: dict[str, Any] = {"limit": "20Tflop", "flops": 1.98e13, "study": "industrial-grpo"}
TUNING |= {"trials": 24, "failed": 1, "pruned": 15}
START = {"NDCG@10": 0.0749, "HR@10": 0.1147, "HR@1": 0.0393, "HR@5": 0.0898, "NDCG@5": 0.0668}
FIGURES = {"NDCG@10": 1.0, "HR@10": 1.53, "HR@1": 0.53, "HR@5": 1.19, "NDCG@5": 0.89}
FIGURES |= {"sid/HR@10": 1.57, "sid/NDCG@10": 1.1, "Pass@1": 0.4, "Pass@10": 0.84}
"""Of a run, as multiples of its NDCG@10."""

CEILING = {"NDCG@10": 0.412, "HR@10": 0.601}


def row(
    name: str,
    ndcg: float,
    *,
    kind: Kind = "result",
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    rank: tuple[int, int] | None = (1, 3),
    gain: float = 0.006,
    failures: Mapping[int, str] | None = None,
    seconds: float = 90.0,
    key: int = 0,
) -> BoardRow:
    """A row whose seeds lie around a mean of NDCG@10; the same for the same arguments."""
    generator = np.random.default_rng([key, 7])
    by_seed = [round(float(x), 4) for x in ndcg + generator.normal(0, 0.0009, len(seeds))]
    values = [{metric: round(times * x, 4) for metric, times in FIGURES.items()} for x in by_seed]
    means = {metric: fmean(v[metric] for v in values) for metric in FIGURES}
    # Shares of the seconds and of the budget; the last two do not count.
    shares = {"rollout": (0.3, 0.35), "reference": (0.1, 0.1), "update": (0.6, 0.55)}
    phases = {
        phase: {"seconds": time * seconds, "flops": flops * BUDGET, "tokens": 5e5}
        for phase, (time, flops) in shares.items()
    }
    phases["sft"] = {"seconds": 52.0, "flops": 3.29e12, "tokens": 4.7e5}
    phases["evaluation"] = {"seconds": 24.0, "flops": 1.72e12, "tokens": 7.5e5}
    curve = []
    for share in MILESTONES:
        height = 0.0692 + gain * (1 - (1 - share) ** 2)
        spread = 0.0002 + 0.001 * share
        curve.append((share * BUDGET, height, height - spread, height + spread * 0.8))
    targets = {}
    for label, value in TARGETS.items():
        reached = [
            next((at for at, y, *_ in curve if y + 0.0004 * (i - 2) >= value), None)
            for i in range(len(seeds))
        ]
        middle = median(float("inf") if x is None else x for x in reached)
        targets[label] = Reached(None if middle == float("inf") else middle, tuple(reached))
    return BoardRow(
        name=name,
        algorithm=name.partition(" ")[0] if kind == "result" else "sft",
        kind=kind,
        seeds=tuple(seeds),
        means=means,
        deviations={m: stdev(v[m] for v in values) for m in means if len(seeds) > 1},
        estimates={m: estimate([v[m] for v in values], means[m]) for m in RANKED},
        ranks=dict.fromkeys(RANKED, rank),
        spent={"seconds": seconds, "flops": BUDGET * 1.004, "tokens": 1.4e6},
        phases=phases,
        tuning=TUNING if kind == "result" else None,
        targets=targets,
        curve=tuple(curve),
        links=links(name, seeds, values),
        failures=failures or {},
    )


def links(
    name: str, seeds: Sequence[int], values: Sequence[Mapping[str, float]]
) -> tuple[Link, ...]:
    """Links to records whose folders are named as runs are."""
    ids = [f"{name.partition(' ')[0].lower()}-seed{seed}-20261120T200650Z-1c67fe" for seed in seeds]
    return tuple(
        Link(run_id, seed, f"v0.3/industrial/{run_id}/record.json", value)
        for run_id, seed, value in zip(ids, seeds, values, strict=True)
    )


def estimate(by_seed: Sequence[float], mean: float) -> Estimate:
    return Estimate(
        mean=mean,
        interval=Interval(mean - 0.0041, mean + 0.0043),
        iqm=mean + 0.0001,
        iqm_interval=Interval(mean - 0.0040, mean + 0.0044),
        by_seed=tuple(by_seed),
        num_users=4533,
        covers_seeds=len(by_seed) > 1,
    )


def bare(name: str, kind: Kind, means: Mapping[str, float], **changes: Any) -> BoardRow:
    """A row that knows nothing but some means."""
    return BoardRow(name, kind, means, **{"links": (), **changes})


def pair(first: BoardRow, second: BoardRow, metric: str) -> Pair:
    difference = first.means[metric] - second.means[metric]
    distinct = abs(difference) > 0.004
    return Pair(
        first=first.name,
        second=second.name,
        difference=difference,
        interval=Interval(difference - 0.0035, difference + 0.0035),
        p_user=0.0004 if distinct else 0.31,
        p_seed=0.0625 if distinct else 0.5,
        p_bootstrap=0.002 if distinct else 0.4,
        p_adjusted=0.03 if distinct else 1.0,
        distinct=distinct,
        effect=difference * 8,
        probability=0.96 if distinct else 0.56,
        probability_interval=Interval(0.8, 1.0) if distinct else Interval(0.2, 0.84),
        smallest_difference=0.0047,
        parts=Components(seeds=1e-6, users=2e-6, profile=2.5e-6, num_seeds=5, rest=5e-7),
    )


def full_section() -> Section:
    """Four algorithms, the controls, a failed row, missed targets, a ceiling far away."""
    nan: dict[str, Any] = {"seeds": (0, 1, 2, 4), "failures": {3: "the loss became nan at step 41"}}
    control: dict[str, Any] = {"kind": "control"}
    results = [
        row("grpo", 0.0811, rank=(1, 2), gain=0.0087, key=1),
        row("ugr", 0.0798, rank=(1, 3), gain=0.0071, key=2, seconds=141.3),
        row("srpo", 0.0782, rank=(2, 5), gain=0.0052, key=3, seconds=168.4, **nan),
        row("SFT continued", 0.0771, rank=(3, 5), gain=0.0041, key=4, **control),
        row("vstar", 0.0764, rank=(3, 6), gain=0.0028, key=5, seconds=402.9),
        row("random reward", 0.0731, rank=(6, 6), gain=-0.0021, key=6, **control),
    ]
    start = bare(
        "SFT start",
        "start",
        START,
        estimates={m: replace(estimate([START[m]], START[m]), covers_seeds=True) for m in RANKED},
        ranks=dict.fromkeys(RANKED, (4, 6)),
        links=results[0].links[:1],
    )
    cost = {"seconds": 11.0, "flops": 4.1e11, "tokens": 9e4}
    failed = bare(
        "ugr (confidence=token)",
        "failed",
        {},
        seeds=(0, 1),
        spent=cost,
        phases={"rollout": cost},
        failures=dict.fromkeys((0, 1), "<script>alert('x')</script> & the like"),
        links=links("ugr-token", (0, 1), [{}, {}]),
    )
    entrants = [start, *results]
    return Section(
        benchmark="0.3",
        track_id="06ae6a6dcd71",
        track=TRACK,
        partial=True,
        num_records=33,
        unit="flops",
        rows=(start, *results, failed, bare("ceiling", "ceiling", CEILING)),
        pairs={
            metric: tuple(pair(a, b, metric) for a, b in combinations(entrants, 2))
            for metric in RANKED
        },
        smallest_difference={"NDCG@10": 0.0047, "HR@10": 0.0071},
        target_values=TARGETS,
        notes=("Ordered by NDCG@10. Spent: per run, without SFT and evaluation.",),
        parts={"start": "SFT start", "control": "SFT continued", "baseline": "grpo"},
        gains={m: tuple(pair(each, start, m) for each in results) for m in RANKED},
        declared={
            m: tuple(
                pair(each, other, m)
                for other in (results[3], results[0])
                for each in results
                if each is not other and (each, other) != (results[3], results[0])
            )
            for m in RANKED
        },
    )


def old_section() -> Section:
    """A track whose records know nothing of curves, tests or tuning."""
    rows = [
        replace(row, estimates={}, ranks={}, tuning=None, targets={}, curve=())
        for row in full_section().rows
        if row.kind == "result"
    ]
    return replace(
        full_section(),
        track_id="5d1f00c0ffee",
        partial=False,
        num_records=1,
        rows=(bare("SFT start", "start", START), *rows),
        pairs={},
        smallest_difference={},
        target_values={},
        gains={},
        declared={},
    )


def board_without_targets() -> Board:
    """One seed a row, curves but no gain of GRPO to take targets from; budget in seconds."""
    rows = [bare("SFT start", "start", START)]
    for key, name in enumerate(["grpo", "ugr (beta=0.1, learning_rate=0.0003)"]):
        made = row(
            name, 0.07 + key / 1000, seeds=(0,), rank=None, gain=-0.003 - key / 1000, key=key
        )
        curve = tuple((90 * at / BUDGET, y, y, y) for at, y, *_ in made.curve)
        rows.append(replace(made, targets={}, curve=curve))
    section = replace(
        full_section(),
        rows=tuple(rows),
        unit="seconds",
        pairs={},
        gains={},
        declared={},
        parts={"start": "SFT start", "baseline": "grpo"},
        target_values={},
        partial=False,
    )
    return Board("synthetic", (section,), ())


def full_board() -> Board:
    """Two sections and published figures."""
    setting = "a 0.5B backbone, all training rows, budget not told"
    figures: list[dict[str, float]] = [
        {"HR@10": 0.1586, "NDCG@10": 0.1218},
        {"HR@5": 0.1103, "HR@10": 0.158},
    ]
    reported = (
        Reported("A paper", "Table 2", "industrial", "Its method", figures[0], setting),
        Reported("B paper", "Table 1", "industrial", "GRPO", figures[1], "another split"),
    )
    return Board("industrial", (full_section(), old_section()), reported)
