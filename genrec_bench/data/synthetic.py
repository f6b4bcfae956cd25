"""The synthetic dataset: purchases drawn from a known model, so that the best score is known.

The catalog is a hierarchy, and SIDs reflect it: level 1 is the category, level 2 the subcategory,
level 3 the item within it. Codes on levels 2 and 3 are dealt at random from those available, as a
learned tokenizer's are. A declared share of items carries the SID of a neighbour.

The next item depends on the visible history alone (its last `history_length` items; there is no
hidden state of the user), as a mixture of five ways to choose it:

    repeat         an item of the history, recent ones rather
    link           a successor of the last item: each item has a few of its own
    follow         an item of a subcategory that follows the last item's, by popularity
    same category  an item of the last item's category, by popularity
    noise          any item, by popularity (Zipf)

As the probabilities are known, the best ranking of all items is known too, and `ceiling` computes
what it scores in expectation.

In a *world* the log may show something else than what users want. Histories and training targets
are as logged; validation and test targets are what users want, given the logged history.

    hidden    some categories hold items that many users want, one for each subcategory of the last
              item, and that are logged rarely, since they were rarely shown
    misled    after some items the log holds, instead of what the user wanted, one wrong item
    promoted  some items were pushed: they are logged after any history, wanted or not
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card, SyntheticParameters, WorldParameters
from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.worlds import items_at

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CUTOFFS = (1, 3, 5, 10, 20)
"""K of the ceiling's HR@K and NDCG@K."""

CHUNK = 4096
"""Histories whose distributions are held in memory at once."""


@dataclass(frozen=True, eq=False)
class PurchaseModel:
    """The model that purchases are drawn from.

    Attributes:
        sids: [num_items, 3] zero-based codes.
        popularity: [num_items] probabilities, Zipf.
        by_last_item: [num_items, num_items] distribution after each last item, the share of
            repeats left out: rows sum to 1 - repeat.
        repeat: probability that the next item repeats one of the history, whose weights fall by
            `recency_decay` for each step back.
        feedback: what algorithms that roll out learn from by default; see `WorldParameters`.
        exposure: [num_items] how often an item is logged when it is wanted, relative to others.
        wrong: [num_items] by last item, the probability that another item than the wanted one is
            logged, and `decoys` [num_items], which one that is.
        promotion: [num_items] probability that an item is logged because it is promoted.
    """

    sids: NDArray[np.int32]
    titles: tuple[str, ...]
    popularity: Floats
    by_last_item: Floats
    repeat: float
    recency_decay: float
    history_length: int
    feedback: str = "logged"
    exposure: Floats | None = None
    wrong: Floats | None = None
    decoys: Ints | None = None
    promotion: Floats | None = None

    @property
    def is_biased(self) -> bool:
        """Whether the log shows anything else than what users want."""
        return any(bias is not None for bias in (self.exposure, self.wrong, self.promotion))

    def next_item_distributions(self, histories: Ints) -> Floats:
        """Return the probability of every item to come next, [n, num_items].

        Args:
            histories: [n, H] item indices, oldest first, padded with -1 on the left; H at most
                `history_length`, and the last column holds no padding.
        """
        width = histories.shape[1]
        weights = self.recency_decay ** np.arange(width - 1, -1, -1) * (histories >= 0)
        weights *= self.repeat / weights.sum(axis=1, keepdims=True)
        probabilities: Floats = self.by_last_item[histories[:, -1]]
        rows = np.arange(len(histories))
        # Column by column, because an item may stand in a history more than once.
        for column in range(width):
            probabilities[rows, histories[:, column]] += weights[:, column]
        return probabilities

    def logged_distributions(self, histories: Ints) -> Floats:
        """Return the probability of every item to be logged next, [n, num_items]."""
        probabilities = self.next_item_distributions(histories)
        if self.exposure is not None:
            probabilities *= self.exposure
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        if self.wrong is not None and self.decoys is not None:
            last = histories[:, -1]
            probabilities *= 1 - self.wrong[last][:, None]
            probabilities[np.arange(len(last)), self.decoys[last]] += self.wrong[last]
        if self.promotion is not None:
            probabilities = (1 - self.promotion.sum()) * probabilities + self.promotion
        return probabilities

    def utilities(self, examples: Examples) -> Floats:
        """Return the probability that each item is wanted next, [n, num_items]."""
        return self.next_item_distributions(padded_histories(examples, self.history_length))


