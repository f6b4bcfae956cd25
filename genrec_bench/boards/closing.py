"""What a run ends with: what was seen of it, what that says, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from genrec_bench.boards.board import APART, ORDER_BY
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.rows import user_values
from genrec_bench.boards.text_cells import signed
from genrec_bench.boards.verdict import moves_little

NORMAL = 1.96
"""Standard errors to either side of a mean that hold 95%."""


def closing(one: Evidence, algorithm: str, dataset: str) -> list[str]:
    """Two lines on a finished run; none where its record does not keep what they take.

    Args:
        one: evaluated on the test split.
        algorithm: as it was typed, to be typed again.
    """
    if not one.knows_start:
        return []
    after, before = (user_values([one], ORDER_BY, prefix) for prefix in ("", "start_"))
    if after is None or before is None or after.shape[1] < 2:
        return []
    gains = after[0] - before[0]
    gain, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))
    times = _sft_multiple(one.record["budget"]["spent"])
    told = "" if times is None else f", for {times:.2g} times what SFT cost"
    low, high = (signed(gain + side * NORMAL * error) for side in (-1, 1))
    seen = (
        f"seen: {ORDER_BY} {signed(gain)} over the SFT start on {len(gains):,} test users "
        f"(95% over users: {low} to {high}){told}"
    )
    name, where = one.record["algorithm"], f"--dataset {shlex.quote(dataset)}"
    if not one.record.get("trained", True):
        says = f"nothing was trained, so that another seed says the same of {name}"
        controls = shlex.quote(f"sft,{algorithm}")
        then = f"genrec-bench compare {where} --algorithms grpo --controls {controls} --quick"
    elif times is not None and moves_little(times):
        says = f"so small a budget hardly moves a policy and says nothing of {name}"
        then = f"genrec-bench run {shlex.quote(algorithm)} {where} --budget 2xsft"
    else:
        says = f"one seed does not tell {name} from luck, nor from SFT continued at equal cost"
        others = dict.fromkeys(("grpo", algorithm))
        names = ",".join(others) if algorithm != "sft" else "grpo"
        then = f"genrec-bench compare {where} --algorithms {shlex.quote(names)} --quick"
    return [seen, f"{says}; next: {then}"]


def _sft_multiple(spent: Mapping[str, Mapping[str, Any]]) -> float | None:
    """What counted of a run's cost as a multiple of the SFT start's, in FLOPs."""
    start = float(spent.get("sft", {}).get("flops", 0.0))
    counted = math.fsum(
        float(cost.get("flops", 0.0)) for phase, cost in spent.items() if phase not in APART
    )
    return counted / start if start else None
