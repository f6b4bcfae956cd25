"""A collapse is named on curves that fall for good, and on no others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from genrec_bench.training.collapse import remarks, share_without_signal, signs_of_collapse


def looks_of(*values: float) -> pd.DataFrame:
    """A run's looks at equal shares, the first one at its start."""
    count = len(values)
    return pd.DataFrame(
        {"step": range(count), "share": np.linspace(0, 1, count), "valid/NDCG@10": values}
    )


def steps_of(name: str, values: ArrayLike) -> pd.DataFrame:
    values = np.asarray(values)
    steps = np.arange(1, len(values) + 1)
    return pd.DataFrame({"step": steps, "share": steps / len(values), name: values})


@pytest.mark.parametrize(
    "values",
    [
        (0.20, 0.21, 0.22, 0.21, 0.20),
        # Dips and comes back; a last look that is low alone may be noise.
        (0.20, 0.10, 0.12, 0.18, 0.21),
        (0.20, 0.21, 0.22, 0.21, 0.15),
        # A fall of a tenth is one, and this is a little less.
        (0.20, 0.181, 0.181),
        (0.20, 0.10),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_looks_that_hold_or_come_back_are_no_collapse(values: Sequence[float]) -> None:
    assert signs_of_collapse(looks_of(*values)) == ()


def test_looks_that_stay_below_the_best_one_are() -> None:
    assert signs_of_collapse(looks_of(0.20, 0.21, 0.25, 0.20, 0.16)) == (
        "NDCG@10 of looks fell from 0.25 (at 50% of the training) to 0.16",
    )
    # The start is the best look here.
    (sign,) = signs_of_collapse(looks_of(0.20, 0.15, 0.10, 0.12))
    assert sign == "NDCG@10 of looks fell from 0.2 (at 0% of the training) to 0.12"


def test_training_groups_that_hit_less_and_less_are() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 80)
    falls = np.repeat([0.6, 0.5, 0.4, 0.3], 20) + noise
    (sign,) = signs_of_collapse(steps_of("HR@16", falls))
    top, end = falls[:20].mean(), falls[60:].mean()
    assert sign == (
        f"HR@16 of training groups fell from {top:.3g} (at 25% of the training) to {end:.3g}"
    )
    # It rose first; the peak is in the second window.
    rises = np.repeat([0.4, 0.6, 0.5, 0.4], 20) + noise
    assert "(at 50% of the training)" in signs_of_collapse(steps_of("HR@16", rises))[0]
    for flat in (
        np.repeat([0.6, 0.6, 0.6, 0.6], 20) + noise,
        np.repeat([0.6, 0.3, 0.4, 0.5], 20) + noise,
        np.repeat([0.60, 0.59, 0.58, 0.56], 20) + noise / 100,
        # Large, but within four standard errors.
        np.repeat([0.6, 0.57, 0.54, 0.5], 20) + 10 * noise,
        # Too few steps to tell.
        np.repeat([0.6, 0.5, 0.4, 0.3], 4),
    ):
        assert signs_of_collapse(steps_of("HR@16", flat)) == ()
    # One candidate says how sharp a policy is, and not what it has lost.
    assert signs_of_collapse(steps_of("HR@1", falls)) == ()


def test_noise_alone_is_hardly_ever_called_a_collapse() -> None:
    generator = np.random.default_rng(1)
    # 64 prompts a step of which 30% hit, 100 steps.
    runs = generator.binomial(64, 0.3, (500, 100)) / 64
    assert sum(bool(signs_of_collapse(steps_of("HR@16", run))) for run in runs) <= 1


def test_a_policy_that_narrows_or_runs_away_is_named() -> None:
    halves = [4.0] * 5 + [3.0] * 5 + [2.5] * 5 + [1.9] * 5
    (sign,) = signs_of_collapse(steps_of("entropy", halves))
    assert sign == "entropy fell from 4 (at 25% of the training) to 1.9"
    (sign,) = signs_of_collapse(steps_of("unique_candidates", halves))
    assert sign.startswith("distinct candidates of a group fell from 4")
    assert signs_of_collapse(steps_of("entropy", [4.0] * 15 + [2.1] * 5)) == ()
    grows = [0.1] * 5 + [0.5] * 5 + [0.9] * 5 + [1.5] * 5
    assert signs_of_collapse(steps_of("divergence", grows)) == (
        "divergence from the reference grew to 1.5 a code",
    )
    assert signs_of_collapse(steps_of("divergence", grows[:15] + [0.9] * 5)) == ()
    assert signs_of_collapse(pd.DataFrame()) == ()


def test_groups_without_signal_are_those_of_no_advantage_and_those_rejected() -> None:
    assert share_without_signal(looks_of(0.2, 0.2)) is None
    curves = steps_of("zero_advantage", [0.5, 0.8])
    assert share_without_signal(curves) == pytest.approx(0.65)
    # The last step learned from half a batch.
    assert share_without_signal(curves.assign(part=[1.0, 0.5])) == pytest.approx(0.6)
    # Half of what was rolled out was rejected.
    assert share_without_signal(curves.assign(accepted=0.5)) == pytest.approx(0.825)
    # Row 0 is a look at the start.
    start = pd.concat([looks_of(0.2), curves], ignore_index=True)
    assert share_without_signal(start) == pytest.approx(0.65)


def test_the_last_lines_of_a_run_warn() -> None:
    assert remarks(looks_of(0.2, 0.21, 0.22)) == []
    assert remarks(steps_of("zero_advantage", [0.5, 0.8])) == ["groups without signal: 65.0%"]
    silent = steps_of("zero_advantage", [0.95, 0.95])
    assert remarks(silent) == ["warning: groups without signal: 95.0%"]
    (line,) = remarks(looks_of(0.20, 0.15, 0.10, 0.12))
    assert line.startswith("warning: it collapsed: NDCG@10 of looks fell from 0.2 (at 0%")
