"""The ten-line algorithm, and ways to break each promise of the contract."""

from pathlib import Path

from genrec_bench.algorithm import Algorithm
from genrec_bench.runs.registry import find

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
    "heads": "hidden_size, embedding_size, trie",
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

COUNTS = (
    "log_probs = scores",
    "self.calls = getattr(self, 'calls', 0) + 1; log_probs = self.calls * scores",
)

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
    "overrides": {
        "decode without a name": method("decode", DECODED, "return tree"),
        "a loss of targets that is never asked": [
            member("def target_loss(self, scores):\n    return -scores.log_probs")
        ],
        "loading what nobody keeps": [member("def load_state(self, state):\n    pass")],
        "moving an opponent that is none": [
            member("def opponent_mix(self, step):\n    return 1.0")
        ],
        "choosing without refills": method("accepts", "return seen.tree.valid.any(1)"),
    },
    "target loss": {
        "by the size of the batch": [
            member(
                "on_policy = False\ndef target_loss(self, scores):\n"
                "    return -scores.log_probs * len(scores.targets)"
            )
        ],
        "one for all targets": [
            member("def target_loss(self, scores):\n    return -scores.log_probs.sum()")
        ],
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
        "log-probabilities that it is said not to have": [member("rates_candidates = False")],
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
        "figures beside no codes": [
            ("(rewards - mean) * valid", "((rewards - mean) * valid)[..., None, None]")
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
    "gradients of each prompt alone": {
        # At ratio 1 the loss is 0, whatever its factor.
        "factor that is told from the batch": [
            (
                "log_probs = scores.log_probs.sum(-1)",
                "log_probs = (scores.log_probs - scores.log_probs.detach()).sum(-1)",
            ),
            ("log_probs).sum(1)", "log_probs).sum(1) / (1 + batch.rewards.sum())"),
        ]
    },
    "repeated calls": {"loss that counts": [COUNTS]},
    "advantages without gradients": {
        "advantage": [
            (
                "return (rewards - mean) * valid",
                "return ((rewards - mean) * valid).requires_grad_()",
            )
        ],
        "reward": [(".float()", ".float().requires_grad_()")],
    },
    "shown things stay": {
        "reward that changes the tree": [
            ("return seen.tree.hits", "seen.tree.log_probs.mul_(0.5); return seen.tree.hits")
        ],
        "reward without a meter": [
            ("return seen.tree.hits", "seen.policy.meter = print; return seen.tree.hits")
        ],
        "loss that changes the targets": [
            ("log_probs = scores", "batch.targets.clamp_(min=99); log_probs = scores")
        ],
    },
    "memory": {
        "baseline that nobody keeps": [
            (
                "mean = rewards.sum",
                "self.kept = getattr(self, 'kept', 0.0) + rewards.mean(); mean = rewards.sum",
            )
        ]
    },
    "chunks": {
        "loss by the size of a pass": [("log_probs).sum(1)", "log_probs).sum(1) * len(log_probs)")],
        "head that reads padding": [
            *method("heads", 'return {"more": torch.nn.Linear(hidden_size, 1)}'),
            (
                "log_probs = scores",
                "with scores.policy.metered('update'):\n"
                "            more = scores.policy.heads['more'](scores.node_hidden).squeeze(-1)\n"
                "        more = (more * scores.tree.is_node[:, : more.shape[1]]).sum(1)\n"
                "        log_probs = more[:, None] + scores",
            ),
        ],
    },
    "bill": {
        "network in the reward": [
            (
                "return seen.tree.hits",
                "one = __import__('torch').ones(64, 64); one @ one; return seen.tree.hits",
            )
        ],
        "rollout without a meter": method(
            "rollout",
            "meter, policy.meter = policy.meter, None",
            ROLLED,
            "policy.meter = meter",
            "return tree",
        ),
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
        "loss of targets": [
            *hyperparameters('mode: str = hyperparameter("a", choices=("a", "b"), help="which")'),
            member(
                "on_policy = False\ndef target_loss(self, scores):\n"
                "    return -scores.log_probs * {'a': 1.0}[self.hyperparameters.mode]"
            ),
        ],
    },
}


def load(folder: Path, changes: list[Change]) -> type[Algorithm]:
    text = REINFORCE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the file"
        text = text.replace(old, new)
    file = folder / "ten_lines.py"
    file.write_text(text)
    return find(str(file)).algorithm
