"""Signs on a training's curves that it went wrong: a policy that fell for good, or learned little.

A curve that dips and comes back is no collapse, nor is noise. So a fall must last to the end and be
large and, where every step is a sample of other prompts, larger than chance makes it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

LARGE = 0.1
"""Share of its best value that a hit rate or NDCG must have lost."""

CERTAIN = 4.0
"""Standard errors by which means over steps must differ: of windows the best one is lucky."""

HALF = 0.5
"""Share of its first value that an entropy, or the number of candidates, must have lost."""

FAR = 1.0
"""Nats of divergence from the reference a code: the policy hardly draws what the reference drew."""

WINDOWS, LEAST_IN_WINDOW = 4, 5
"""Windows that steps are averaged over, equal shares of the steps, and their least size."""

SILENT = 0.9
"""Share of groups without signal from which a training learns of next to nothing."""

_NARROW = {"entropy": "entropy", "unique_candidates": "distinct candidates of a group"}


@dataclass(frozen=True)
class _Window:
    """Mean of a column over some steps, its standard error, and the share at which they end."""

    mean: float
    error: float
    share: float


def signs_of_collapse(curves: pd.DataFrame) -> tuple[str, ...]:
    """Return what says that a policy collapsed while it trained, in words; nothing if it did not.

    Args:
        curves: of a run, a row a step, with `step` and `share`; row 0 may be a look at the start.
            NDCG@10 of looks, HR@G of the rollouts, `entropy`, `unique_candidates` and
            `divergence` are read where they are.
    """
    if not {"step", "share"} <= set(curves.columns):
        return ()
    found = [_fall_of_looks(curves)]
    steps = curves[curves["step"] > 0]
    for name in steps.columns:
        windows = _windows(steps, name)
        if not windows:
            continue
        if re.fullmatch(r"HR@\d+", name) and name != "HR@1":
            found.append(_fall(f"{name} of training groups", windows))
        elif name in _NARROW and windows[-1].mean < HALF * windows[0].mean:
            found.append(_told(_NARROW[name], windows[0], windows[-1]))
        elif name == "divergence" and windows[-1].mean > max(FAR, windows[-2].mean):
            found.append(f"divergence from the reference grew to {windows[-1].mean:.3g} a code")
    return tuple(sign for sign in found if sign)


def share_without_signal(curves: pd.DataFrame) -> float | None:
    """Return the share of rolled-out groups that taught nothing; None where nothing was rolled out.

    It is a group whose advantages are all 0, or one that the algorithm rejected.
    """
    if "zero_advantage" not in curves.columns:
        return None
    steps = curves[curves["zero_advantage"].notna()]
    if steps.empty:
        return None
    parts = steps["part"].fillna(1.0) if "part" in steps.columns else pd.Series(1.0, steps.index)
    taught = 1.0 - steps["zero_advantage"]
    if "accepted" in steps.columns:
        taught = taught * steps["accepted"].fillna(1.0)
    return 1.0 - float(np.average(taught, weights=parts))


def remarks(curves: pd.DataFrame) -> list[str]:
    """Return what the last lines of a run say of its training: silent groups, and a collapse."""
    lines = []
    silent = share_without_signal(curves)
    if silent is not None:
        warning = "warning: " if silent > SILENT else ""
        lines.append(f"{warning}groups without signal: {silent:.1%}")
    signs = signs_of_collapse(curves)
    if signs:
        lines.append(f"warning: it collapsed: {'; '.join(signs)}")
    return lines


def _fall_of_looks(curves: pd.DataFrame) -> str:
    """Say that the last two looks lie far below the best before them, and all after it below it."""
    name = "valid/NDCG@10"
    if name not in curves.columns:
        return ""
    looks = curves[curves[name].notna()]
    values = looks[name].to_numpy()
    if len(values) < 3:
        return ""
    best = int(values[:-2].argmax())
    if not values[best] > 0 or (values[-2:] > (1 - LARGE) * values[best]).any():
        return ""
    top, end = (_Window(float(values[k]), 0.0, float(looks["share"].iloc[k])) for k in (best, -1))
    return _told("NDCG@10 of looks", top, end)


def _fall(name: str, windows: list[_Window]) -> str:
    """Say that the mean fell from window to window since the best, by much, and not by chance."""
    means = [window.mean for window in windows]
    best = int(np.argmax(means))
    top, end = windows[best], windows[-1]
    falls = all(
        after < before for before, after in zip(means[best:], means[best + 1 :], strict=False)
    )
    sure = top.mean - end.mean > CERTAIN * math.hypot(top.error, end.error)
    if not falls or not sure or end.mean > (1 - LARGE) * top.mean:
        return ""
    return _told(name, top, end)


def _told(name: str, top: _Window, end: _Window) -> str:
    return f"{name} fell from {top.mean:.3g} (at {top.share:.0%} of the training) to {end.mean:.3g}"


def _windows(steps: pd.DataFrame, name: str) -> list[_Window]:
    """Average a column over equal windows of steps; nothing where there are too few."""
    kept = steps[steps[name].notna()]
    if len(kept) < WINDOWS * LEAST_IN_WINDOW:
        return []
    parts = np.array_split(np.arange(len(kept)), WINDOWS)
    values, shares = kept[name].to_numpy(dtype=float), kept["share"].to_numpy(dtype=float)
    return [
        _Window(
            float(values[part].mean()),
            float(values[part].std(ddof=1) / math.sqrt(len(part))),
            float(shares[part[-1]]),
        )
        for part in parts
    ]
