"""Algorithms that remember, that count the data first, and that learn from targets in their way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fake_training import checkpoint_every_step
from torch import Tensor, nn
from watched_steps import CATALOG, EXAMPLES, GROUP_SIZE, PROMPTS

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import HIDDEN_SIZE, tiny_policy, tiny_trie
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.supervised import TargetScores
from genrec_bench.policy.trie import Trie
from genrec_bench.progress import Progress
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.groups import Seen
from genrec_bench.training.hyperparameters import Hyperparameters
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Limit, train
from genrec_bench.training.memory import load_memory, memory_of, remember, save_memory
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.training_data import TrainingData
from genrec_bench.training.workers import Workers

CPU = torch.device("cpu")


class Remembers(GRPO):
    """Its baseline is a moving average; popular SIDs count less; a network of its own is frozen."""

    def __init__(self, hyperparameters: GRPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.average = torch.zeros(())
        self.popularity = torch.zeros(0)
        self.network: nn.Module | None = None

    def heads(self, hidden_size: int, embedding_size: int, trie: Trie) -> Mapping[str, nn.Module]:
        self.network = nn.Linear(1, trie.num_leaves)
        return {}

    def begin(self, data: TrainingData) -> None:
        assert isinstance(self.network, nn.Linear)
        self.popularity = data.sid_counts.float()
        with torch.no_grad():
            nn.init.normal_(self.network.weight, generator=torch.Generator().manual_seed(3))
            torch.ones(8, 8) @ torch.ones(8, 8)

    def state(self) -> Mapping[str, Tensor | nn.Module]:
        assert self.network is not None
        kept = {"average": self.average, "popularity": self.popularity}
        return {**kept, "network": self.network}

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        assert isinstance(self.network, nn.Linear)
        rows = seen.tree.trie.sid_index(seen.tree.leaves).clamp(min=0)
        worth = self.popularity[rows] * self.network.weight[rows, 0].detach().abs()
        found = (rewards - self.average) / (1 + worth) * seen.tree.valid
        self.average = 0.5 * self.average + 0.5 * rewards.mean()
        return found


class Forgets(Remembers):
    """The same, without telling."""

    def state(self) -> Mapping[str, Tensor | nn.Module]:
        return {name: value for name, value in super().state().items() if name != "average"}


def algorithm_of(kind: type[Remembers]) -> Remembers:
    return kind(GRPOHyperparameters(reward="rank"))


def trained(
    algorithm: Algorithm, folder: Path, steps: int, budget: str | None = None
) -> tuple[Policy, pd.DataFrame, Ledger]:
    """Train a tiny policy, or go on with it; checkpoints stay."""
    torch.manual_seed(0)
    heads = algorithm.heads(HIDDEN_SIZE, 0, tiny_trie(CATALOG))
    policy, workers = tiny_policy(CATALOG, heads=heads), Workers()
    ledger = policy.meter = Ledger(CPU)
    rates: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.0, "warmup": 0.0}
    optimization = Optimization(policy, workers, max_grad_norm=1.0, **rates)
    sizes: dict[str, Any] = {"group_size": GROUP_SIZE, "prompts_per_step": PROMPTS, "seed": 0}
    stepper: RolloutStepper | SupervisedStepper
    if algorithm.on_policy:
        stepper = RolloutStepper(
            policy, algorithm, EXAMPLES, optimization, ledger, workers, **sizes
        )
    else:
        stepper = SupervisedStepper(
            policy,
            EXAMPLES,
            optimization,
            ledger,
            workers,
            batch=PROMPTS,
            seed=0,
            phase="update",
            algorithm=algorithm,
        )
    limit = Limit(parse_exact(budget) if budget else None, steps)
    quiet = Progress(quiet=True)
    with checkpoint_every_step():
        curves = train(stepper, optimization, ledger, limit, workers, folder, quiet)
    return policy, curves, ledger


def weights(policy: Policy) -> Tensor:
    return torch.cat([value.flatten() for value in policy.backbone.state_dict().values()])


class Stop(Exception):
    pass


def interrupted(kind: type[Remembers], folder: Path, after: int) -> None:
    """Train until the process dies in the middle of a step."""
    algorithm = algorithm_of(kind)
    reward, calls = algorithm.reward, [0]

    def dies(seen: Seen) -> Tensor:
        calls[0] += 1
        if calls[0] > after:
            raise Stop
        return reward(seen)

    algorithm.reward = dies  # type: ignore[method-assign]
    with pytest.raises(Stop):
        trained(algorithm, folder, 4)


@pytest.mark.parametrize(("kind", "same"), [(Remembers, True), (Forgets, False)])
def test_what_is_in_the_state_outlives_a_kill(
    tmp_path: Path, kind: type[Remembers], same: bool
) -> None:
    whole, curves, ledger = trained(algorithm_of(kind), tmp_path / "whole", 4)
    interrupted(kind, tmp_path / "cut", 2)
    again = algorithm_of(kind)
    resumed, its_curves, its_ledger = trained(again, tmp_path / "cut", 4)
    assert torch.equal(weights(whole), weights(resumed)) is same
    kept = [name for name in curves if name != "seconds"]
    if same:
        pd.testing.assert_frame_equal(curves[kept], its_curves[kept], check_exact=True)
        # `begin` was billed once, and not when the run went on.
        for phase, cost in ledger.spent.items():
            assert its_ledger.spent[phase].flops == cost.flops
        assert again.average.item() != 0


def test_what_comes_before_the_first_step_is_billed_and_counts_against_the_budget(
    tmp_path: Path,
) -> None:
    _, curves, ledger = trained(algorithm_of(Remembers), tmp_path, 1, "40Mflop")
    assert curves["step"].tolist()[:2] == [0, 1]
    first = curves.iloc[0]
    assert first["flops"] == 2 * 8**3 and first["share"] == pytest.approx(2 * 8**3 / 40e6)
    assert curves["flops"].iloc[-1] == sum(cost.flops for cost in ledger.spent.values())
    plain = GRPO(GRPOHyperparameters(reward="rank"))
    _, others, _ = trained(plain, tmp_path / "plain", 1, "40Mflop")
    assert others["step"].tolist()[0] == 1, "who begins with nothing has no such row"


def test_the_training_split_is_counted_by_prefix() -> None:
    policy = tiny_policy(CATALOG)
    data = TrainingData(EXAMPLES, policy.trie, policy.item_leaves)
    trie, counts = policy.trie, data.prefix_counts.tolist()
    targets = [CATALOG.sids[item].tolist() for item in EXAMPLES.targets]
    assert counts[0] == len(EXAMPLES) and counts[trie.dead] == 0
    for sid, leaf in ((targets[0], data.targets[0]), (targets[7], data.targets[7])):
        for level, state in enumerate(trie.prefixes(leaf).tolist(), start=1):
            assert counts[state] == sum(other[:level] == sid[:level] for other in targets)
    assert int(data.sid_counts.sum()) == len(EXAMPLES)
    assert len(data.sid_counts) == trie.num_leaves


def test_a_memory_is_written_beside_a_policy_and_read_back(tmp_path: Path) -> None:
    first, second = (algorithm_of(Remembers) for _ in range(2))
    for one in (first, second):
        one.heads(HIDDEN_SIZE, 0, tiny_trie(CATALOG))
    policy = tiny_policy(CATALOG)
    first.begin(TrainingData(EXAMPLES, policy.trie, policy.item_leaves))
    first.average = torch.tensor(0.25)
    save_memory(first, tmp_path)
    load_memory(second, tmp_path, CPU)
    for name, tensor in memory_of(first).items():
        assert torch.equal(memory_of(second)[name], tensor), name
    assert set(memory_of(first)) == {"average", "popularity", "network.weight", "network.bias"}
    save_memory(GRPO(GRPOHyperparameters()), tmp_path / "nothing is written")
    (tmp_path / "algorithm.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="algorithm.safetensors: cannot be read"):
        load_memory(second, tmp_path, CPU)


@pytest.mark.parametrize(
    ("state", "words"),
    [({"calls": 3}, "'calls' is int"), ({"a.b": torch.ones(1)}, "a name without a dot")],
)
def test_what_cannot_be_kept_is_refused(state: dict[str, Any], words: str) -> None:
    algorithm = algorithm_of(Remembers)
    algorithm.state = lambda: state  # type: ignore[method-assign]
    with pytest.raises(UserError, match=words):
        memory_of(algorithm)


def test_another_networks_weights_are_refused() -> None:
    algorithm = algorithm_of(Remembers)
    algorithm.heads(HIDDEN_SIZE, 0, tiny_trie(CATALOG))
    with pytest.raises(UserError, match="module 'network' is not the one that was kept"):
        remember(algorithm, {"network.weight": torch.ones(2, 2)}, CPU)


# The supervised path


class Sharper(Algorithm):
    """Weighs a code by how far it stands below the best one: a loss of its own, at SFT's price."""

    on_policy = False

    def target_loss(self, scores: TargetScores) -> Tensor:
        _, children = scores.children()
        gap = children.amax(dim=-1) - scores.log_probs
        return (-scores.log_probs + gap.clamp(max=4.0)).sum(dim=-1)


