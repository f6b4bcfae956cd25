"""Every algorithm that is found keeps the contract; the checks catch those that do not.

``pytest tests/contract --algorithm ./mine.py`` looks at that file instead.
"""

from pathlib import Path

import pytest
import torch

from genrec_bench.algorithm import Algorithm
from genrec_bench.contract.played import Check, no_global_randomness
from genrec_bench.contract.stated import checks_for, name_of, run_check
from genrec_bench.contract.tiny_world import groups, play, tiny_catalog, tiny_world
from genrec_bench.runs.registry import discover, find
from genrec_bench.training.hyperparameters import Hyperparameters

REINFORCE = '''"""REINFORCE (Williams 1992): reward the hit; the group's mean is the baseline."""

from genrec_bench.algorithm import Algorithm


class Reinforce(Algorithm):
    """Policy gradient over the candidates that beam search finds."""

    def reward(self, seen):
        return seen.tree.hits(seen.targets).float()

    def advantage(self, seen, rewards):
        valid = seen.tree.valid
        mean = rewards.sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        return (rewards - mean) * valid

    def loss(self, batch, scores):
        log_probs = scores.log_probs.sum(-1)
        return -(batch.advantages * log_probs).sum(1), {}
'''

Change = tuple[str, str]

ARGUMENTS = {
    "rollout": "policy, prompts, group_size",
    "decode": "policy, prompts, width",
    "accepts": "seen, rewards",
    "values": "scores",
    "heads": "hidden_size",
}


