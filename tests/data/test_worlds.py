"""Feedback of worlds, and whether each world has what its card says is planted in it."""

import functools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.synthetic import PurchaseModel, generate, padded_histories, world_of
from genrec_bench.data.worlds import Purchases, items_at

Floats = NDArray[np.float64]
GROUP = 16
WORLDS = ("synthetic-feedback", "synthetic-hidden", "synthetic-sparse", "synthetic-noisy")


@functools.cache
def made(name: str) -> Contents:
    """The dataset of a card, drawn once."""
    return generate(load_card(name))


def model_of(name: str) -> PurchaseModel:
    model = made(name).world
    assert isinstance(model, PurchaseModel)
    return model


@functools.cache
def wanted(name: str) -> Floats:
    """What users want after the histories of the test split, [n, num_items]."""
    return model_of(name).utilities(made(name).splits["test"])


@functools.cache
def logged(name: str) -> Floats:
    """What would be logged after them."""
    model = model_of(name)
    histories = padded_histories(made(name).splits["test"], model.history_length)
    return model.logged_distributions(histories)


def utility_of_search(scores: Floats, utilities: Floats, k: int) -> float:
    """The utility@K of the K items that an exact search by these scores finds."""
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return float(np.take_along_axis(utilities, found, axis=1).sum(axis=1).mean())


def by_prefix(probabilities: Floats, sids: NDArray[np.int32], level: int) -> Floats:
    """The probability of each item's prefix of some codes, [n, num_items]."""
    prefixes = np.unique(sids[:, :level], axis=0, return_inverse=True)[1].reshape(-1)
    is_in = (prefixes[:, None] == np.arange(prefixes.max() + 1)).astype(np.float64)
    of_prefix = probabilities @ is_in
    return np.asarray(of_prefix[:, prefixes])


