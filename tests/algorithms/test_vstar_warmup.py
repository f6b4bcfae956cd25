"""V-STAR's value before its search: who learns, who pays, and how it is resumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_training import checkpoint_every_step
from torch import Tensor

from genrec_bench.algorithms.vstar import VSTAR, VSTARHyperparameters
from genrec_bench.contract.tiny_world import (
    EMBEDDING_SIZE,
    HIDDEN_SIZE,
    play,
    tiny_catalog,
    tiny_examples,
    tiny_policy,
    tiny_trie,
    tiny_world,
)
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.flops import ProductCount
from genrec_bench.policy.policy import WorkCount
from genrec_bench.policy.scoring import score
from genrec_bench.progress import Progress
from genrec_bench.training.hyperparameters import per_level
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Limit, train
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.value_rewards import semantic_reward, td_loss
from genrec_bench.training.workers import Workers

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG, 9)
EMBEDDINGS = torch.randn(20, EMBEDDING_SIZE, generator=torch.Generator().manual_seed(0))
PROMPTS, GROUP = 4, 4
CPU = torch.device("cpu")


def algorithm(**values: object) -> VSTAR:
    return VSTAR(VSTARHyperparameters(**values))  # type: ignore[arg-type]


class Setup:
    """A small training of V-STAR, with or without a stage for its value."""

    def __init__(self, value_warmup: float) -> None:
        self.algorithm = algorithm(value_warmup=value_warmup, initial_beam=2)
        torch.manual_seed(0)
        heads = self.algorithm.heads(HIDDEN_SIZE, EMBEDDING_SIZE, tiny_trie(CATALOG))
        self.policy = tiny_policy(CATALOG, heads=heads, embeddings=EMBEDDINGS)
        self.ledger = self.policy.meter = Ledger(CPU)
        # Weights would decay if the optimizer looked at them at all.
        self.optimization = Optimization(
            self.policy,
            Workers(),
            learning_rate=0.01,
            weight_decay=0.1,
            warmup=0.1,
            max_grad_norm=1.0,
        )
        self.stepper = RolloutStepper(
            self.policy,
            self.algorithm,
            EXAMPLES,
            self.optimization,
            self.ledger,
            Workers(),
            group_size=GROUP,
            prompts_per_step=PROMPTS,
            seed=0,
            embeddings=EMBEDDINGS,
        )

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.policy.state_dict().items()}

    def train(self, folder: Path, steps: int = 6) -> pd.DataFrame:
        limit, quiet = Limit(None, steps), Progress(quiet=True)
        return train(self.stepper, self.optimization, self.ledger, limit, Workers(), folder, quiet)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of a policy whose weights are not the same to the last bit."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_the_value_learns_alone_and_then_with_the_backbone() -> None:
    setup = Setup(value_warmup=0.5)
    weights = [setup.weights()]
    figures = []
    for step in range(4):
        figures.append(setup.stepper.step(step, step / 4))
        weights.append(setup.weights())
    pairs = zip(weights, weights[1:], strict=False)
    assert [moved(*pair) for pair in pairs] == [{"heads"}, {"heads"}, *[{"backbone", "heads"}] * 2]
    assert [each.get("heads_only") for each in figures] == [1.0, 1.0, None, None]
    assert all(each["value_loss"] > 0 for each in figures)
    # In the stage of its own, what is minimised is the value's loss and nothing else.
    assert all(each["loss"] == pytest.approx(each["value_loss"]) for each in figures[:2])
    assert "nodes_with_credit" not in figures[1] and "nodes_with_credit" in figures[2]
    # Momentum of the backbone begins with the step that trains it.
    state = setup.optimization.optimizer.state
    assert {int(state[p]["step"]) for p in setup.policy.backbone.parameters()} == {2}
    assert {int(state[p]["step"]) for p in setup.policy.heads.parameters()} == {4}


def test_without_a_stage_all_learn_at_once() -> None:
    setup = Setup(value_warmup=0.0)
    before = setup.weights()
    assert "heads_only" not in setup.stepper.step(0, 0.0)
    assert moved(before, setup.weights()) == {"backbone", "heads"}


def test_the_whole_stage_is_billed_to_the_value() -> None:
    setup = Setup(value_warmup=0.5)
    setup.stepper.step(0, 0.0)
    setup.stepper.step(1, 0.25)
    assert set(setup.ledger.spent) == {"value"}
    # The same work, done by hand: a beam, a forward pass without gradients, the head with them.
    again = Setup(value_warmup=0.5)
    count = again.policy.meter = WorkCount()
    flops = 0.0
    weights = per_level("level_weights", "0.3,0.5,1", 3)
    for step in range(2):
        rows = again.stepper._rollouts._sampler.rows(step)
        prompts = again.policy.prompt_format.encode(EXAMPLES, rows)
        targets = again.policy.item_leaves[
            torch.from_numpy(EXAMPLES.targets[rows].astype(np.int64))
        ]
        with torch.no_grad():
            tree = beam_search(again.policy, prompts, GROUP)
            scores = score(again.policy, prompts, tree, leaves=True)
        again.policy.meter = None
        with ProductCount() as products:
            values = tree.on_paths(again.algorithm.values(scores))
        flops += products.total(backward=True)
        rewards = semantic_reward(tree, targets, EMBEDDINGS, weights)
        td_loss(values, tree.on_paths(rewards), tree.valid, 0.99).mean().backward()
        again.optimization.step(step / 4, 0.0, "by hand")
        again.policy.meter = count
    for name, weight in setup.weights().items():
        assert torch.allclose(weight, again.weights()[name], atol=1e-3), name
    spent = setup.ledger.spent["value"]
    assert spent.tokens == count.tokens > 0
    assert spent.flops == pytest.approx(count.flops + flops)
    # Afterwards all pay for their own, and the phases add up to what was spent.
    setup.stepper.step(2, 0.5)
    later = setup.ledger.spent
    assert set(later) == {"rollout", "reference", "update", "value"}
    for kind in ("tokens", "flops"):
        total = sum(getattr(cost, kind) for cost in later.values())
        assert setup.ledger.total(kind) == pytest.approx(total)


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_run_cut_short_before_in_or_after_the_stage_goes_on_exactly(
    tmp_path: Path, cut: int
) -> None:
    whole = Setup(value_warmup=0.5)
    expected = whole.train(tmp_path / "whole")
    assert expected["heads_only"].tolist()[:3] == [1.0] * 3
    assert expected["heads_only"].isna().tolist() == [False] * 3 + [True] * 3

    first, second = Setup(value_warmup=0.5), Setup(value_warmup=0.5)
    step = first.stepper.step

    def cut_short(index: int, share: float, part: float = 1.0) -> dict[str, float]:
        figures = step(index, share, part)
        if index == cut:
            raise KeyboardInterrupt
        return figures

    first.stepper.step = cut_short  # type: ignore[method-assign]
    with checkpoint_every_step(), pytest.raises(KeyboardInterrupt):
        first.train(tmp_path / "cut")
    found = second.train(tmp_path / "cut")
    assert moved(whole.weights(), second.weights()) == set()
    timeless = [name for name in expected if name != "seconds"]
    pd.testing.assert_frame_equal(found[timeless], expected[timeless], check_like=True)
    for phase, cost in whole.ledger.spent.items():
        other = second.ledger.spent[phase]
        assert other.tokens == cost.tokens and other.flops == pytest.approx(cost.flops)


def test_candidates_are_a_beams_until_the_value_guides_the_search() -> None:
    chosen = algorithm(value_warmup=0.5, initial_beam=2)
    world = tiny_world(chosen)
    with torch.no_grad():
        beam = beam_search(world.policy, world.prompts, 6).leaves
        chosen.begin_step(0, 0.49)
        assert torch.equal(chosen.rollout(world.policy, world.prompts, 6).leaves, beam)
        chosen.begin_step(1, 0.5)
        assert not torch.equal(chosen.rollout(world.policy, world.prompts, 6).leaves, beam)


def test_a_value_that_never_learns_has_no_stage() -> None:
    chosen = algorithm(value_warmup=0.5, value_weight=0.0)
    chosen.begin_step(0, 0.0)
    assert chosen.trains_backbone


def test_the_loss_needs_no_reference_in_the_stage() -> None:
    chosen = algorithm(value_warmup=0.5)
    world = tiny_world(chosen)
    joint = play(chosen, world)
    chosen.begin_step(0, 0.0)
    losses, figures = chosen.loss(replace(joint.batch, reference_log_probs=None), joint.scores)
    assert torch.allclose(losses, figures["value_loss"])
    assert torch.allclose(losses, joint.figures["value_loss"])
