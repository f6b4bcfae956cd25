"""Policies stored as adapters: the same policy is found again where their SFT start is."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import DATASET, load, save_backbone, save_model
from sweep_world import quick_context
from tiny_runs import NUM_ITEMS, Called, call, only_error, run_folders, run_words
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy.adapters import add_adapters, load_adapter, merge_adapters
from genrec_bench.policy.added_tokens import start_tokens
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import score
from genrec_bench.runs import run as run_module
from genrec_bench.runs.evaluate_again import evaluate_again
from genrec_bench.runs.jobs import Job, do, load_policy
from genrec_bench.runs.opened_policy import open_policy
from genrec_bench.runs.policy_folder import write_policy_folder
from genrec_bench.runs.records import read_record
from genrec_bench.training.checkpoints import save_policy
from genrec_bench.training.settings import Settings

Capture = pytest.CaptureFixture[str]
LORA = ("lora_rank=2", "pass_samples=0", "validations=0", "learning_rate=0.05")
ALGORITHMS = {
    "plain": ("grpo", *LORA),
    "added tokens": ("ugr", *LORA, "rerank=true", "steps=4"),
    "heads": (
        *("vstar", *LORA, "inference=ved", "initial_beam=2"),
        "value_features=probability,cosine,embeddings",
    ),
    "16 bits": ("grpo", *LORA, "precision=bf16"),
    "mixed": ("grpo", *LORA, "precision=bf16-mixed"),
    "level": ("grpo", *LORA, "logprob_space=level"),
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run, and the log-probabilities that its policy gave at the end of training."""

    folder: Path
    data: Path
    words: tuple[str, ...]
    log_probs: Tensor

    @property
    def policy(self) -> Path:
        return self.folder / "policy"


