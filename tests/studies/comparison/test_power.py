"""How small a gain a comparison will see, before it begins."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from genrec_bench.studies.comparison.plan import Plan, PlanRow
from genrec_bench.studies.comparison.power import (
    STATED,
    Spread,
    comparisons_of,
    power_text,
    visible_gain,
)
from genrec_bench.training.budgets import parse_exact

HALF = np.array([0.0, 1.0] * 50)
"""Values of mean 0.5 and variance 25 / 99."""

CONTROLS = (PlanRow("SFT continued", "sft", control="more"), PlanRow("noise", "x", control="noise"))


def plan_of(*names: str, seeds: int = 10, test: int = 400) -> Plan:
    known: dict[str, Any] = dict.fromkeys(("tuning", "trial", "budget"), parse_exact("4s"))
    return Plan(
        dataset="synthetic",
        partial=False,
        backbone="tiny",
        tuned=tuple(PlanRow(name, name) for name in names),
        controls=CONTROLS,
        seeds=tuple(range(seeds)),
        most_trials=None,
        sampler="tpe",
        pruner="halving",
        assignments=(),
        examples={"valid": 100, "test": test},
        validations=0,
        validation_examples=0,
        **known,
    )


@pytest.mark.parametrize("comparisons", [1, 5])
def test_where_only_users_vary_it_is_that_of_a_z_test(comparisons: int) -> None:
    """A fifth of the variance remains: standard error sqrt(25 / 99 / 5 / 400)."""
    found = visible_gain(HALF, 400, 1, comparisons, Spread(users=0.2, rest=0.0, seeds=0.0))
    error = np.sqrt(25 / 99 / 5 / 400)
    normal = stats.norm.isf(0.025 / comparisons) + stats.norm.isf(0.2)
    assert found == pytest.approx(normal * error, rel=1e-3)


@pytest.mark.parametrize("seeds", [3, 10])
def test_where_only_seeds_vary_it_is_that_of_a_t_test(seeds: int) -> None:
    """Seeds spread by a tenth of 0.5."""
    found = visible_gain(HALF, 400, seeds, 1, Spread(users=0.0, rest=0.0, seeds=0.1))
    limit = stats.t.isf(0.025, seeds - 1)
    power = stats.nct.sf(limit, seeds - 1, found / (0.05 / np.sqrt(seeds)))
    assert power == pytest.approx(0.8, abs=0.01)


def test_more_users_and_more_seeds_see_more() -> None:
    few, seeds, users = (visible_gain(HALF, n, s, 5) for n, s in ((400, 5), (400, 10), (4000, 5)))
    assert users < few and seeds < few


def test_declared_comparisons_are_counted() -> None:
    # Five rows: four less SFT continued, three less grpo, which was compared with it already.
    assert comparisons_of(plan_of("grpo", "ugr", "srpo")) == 4 + 3
    assert comparisons_of(plan_of("ugr", "srpo")) == 3, "the baseline is not among them"


def test_what_is_stated_stands_beside_what_follows() -> None:
    told = power_text(plan_of("grpo"), HALF)
    seen = visible_gain(HALF, 400, 10, 2 + 1, STATED)
    assert f"400 test users with 10 seeds a row: {seen:.4f}, {seen / 0.5:.1%} of the" in told
    assert "10% of the variance of users" in told and "spread by 1.0% of" in told
    assert "One seed says nothing" in power_text(plan_of("grpo", seeds=1), HALF)
    assert "%" not in power_text(plan_of("grpo"), np.zeros(9)).partition("Stated")[0]
