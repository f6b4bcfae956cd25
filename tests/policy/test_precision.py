"""What is computed in 16 bits, what is kept in 32, and where that is chosen by itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy.adapters import add_adapters, merge_adapters
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.precision import PRECISIONS, Precision, shrink_frozen, usual_precision
from genrec_bench.policy.scoring import score
from genrec_bench.runs.record_schema import EXTERNAL
from genrec_bench.runs.run_config import config_of
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings, as_asked
from genrec_bench.training.workers import Workers

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG)


@pytest.mark.parametrize(
    ("gpu", "computes", "told_cpu", "expected"),
    [
        (False, False, "", "fp32"),
        (True, True, "", "bf16-mixed"),
        (True, False, "", "fp32"),
        (True, True, "true", "fp32"),
    ],
)
def test_what_is_usual_depends_on_the_device(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, computes: bool, told_cpu: str, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: computes)
    monkeypatch.setenv("ACCELERATE_USE_CPU", told_cpu or "false")
    assert usual_precision() == Settings().precision == expected
    assert Settings(precision="fp32").precision == "fp32"


def test_records_say_it_by_the_name_that_they_always_had() -> None:
    given = [Settings(precision=name, lora_rank=8) for name in PRECISIONS]
    stored = [settings.resolved() for settings in given]
    assert [values["dtype"] for values in stored] == ["float32", "bf16-mixed", "bf16"]
    assert all("precision" not in {**settings.sft(), **settings.resolved()} for settings in given)
    assert [as_asked(values)["precision"] for values in stored] == list(PRECISIONS)
    assert as_asked({"steps": 3}) == {"steps": 3}


@pytest.mark.parametrize(("dtype", "asked"), [("float32", "fp32"), ("bfloat16", "bf16")])
def test_records_of_before_can_be_asked_for_again(dtype: str, asked: str) -> None:
    record = {
        "algorithm": "grpo",
        "dataset": "synthetic",
        "track": {"backbone": "tiny"},
        "budget": {"limit": None},
        "seed": 0,
        "configuration": {"hyperparameters": {}, "settings": {"dtype": dtype, "steps": 2}},
    }
    assert dict(config_of(record).set) == {"precision": asked, "steps": 2}


def test_all_committed_records_can_be_asked_for_again() -> None:
    folder = Path(__file__).parents[2] / "leaderboards"
    records = [json.loads(path.read_text()) for path in sorted(folder.rglob("record.json"))]
    ours = [record for record in records if record.get("kind") != EXTERNAL]
    assert ours
    for record in ours:
        assert config_of(record).set["precision"] == "fp32"


def adapted(precision: Precision) -> Policy:
    """A policy with adapters, its frozen weights in as many bits as they have in runs."""
    policy = tiny_policy(CATALOG)
    policy.precision = precision
    if precision == "bf16":
        shrink_frozen(policy.backbone)
    torch.manual_seed(0)
    add_adapters(policy, 2)
    return policy


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_trained_is_in_32_bits(precision: Precision) -> None:
    policy = adapted(precision)
    trained = {p.dtype for p in policy.parameters() if p.requires_grad}
    frozen = {p.dtype for p in policy.parameters() if not p.requires_grad}
    assert trained == {torch.float32}
    assert frozen == {torch.bfloat16 if precision == "bf16" else torch.float32}
    sizes: dict[str, Any] = {
        "weight_decay": 0.0,
        "warmup": 0.0,
        "max_grad_norm": 1.0,
        "learning_rate": 1e-3,
    }
    optimization = Optimization(policy, Workers(), **sizes)
    prompts = policy.prompt_format.encode(EXAMPLES, np.arange(len(EXAMPLES)))
    tree = beam_search(policy, prompts, 4)
    score(policy, prompts, tree).log_probs.sum().backward()
    optimization.step(0.5, 0.0, "here")
    moments = optimization.state().values()
    assert moments and {value.dtype for value in moments} == {torch.float32}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_adapters_learned_is_not_lost_where_they_are_merged(precision: Precision) -> None:
    policy = adapted(precision)
    before = {name: p.detach().float().clone() for name, p in policy.named_parameters()}
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                # Less than half of a step of bfloat16 near most weights.
                parameter.fill_(1e-4)
    merge_adapters(policy)
    weights = {name: p for name, p in policy.named_parameters() if "q_proj" in name}
    assert weights
    for name, weight in weights.items():
        start = before[
            name.replace("backbone.", "backbone.base_model.model.", 1).replace(
                "q_proj.", "q_proj.base_layer."
            )
        ]
        assert weight.dtype == torch.float32
        assert (weight != start).float().mean() > 0.99


@pytest.mark.parametrize("kind", ["backbone", "head", "adapters"])
def test_nothing_is_trained_in_16_bits(kind: str) -> None:
    policy = tiny_policy(CATALOG, heads={"value": nn.Linear(16, 1)})
    if kind == "adapters":
        add_adapters(policy, 2)
    part = {"backbone": policy.backbone, "head": policy.heads, "adapters": policy.backbone}[kind]
    part.to(torch.bfloat16)
    sizes: dict[str, Any] = {
        "weight_decay": 0.0,
        "warmup": 0.0,
        "max_grad_norm": 1.0,
        "learning_rate": 1e-3,
    }
    with pytest.raises(UserError, match=r"is trained in torch.bfloat16, in which most updates"):
        Optimization(policy, Workers(), **sizes)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_a_tree_reads_like_in_32_bits_but_for_rounding(precision: Precision) -> None:
    found = []
    for each in ("fp32", precision):
        policy = tiny_policy(CATALOG)
        policy.precision = each
        if each == "bf16":
            shrink_frozen(policy.backbone)
        prompts = policy.prompt_format.encode(EXAMPLES, np.arange(len(EXAMPLES)))
        with torch.no_grad():
            tree = beam_search(tiny_policy(CATALOG), prompts, 6)
            scores = score(policy, prompts, tree)
        assert scores.root_hidden.dtype == scores.log_probs.dtype == torch.float32
        found.append(scores.log_probs)
    apart = (found[0] - found[1]).abs()
    assert 1e-5 < float(apart.max()) < 0.25 and float(apart.mean()) < 0.05
