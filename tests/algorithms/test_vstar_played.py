"""V-STAR whole: what the loss adds up, how candidates are found, and who pays for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from genrec_bench.algorithms.vstar import VSTAR, VSTARHyperparameters, sibling_advantage
from genrec_bench.contract.tiny_world import (
    Play,
    TinyWorld,
    groups,
    play,
    tiny_catalog,
    tiny_trie,
    tiny_world,
)
from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.objectives import group_mean, k3_divergence


def algorithm(**values: object) -> VSTAR:
    return VSTAR(VSTARHyperparameters(**values))  # type: ignore[arg-type]


# The loss


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return tiny_world(algorithm())


Cases = dict[str, tuple[CandidateTree, torch.Tensor]]


@pytest.fixture(scope="module")
def cases(world: TinyWorld) -> Cases:
    return groups(algorithm(), world)


def played(world: TinyWorld, case: tuple[CandidateTree, torch.Tensor], **values: object) -> Play:
    return play(algorithm(**values), world, *case)


@pytest.mark.parametrize("name", ["a rollout", "a hit at the last rank", "more places than SIDs"])
def test_joint_is_the_sum_of_both_and_has_one_divergence(
    world: TinyWorld, cases: Cases, name: str
) -> None:
    options = {"value_weight": 0.0, "beta": 0.1}
    joint, grpo, sibling = (
        played(world, cases[name], objective=objective, **options)
        for objective in ("joint", "grpo", "sibling")
    )
    reference = joint.batch.reference_log_probs
    assert reference is not None
    tree = joint.batch.tree
    divergence = 0.1 * group_mean(k3_divergence(joint.scores.log_probs, reference), tree.valid)
    assert divergence.max() > 1e-3
    expected = grpo.losses + sibling.losses - divergence
    assert torch.allclose(joint.losses, expected, atol=1e-5)


def test_weights_scale_their_parts(world: TinyWorld, cases: Cases) -> None:
    case = cases["a hit at the last rank"]
    # Off the rollout's policy, where the sibling's part is not 0.
    case = (replace(case[0], log_probs=0.5 * case[0].log_probs), case[1])
    none = played(world, case, sibling_weight=0.0, value_weight=0.0).losses
    sibling = played(world, case, value_weight=0.0).losses - none
    value = played(world, case, sibling_weight=0.0).losses - none
    assert sibling.abs().min() > 1e-4 and value.min() > 1e-4
    both = played(world, case, sibling_weight=3.0, value_weight=0.5).losses
    assert torch.allclose(both, none + 3.0 * sibling + 0.5 * value, atol=1e-4)


def test_a_group_of_one_teaches_the_policy_nothing(world: TinyWorld, cases: Cases) -> None:
    for name in ("one real candidate, a hit", "one real candidate, no hit"):
        found = played(world, cases[name], beta=0.0, value_weight=0.0)
        (gradient,) = torch.autograd.grad(found.losses.sum(), [found.scores.node_log_probs])
        for nothing in (found.losses, gradient, found.figures["nodes_with_credit"]):
            assert nothing.eq(0).all()


def test_a_miss_teaches_the_value_and_not_the_policy(world: TinyWorld, cases: Cases) -> None:
    found = played(world, cases["no hit"], beta=0.0)
    assert found.batch.rewards.eq(0).all()
    assert torch.allclose(found.losses, found.figures["value_loss"])
    assert found.losses.min() > 0
    assert found.figures["value_gap"].eq(0).all()


def test_the_gradient_at_the_rollout_is_the_credit_of_each_node(
    world: TinyWorld, cases: Cases
) -> None:
    found = played(
        world, cases["a hit at the last rank"], objective="sibling", beta=0.0, value_weight=0.0
    )
    tree = found.batch.tree
    (gradient,) = torch.autograd.grad(found.losses.sum(), [found.scores.node_log_probs])
    credit = sibling_advantage(tree, found.batch.rewards)
    assert credit.abs().max() > 0.5
    expected = -credit / tree.valid.sum(dim=1, keepdim=True)
    assert torch.allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("trains", [False, True])
def test_the_values_loss_trains_the_backbone_only_if_asked(trains: bool) -> None:
    chosen = algorithm(
        objective="sibling", sibling_weight=0.0, beta=0.0, value_trains_policy=trains
    )
    world = tiny_world(chosen)
    # A new head's last layer is 0 and would pass nothing on.
    head = world.policy.heads["value_features"]
    for parameter in head.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    play(chosen, world).losses.sum().backward()
    backbone = [p.grad for p in world.policy.backbone.parameters() if p.grad is not None]
    assert any(gradient.any() for gradient in backbone) == trains
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_the_divergence_is_all_that_is_left_without_objectives(
    world: TinyWorld, cases: Cases
) -> None:
    found = played(
        world, cases["a rollout"], objective="sibling", sibling_weight=0.0, value_weight=0.0
    )
    assert torch.allclose(found.losses, 0.001 * found.figures["divergence"], atol=1e-7)


@pytest.mark.parametrize("case", ["a rollout", "more places than SIDs", "no hit"])
def test_the_gap_between_values_of_hits_and_of_wrong_candidates(case: str, cases: Cases) -> None:
    chosen = algorithm()
    world = tiny_world(chosen)
    torch.nn.init.normal_(world.policy.heads["value_features"].value.weight)  # type: ignore[union-attr,arg-type]
    found = play(chosen, world, *cases[case])
    tree, hits = found.batch.tree, found.batch.tree.hits(found.batch.targets)
    values = chosen.values(found.scores).detach()
    assert values[tree.is_node].ne(0).all() and values[~tree.is_node].eq(0).all()
    last = tree.on_paths(values)[..., -1]
    assert bool(hits.any()) == (case != "no hit")
    for row in range(len(hits)):
        hit, wrong = last[row][hits[row]], last[row][tree.valid[row] & ~hits[row]]
        gap = float(hit.mean() - wrong.mean()) if len(hit) and len(wrong) else 0.0
        assert float(found.figures["value_gap"][row]) == pytest.approx(gap, abs=1e-5)


# How candidates are found


@pytest.mark.parametrize(("training", "size"), [("beam", 8), ("ved", 4), ("top-k", 4)])
def test_only_a_beam_in_training_spends_its_budget_on_more_candidates(
    training: str, size: int
) -> None:
    chosen = algorithm(training=training, token_budget=2.0)
    world = tiny_world(chosen)
    found = chosen.rollout(world.policy, world.prompts, 4)
    assert found.group_size == size
    if training == "beam":
        assert torch.equal(found.leaves, beam_search(world.policy, world.prompts, 8).leaves)


def test_top_k_draws_from_as_many_codes() -> None:
    chosen = algorithm(training="top-k", inference="top-k", top_k=1)
    world = tiny_world(chosen)
    found = chosen.rollout(world.policy, world.prompts, 5)
    assert found.valid.all()
    assert (found.leaves == found.leaves[:, :1]).all(), "one code a level: one candidate"
    assert chosen.decode(world.policy, world.prompts, 5).valid.sum(dim=1).tolist() == [1] * 5


def test_the_value_guides_the_search() -> None:
    """A head that likes what it is given finds other candidates than one that knows nothing."""
    chosen = algorithm(initial_beam=1)
    world = tiny_world(chosen)

    def found() -> list[set[int]]:
        torch.manual_seed(0)
        leaves = chosen.rollout(world.policy, world.prompts, 4).leaves
        return [set(row) for row in leaves.tolist()]

    before = found()
    assert found() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in world.policy.heads.parameters():
            torch.nn.init.normal_(parameter, std=2.0)
    assert found() != before


def test_decoding_is_named_by_what_it_spends_and_draws() -> None:
    assert algorithm().decoding == "beam"
    assert algorithm(inference="ved").decoding == "ved 1x"
    assert algorithm(inference="ved", token_budget=2.5).decoding == "ved 2.5x"
    assert algorithm(inference="ved", counted="beam").decoding == "ved 1x, leaves apart"
    assert algorithm(inference="top-k", top_k=7, temperature=0.7).decoding == "top-k 7 at 0.7"


@pytest.mark.parametrize("inference", ["ved", "top-k"])
def test_evaluation_leaves_the_generator_alone(inference: str) -> None:
    chosen = algorithm(inference=inference)
    world = tiny_world(chosen)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = chosen.decode(world.policy, world.prompts, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(chosen.decode(world.policy, world.prompts, 5).leaves, first.leaves)


# Who pays


def spent(chosen: VSTAR, work: Callable[[VSTAR, TinyWorld], object], phase: str) -> Ledger:
    world = tiny_world(chosen)
    ledger = world.policy.meter = Ledger(torch.device("cpu"))
    with ledger.phase(phase):
        work(chosen, world)
    return ledger


def learn(chosen: VSTAR, world: TinyWorld) -> None:
    # A beam: nothing but the loss asks the head.
    tree = beam_search(world.policy, world.prompts, 4)
    play(chosen, world, tree)


def roll(chosen: VSTAR, world: TinyWorld) -> None:
    with torch.no_grad():
        chosen.rollout(world.policy, world.prompts, 4)


def test_the_head_is_charged_to_the_value() -> None:
    for work, phase in ((learn, "update"), (roll, "rollout")):
        ledger = spent(algorithm(beta=0.0), work, phase)
        assert set(ledger.spent) == {phase, "value"}
        assert ledger.spent["value"].flops > 0 and ledger.spent["value"].seconds > 0
        assert ledger.spent["value"].tokens == 0 < ledger.spent[phase].tokens
    assert set(spent(algorithm(training="beam"), roll, "rollout").spent) == {"rollout"}
    assert set(spent(algorithm(value_weight=0.0, beta=0.0), learn, "update").spent) == {"update"}


def test_evaluation_by_value_costs_training_nothing() -> None:
    def evaluate(chosen: VSTAR, world: TinyWorld) -> None:
        chosen.decode(world.policy, world.prompts, 4)

    assert set(spent(algorithm(inference="ved"), evaluate, "evaluation").spent) == {"evaluation"}


# What is declared


def test_a_head_that_is_not_trained_expects_nothing() -> None:
    untrained, trained = algorithm(value_weight=0.0), algorithm()
    for name in ("estimates_values", "scores_leaves", "uses_embeddings"):
        assert getattr(trained, name) and not getattr(untrained, name)
    assert set(untrained.heads(8, 0, tiny_trie(tiny_catalog()))) == {"value_features"}
    paper = algorithm(value_features="hidden")
    assert set(paper.heads(8, 5, tiny_trie(tiny_catalog()))) == {"value"}
    with pytest.raises(UserError, match="value_features=hiden"):
        algorithm(value_features="hiden")


def test_what_is_given_is_checked_and_kept() -> None:
    with pytest.raises(UserError, match="level_weights=0.3;1"):
        algorithm(level_weights="0.3;1")
    assert algorithm().head_learning_rate is None
    assert algorithm(head_learning_rate=0.01).head_learning_rate == 0.01