def generate(card: Card) -> Contents:
    """Draw the dataset that the card's `synthetic` parameters describe.

    Every interaction with a history is an example. Examples are cut 8:1:1 in order of time, ties
    broken by user and then by place in the user's sequence.
    """
    parameters = card.synthetic
    if parameters is None:
        raise ValueError(f"card {card.name!r} has no synthetic parameters")
    rng = np.random.Generator(np.random.PCG64(parameters.seed))
    model = build_model(card, parameters, rng)
    examples, days = _draw_examples(model, parameters, rng)
    if model.is_biased:
        wanted = _draw_wanted(model, examples, rng)
    order = np.argsort(days, kind="stable")  # rows come by user and place
    first, second = len(order) * 8 // 10, len(order) * 9 // 10
    splits = {
        "train": examples.subset(order[:first]),
        "valid": examples.subset(order[first:second]),
        "test": examples.subset(order[second:]),
    }
    if model.is_biased:
        for split, rows in (("valid", order[first:second]), ("test", order[second:])):
            splits[split] = replace(splits[split], targets=wanted[rows])
    return Contents(
        card=card,
        item_names=tuple(str(item) for item in range(len(model.titles))),
        titles=model.titles,
        splits=splits,
        sids=model.sids,
        ceiling={split: ceiling(model, splits[split]) for split in ("valid", "test")},
        world=model,
    )


def world_of(card: Card) -> PurchaseModel | None:
    """Return what the card's dataset is drawn from; None where it is not drawn."""
    if card.synthetic is None:
        return None
    rng = np.random.Generator(np.random.PCG64(card.synthetic.seed))
    return build_model(card, card.synthetic, rng)


def build_model(card: Card, p: SyntheticParameters, rng: np.random.Generator) -> PurchaseModel:
    """Draw the catalog and the transition model that parameters `p` of the card describe."""
    num_categories = len(p.categories)
    per_category = len(next(iter(p.categories.values())))
    num_subcategories = num_categories * per_category
    num_items = num_subcategories * p.items_per_subcategory
    subcategory = np.arange(num_items) // p.items_per_subcategory
    category = subcategory // per_category

    rank = np.empty(num_items)
    rank[_shuffled(num_items, rng)] = np.arange(1, num_items + 1)
    popularity = rank**-p.zipf_exponent
    popularity /= popularity.sum()

    in_subcategory = _within(popularity, subcategory)
    follow = _choices(num_subcategories, p.follow_weights, rng) @ in_subcategory
    by_last_item = (
        p.link * _choices(num_items, p.link_weights, rng)
        + p.follow * follow[subcategory]
        + p.same_category * _within(popularity, category)[category]
        + p.noise * popularity
    )
    model = PurchaseModel(
        sids=_draw_sids(card.codes_per_level, subcategory, category, p, rng),
        titles=_draw_titles(p, rng),
        popularity=popularity,
        by_last_item=by_last_item,
        repeat=p.repeat,
        recency_decay=p.recency_decay,
        history_length=card.history_length,
    )
    return model if p.world is None else _planted(model, p.world, subcategory, category, rng)


