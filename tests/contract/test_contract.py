"""Every algorithm that is found keeps the contract; the checks catch those that do not.

``pytest tests/test_contract.py --algorithm ./mine.py`` looks at that file instead.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrec_bench.algorithm import Algorithm
from genrec_bench.contract.played import Check
from genrec_bench.contract.stated import checks_for, name_of, run_check
from genrec_bench.contract.tiny_world import groups, play, tiny_catalog, tiny_world
from genrec_bench.runs.registry import discover, find
from genrec_bench.training.hyperparameters import Hyperparameters

REINFORCE = '''"""REINFORCE (Williams 1992): reward the hit; the group's mean is the baseline."""

from genrec_bench.algorithm import Algorithm


class Reinforce(Algorithm):
    """Policy gradient over the candidates that beam search finds."""

    def reward(self, tree, targets):
        return tree.hits(targets).float()

    def advantage(self, tree, targets, rewards):
        mean = rewards.sum(1, keepdim=True) / tree.valid.sum(1, keepdim=True)
        return (rewards - mean) * tree.valid

    def loss(self, batch, scores):
        log_probs = scores.log_probs.sum(-1)
        return -(batch.advantages * log_probs).sum(1), {}
'''

Change = tuple[str, str]


def member(code: str) -> Change:
    """Put something at the beginning of the class."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return ('finds."""\n', f'finds."""\n\n{lines}')


def hyperparameters(*lines: str) -> Change:
    """Put a dataclass of hyperparameters before the class."""
    body = "".join(f"    {line}\n" for line in lines)
    return (
        "\n\nclass Reinforce(Algorithm):\n",
        "\nfrom dataclasses import dataclass\n"
        "from genrec_bench.algorithm import Hyperparameters, hyperparameter\n\n"
        f"@dataclass(frozen=True)\nclass Mine(Hyperparameters):\n{body}\n"
        "class Reinforce(Algorithm):\n",
    )


USE = member("hyperparameters_class = Mine")
ROLLOUT = "def rollout(self, policy, prompts, group_size):\n"
DECODE = "def decode(self, policy, prompts, width):\n"
FOUND = "    return super().decode(policy, prompts, width)"

# The check that must object to REINFORCE after these changes.
BROKEN: dict[str, tuple[str, list[Change]]] = {
    "no docstring": (
        "documentation",
        [('    """Policy gradient over the candidates that beam search finds."""\n', "")],
    ),
    "no meaning": ("hyperparameters", [hyperparameters("scale: float = 1.0"), USE]),
    "no range": (
        "hyperparameters",
        [hyperparameters('scale: float = hyperparameter(1.0, help="s")'), USE],
    ),
    "default of another type": (
        "hyperparameters",
        [hyperparameters('scale: int = hyperparameter(0.5, low=0, high=1, help="s")'), USE],
    ),
    "type that cannot be written": (
        "hyperparameters",
        [hyperparameters('scale: tuple[int, ...] = hyperparameter(None, help="s")'), USE],
    ),
    "range that is not checked": (
        "hyperparameters",
        [
            hyperparameters(
                'scale: float = hyperparameter(1.0, low=0, high=1, help="s")',
                "def __post_init__(self): pass",
            ),
            USE,
        ],
    ),
    "no update": ("declarations", [member("minibatches = 0")]),
    "token twice": ("declarations", [member('tokens = ("<think>", "<think>")')]),
    "reranks by nothing": ("rerank", [member("reranks = True")]),
    "decoding without a name": ("decoding", [member('decoding = ""')]),
    "decoding by global random numbers": (
        "decoding",
        [member('decoding = "mine"\n' + DECODE + '    __import__("torch").rand(1)\n' + FOUND)],
    ),
    "decoding of one candidate many times": (
        "decoding",
        [
            member(
                'decoding = "mine"\n' + DECODE + "    import dataclasses\n"
                "    tree = super().decode(policy, prompts, width)\n"
                "    paths, valid = tree.paths[:, :1], tree.valid[:, :1]\n"
                "    return dataclasses.replace(\n"
                "        tree,\n"
                "        paths=paths.expand_as(tree.paths),\n"
                "        valid=valid.expand_as(tree.valid),\n"
                "    )"
            )
        ],
    ),
    "values of candidates": (
        "values",
        [
            member(
                "estimates_values = True\n"
                "def values(self, scores):\n    return scores.log_probs.sum(-1)"
            )
        ],
    ),
    "values of padding": (
        "values",
        [
            member(
                "estimates_values = True\n"
                "def values(self, scores):\n    return scores.node_log_probs + 1"
            )
        ],
    ),
    "rollout of another size": (
        "rollout",
        [member(ROLLOUT + "    return super().rollout(policy, prompts, group_size + 1)")],
    ),
    "rollout with other probabilities": (
        "rollout",
        [
            member(
                ROLLOUT + "    import dataclasses\n"
                "    tree = super().rollout(policy, prompts, group_size)\n"
                "    return dataclasses.replace(tree, log_probs=tree.log_probs / 2)"
            )
        ],
    ),
    "rollout that trains": (
        "rollout leaves the policy alone",
        [
            member(
                ROLLOUT + "    tree = super().rollout(policy, prompts, group_size)\n"
                "    policy.backbone.get_input_embeddings().weight.mul_(1.01)\n"
                "    return tree"
            )
        ],
    ),
    "reward at empty places": ("rewards", [(".float()", ".float() - 1")]),
    "reward that is not finite": ("rewards", [(".float()", ".float().log()")]),
    "reward of each prompt": ("rewards", [(".float()", ".float().sum(1)")]),
    "no bool for each group": (
        "accepts",
        [member("def accepts(self, tree, targets, rewards):\n    return rewards.sum(1)")],
    ),
    "groups accepted by comparison": (
        "accepts",
        [
            member(
                "def accepts(self, tree, targets, rewards):\n"
                "    import torch\n"
                "    return tree.valid.any(1) & (torch.arange(len(rewards)) == 0)"
            )
        ],
    ),
    "refills that are no number": ("declarations", [member("most_refills = None")]),
    "division by no deviation": (
        "advantages",
        [("* tree.valid", "* tree.valid / rewards.std(1, keepdim=True)")],
    ),
    "credit at empty places": (
        "advantages",
        [("(rewards - mean) * tree.valid", "rewards - rewards.mean(1, keepdim=True)")],
    ),
    "one loss for all prompts": ("loss", [(".sum(1), {}", ".sum(), {}")]),
    "loss without a gradient": ("loss", [("scores.log_probs.", "scores.log_probs.detach().")]),
    "loss without a finite gradient": (
        "loss",
        [(".sum(1), {}", ".sum(1) + (log_probs - log_probs.detach()).abs().sqrt().sum(1), {}")],
    ),
    "one figure for all prompts": ("loss", [("{}", '{"mean": log_probs.mean().detach()}')]),
    "figure with a gradient": ("loss", [("{}", '{"mean": log_probs.mean(1)}')]),
    "loss that teaches nothing": ("gradients", [("log_probs).sum(1)", "log_probs * 0).sum(1)")]),
    "head that is not used": (
        "gradients",
        [
            member(
                "def heads(self, hidden_size):\n"
                "    import torch\n"
                '    return {"value": torch.nn.Linear(hidden_size, 1)}'
            )
        ],
    ),
    "token that is not used": ("gradients", [member('tokens = ("<think>",)')]),
    "loss that depends on the batch": (
        "loss of each prompt alone",
        [("log_probs).sum(1)", "log_probs).sum(1) / (1 + batch.rewards.sum())")],
    ),
    "term without a mask": ("empty places", [("sum(1), {}", "sum(1) - log_probs.mean(1), {}")]),
    "credit by place in the batch": (
        "order and padding",
        [("* tree.valid", "* tree.valid * (targets.cumsum(0) * 0 + 1).cumsum(0)[:, None]")],
    ),
    "global random numbers": (
        "global randomness",
        [("tree.hits(targets).float()", "tree.hits(targets) * __import__('torch').rand(1)")],
    ),
    "numpy's random numbers": (
        "global randomness",
        [(".float()", ".float() * __import__('numpy').random.rand()")],
    ),
    "random acceptance": (
        "global randomness",
        [
            member(
                "def accepts(self, tree, targets, rewards):\n"
                "    import torch\n"
                "    return torch.rand(len(targets)) < 0.5"
            )
        ],
    ),
    "random numbers without a seed": (
        "determinism",
        [(".float()", ".float() * __import__('numpy').random.default_rng().random()")],
    ),
    "switch that breaks it": (
        "switches",
        [
            hyperparameters('centre: bool = hyperparameter(True, help="subtract the mean")'),
            USE,
            ("* tree.valid", "* (tree.valid if self.hyperparameters.centre else 1)"),
        ],
    ),
    "weight that breaks it when turned on": (
        "switches",
        [
            hyperparameters('beta: float = hyperparameter(0.0, low=0, high=1, help="weight")'),
            USE,
            ("sum(1), {}", "sum(1) + self.hyperparameters.beta * log_probs.mean(1), {}"),
        ],
    ),
    "choice that breaks it": (
        "switches",
        [
            hyperparameters(
                'mode: str = hyperparameter("a", choices=("a", "b"), help="which")',
            ),
            USE,
            (".float()", '.float() * {"a": 1.0}[self.hyperparameters.mode]'),
        ],
    ),
}


def load(folder: Path, changes: list[Change]) -> type[Algorithm]:
    text = REINFORCE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the file"
        text = text.replace(old, new)
    file = folder / "reinforce.py"
    file.write_text(text)
    return find(str(file)).algorithm


def failures(algorithm: type[Algorithm]) -> dict[str, str]:
    reasons = {name_of(check): run_check(check, algorithm) for check in checks_for(algorithm)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "found" not in metafunc.fixturenames:
        return
    path = metafunc.config.getoption("--algorithm")
    entries = discover().entries if path is None else (find(str(path.resolve())),)
    cases = [(entry, check) for entry in entries for check in checks_for(entry.algorithm)]
    metafunc.parametrize(
        ("found", "check"),
        [(entry.algorithm, check) for entry, check in cases],
        ids=[f"{entry.name}-{name_of(check).replace(' ', '-')}" for entry, check in cases],
    )


def test_contract(found: type[Algorithm], check: Check) -> None:
    assert (reason := run_check(check, found)) is None, f"{check.__doc__} But {reason}"


def test_a_good_algorithm_passes_every_check(tmp_path: Path) -> None:
    assert failures(load(tmp_path, [])) == {}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_caught_by_the_check_of_its_promise(tmp_path: Path, fault: str) -> None:
    check, changes = BROKEN[fault]
    algorithm = load(tmp_path, changes)
    (wanted,) = [each for each in checks_for(algorithm) if name_of(each) == check]
    assert run_check(wanted, algorithm) is not None


def test_every_check_is_shown_to_catch_something(tmp_path: Path) -> None:
    names = {name_of(check) for check in checks_for(load(tmp_path, []))}
    assert names == {check for check, _ in BROKEN.values()}


def test_a_fault_in_a_switch_names_the_switch(tmp_path: Path) -> None:
    reasons = failures(load(tmp_path, BROKEN["choice that breaks it"][1]))
    assert list(reasons) == ["switches"]
    assert reasons["switches"].startswith("with mode=b, ")
    assert "KeyError: 'b'" in reasons["switches"]


def test_an_exception_is_reported_with_its_line(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [("tree.hits(targets)", "tree.hit(targets)")])
    line = REINFORCE.splitlines().index("        return tree.hits(targets).float()") + 1
    reason = failures(algorithm)["rewards"]
    assert reason.startswith(f"line {line}: AttributeError: ")


def test_an_algorithm_that_never_rolls_out_promises_less() -> None:
    class Control(Algorithm):
        """Learns from targets alone."""

        on_policy = False

    assert "rewards" not in {name_of(check) for check in checks_for(Control)}
    assert failures(Control) == {}


def test_the_tiny_world_holds_what_the_checks_need(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [])(Hyperparameters())
    world = tiny_world(algorithm)
    lengths = world.prompts.lengths.tolist()
    assert lengths == [4, 7, 10, 13, 4], "a start token and three codes an item"
    hits = {}
    for name, (tree, targets) in groups(algorithm, world).items():
        ranks = torch.where(tree.hits(targets), tree.ranks(), -1).amax(dim=1)
        hits[name] = ranks.tolist()
        if name.startswith("one real candidate"):
            assert tree.valid.sum(dim=1).tolist() == [1] * 5
        if name == "more places than SIDs":
            assert tree.valid.sum(dim=1).tolist() == [20] * 5 and tree.group_size == 23
    assert hits["a hit at rank 0"] == hits["one real candidate, a hit"] == [0] * 5
    assert hits["a hit at the last rank"] == [5] * 5
    assert hits["no hit"] == hits["one real candidate, no hit"] == [-1] * 5
    assert {rank >= 0 for rank in hits["a rollout"]} == {True, False}, "hits and misses in a batch"


def test_the_tiny_world_comes_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states: list[Any] = [torch.get_rng_state(), random.getstate(), np.random.get_state()]
    first, second, other = tiny_world(), tiny_world(), tiny_world(seed=1)
    now: list[Any] = [torch.get_rng_state(), random.getstate(), np.random.get_state()]
    assert torch.equal(states[0], now[0]) and states[1] == now[1]
    assert (states[2][1] == now[2][1]).all() and states[2][2:] == now[2][2:]
    for name, weight in first.policy.state_dict().items():
        assert torch.equal(weight, second.policy.state_dict()[name])
    name = "backbone.lm_head.weight"
    assert not torch.equal(first.policy.state_dict()[name], other.policy.state_dict()[name])


def test_the_tiny_catalog_shares_one_sid() -> None:
    catalog = tiny_catalog()
    assert (catalog.num_items, len(catalog.unique_sids), catalog.num_levels) == (21, 20, 3)
    assert catalog.items_of_sid(int(catalog.sid_of_item[0])).tolist() == [20, 0]


def test_play_computes_the_loss_of_the_file(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [])(Hyperparameters())
    world = tiny_world(algorithm)
    # One hit among six candidates: its advantage is 5/6, that of the others -1/6.
    tree, targets = groups(algorithm, world)["a hit at rank 0"]
    played = play(algorithm, world, tree, targets)
    s = tree.sequence_log_probs().sort(dim=1, descending=True).values
    by_hand = -(5 * s[:, 0] - s[:, 1:].sum(dim=1)) / 6
    assert torch.allclose(played.losses, by_hand, atol=1e-4)
