"""Boards as no run has made them: realistic in size, made up in their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from genrec_bench.boards.board import Board, BoardRow, Kind, Link, Reached, Section
from genrec_bench.boards.reported import Reported
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.statistics.resampling import Estimate, Interval

TARGETS = {"25%": 0.0712, "50%": 0.0731, "75%": 0.0750, "100%": 0.0769}
MILESTONES = tuple(share / 10 for share in range(11))
BUDGET = 6e12

TRACK = {
    "backbone": "tiny",
    "beam_width": 20,
    "budget": "6Tflop",
    "dataset": "a0a97915c640d7ec8c49a7e92862f4c61cb8e96e39c0ca1430837e9e8e41445e",
    "decoding": "beam",
    "dtype": "float32",
    "group_size": 16,
    "logprob_space": "full",
    "lora_rank": 0,
    "samples": "10 at temperature 0.7, top-p 0.9",
    "sft": "984fcb5fc72a28866d1a7d9383ac5536b6826d0a424f74a43315d7110337a9ca",
    "sids": "c24bdc7b948fdd161640a79f74be99bd085def775cfa40fab957498e0c62aa36",
    "tuning": None,
}
TUNING = {
    "limit": "20Tflop",
    "seconds": 812.5,
    "flops": 1.98e13,
    "tokens": 4.1e6,
    "trials": 24,
    "failed": 1,
    "pruned": 15,
    "study": "industrial-grpo",
}
START = {"NDCG@10": 0.0749, "HR@10": 0.1147, "HR@1": 0.0393, "HR@5": 0.0898, "NDCG@5": 0.0668}
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
    values = [
        {
            "NDCG@10": x,
            "HR@10": round(1.53 * x, 4),
            "HR@1": round(0.53 * x, 4),
            "HR@5": round(1.19 * x, 4),
            "NDCG@5": round(0.89 * x, 4),
            "sid/HR@10": round(1.57 * x, 4),
            "sid/NDCG@10": round(1.1 * x, 4),
            "Pass@1": round(0.4 * x, 4),
            "Pass@10": round(0.84 * x, 4),
        }
        for x in by_seed
    ]
    means = {metric: fmean(v[metric] for v in values) for metric in values[0]}
    phases = {
        "rollout": {"seconds": 0.3 * seconds, "flops": 0.35 * BUDGET, "tokens": 5e5},
        "reference": {"seconds": 0.1 * seconds, "flops": 0.1 * BUDGET, "tokens": 3e5},
        "update": {"seconds": 0.6 * seconds, "flops": 0.55 * BUDGET, "tokens": 6e5},
        "sft": {"seconds": 52.0, "flops": 3.29e12, "tokens": 4.7e5},
        "evaluation": {"seconds": 24.0, "flops": 1.72e12, "tokens": 7.5e5},
    }
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
        deviations={metric: stdev(v[metric] for v in values) for metric in means}
        if len(seeds) > 1
        else {},
        estimates={
            metric: estimate([v[metric] for v in values], means[metric])
            for metric in ("NDCG@10", "HR@10")
        },
        ranks={"NDCG@10": rank, "HR@10": rank},
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
    empty = BoardRow(name, "", kind, (), means, {}, {}, {}, {}, {}, None, {}, (), (), {})
    return replace(empty, **changes)


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
    )


def full_section() -> Section:
    """Four algorithms, the controls, a failed row, missed targets, a ceiling far away."""
    results = [
        row("grpo", 0.0811, rank=(1, 2), gain=0.0087, key=1),
        row("ugr", 0.0798, rank=(1, 3), gain=0.0071, key=2, seconds=141.3),
        row(
            "srpo",
            0.0782,
            rank=(2, 5),
            gain=0.0052,
            seeds=(0, 1, 2, 4),
            failures={3: "the loss became nan at step 41"},
            key=3,
            seconds=168.4,
        ),
        row("SFT continued", 0.0771, kind="control", rank=(3, 5), gain=0.0041, key=4),
        row("vstar", 0.0764, rank=(3, 6), gain=0.0028, key=5, seconds=402.9),
        row("random reward", 0.0731, kind="control", rank=(6, 6), gain=-0.0021, key=6),
    ]
    start = bare(
        "SFT start",
        "start",
        START,
        estimates={
            metric: replace(estimate([START[metric]], START[metric]), covers_seeds=True)
            for metric in ("NDCG@10", "HR@10")
        },
        ranks={"NDCG@10": (4, 6), "HR@10": (4, 6)},
        links=results[0].links[:1],
    )
    failed = bare(
        "ugr (confidence=token)",
        "failed",
        {},
        algorithm="ugr",
        seeds=(0, 1),
        spent={"seconds": 11.0, "flops": 4.1e11, "tokens": 9e4},
        phases={"rollout": {"seconds": 11.0, "flops": 4.1e11, "tokens": 9e4}},
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
            for metric in ("NDCG@10", "HR@10")
        },
        smallest_difference={"NDCG@10": 0.0047, "HR@10": 0.0071},
        target_values=TARGETS,
        notes=("Ordered by NDCG@10. Spent: per run, without SFT and evaluation.",),
    )


def old_section() -> Section:
    """A track whose records know nothing of curves, tests or tuning."""
    rows = [
        replace(row, estimates={}, ranks={}, tuning=None, targets={}, curve=())
        for row in full_section().rows
        if row.kind == "result"
    ]
    return Section(
        benchmark="0.2",
        track_id="5d1f00c0ffee",
        track=TRACK | {"budget": "3Tflop"},
        partial=False,
        num_records=1,
        unit="flops",
        rows=(bare("SFT start", "start", START), *rows),
        pairs={},
        smallest_difference={},
        target_values={},
        notes=("No intervals: the records hold no outcomes of their SFT start.",),
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
        full_section(), rows=tuple(rows), unit="seconds", pairs={}, target_values={}, partial=False
    )
    return Board("synthetic", (section,), ())


def full_board() -> Board:
    """Two sections and published figures."""
    reported = (
        Reported(
            "A paper",
            "Table 2",
            "industrial",
            "Its method",
            {"HR@10": 0.1586, "NDCG@10": 0.1218},
            "a 0.5B backbone, all training rows, budget not told",
        ),
        Reported(
            "B paper",
            "Table 1",
            "industrial",
            "GRPO",
            {"HR@5": 0.1103, "HR@10": 0.158},
            "another split",
        ),
    )
    return Board("industrial", (full_section(), old_section()), reported)