def _planted(
    model: PurchaseModel,
    world: WorldParameters,
    subcategory: Ints,
    category: Ints,
    rng: np.random.Generator,
) -> PurchaseModel:
    """Plant in a model what a world has beside it."""
    model = replace(model, feedback=world.feedback)
    num_items = len(category)
    if world.hidden_categories:
        is_hidden = category > category[-1] - world.hidden_categories
        items = np.flatnonzero(is_hidden)
        # One for each subcategory; with more subcategories than such items some have the same.
        order = items[_shuffled(len(items), rng)]
        chosen = order[np.arange(subcategory[-1] + 1) % len(order)][subcategory]
        by_last_item = (1 - world.hidden) * model.by_last_item
        by_last_item[np.arange(num_items), chosen] += world.hidden * (1 - model.repeat)
        exposure = np.where(is_hidden, world.exposure, 1.0)
        model = replace(model, by_last_item=by_last_item, exposure=exposure)
    if world.misled:
        wrong = np.zeros(num_items)
        wrong[_shuffled(num_items, rng)[: round(world.misled * num_items)]] = world.wrong
        # The next item in a circle that visits all, so that no item is its own decoy.
        circle = _shuffled(num_items, rng)
        decoys = np.empty(num_items, dtype=np.int64)
        decoys[circle] = np.roll(circle, -1)
        model = replace(model, wrong=wrong, decoys=decoys)
    if world.promoted:
        promotion = np.zeros(num_items)
        promotion[_shuffled(num_items, rng)[: world.promoted]] = world.promotion / world.promoted
        model = replace(model, promotion=promotion)
    return model


def ceiling(model: PurchaseModel, examples: Examples) -> dict[str, float]:
    """Return the expected HR@K and NDCG@K of the best ranking, averaged over the examples.

    The best ranking orders all items by their true probability p. For one history the target falls
    on rank r with probability p_(r), so HR@K = sum of p_(r) and NDCG@K = sum of p_(r) / log2(r + 1)
    over r = 1..K. Targets are not looked at.
    """
    depth = min(max(CUTOFFS), len(model.popularity))
    by_rank = np.zeros(depth)
    histories = padded_histories(examples, model.history_length)
    for start in range(0, len(histories), CHUNK):
        probabilities = model.next_item_distributions(histories[start : start + CHUNK])
        best = np.partition(probabilities, -depth, axis=1)[:, -depth:]
        by_rank += np.sort(best, axis=1)[:, ::-1].sum(axis=0)
    by_rank /= max(len(histories), 1)
    gain = by_rank / np.log2(np.arange(2, depth + 2))
    metrics = {f"HR@{k}": float(by_rank[:k].sum()) for k in CUTOFFS}
    metrics |= {f"NDCG@{k}": float(gain[:k].sum()) for k in CUTOFFS}
    # The utility of a list is the HR that is expected of it.
    metrics |= {f"utility@{k}": metrics[f"HR@{k}"] for k in CUTOFFS}
    return metrics | {f"regret@{k}": 0.0 for k in CUTOFFS}


def padded_histories(examples: Examples, history_length: int) -> Ints:
    """Return each history's last items, [n, history_length], padded with -1 on the left."""
    ends = examples.history_offsets[1:, None]
    places = ends - np.arange(history_length, 0, -1)
    inside = places >= examples.history_offsets[:-1, None]
    return np.where(inside, examples.history_items[np.where(inside, places, 0)], -1)