def member(code: str) -> Change:
    """Put something at the beginning of the class."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return ('finds."""\n', f'finds."""\n\n{lines}')


def method(name: str, *lines: str, also: str = "") -> list[Change]:
    """Put a method at the beginning of the class, and perhaps a line of its own."""
    body = "".join(f"\n    {line}" for line in ("import dataclasses, torch", *lines))
    return [member(f"{also}\ndef {name}(self, {ARGUMENTS[name]}):{body}")]


def hyperparameters(*lines: str) -> list[Change]:
    """Put a dataclass of hyperparameters before the class, and use it."""
    body = "".join(f"    {line}\n" for line in lines)
    return [
        (
            "\n\nclass Reinforce(Algorithm):\n",
            "\nfrom dataclasses import dataclass\n"
            "from genrec_bench.algorithm import Hyperparameters, hyperparameter\n\n"
            f"@dataclass(frozen=True)\nclass Mine(Hyperparameters):\n{body}\n"
            "class Reinforce(Algorithm):\n",
        ),
        member("hyperparameters_class = Mine"),
    ]


DECODED = "tree = super().decode(policy, prompts, width)"
ROLLED = "tree = super().rollout(policy, prompts, group_size)"
MINE = 'decoding = "mine"'

# By check, the changes of REINFORCE that it must object to.
BROKEN: dict[str, dict[str, list[Change]]] = {
    "documentation": {
        "no docstring": [
            ('    """Policy gradient over the candidates that beam search finds."""\n', "")
        ]
    },
    "hyperparameters": {
        "no meaning": hyperparameters("scale: float = 1.0"),
        "no range": hyperparameters('scale: float = hyperparameter(1.0, help="s")'),
        "default of another type": hyperparameters(
            'scale: int = hyperparameter(0.5, low=0, high=1, help="s")'
        ),
        "type that cannot be written": hyperparameters(
            'scale: tuple[int, ...] = hyperparameter(None, help="s")'
        ),
        "range that is not checked": hyperparameters(
            'scale: float = hyperparameter(1.0, low=0, high=1, help="s")',
            "def __post_init__(self): pass",
        ),
    },
    "declarations": {
        "no update": [member("minibatches = 0")],
        "tokens without words": [member('tokens = ("<think>",)')],
        "refills that are no number": [member("most_refills = None")],
    },
    "rerank": {"reranks by nothing": [member("reranks = True")]},
    "decoding": {
        "no name": [member('decoding = ""')],
        "global random numbers": method(
            "decode", "torch.rand(1)", DECODED, "return tree", also=MINE
        ),
        "one candidate many times": method(
            "decode",
            DECODED,
            "paths, valid = tree.paths[:, :1], tree.valid[:, :1]",
            "return dataclasses.replace(",
            "    tree, paths=paths.expand_as(tree.paths), valid=valid.expand_as(tree.valid)",
            ")",
            also=MINE,
        ),
    },
    "values": {
        "of candidates": method(
            "values", "return scores.log_probs.sum(-1)", also="estimates_values = True"
        ),
        "of padding": method(
            "values", "return scores.node_log_probs + 1", also="estimates_values = True"
        ),
    },
    "rollout": {
        "of another size": method(
            "rollout", "return super().rollout(policy, prompts, group_size + 1)"
        ),
        "with other probabilities": method(
            "rollout",
            ROLLED,
            "return dataclasses.replace(tree, log_probs=tree.log_probs / 2)",
        ),
    },
    "steps of heads": {"without a head": [member("trains_backbone = False")]},
    "rollout leaves the policy alone": {
        "rollout that trains": method(
            "rollout",
            "policy.backbone.get_input_embeddings().weight.mul_(1.01)",
            ROLLED,
            "return tree",
        )
    },
    "rewards": {
        "at empty places": [(".float()", ".float() - 1")],
        "not finite": [(".float()", ".float().log()")],
        "of each prompt": [(".float()", ".float().sum(1)")],
    },
    "accepts": {
        "no bool for each group": method("accepts", "return rewards.sum(1)"),
        "by comparison": method(
            "accepts", "return seen.tree.valid.any(1) & (torch.arange(len(rewards)) == 0)"
        ),
    },
    "advantages": {
        "division by no deviation": [("* valid", "* valid / rewards.std(1, keepdim=True)")],
        "at empty places": [
            ("(rewards - mean) * valid", "rewards - rewards.mean(1, keepdim=True)")
        ],
    },
    "loss": {
        "one for all prompts": [(".sum(1), {}", ".sum(), {}")],
        "without a gradient": [("scores.log_probs.", "scores.log_probs.detach().")],
        "without a finite gradient": [
            (".sum(1), {}", ".sum(1) + (log_probs - log_probs.detach()).abs().sqrt().sum(1), {}")
        ],
        "one figure for all prompts": [("{}", '{"mean": log_probs.mean().detach()}')],
        "figure with a gradient": [("{}", '{"mean": log_probs.mean(1)}')],
    },
    "gradients": {
        "loss that teaches nothing": [("log_probs).sum(1)", "log_probs * 0).sum(1)")],
        "head that is not used": method(
            "heads", 'return {"value": torch.nn.Linear(hidden_size, 1)}'
        ),
        "token that is not used": [member('tokens = {"<think>": ""}')],
    },
    "loss of each prompt alone": {
        "loss that depends on the batch": [
            ("log_probs).sum(1)", "log_probs).sum(1) / (1 + batch.rewards.sum())")
        ]
    },
    "empty places": {"term without a mask": [("sum(1), {}", "sum(1) - log_probs.mean(1), {}")]},
    "order and padding": {
        "credit by place in the batch": [
            ("* valid", "* valid * (seen.targets.cumsum(0) * 0 + 1).cumsum(0)[:, None]")
        ]
    },
    "global randomness": {
        "torch's": [
            (
                "seen.tree.hits(seen.targets).float()",
                "seen.tree.hits(seen.targets) * __import__('torch').rand(1)",
            )
        ],
        "numpy's": [(".float()", ".float() * __import__('numpy').random.rand()")],
        "in what is accepted": method("accepts", "return torch.rand(len(rewards)) < 0.5"),
    },
    "determinism": {
        "random numbers without a seed": [
            (".float()", ".float() * __import__('numpy').random.default_rng().random()")
        ]
    },
    "switches": {
        "switch": [
            *hyperparameters('centre: bool = hyperparameter(True, help="subtract the mean")'),
            ("* valid", "* (valid if self.hyperparameters.centre else 1)"),
        ],
        "weight when turned on": [
            *hyperparameters('beta: float = hyperparameter(0.0, low=0, high=1, help="weight")'),
            ("sum(1), {}", "sum(1) + self.hyperparameters.beta * log_probs.mean(1), {}"),
        ],
        "choice": [
            *hyperparameters('mode: str = hyperparameter("a", choices=("a", "b"), help="which")'),
            (".float()", '.float() * {"a": 1.0}[self.hyperparameters.mode]'),
        ],
    },
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


@pytest.mark.parametrize(
    ("check", "fault"), [(check, fault) for check, faults in BROKEN.items() for fault in faults]
)
def test_a_fault_is_caught_by_the_check_of_its_promise(
    tmp_path: Path, check: str, fault: str
) -> None:
    algorithm = load(tmp_path, BROKEN[check][fault])
    (wanted,) = [each for each in checks_for(algorithm) if name_of(each) == check]
    assert run_check(wanted, algorithm) is not None


def test_every_check_is_shown_to_catch_something(tmp_path: Path) -> None:
    assert {name_of(check) for check in checks_for(load(tmp_path, []))} == set(BROKEN)


def test_a_fault_in_a_switch_names_the_switch(tmp_path: Path) -> None:
    reasons = failures(load(tmp_path, BROKEN["switches"]["choice"]))
    assert list(reasons) == ["switches"]
    assert reasons["switches"].startswith("with mode=b, ")
    assert "KeyError: 'b'" in reasons["switches"]


def test_an_exception_is_reported_with_its_line(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [("tree.hits(seen.targets)", "tree.hit(seen.targets)")])
    line = REINFORCE.splitlines().index("        return seen.tree.hits(seen.targets).float()") + 1
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
    with no_global_randomness():
        first, second, other = tiny_world(), tiny_world(), tiny_world(seed=1)
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