def log_probs_of(policy: Policy) -> Tensor:
    """Of the trees of a beam, with what an algorithm's added tokens read at their leaves."""
    policy.eval()
    prompts = policy.prompt_format.encode(DATASET.test, np.arange(8))
    with torch.no_grad():
        scores = score(policy, prompts, beam_search(policy, prompts, 6), leaves=True)
        more = scores.leaf_logits(list(policy.extra_tokens.values()))
    return torch.cat([scores.log_probs.flatten(), more.flatten()])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    known: dict[str, Trained] = {}

    def train(kind: str) -> Trained:
        if kind not in known:
            algorithm, *words = ALGORITHMS[kind]
            seen: list[Tensor] = []

            def watched(policy: Policy, *rest: Any) -> None:
                meter, policy.meter = policy.meter, None  # nothing is charged outside of a phase
                seen.append(log_probs_of(policy))
                policy.meter = meter
                write_policy_folder(policy, *rest)

            context = quick_context(data, tmp_path_factory.mktemp("runs"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(run_module, "write_policy_folder", watched)
                record = do(Job("one", algorithm, tuple(words)), context)
            known[kind] = Trained(record.parent, data, (algorithm, *words), seen[0])
        return known[kind]

    return train


@pytest.mark.parametrize("kind", list(ALGORITHMS))
def test_the_policy_is_the_one_that_was_trained(
    trained: Callable[[str], Trained], tmp_path: Path, kind: str
) -> None:
    run = trained(kind)
    names = {path.name for path in run.policy.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} < names
    assert not names & {"model.safetensors", "config.json"}
    opened = open_policy(run.folder, data_dir=str(run.data))
    assert torch.equal(log_probs_of(opened.policy), run.log_probs)
    # Training has changed it, so that the start alone would show.
    start = json.loads((run.policy / "policy.json").read_text())["base"]["start"]
    assert (run.data / "sft" / start / "policy").is_dir()
    algorithm, *words = run.words
    job = Job("one", algorithm, tuple(words))
    context = quick_context(run.data, tmp_path)
    loaded, _ = load_policy(run.folder / "record.json", job, context)
    assert torch.equal(log_probs_of(loaded), run.log_probs)
    again = evaluate_again(run.folder / "record.json", job, ["beam_width=10"], "test", context)
    before = read_record(run.folder)["metrics"]["test"]
    assert {name: before[name] for name in again} == pytest.approx(dict(again), abs=1e-7)


def test_what_was_trained_is_not_the_start(trained: Callable[[str], Trained]) -> None:
    run = trained("added tokens")
    adapters = open_policy(run.folder, data_dir=str(run.data)).policy
    stored = sum(path.stat().st_size for path in run.policy.glob("*.safetensors"))
    weights = sum(weight.nbytes for weight in adapters.parameters())
    assert stored < weights
    assert run.log_probs.shape == log_probs_of(adapters).shape
    folder = json.loads((run.policy / "policy.json").read_text())["base"]["start"]
    tokens = sorted(adapters.extra_tokens)
    start = load(run.data / "sft" / folder / "policy", tokens=tokens)
    assert (log_probs_of(start) - run.log_probs).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["plain", "heads"])
def test_merged_it_stands_alone(
    capsys: Capture, trained: Callable[[str], Trained], tmp_path: Path, kind: str
) -> None:
    run, target = trained(kind), tmp_path / "new" / "model"
    words = ["policy", "merge", str(run.folder), "--to", str(target)]
    called = call(capsys, [*words, "--data-dir", str(run.data)])
    assert called == Called(0, f"written: {target}\n", "")
    merged = open_policy(target, data_dir=str(tmp_path / "none"))
    assert torch.equal(log_probs_of(merged.policy), run.log_probs)
    own = open_policy(run.folder, data_dir=str(run.data))
    history = ["item 3", "item 4"]
    pd.testing.assert_frame_equal(merged.recommend(history), own.recommend(history))
    plain: Any = AutoModelForCausalLM.from_pretrained(target)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, merged.policy.backbone.state_dict()[name])
    names = {path.name for path in target.iterdir()}
    kept = {p.name for p in run.policy.iterdir() if not p.name.startswith(("adapter", "trained"))}
    assert names == kept | {"config.json", "generation_config.json", "model.safetensors"}
    cards = [(place / "README.md").read_text() for place in (run.policy, target)]
    assert ["policy merge" in card for card in cards] == [True, False]
    assert "base" not in json.loads((target / "policy.json").read_text())
    # A further run may begin there.
    output = tmp_path / "runs"
    if kind == "plain":
        more = ["--backbone", str(target), "prompt=compact", "sft_epochs=0", "steps=1"]
        assert call(capsys, run_words("grpo", run.data, output, *more)).code == 0
        assert len(run_folders(output)) == 1
    message = only_error(call(capsys, words))
    assert message == f"--to {target}: is there already; name another folder"
    whole = ["policy", "merge", str(target), "--to", str(tmp_path / "other")]
    message = only_error(call(capsys, whole))
    assert message == f"{target}: holds whole weights and no adapter; copy the folder"


