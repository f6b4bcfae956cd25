"""DPO and S-DPO by hand, what makes a pair, where it is from, and that one pair is the same."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_trees import tree_of

from genrec_bench.algorithm import Batch, CandidateTree
from genrec_bench.algorithms.dpo import DPO, DPOHyperparameters
from genrec_bench.algorithms.s_dpo import SDPO, SDPOHyperparameters
from genrec_bench.contract.gradients import gradient
from genrec_bench.contract.played import require_candidates
from genrec_bench.contract.tiny_world import play, roll_out, tiny_world
from genrec_bench.policy.prompts import Prompts

NONE = torch.zeros(1, 0, dtype=torch.long)


def said(*codes: tuple[float, float, float]) -> torch.Tensor:
    """[1, n, 3] log-probabilities of n SIDs of such probabilities."""
    return torch.tensor([codes]).log()


def asked(algorithm: DPO, tree: CandidateTree) -> tuple[float, dict[str, float]]:
    """The loss where the target is SID 0, and candidates are the target and two others.

    The policy has twice the reference's probability of the target, half of that of the second
    candidate, and four times that of the third.
    """
    policy = said((0.5, 0.5, 0.5), (0.1, 0.2, 0.5), (0.4, 0.4, 0.4), (1, 1, 1))
    reference = said((0.25, 0.5, 0.5), (0.2, 0.2, 0.5), (0.2, 0.2, 0.4), (0.1, 0.1, 0.1))
    targets = tree.trie.leaf(torch.tensor([0]))
    rewards = tree.hits(targets).float()
    batch = Batch(
        Prompts(NONE, NONE.bool(), NONE),
        tree,
        targets,
        rewards,
        rewards - 1,
        reference,
        reference_target_log_probs=reference[:, 0],
    )
    scores: Any = SimpleNamespace(log_probs=policy, target_log_probs=policy[:, 0])
    losses, figures = algorithm.loss(batch, scores)
    return float(losses), {name: float(figure) for name, figure in figures.items()}


@pytest.mark.parametrize(
    ("algorithm", "wanted"),
    [
        # Margins ln 4 and -ln 2: sigmoids of 4/5 and 1/3, of which -ln is averaged.
        (DPO(DPOHyperparameters(beta=1.0)), 0.6608782),
        # Half of both: sigmoids of 2/3 and 1 / (1 + sqrt 2).
        (DPO(DPOHyperparameters(beta=0.5)), (0.4054651 + 0.8813736) / 2),
        # ln(1 + 1/4 + 2).
        (SDPO(SDPOHyperparameters()), 1.1786550),
        # ln(1 + 1/2 + sqrt 2).
        (SDPO(SDPOHyperparameters(beta=0.5)), 1.0696001),
    ],
)
def test_the_loss_by_hand(algorithm: DPO, wanted: float) -> None:
    # A place without a candidate, and a draw that is the target: no pairs.
    loss, figures = asked(algorithm, tree_of([0, 2, 3, -1]))
    beta = algorithm.hyperparameters.beta
    assert loss == pytest.approx(wanted, abs=1e-6)
    assert figures == pytest.approx({"margin": beta * 0.3465736, "preferred": 0.5}, abs=1e-6)


@pytest.mark.parametrize("algorithm", [DPO(DPOHyperparameters()), SDPO(SDPOHyperparameters())])
def test_without_a_pair_nothing_is_learned(algorithm: DPO) -> None:
    loss, figures = asked(algorithm, tree_of([0, -1, -1, -1]))
    assert loss == 0 and figures == {"margin": 0, "preferred": 0}


def test_the_nearest_of_several_weigh_most() -> None:
    margins = torch.tensor([[1.3862944, -0.6931472, 5.0]], requires_grad=True)
    losses = SDPO(SDPOHyperparameters()).preference(margins, torch.tensor([[True, True, False]]))
    (found,) = torch.autograd.grad(losses.sum(), [margins])
    # exp(-margin) over 1 and both: 1/4 and 2 of 3.25.
    assert found[0].tolist() == pytest.approx([-0.25 / 3.25, -2 / 3.25, 0])


@pytest.mark.parametrize("rejected", ["random", "draws", "beam"])
def test_s_dpo_with_one_negative_is_dpo(rejected: str) -> None:
    def found(kind: type[DPO], count: int) -> torch.Tensor:
        one = kind(kind.hyperparameters_class(beta=0.7, rejected=rejected, negatives=count))
        world = tiny_world(one)
        return gradient(world, play(one, world).losses.sum())

    assert torch.allclose(found(SDPO, 1), found(DPO, 1), atol=1e-6) and found(DPO, 1).any()
    assert not torch.allclose(found(SDPO, 3), found(DPO, 3), atol=1e-3)


def test_credit_is_of_what_is_rejected() -> None:
    ours = DPO(DPOHyperparameters(negatives=4))
    world = tiny_world(ours)
    tree = roll_out(ours, world)
    batch = play(ours, world, tree, tree.leaves[:, 2]).batch
    assert batch.rewards.tolist() == [[0, 0, 1, 0, 0, 0]] * 5
    assert batch.advantages.tolist() == [[-1, -1, 0, -1, 0, 0]] * 5


@pytest.mark.parametrize("rejected", ["draws", "beam"])
def test_what_is_rejected_may_be_the_policys(rejected: str) -> None:
    ours = DPO(DPOHyperparameters(rejected=rejected, negatives=3))
    world = tiny_world(ours)
    assert ours.rates_candidates and not DPO(DPOHyperparameters()).rates_candidates
    for group_size, count in ((6, 3), (2, 2)):
        tree = roll_out(ours, world, group_size)
        require_candidates(world, tree, group_size)
        assert tree.valid.sum(dim=1).tolist() == [count] * 5
