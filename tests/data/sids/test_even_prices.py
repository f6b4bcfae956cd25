"""Prices that make codes wanted by equally many: by hand, by count, and their derivatives."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from genrec_bench.data.sids.even_prices import Costs, _SmoothDual, even_prices

COLD = (1.0, 0.3, 0.1, 0.03, 0.01)


def crowded(n: int, num_codes: int, seed: int = 0) -> Costs:
    """Costs under which the first codes are wanted by most."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, num_codes)) + np.linspace(0, 1, num_codes)).astype(np.float32)


def wanted(costs: Costs, prices: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    chosen = (costs + prices).argmin(axis=1)
    found: list[int] = np.bincount(chosen, minlength=costs.shape[1]).tolist()
    return found


def test_a_code_that_all_want_costs_what_the_middle_one_would_lose() -> None:
    costs = np.array([[0, 1], [0, 2], [0, 3], [0, 4]], dtype=np.float32)
    prices = even_prices(costs, np.zeros(2), COLD, 1e-3)
    assert 2 < prices[0] - prices[1] < 3
    assert wanted(costs, prices) == [2, 2]


@pytest.mark.parametrize(("n", "num_codes"), [(2000, 8), (5000, 40), (70_000, 16)])
def test_codes_are_wanted_by_equally_many(n: int, num_codes: int) -> None:
    costs = crowded(n, num_codes)
    assert max(wanted(costs, np.zeros(num_codes))) > 2 * n / num_codes
    found = wanted(costs, even_prices(costs, np.zeros(num_codes), COLD, 1e-3))
    assert sum(abs(number - n / num_codes) for number in found) < 0.01 * n


def test_derivatives_are_those_of_the_value() -> None:
    dual = _SmoothDual(crowded(300, 5), 0.2)
    prices = np.array([0.3, 0.1, 0.0, -0.2, 0.1])
    np.testing.assert_allclose(
        dual.slope(prices), approx_fprime(prices, dual.value, 1e-3), atol=2e-3
    )
    bent = np.stack(
        [(dual.slope(prices + 1e-3 * e) - dual.slope(prices - 1e-3 * e)) / 2e-3 for e in np.eye(5)]
    )
    np.testing.assert_allclose(dual.curvature(prices), bent, atol=5e-3)


@pytest.mark.parametrize("num_codes", [2, 7])
def test_equal_costs_leave_prices_as_they_are(num_codes: int) -> None:
    start = np.arange(num_codes, dtype=np.float64)
    costs = np.ones((9, num_codes), dtype=np.float32)
    np.testing.assert_array_equal(even_prices(costs, start, COLD, 1e-3), start)
