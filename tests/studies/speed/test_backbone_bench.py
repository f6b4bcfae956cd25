"""A miniature of ``genrec-bench bench --backbone``: a step at a shape without weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_bench import MINIATURE, SMALL
from tiny_runs import call, only_error

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data.dataset import Examples
from genrec_bench.policy import shapes
from genrec_bench.studies.speed.backbone_bench import (
    _padding_of,
    backbone_text,
    bench_backbone,
    find_shape,
)
from genrec_bench.studies.speed.bench import random_examples
from genrec_bench.studies.speed.contenders import Ours, random_policy

SHAPE = {
    "model_type": "qwen2",
    "vocab_size": 500,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


@pytest.fixture
def shape(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(shapes.SHAPES, "some/body", SHAPE)
    return "some/body"


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_figures_fit_together(shape: str, precision: Any) -> None:
    result = bench_backbone(shape, precision=precision, prompts=3, device="cpu", workload=MINIATURE)
    phases, step = result["phases"], result["step"]
    assert set(phases) == {"rollout", "update", "optimizer"}
    assert step["ms"] == pytest.approx(sum(phase["ms"] for phase in phases.values()))
    assert step["prompts_per_s"] * step["ms"] == pytest.approx(3e3)
    for name in ("rollout", "update"):
        assert phases[name]["memory_bytes"] > 0 and 0 <= phases[name]["padding"] < 1
        theirs = result["transformers"][name]
        assert theirs["speedup"] * phases[name]["ms"] == pytest.approx(theirs["ms"])
    assert result["precision"] == precision
    # In 16 bits near candidates change places.
    assert result["candidates_in_common"] >= (0.99 if precision == "fp32" else 0.5)
    assert result["parameters"] < 60_000 and result["workload"]["num_prompts"] == 3
    assert f"{step['ms']:,.1f}" in backbone_text(result)


def test_padding_is_counted_where_there_is_any() -> None:
    catalog = tiny_catalog()
    policy = random_policy(SMALL, catalog, torch.device("cpu"))
    histories = [[0, 1], [2]]
    ours = Ours(policy, Examples.from_lists(range(2), histories, [0, 0]), 3)
    with _padding_of(policy) as found, torch.no_grad():
        ours.rollout()
    assert "hidden" not in vars(policy)
    # Prompts of 7 and 4 tokens in a grid of 14 positions come first.
    assert found.tokens < found.positions and 0 < found.share < 0.5
    with _padding_of(policy) as even:
        Ours(policy, random_examples(catalog, MINIATURE), 1)
    assert even.tokens == even.positions and even.share == 0


def test_a_shape_is_a_name_a_file_or_a_folder(shape: str, tmp_path: Path) -> None:
    assert find_shape(shape).hidden_size == 32 and find_shape("tiny").hidden_size == 128
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**SHAPE, "hidden_size": 16, "architectures": ["Qwen2ForCausalLM"]}))
    assert find_shape(str(file)).hidden_size == find_shape(str(tmp_path)).hidden_size == 16


def test_what_is_no_shape_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, (text, said) in enumerate(
        [("", "no shape"), ("[]", "no shape"), ('{"model_type": "t5"}', "no shape"), ("{", "no")]
    ):
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        assert said in only_error(call(capsys, ["bench", "--backbone", str(file)]))
    error = only_error(call(capsys, ["bench", "--backbone", "Qwen/Qwen2.5-05B"]))
    assert "no such file or folder, and no shape that is known here" in error
    assert "did you mean 'Qwen/Qwen2.5-0.5B'" in error
    error = only_error(call(capsys, ["bench", "--backbone", "tiny", "--precision", "bf16"]))
    assert "--precision" in error