class Plain(Algorithm):
    """SFT."""

    on_policy = False


class Mixed(GRPO):
    """Two steps on targets, then one on a rollout; the reference is what SFT left."""

    rolls_out = True

    def begin_step(self, step: int, share: float) -> None:
        self.rolls_out = step % 3 == 2

    def reference_mix(self, step: int) -> float:
        return float(step % 3 == 2)

    target_loss = Sharper.target_loss


def test_a_loss_of_ones_own_costs_what_sft_costs(tmp_path: Path) -> None:
    none = Hyperparameters()
    plain, _, ledger = trained(Plain(none), tmp_path / "plain", 2)
    other, _, its_ledger = trained(Sharper(none), tmp_path / "sharper", 2)
    assert not torch.equal(weights(plain), weights(other))
    assert its_ledger.spent["update"].flops == ledger.spent["update"].flops
    assert its_ledger.spent["update"].tokens == ledger.spent["update"].tokens


def test_steps_on_targets_and_on_rollouts_take_turns(tmp_path: Path) -> None:
    policy, curves, ledger = trained(
        Mixed(GRPOHyperparameters(reward="rank", beta=0.1)), tmp_path, 6
    )
    assert curves["supervised"].fillna(0).tolist() == [1, 1, 0, 1, 1, 0]
    assert curves["reward"].notna().tolist() == [False, False, True, False, False, True]
    # The reference was moved to the policy just before, so that the divergence is 0.
    assert curves["divergence"].dropna().abs().max() < 1e-6
    assert np.diff(curves["tokens"]).min() > 0 and set(ledger.spent) >= {"rollout", "update"}