def _draw_examples(
    model: PurchaseModel, p: SyntheticParameters, rng: np.random.Generator
) -> tuple[Examples, Ints]:
    """Draw all users' sequences; return the examples by user and place, and each one's day."""
    lengths = p.shortest + (rng.random(p.users) * (p.longest - p.shortest + 1)).astype(np.int64)
    items = np.full((p.users, p.longest), -1)
    first = model.popularity if model.exposure is None else model.popularity * model.exposure
    items[:, 0] = _draw(np.broadcast_to(first, (p.users, len(first))), rng)
    for place in range(1, p.longest):
        # Users still shopping; a user's sequence does not depend on how it is stored.
        active = np.flatnonzero(lengths > place)
        visible = items[active, max(0, place - model.history_length) : place]
        items[active, place] = _draw(model.logged_distributions(visible), rng)
    gaps = -p.mean_gap_days * np.log1p(-rng.random((p.users, p.longest)))
    gaps[:, 0] = rng.random(p.users) * p.days
    days = np.cumsum(gaps, axis=1).astype(np.int64)

    users, targets, histories, when = [], [], [], []
    for user, length in enumerate(lengths):
        for place in range(1, length):
            users.append(user)
            targets.append(items[user, place])
            histories.append(items[user, max(0, place - model.history_length) : place].tolist())
            when.append(days[user, place])
    return Examples.from_lists(users, histories, targets), np.array(when, dtype=np.int64)


def _draw_wanted(
    model: PurchaseModel, examples: Examples, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw what users want after each history, which the log may not show."""
    wanted = np.empty(len(examples), dtype=np.int32)
    for start in range(0, len(examples), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(examples)))
        wanted[rows] = _draw(model.utilities(examples.subset(rows)), rng)
    return wanted


def _draw(probabilities: Floats, rng: np.random.Generator) -> Ints:
    """Draw one column index from each row of [n, m] probabilities."""
    return items_at(probabilities, rng.random(len(probabilities)))


def _shuffled(n: int, rng: np.random.Generator) -> Ints:
    """Return 0..n-1 in random order, from `random()` alone, whose stream numpy keeps stable."""
    return np.argsort(rng.random(n), kind="stable")


def _within(popularity: Floats, group: Ints) -> Floats:
    """Return the popularity within each group, [num_groups, num_items], rows summing to 1."""
    members = group[None, :] == np.arange(group.max() + 1)[:, None]
    weights: Floats = np.where(members, popularity, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _choices(n: int, weights: Sequence[float], rng: np.random.Generator) -> Floats:
    """Return [n, n] where row i gives `weights` to as many random others than i."""
    matrix = np.zeros((n, n))
    for row in range(n):
        others = _shuffled(n, rng)
        matrix[row, others[others != row][: len(weights)]] = weights
    return matrix


def _draw_sids(
    codes_per_level: Sequence[int],
    subcategory: Ints,
    category: Ints,
    p: SyntheticParameters,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Return [num_items, 3]; the level-1 code is the category, the others are dealt below it."""
    num_items, size = len(subcategory), p.items_per_subcategory
    per_category = (int(subcategory[-1]) + 1) // (int(category[-1]) + 1)
    second = _dealt(int(category[-1]) + 1, per_category, codes_per_level[1], rng)
    third = _dealt(int(subcategory[-1]) + 1, size, codes_per_level[2], rng)
    sids = np.stack([category, second[subcategory], third], axis=1)
    # Neighbours in a subcategory form pairs; in some the second takes over the first's SID.
    firsts = np.flatnonzero(np.arange(num_items) % size % 2 == 0)
    firsts = firsts[(firsts + 1) % size != 0]
    chosen = firsts[_shuffled(len(firsts), rng)[: round(p.shared_sid_share * num_items)]]
    sids[chosen + 1] = sids[chosen]
    return sids.astype(np.int32)


def _dealt(groups: int, size: int, codes: int, rng: np.random.Generator) -> Ints:
    """Draw `size` distinct codes out of `codes` for each group, [groups * size]."""
    return np.concatenate([_shuffled(codes, rng)[:size] for _ in range(groups)])


def _draw_titles(p: SyntheticParameters, rng: np.random.Generator) -> tuple[str, ...]:
    """Name each item by two words and its subcategory's noun; no two items share a title."""
    words = [f"{quality} {material}" for quality in p.qualities for material in p.materials]
    return tuple(
        f"{words[index]} {noun}".capitalize()
        for nouns in p.categories.values()
        for noun in nouns
        for index in _shuffled(len(words), rng)[: p.items_per_subcategory]
    )
