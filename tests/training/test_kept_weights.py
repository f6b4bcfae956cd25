"""What is kept of weights: no more than training changes, and all of that."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from watched_steps import CATALOG, EXAMPLES, rollout_stepper

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_catalog, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.policy import Policy, embedding_weights
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.scoring import score
from genrec_bench.training.best_weights import SCORE, BestWeights
from genrec_bench.training.kept_weights import KeptStart, KeptWeights, trained_tensors
from genrec_bench.training.ledger import Ledger


def made(rank: int, precision: Precision = "fp32", tied: bool = False) -> Policy:
    policy = tiny_policy(CATALOG)
    policy.precision = precision
    if tied:
        output: Any = policy.backbone.get_output_embeddings()
        output.weight = embedding_weights(policy.backbone)[0]
    torch.manual_seed(0)
    add_adapters(policy, rank)
    return policy


def change(policy: Policy) -> None:
    """Move all that is trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def log_probs(policy: Policy) -> Tensor:
    prompts = policy.prompt_format.encode(EXAMPLES, torch.arange(6).numpy())
    with torch.no_grad():
        tree = beam_search(tiny_policy(tiny_catalog()), prompts, 4)
        return score(policy, prompts, tree).log_probs


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_the_reference_is_the_policy_that_was(rank: int, tied: bool) -> None:
    for precision in ("fp32", "bf16-mixed"):
        policy = made(rank, precision, tied)
        start = log_probs(policy)
        reference = KeptStart(policy)
        change(policy)
        trained = [p.detach().clone() for p in policy.parameters()]
        moved = log_probs(policy)
        assert not torch.allclose(moved, start)
        with reference.policy() as lent:
            assert torch.equal(log_probs(lent), start)
        assert torch.equal(log_probs(policy), moved)
        pairs = zip(policy.parameters(), trained, strict=True)
        assert all(torch.equal(now.detach(), then) for now, then in pairs)
        names = [name for name, p in policy.named_parameters() if p.requires_grad]
        fresh = made(rank, precision, tied)
        assert names == [name for name, p in fresh.named_parameters() if p.requires_grad]


def test_adapters_need_no_second_copy_of_the_weights() -> None:
    for rank, tied, tables in ((2, False, 2), (2, True, 1)):
        policy = made(rank, tied=tied)
        kept = KeptStart(policy).module
        held = sum(each.numel() for each in kept.state_dict().values())
        table = embedding_weights(policy.backbone)[0].numel()
        assert held == tables * table
        best = BestWeights(policy, []).module
        trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        assert sum(each.numel() for each in best.state_dict().values()) == trained


def test_a_reference_without_adapters_costs_what_it_computes() -> None:
    spent = []
    for rank in (0, 2):
        policy = made(rank)
        ledger = policy.meter = Ledger(torch.device("cpu"))
        reference = KeptStart(policy)
        with ledger.phase("reference"), reference.policy() as lent:
            prompts = lent.prompt_format.encode(EXAMPLES, torch.arange(6).numpy())
            with torch.no_grad():
                score(lent, prompts, beam_search(lent, prompts, 4))
        spent.append(ledger.spent["reference"].flops)
    assert spent[0] == spent[1], "adapters that are off cost nothing"


def test_a_reference_outlives_a_checkpoint() -> None:
    policy = made(2)
    start = log_probs(policy)
    state = copy.deepcopy(KeptStart(policy).module.state_dict())
    change(policy)
    resumed = KeptStart(policy)
    resumed.module.load_state_dict(state)
    with resumed.policy() as lent:
        assert torch.equal(log_probs(lent), start)


def test_the_best_weights_come_back() -> None:
    for rank in (0, 2):
        policy = made(rank)
        curves: list[dict[str, float]] = []
        best = BestWeights(policy, curves)
        found = []
        for step, value in enumerate((0.1, 0.3, 0.3, 0.2), start=1):
            change(policy)
            found.append(log_probs(policy))
            curves.append({"step": step, SCORE: value})
            best.told()
        assert best.put_back() == 2
        assert torch.equal(log_probs(policy), found[1])


def test_what_is_frozen_is_not_among_what_is_trained() -> None:
    policy = made(2)
    names = trained_tensors(policy)
    assert names and all("lora" in name or "embed" in name or "head" in name for name in names)
    kept = KeptWeights(names)
    assert not any("." in name for name, _ in kept.named_buffers())


def test_a_step_with_adapters_asks_the_start() -> None:
    algorithm = GRPO(GRPOHyperparameters(beta=0.1, reward="random"))
    stepper, policy, _, ledger = rollout_stepper(algorithm, rank=2)
    first, second = (stepper.step(index, 0.0)["divergence"] for index in range(2))
    assert first == pytest.approx(0.0, abs=1e-6) and second > 1e-6
    assert ledger.spent["reference"].tokens > 0
    assert set(stepper.modules()) == {"policy", "reference"}
    assert any("lora_A" in name and p.requires_grad for name, p in policy.named_parameters())