def test_a_mixture_goes_on_where_it_was(tmp_path: Path) -> None:
    def mixed() -> Mixed:
        return Mixed(GRPOHyperparameters(reward="rank", beta=0.1))

    whole, *_ = trained(mixed(), tmp_path / "whole", 5)

    class Dies(Mixed):
        def begin_step(self, step: int, share: float) -> None:
            super().begin_step(step, share)
            if step == 4:
                raise Stop

    with pytest.raises(Stop):
        trained(Dies(GRPOHyperparameters(reward="rank", beta=0.1)), tmp_path / "cut", 5)
    resumed, *_ = trained(mixed(), tmp_path / "cut", 5)
    assert torch.equal(weights(whole), weights(resumed))


def test_sfts_own_path_is_that_of_the_default(tmp_path: Path) -> None:
    found: list[TargetScores] = []
    keep: Callable[[TargetScores], None] = found.append

    class Watches(Plain):
        def target_loss(self, scores: TargetScores) -> Tensor:
            keep(scores)
            return super().target_loss(scores)

    trained(Watches(Hyperparameters()), tmp_path, 1)
    for scores in found:
        count, levels = scores.log_probs.shape
        assert scores.hidden.shape == (count, levels, HIDDEN_SIZE)
        logits = scores.logits - scores.log_normalizer.unsqueeze(-1)
        path = scores.policy.trie.prefixes(scores.targets)
        own = logits.gather(-1, scores.policy.trie.code[path].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(own, scores.log_probs)
