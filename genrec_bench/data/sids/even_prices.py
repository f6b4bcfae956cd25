"""Prices of codes under which every code is wanted by as many items as any other, nearly.

Where items take the code of the least cost plus price, prices that are best maximize

    sum_i min_k (c_ik + p_k) - n / K sum_k p_k,

the dual of the balanced assignment. The minimum has corners; at a temperature T it is smooth, as
-T log sum_k exp(-(c_ik + p_k) / T), and Newton's method finds the best prices in a few steps where
Sinkhorn's iterations (Cuturi 2013) take hundreds. It starts warm, where steps are long and safe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float32]
Prices = NDArray[np.float64]

ROWS = 2048
"""Items at a time, so that what is computed stays in the processor's cache."""

SEEN = 4096
"""Items that say what is warm."""

CURVED = 32768
"""Items, about, that say how prices change what is wanted: most of the time goes there. At cold
temperatures only items between two codes say so, and all are asked."""

MILD = 0.03
"""The last temperature at which some items suffice."""

STEPS = 40
"""Of Newton's method, most at a temperature. An early end costs moves afterwards, nothing else."""


def even_prices(
    costs: Costs, start: Prices, temperatures: Sequence[float], uneven: float
) -> Prices:
    """Return prices [K] at the last temperature, each being the start for the next.

    ``costs`` are [n, K], and ``start`` are prices [K] to begin at. Temperatures are multiples of
    the mean difference between an item's two cheapest codes. Prices are good where codes have
    about ``uneven`` of their n / K items too many or too few.
    """
    if len(start) == 1:
        return start
    some = np.partition(costs[:: max(1, len(costs) // SEEN)], 1, axis=1)
    warmth = float(np.mean(some[:, 1] - some[:, 0]))
    if warmth <= 0:
        return start
    # Imported late: it takes its time, and few need it.
    from scipy.optimize import minimize

    prices = start
    for temperature in temperatures:
        every = max(1, len(costs) // CURVED) if temperature >= MILD else 1
        dual = _SmoothDual(costs, warmth * temperature, every)
        radius = warmth * np.sqrt(len(start)) * temperature
        found = minimize(
            dual.value,
            prices,
            method="trust-exact",
            jac=dual.slope,
            hess=dual.curvature,
            options={
                "gtol": uneven / np.sqrt(len(start)),
                "maxiter": STEPS,
                "initial_trust_radius": 10 * radius,
                "max_trust_radius": 1e4 * radius,
            },
        )
        prices = np.asarray(found.x, dtype=np.float64)
    return prices


class _SmoothDual:
    """What is to be minimized: the negative of the dual, divided by n, and its derivatives.

    They are computed together and kept for the prices asked for last.
    """

    def __init__(self, costs: Costs, temperature: float, every: int = 1) -> None:
        self.costs = costs
        self.every = every
        self.temperature = temperature
        self.at: Prices | None = None
        self._value: float = float("nan")
        self._slope: Prices = np.empty(0)
        self._curvature: Prices = np.empty(0)

    def value(self, prices: Prices) -> float:
        self._look(prices)
        return self._value

    def slope(self, prices: Prices) -> Prices:
        self._look(prices)
        return self._slope

    def curvature(self, prices: Prices) -> Prices:
        self._look(prices)
        return self._curvature

    def _look(self, prices: Prices) -> None:
        if self.at is not None and np.array_equal(self.at, prices):
            return
        num_items, num_codes = self.costs.shape
        value, taken = 0.0, np.zeros(num_codes)
        curvature = np.zeros((num_codes, num_codes))
        single, cold = prices.astype(np.float32), np.float32(-1 / self.temperature)
        for first in range(0, num_items, ROWS):
            shares = self.costs[first : first + ROWS] + single
            least = shares.min(axis=1, keepdims=True)
            shares -= least
            shares *= cold
            np.exp(shares, out=shares)
            sums = shares.sum(axis=1, keepdims=True)
            shares /= sums
            value += float(least.sum(dtype=np.float64))
            value -= self.temperature * float(np.log(sums).sum(dtype=np.float64))
            taken += shares.sum(axis=0, dtype=np.float64)
            some = np.ascontiguousarray(shares[:: self.every])
            curvature -= some.T @ some
            curvature += np.diag(some.sum(axis=0, dtype=np.float64))
        self.at = prices.copy()
        self._value = float(prices.mean()) - value / num_items
        self._slope = 1 / num_codes - taken / num_items
        self._curvature = curvature * self.every / (self.temperature * num_items)