def test_without_its_start_one_line_says_how_to_get_it(
    capsys: Capture, trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    run, none = trained("plain"), tmp_path / "none"
    weights = read_record(run.folder)["fingerprints"]["sft"][:8]
    to = ["--to", str(tmp_path / "merged")]
    for words in (
        ["recommend", str(run.folder), "--history", "item 3"],
        ["policy", "merge", str(run.folder), *to],
    ):
        message = only_error(call(capsys, [*words, "--data-dir", str(none)]))
        assert message.startswith(f"{run.policy}: holds an adapter to the SFT start industrial-")
        assert f"(weights {weights}, made of tiny), which is not in {none}: name" in message
        assert message.endswith(
            f"fetch it by `genrec-bench sft export {weights}` there and `genrec-bench sft import` "
            "here"
        )
    # As it says.
    file = tmp_path / "start.tar"
    for words, data in (
        (["sft", "export", weights, "--to", str(file)], run.data),
        (["sft", "import", str(file)], none),
    ):
        assert call(capsys, [*words, "--data-dir", str(data)]).code == 0
    moved = shutil.copytree(run.policy, tmp_path / "moved")
    words = ["recommend", str(moved), "--history", "item 3", "--json", "--data-dir", str(none)]
    assert len(json.loads(call(capsys, words).out)) == 10 < NUM_ITEMS
    # A start that was changed since is another one.
    (start,) = (none / "sft").glob("*/policy/model.safetensors")
    start.write_bytes(start.read_bytes()[:-4] + b"\0\0\0\1")
    assert "which is not in" in only_error(call(capsys, words))
    message = only_error(call(capsys, run_words("grpo", run.data, none, "--backbone", str(moved))))
    assert message == (
        f"--backbone {moved}: the folder holds an adapter and no model; `genrec-bench policy merge "
        f"{moved} --to NEW` makes a model of a run's policy"
    )


def swap(folder: Path, text: str) -> None:
    file = folder / "policy.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": json.loads(text)}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors: the ad"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"0"), "adapter_model.safetens"),
        (lambda f: (f / "trained_embeddings.safetensors").unlink(), "trained_embeddings.safeten"),
        (lambda f: (f / "adapter_config.json").write_text("[1"), "adapter_config.json: the adap"),
        (lambda f: (f / "adapter_config.json").unlink(), "cannot be loaded"),
        (
            lambda f: shutil.copy(
                f / "trained_embeddings.safetensors", f / "adapter_model.safetensors"
            ),
            "its layers are not those of the backbone",
        ),
        (
            lambda f: shutil.copy(
                f / "adapter_model.safetensors", f / "trained_embeddings.safetensors"
            ),
            "it has other tokens than the backbone",
        ),
        (lambda f: swap(f, "null"), "does not say which SFT start its adapter belongs to"),
        (lambda f: swap(f, '{"weights": 3}'), "does not say which SFT start its adapter belongs"),
    ],
)
def test_what_is_damaged_is_named(
    trained: Callable[[str], Trained], tmp_path: Path, harm: Callable[[Path], Any], message: str
) -> None:
    run = trained("plain")
    folder = shutil.copytree(run.policy, tmp_path / "policy")
    harm(folder)
    with pytest.raises(UserError) as error:
        open_policy(folder, data_dir=str(run.data))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["tied", "untied", "gpt2"])
def test_other_models(tmp_path: Path, kind: str) -> None:
    start = tmp_path / "start"
    if kind == "gpt2":
        shape: dict[str, Any] = {
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "hidden_size": 32,
        }
        save_model(start, GPT2Config(vocab_size=900, **shape))
    else:
        save_backbone(start, tie_word_embeddings=kind == "tied")
    settings = Settings(prompt="compact") if kind == "gpt2" else Settings()
    tokens = {"<yes>": "yes", "<no>": "no"}
    policy = load(start, settings, tokens=tokens)
    torch.manual_seed(0)
    start_tokens(policy, tokens)
    add_adapters(policy, rank=2)
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape))
    adapter = merge_adapters(policy)
    expected = log_probs_of(policy)
    save_policy(policy, tmp_path / "policy", adapter=adapter)
    found = load(start, settings, tokens=tokens)
    assert (log_probs_of(found) - expected).abs().max() > 0.01
    load_adapter(found, tmp_path / "policy")
    assert torch.equal(log_probs_of(found), expected)
    names = [name for name, _ in found.named_parameters()]
    assert names == [name for name, _ in policy.named_parameters()]
    more = [f"<{number}>" for number in range(200)]
    with pytest.raises(UserError, match="it has other tokens than the backbone"):
        load_adapter(load(start, settings, tokens=more), tmp_path / "policy")


def test_equal_runs_store_equal_adapters(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    run = trained("plain")
    algorithm, *words = run.words
    context = quick_context(run.data, tmp_path)
    other = do(Job("one", algorithm, tuple(words)), context).parent / "policy"
    for path in run.policy.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
        assert str(tmp_path).encode() not in path.read_bytes()
