"""Balanced k-means: every code of a level has as many items as any other, give or take one.

OneRec (arXiv 2502.18965, Algorithm 1) clusters each level's residuals so that each of the K
clusters gets n / K items. Its assignment is greedy: cluster by cluster, each takes the nearest
items that are left, and the last ones take what nobody wanted. Ours minimizes the total squared
distance, exactly. It is a transport of n items to K codes, solved by successive shortest paths
(Ahuja, Magnanti and Orlin 1993, Section 9.7) on a graph whose nodes are the codes, so that the
length of a search depends on K and not on n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.sids.rq_kmeans import Codes, Vectors, kmeans

Floats = NDArray[np.float64]

ITERATIONS = 10
"""Most assignments, each followed by new centroids; k-means has come near before."""

SINKHORN_ROUNDS = 60
WARMEST, COLDEST = 1.0, 0.03
"""Temperatures of the search for prices; they decide how long an assignment takes, not which."""

FEWEST = 1e-3
"""Added to the share of a code that nobody wants, so that its price falls by a finite step."""

ROUNDING = 1e-9
"""Share of the largest cost below which a gain is none: rounding could go round in circles."""


def balanced_kmeans(points: Vectors, num_codes: int, seed: int) -> tuple[Vectors, Codes]:
    """Cluster points so that each cluster has floor(n / K) or ceil(n / K) of them.

    Starts from k-means, then alternates between the best balanced assignment to the centroids and
    the means of what was assigned. The total squared distance falls with either.

    ``points`` are [n, E]; equal ones may come to different clusters. With fewer points than K,
    ``num_codes``, each of them is a cluster, and the codes beyond stay unused.

    Returns:
        Centroids [min(K, n), E], the means of their points, and codes [n].
    """
    num_codes = min(num_codes, len(points))
    start, _ = kmeans(points, num_codes, seed)
    # Fewer distinct points than codes: some share a centroid until they have their own mean.
    centroids = start[np.arange(num_codes) % len(start)].astype(np.float64)
    codes = np.full(len(points), -1, dtype=np.int32)
    for _ in range(ITERATIONS):
        before = codes
        codes, _ = balanced_assignment(_squared_distances(points, centroids))
        sums = np.zeros_like(centroids)
        np.add.at(sums, codes, points)
        centroids = sums / np.bincount(codes, minlength=num_codes)[:, None]
        if np.array_equal(codes, before):
            break
    return centroids.astype(np.float32), codes


def balanced_assignment(costs: Floats) -> tuple[Codes, Floats]:
    """Return the cheapest assignment in which each code has floor(n / K) or ceil(n / K) items.

    Whatever the codes' prices p are: where every item takes the code of the least c_ik + p_k, no
    assignment with as many items for each code is cheaper. This stays so while items move along
    shortest paths from codes that have too many to codes that have too few. Good prices leave few
    to be moved.

    Args:
        costs: [n, K] of each code for each item, finite.

    Returns:
        Codes [n], and prices [K] under which no item could take a cheaper code. They prove the
        assignment: no other one costs less than sum_i min_k (c_ik + p_k) - sum_k p_k n_k does.
    """
    num_items, num_codes = costs.shape
    floor, remainder = divmod(num_items, num_codes)
    graph = _Graph(costs, _near_prices(costs), floor, remainder)
    while graph.move_along_shortest_path():
        pass
    return graph.codes, graph.prices()


def _squared_distances(points: Vectors, centroids: Floats) -> Floats:
    """[n, K], less the points' own squared lengths, which no assignment changes."""
    found: Floats = np.square(centroids).sum(axis=1) - 2 * points.astype(np.float64) @ centroids.T
    return found