def survives_beam(probabilities: Floats, sids: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Which items an exact beam search by these probabilities ends with, [n, num_items]."""
    alive = np.ones(probabilities.shape, dtype=np.bool_)
    for level in range(1, sids.shape[1] + 1):
        prefixes = np.unique(sids[:, :level], axis=0, return_inverse=True)[1].reshape(-1)
        _, first = np.unique(prefixes, return_index=True)
        mass = np.where(alive, by_prefix(probabilities, sids, level), -1.0)
        last = min(width, len(first)) - 1
        alive &= mass >= -np.sort(-mass[:, first], axis=1)[:, [last]]
    return alive


def test_a_purchase_depends_on_seed_history_and_visit_alone() -> None:
    contents = made("synthetic-feedback")
    assert contents.world is not None
    draw = Purchases(contents.world, contents.splits["train"], 3)
    rows, visits = np.array([5, 9, 5, 700]), np.array([40, 41, 42, 2**40])
    whole = draw(rows, visits)
    again = [int(draw(rows[[i]], visits[[i]])[0]) for i in (3, 1, 0, 2)]
    assert again == [int(whole[i]) for i in (3, 1, 0, 2)]
    other = Purchases(contents.world, contents.splits["train"], 4)
    many, then = np.full(200, 5), np.arange(200)
    assert (draw(many, then) != other(many, then)).any()
    assert len(np.unique(draw(many, then))) > 5


def test_purchases_are_drawn_by_the_utilities() -> None:
    contents = made("synthetic-feedback")
    assert contents.world is not None
    row = 17
    draw = Purchases(contents.world, contents.splits["train"], 0)
    utilities = contents.world.utilities(contents.splits["train"].subset([row]))[0]
    n = 4000
    counts = np.bincount(draw(np.full(n, row), np.arange(n)), minlength=len(utilities))
    assert not counts[utilities == 0].any()
    best = np.argsort(-utilities)[:5]
    errors = np.sqrt(utilities * (1 - utilities) / n)
    assert (np.abs(counts / n - utilities)[best] < 4.5 * errors[best]).all()


def test_items_at_by_hand() -> None:
    probabilities = np.array([[0.5, 0.0, 0.25, 0.25]] * 4)
    chances = np.array([0.0, 0.4999, 0.5, 0.99])
    assert items_at(probabilities, chances).tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize("name", WORLDS)
def test_the_card_counts_what_is_drawn_and_the_world_is_made_again(name: str) -> None:
    contents, expected = made(name), load_card(name).expected
    rows = [len(contents.splits[split]) for split in ("train", "valid", "test")]
    assert rows == [expected.train_rows, expected.valid_rows, expected.test_rows]
    assert len(contents.own.catalog.unique_sids) == expected.distinct_sids
    again = world_of(load_card(name))
    assert again is not None and again.feedback == "drawn"
    few = contents.splits["test"].subset(range(50))
    np.testing.assert_array_equal(again.utilities(few), model_of(name).utilities(few))
    assert contents.own.world is contents.world


@pytest.mark.parametrize("name", WORLDS)
def test_the_best_score_is_known(name: str) -> None:
    utilities, ceiling = wanted(name), made(name).ceiling["test"]
    for k in (1, 10):
        best = utility_of_search(utilities, utilities, k)
        assert ceiling[f"utility@{k}"] == pytest.approx(best)
        assert ceiling[f"HR@{k}"] == pytest.approx(best)
    # Test targets are what users want, also where the log shows something else.
    targets = made(name).splits["test"].targets
    best = utility_of_search(utilities, utilities, 10)
    place = (utilities > utilities[np.arange(len(targets)), targets][:, None]).sum(axis=1)
    error = math.sqrt(best * (1 - best) / len(targets))
    assert abs(float((place < 10).mean()) - best) < 4 * error


@pytest.mark.parametrize("name", WORLDS)
def test_training_targets_are_drawn_by_what_is_logged(name: str) -> None:
    train = made(name).splits["train"].subset(range(0, 12000, 3))
    model = model_of(name)
    histories = padded_histories(train, model.history_length)
    rows = np.arange(len(train))

    def surprise(probabilities: Floats) -> float:
        return float(-np.log(probabilities[rows, train.targets] + 1e-12).mean())

    by_log = model.logged_distributions(histories)
    np.testing.assert_allclose(by_log.sum(axis=1), 1)
    by_want = model.utilities(train)
    if name != "synthetic-sparse":
        assert surprise(by_log) < surprise(by_want) - 0.1
    else:
        np.testing.assert_array_equal(by_log, by_want)
    # Drawn by these probabilities, a target costs their entropy on average.
    entropy = float(-(by_log * np.log(by_log + 1e-12)).sum(axis=1).mean())
    assert surprise(by_log) == pytest.approx(entropy, abs=0.12)


def test_promoted_items_fill_lists_that_are_made_from_the_log() -> None:
    name = "synthetic-feedback"
    utilities, likelihood, promotion = wanted(name), logged(name), model_of(name).promotion
    assert promotion is not None
    is_promoted = promotion > 0
    shares = {}
    for by, scores in (("log", likelihood), ("want", utilities)):
        shares[by] = is_promoted[np.argsort(-scores, axis=1)[:, :10]].mean()
    assert shares["log"] > 0.45 > 0.2 > shares["want"]
    assert 0.4 < is_promoted[made(name).splits["train"].targets].mean() < 0.5
    assert utilities[:, is_promoted].sum(axis=1).mean() < 0.1
    assert utility_of_search(utilities, utilities, 10) > 1.1 * utility_of_search(
        likelihood, utilities, 10
    )


def test_hidden_useful_items_lie_under_improbable_prefixes() -> None:
    name = "synthetic-hidden"
    utilities, likelihood, sids = wanted(name), logged(name), model_of(name).sids
    rows, best = np.arange(len(utilities)), wanted(name).argmax(axis=1)
    exposure = model_of(name).exposure
    assert exposure is not None
    is_hidden = exposure < 1
    assert is_hidden[best].mean() > 0.95
    assert np.median(utilities[rows, best]) > 0.25
    assert np.median(likelihood[rows, best]) < 0.02
    # Already their first two codes are improbable, and a beam by likelihood loses most of them.
    assert np.median(by_prefix(likelihood, sids, 2)[rows, best]) < 0.02
    assert survives_beam(likelihood, sids, GROUP)[rows, best].mean() < 0.6
    assert survives_beam(utilities, sids, GROUP)[rows, best].mean() > 0.99
    # Exact search on what is wanted beats exact search by what is logged.
    for k, gain in ((1, 0.15), (10, 0.25)):
        found = [utility_of_search(scores, utilities, k) for scores in (utilities, likelihood)]
        assert found[0] - found[1] > gain
    # Few of them are logged, but not none: there is something to find them by.
    share = is_hidden[made(name).splits["train"].targets].mean()
    assert 0.005 < share < 0.03


def shares_of_groups(name: str, candidates: NDArray[np.int64], draws: int = 20) -> dict[str, float]:
    """How many groups of the candidates hold the purchase, and how many tell levels apart."""
    model, test = model_of(name), made(name).splits["test"]
    hit = graded = 0.0
    for seed in range(draws):
        bought = Purchases(model, test, seed)(np.arange(len(test)), np.arange(len(test)))
        same = model.sids[candidates] == model.sids[bought][:, None, :]
        matched = np.cumprod(same, axis=2).sum(axis=2)
        hit += float((matched == 3).any(axis=1).mean()) / draws
        graded += float((matched.max(axis=1) > matched.min(axis=1)).mean()) / draws
    return {"hit": hit, "graded": graded}


def test_sparse_hits_are_rare_and_levels_mean_something() -> None:
    groups = {}
    for name in ("synthetic-sparse", "synthetic-feedback"):
        best = np.argsort(-wanted(name), axis=1)[:, :GROUP]
        groups[name] = shares_of_groups(name, best, draws=4)
    # Even of the best possible groups, most miss; nearly all hold unequal prefixes.
    assert groups["synthetic-sparse"]["hit"] < 0.4 < 0.7 < groups["synthetic-feedback"]["hit"]
    assert groups["synthetic-sparse"]["graded"] > 0.8
    # A level is predictable where the item is not.
    utilities, sids = wanted("synthetic-sparse"), model_of("synthetic-sparse").sids
    assert utilities.max(axis=1).mean() < 0.08
    assert by_prefix(utilities, sids, 2).max(axis=1).mean() > 0.35
    assert len(np.unique(sids, axis=0)) > 2000


def test_noisy_logs_are_surest_where_they_are_wrong() -> None:
    name = "synthetic-noisy"
    utilities, likelihood = wanted(name), logged(name)
    rows, surest = np.arange(len(utilities)), likelihood.argmax(axis=1)
    confidence, worth = likelihood[rows, surest], utilities[rows, surest]
    is_wrong = worth < 0.02
    assert 0.4 < is_wrong.mean() < 0.6
    assert confidence[is_wrong].mean() > 1.8 * confidence[~is_wrong].mean()
    gains = {
        k: utility_of_search(utilities, utilities, k) - utility_of_search(likelihood, utilities, k)
        for k in (1, 20)
    }
    # The error stands at the top of the list; further down there is little to gain.
    assert gains[1] > 0.08 and gains[20] < 0.01


def test_each_card_says_what_is_planted_and_whose_claim_it_is() -> None:
    claims = {"hidden": "V-STAR", "sparse": "SRPO", "noisy": "UGR", "feedback": "SFT continued"}
    for world, claim in claims.items():
        description = load_card(f"synthetic-{world}").description
        assert "Planted:" in description and claim in description
