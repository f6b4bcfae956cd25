"""Balanced k-means: every code of a level has as many items as any other, give or take one.

OneRec (arXiv 2502.18965, Algorithm 1) clusters each level's residuals so that each of the K
clusters gets n / K items. Its assignment is greedy: cluster by cluster, each takes the nearest
items that are left, and the last ones take what nobody wanted. Ours minimizes the total squared
distance, exactly. It is a transport of n items to K codes, solved by successive shortest paths
(Ahuja, Magnanti and Orlin 1993, Section 9.7) on a graph whose nodes are the codes, so that the
length of a search depends on K and not on n. How many searches there are depends on the codes'
prices at the beginning, and with many items these are looked for with more care.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.sids.even_prices import even_prices
from genrec_bench.data.sids.rq_kmeans import MANY, Codes, Vectors, kmeans

Floats = NDArray[np.float64]

ITERATIONS = 10
"""Most assignments, each followed by new centroids; k-means has come near before."""

ITERATIONS_OF_SAMPLE, ITERATIONS_OF_ALL = 12, 2
"""For many points: assignments of a sample, then of all, before the last one."""

SAMPLE, SAMPLE_A_CODE = MANY, 128
"""Items of the sample, and at least so many for each code."""

WARM, COOL, COLD = 0.3, 0.03, (0.01, 0.003)
"""Temperatures of prices for many points: of the sample from first to last, and at the very end."""

NEARLY, EVEN = 0.02, 0.002
"""Shares of a code's items that it may have too many or too few by its price: at first, at last."""

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
    if len(points) >= MANY:
        return _balance_many(points, num_codes, seed)
    start, _ = kmeans(points, num_codes, seed)
    # Fewer distinct points than codes: some share a centroid until they have their own mean.
    centroids = start[np.arange(num_codes) % len(start)].astype(np.float64)
    codes = np.full(len(points), -1, dtype=np.int32)
    for _ in range(ITERATIONS):
        before = codes
        codes, _ = balanced_assignment(_squared_distances(points, centroids))
        centroids = _means(points, codes, centroids)
        if np.array_equal(codes, before):
            break
    return centroids.astype(np.float32), codes


def _balance_many(points: Vectors, num_codes: int, seed: int) -> tuple[Vectors, Codes]:
    """The same where exact assignments would take hours: only the last one is.

    Those before are by prices alone, and so nearly balanced. k-means and most iterations see a
    sample; prices go on where the iteration before ended.
    """
    # Far from the origin, costs in single precision would be rounded.
    centre = points.mean(axis=0, dtype=np.float64)
    points = (points - centre).astype(np.float32)
    size = max(SAMPLE, SAMPLE_A_CODE * num_codes)
    drawn = np.random.default_rng(seed).permutation(len(points))[:size]
    sample = points[np.sort(drawn)]
    start, _ = kmeans(sample, num_codes, seed)
    centroids = start[np.arange(num_codes) % len(start)].astype(np.float64)
    prices = np.zeros(num_codes)
    cooling = [(sample, t) for t in np.geomspace(WARM, COOL, ITERATIONS_OF_SAMPLE)]
    for seen, temperature in cooling + [(points, COOL)] * ITERATIONS_OF_ALL:
        single = centroids.astype(np.float32)
        costs = np.square(single).sum(axis=1) - 2 * seen @ single.T
        prices = even_prices(costs, prices, (temperature,), NEARLY)
        codes = (costs + prices.astype(np.float32)).argmin(axis=1).astype(np.int32)
        centroids = _means(seen, codes, centroids)
    exact = _squared_distances(points, centroids)
    prices = even_prices(exact.astype(np.float32), prices, (COOL, *COLD), EVEN)
    codes, _ = balanced_assignment(exact, prices)
    return (_means(points, codes, centroids) + centre).astype(np.float32), codes


def _means(points: Vectors, codes: Codes, before: Floats) -> Floats:
    """Return the mean of each code's points, or the centroid before where it has none."""
    sums = np.stack([np.bincount(codes, column, len(before)) for column in points.T], axis=1)
    taken = np.bincount(codes, minlength=len(before))[:, None]
    return np.where(taken > 0, sums / np.maximum(taken, 1), before)


def balanced_assignment(costs: Floats, prices: Floats | None = None) -> tuple[Codes, Floats]:
    """Return the cheapest assignment in which each code has floor(n / K) or ceil(n / K) items.

    Whatever the codes' prices p are: where every item takes the code of the least c_ik + p_k, no
    assignment with as many items for each code is cheaper. This stays so while items move along
    shortest paths from codes that have too many to codes that have too few. Good prices leave few
    to be moved.

    Args:
        costs: [n, K] of each code for each item, finite.
        prices: [K] to begin at. They decide how long it takes; with them, equal items move at once.

    Returns:
        Codes [n], and prices [K] under which no item could take a cheaper code. They prove the
        assignment: no other one costs less than sum_i min_k (c_ik + p_k) - sum_k p_k n_k does.
    """
    num_items, num_codes = costs.shape
    floor, remainder = divmod(num_items, num_codes)
    start = _near_prices(costs) if prices is None else prices
    graph = _Graph(costs, start, floor, remainder, at_once=prices is not None)
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
        at_once: whether items that move at the same cost do so together. Which of them is else
            another one, and SIDs of small catalogs stay as they were.
    """

    def __init__(
        self, costs: Floats, prices: Floats, floor: int, remainder: int, at_once: bool
    ) -> None:
        """Begin where each item takes the cheapest code, and dear codes the places of the pool."""
        num_codes = costs.shape[1]
        self.at_once = at_once
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
        """Move excess to where items are missing; False where none is in excess."""
        if not (self.excess > 0).any():
            return False
        distances, before = self._distances(np.where(self.excess > 0, 0.0, np.inf))
        path = [int(np.where(self.excess < 0, distances, np.inf).argmin())]
        while (previous := int(before[path[-1]])) >= 0:
            path.append(previous)
        moves = [
            (out_of, to, self._who_moves(out_of, to))
            for to, out_of in zip(path, path[1:], strict=False)
        ]
        number = min(self.excess[path[-1]], -self.excess[path[0]], *(len(who) for *_, who in moves))
        self.excess[path[-1]] -= number
        self.excess[path[0]] += number
        pool = len(self.extra)
        for out_of, to, who in moves:
            if pool in (to, out_of):
                code = out_of if to == pool else to
                self.extra[code] = to == pool
            else:
                self.codes[who[:number]] = to
        for code in path:
            if code != pool:
                self._look(code)
        return True

    def _who_moves(self, out_of: int, to: int) -> NDArray[np.int64]:
        """Return the item that would move, or all that would at the same cost."""
        if not self.at_once or len(self.extra) in (out_of, to):
            return np.array([self.movers[out_of, to]])
        members = np.flatnonzero(self.codes == out_of)
        change = self.costs[members, to] - self.costs[members, out_of]
        tied: NDArray[np.int64] = members[change <= self.arcs[out_of, to] + self.least_gain]
        return tied

    def prices(self) -> Floats:
        """Return prices [K] under which every item has its cheapest code."""
        distances, _ = self._distances(np.zeros(len(self.extra) + 1))
        return -distances[:-1]