def _near_prices(costs: Floats) -> Floats:
    """Return prices [K] under which few items are in excess: Sinkhorn's iterations, cooled down.

    At a temperature items are shared between codes as the softmax of their priced costs has it;
    each round sets the prices so as to bring the codes' shares nearer to n / K (Cuturi 2013).
    """
    num_items, num_codes = costs.shape
    if num_codes == 1:
        return np.zeros(1)
    # How far apart an item's two best codes are says what is warm.
    two = np.partition(costs, 1, axis=1)[:, :2]
    warmth = float(np.mean(two[:, 1] - two[:, 0]))
    prices = np.zeros(num_codes)
    if warmth <= 0:
        return prices
    # Prices are a start and nothing else, and single precision is twice as fast.
    priced = costs.astype(np.float32)
    for temperature in warmth * np.geomspace(WARMEST, COLDEST, SINKHORN_ROUNDS):
        logits = (priced + prices.astype(np.float32)) / np.float32(-temperature)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits, out=logits)
        shares /= shares.sum(axis=1, keepdims=True)
        taken = shares.sum(axis=0, dtype=np.float64) * num_codes / num_items
        prices += temperature * np.log(taken + FEWEST)
    return prices


class _Graph:
    """Who could move where, and at what cost.

    Nodes are the K codes and, last, the pool: the places beyond floor(n / K), one at most for each
    code and n mod K in all, which a code takes from it and gives back at no cost.

    Attributes:
        codes: [n] the assignment.
        excess: [K + 1] items above (or, negative, below) the node's number of places.
        extra: [K] whether a code has a place from the pool.
        costs: [n, K].
        arcs: [K + 1, K + 1] the least that one unit of the row's excess costs in the column; inf
            where it cannot move.
        movers: [K + 1, K + 1] the item that would move.
    """

    def __init__(self, costs: Floats, prices: Floats, floor: int, remainder: int) -> None:
        """Begin where each item takes the cheapest code, and dear codes the places of the pool."""
        num_codes = costs.shape[1]
        self.costs = costs
        self.codes = (costs + prices).argmin(axis=1).astype(np.int32)
        self.extra = np.zeros(num_codes, dtype=bool)
        self.extra[np.argsort(-prices, kind="stable")[:remainder]] = True
        taken = np.bincount(self.codes, minlength=num_codes)
        self.excess = np.append(taken - floor - self.extra, 0)
        self.arcs = np.full((num_codes + 1, num_codes + 1), np.inf)
        self.movers = np.zeros((num_codes + 1, num_codes + 1), dtype=np.int64)
        self.least_gain = ROUNDING * float(np.ptp(costs))
        for code in range(num_codes):
            self._look(code)

    def _look(self, code: int) -> None:
        """Bring a code's arcs up to date."""
        members = np.flatnonzero(self.codes == code)
        pool = len(self.extra)
        self.arcs[code, pool] = np.inf if self.extra[code] else 0.0
        self.arcs[pool, code] = 0.0 if self.extra[code] else np.inf
        if not len(members):
            self.arcs[code, :pool] = np.inf
            return
        costs = self.costs[members]
        change = costs - costs[:, [code]]
        chosen = change.argmin(axis=0)
        self.arcs[code, :pool] = change[chosen, np.arange(pool)]
        self.movers[code, :pool] = members[chosen]

    def _distances(self, start: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Return the length of the shortest path to each node, and the node before it (Bellman)."""
        distances, before = start.copy(), np.full(len(start), -1)
        for _ in start:
            through = distances[:, None] + self.arcs
            nearer = np.flatnonzero(through.min(axis=0) < distances - self.least_gain)
            if not len(nearer):
                break
            before[nearer] = through[:, nearer].argmin(axis=0)
            distances[nearer] = through[before[nearer], nearer]
        return distances, before

    def move_along_shortest_path(self) -> bool:
        """Move one item of excess to where one is missing; False where none is in excess."""
        if not (self.excess > 0).any():
            return False
        distances, before = self._distances(np.where(self.excess > 0, 0.0, np.inf))
        path = [int(np.where(self.excess < 0, distances, np.inf).argmin())]
        while (previous := int(before[path[-1]])) >= 0:
            path.append(previous)
        self.excess[path[-1]] -= 1
        self.excess[path[0]] += 1
        pool = len(self.extra)
        for to, out_of in zip(path, path[1:], strict=False):
            if pool in (to, out_of):
                code = out_of if to == pool else to
                self.extra[code] = to == pool
            else:
                self.codes[self.movers[out_of, to]] = to
        for code in path:
            if code != pool:
                self._look(code)
        return True

    def prices(self) -> Floats:
        """Return prices [K] under which every item has its cheapest code."""
        distances, _ = self._distances(np.zeros(len(self.extra) + 1))
        return -distances[:-1]
