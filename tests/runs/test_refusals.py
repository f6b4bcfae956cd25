"""What can be refused is refused before data are made or anything is trained."""

import json
import os
import socket
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from local_server import Answer, LocalServer
from safetensors.torch import save_file
from tiny_runs import call, only_error
from torch import ones
from watched_waits import asked_in_time

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.rere import ReRe, ReReHyperparameters
from genrec_bench.data.vectors import text_encoder
from genrec_bench.errors import UserError
from genrec_bench.policy.backbone_files import check_backbone
from genrec_bench.runs.refusals import check_choices
from genrec_bench.storage import hub
from genrec_bench.training.settings import Settings

Capture = pytest.CaptureFixture[str]

ALONE = '''
"""REINFORCE: reward the hit; nothing is compared."""

from genrec_bench.algorithm import Algorithm


class Alone(Algorithm):
    """Policy gradient, {what}."""

    def reward(self, seen):
        return seen.tree.hits(seen.targets).float()

    def advantage(self, seen, rewards):
        {body}

    def loss(self, batch, scores):
        return -(batch.advantages * scores.log_probs.sum(-1)).sum(1), {{}}
'''
RELATIVE = "return (rewards - rewards.mean(1, keepdim=True)) * seen.tree.valid"
RANKED = "return (rewards.argsort(1).argsort(1) - (rewards.shape[1] - 1) / 2) * seen.tree.valid"
ABSOLUTE = "return (rewards - 0.5) * seen.tree.valid"


@pytest.fixture(autouse=True)
def nothing_is_made(somewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data nor an SFT start."""
    monkeypatch.setattr("genrec_bench.data.obtain.obtain", None)


def refused(capsys: Capture, *words: str) -> str:
    called = call(capsys, [*words, "--no-mlflow"])
    assert not list(Path().iterdir()) or called.code == 2
    return only_error(called)


@pytest.mark.parametrize(
    ("algorithm", "choices"),
    [("rere", []), ("sprec", []), ("grpo", ["beta=0.1", "sync_every=9999"])],
)
def test_a_copy_that_follows_the_policy_is_refused_with_adapters(
    capsys: Capture, algorithm: str, choices: list[str]
) -> None:
    said = refused(capsys, "run", algorithm, "--set", "lora_rank=8", *choices)
    assert said == (
        f"lora_rank=8: {algorithm} moves a copy of the policy, such as its reference, and none can "
        "follow adapters; set lora_rank=0 or keep the copy as it is"
    )


def test_a_copy_that_stays_or_is_none_is_not_refused_with_adapters() -> None:
    settings = Settings(lora_rank=8)
    check_choices("rere", ReRe(ReReHyperparameters(sync_every=0)), settings)
    check_choices("grpo", GRPO(GRPOHyperparameters(sync_every=2)), settings)
    check_choices("grpo", GRPO(GRPOHyperparameters(beta=0.1)), settings)


@pytest.mark.parametrize("algorithm", ["grpo", "ugr", "srpo", "vstar", "relative", "ranked"])
def test_a_group_of_one_is_refused_where_candidates_are_compared(
    capsys: Capture, algorithm: str
) -> None:
    for name, body in (("relative", RELATIVE), ("ranked", RANKED)):
        Path(f"{name}.py").write_text(ALONE.format(what=name, body=body))
    given = f"./{algorithm}.py" if Path(f"{algorithm}.py").exists() else algorithm
    said = refused(capsys, "run", given, "--set", "group_size=1")
    assert said == (
        f"group_size=1: {algorithm} compares candidates with the others of their group, so that a "
        "group of one teaches nothing; set group_size=2 or more"
    )
    if algorithm in ("ugr", "srpo", "vstar"):
        assert refused(capsys, "ablate", algorithm, "--set", "group_size=1") == said
    for command in (["compare", "--plan", "--algorithms"], ["sweep"]):
        more = ["--total-budget", "1h", "--trial-budget", "1m"] if command == ["sweep"] else []
        words = [*command, given, *more, "--set", "group_size=1"]
        assert refused(capsys, *words).startswith("group_size=1: ")


@pytest.mark.parametrize("algorithm", ["absolute", "sft"])
def test_a_group_of_one_is_taken_where_nothing_is_compared(capsys: Capture, algorithm: str) -> None:
    Path("absolute.py").write_text(ALONE.format(what="absolute", body=ABSOLUTE))
    given = "./absolute.py" if algorithm == "absolute" else algorithm
    # It goes on to the dataset, which is no function here.
    with pytest.raises(TypeError, match="not callable"):
        call(capsys, ["run", given, "--set", "group_size=1", "--no-mlflow"])


@pytest.mark.parametrize(
    ("algorithm", "words", "said"),
    [
        (
            "ugr",
            "rerank=true confidence=false",
            "rerank=true: needs confidence=true",
        ),
        ("srpo", "reward=rank", "reward=rank: needs residual=false"),
        ("srpo", "tempered=true rollout_by=beam", "tempered=true: needs rollout_by=sample"),
        ("srpo", "k=16", "k=16: must be less than group_size=16"),
        ("srpo", "k=4 group_size=3", "k=4: must be less than group_size=3"),
        ("grpo", "keep=best validations=0", "keep=best: needs looks to choose from"),
        ("grpo", "keep=best beam_width=5", "keep=best: chooses by NDCG@10; set beam_width=10"),
        ("grpo", "minibatches=9 prompts_per_step=8", "prompts_per_step=8: must be at least minib"),
        ("grpo", "prompt=text", "prompt=text: tiny has no tokenizer"),
    ],
)
def test_choices_that_exclude_each_other(
    capsys: Capture, algorithm: str, words: str, said: str
) -> None:
    assert refused(capsys, "run", algorithm, "--set", *words.split()).startswith(said)
    compared = refused(capsys, "compare", "--algorithms", algorithm, "--set", *words.split())
    assert compared.startswith((said, "--set "))


def test_a_control_is_refused_before_an_sft_start_is_trained(capsys: Capture) -> None:
    said = refused(capsys, "compare", "--budget", "2xsft", "--controls", "sft,grpo:reward=ruel")
    assert said == "reward=ruel: must be one of rule, rank, rule+rank, random; did you mean 'rule'?"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "grpo"],
        ["compare"],
        ["sweep", "grpo", "--total-budget", "1h", "--trial-budget", "1m"],
        ["ablate", "ugr"],
        ["analyze", "dynamics"],
    ],
)
@pytest.mark.parametrize("option", ["--output", "--data-dir"])
def test_folders_that_cannot_be_written(capsys: Capture, words: list[str], option: str) -> None:
    Path("file").write_text("")
    said = refused(capsys, *words, option, "file/below")
    assert option in said and "file is a file" in said


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


@pytest.mark.parametrize(
    ("files", "prompt", "said"),
    [
        ({}, "auto", "the folder holds no config.json"),
        ({"config__json": "{}"}, "auto", "holds no weights as .safetensors files"),
        ({"config__json": "{}", "pytorch_model__bin": ""}, "auto", "(only pytorch_model.bin: save"),
        ({"config__json": "{}", "model__safetensors": "x"}, "compact", "is damaged"),
        ({"config__json": "{}", "good": ""}, "auto", "no tokenizer among its files"),
        (
            {
                "config__json": "{}",
                "good": "",
                "model__safetensors__index__json": '{"weight_map": {"a": "part-2.safetensors"}}',
            },
            "compact",
            "lacks part-2.safetensors, which model.safetensors.index.json names",
        ),
        (
            {"config__json": "{}", "good": "", "model__safetensors__index__json": "[]"},
            "compact",
            "model.safetensors.index.json cannot be read",
        ),
    ],
)
def test_a_backbone_that_lacks_what_it_needs(
    capsys: Capture, files: dict[str, str], prompt: str, said: str
) -> None:
    folder = folder_of(Path("model"), **{k: v for k, v in files.items() if k != "good"})
    if "good" in files:
        save_file({"a": ones(1)}, folder / "model.safetensors")
    words = ["--backbone", "model", "--set", f"prompt={prompt}"]
    for command in (["run", "grpo"], ["compare", "--plan"], ["analyze", "dynamics"]):
        found = refused(capsys, *command, *words)
        assert found.startswith("--backbone model: ") and said in found


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The hub may be asked, and nothing is in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.hub_files.cache_clear()
    return monkeypatch


def served(patch: pytest.MonkeyPatch, address: str) -> list[float]:
    """Have the hub at an address; returns how many seconds it was given each time it was asked."""
    from huggingface_hub import HfApi

    patch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=address))
    return asked_in_time(patch, "genrec_bench.storage.hub")


def test_a_hub_that_refuses_connections_is_told_in_seconds(
    capsys: Capture, online: pytest.MonkeyPatch
) -> None:
    asked = served(online, "http://127.0.0.1:9")
    said = refused(capsys, "run", "grpo", "--backbone", "some/model")
    assert asked == [hub.PATIENCE]
    assert said.startswith("--backbone some/model: the Hugging Face hub cannot be reached (")
    assert said.endswith("(hf download some/model)")


ENCODED = "embeddings=some/model"
BY_ENCODER: dict[str, tuple[str, ...]] = {
    "run": ("run", "vstar", "--set", ENCODED),
    "sweep": ("sweep", "vstar", "--total-budget", "2h", "--trial-budget", "1h", "--set", ENCODED),
    "compare": ("compare", "--algorithms", "vstar", "--plan", "--set", ENCODED),
    "sids": ("sids", "build", "office", "--embeddings", "some/model"),
}


@pytest.mark.parametrize("command", BY_ENCODER)
@pytest.mark.parametrize("offline", [True, False])
def test_an_encoder_that_cannot_be_had_is_told_in_seconds(
    capsys: Capture, online: pytest.MonkeyPatch, command: str, offline: bool
) -> None:
    from huggingface_hub import constants

    package = ModuleType("sentence_transformers")
    package.__spec__ = ModuleSpec("sentence_transformers", None)
    online.setitem(sys.modules, "sentence_transformers", package)
    online.setattr(constants, "HF_HUB_OFFLINE", offline)
    asked = served(online, "http://127.0.0.1:9")
    words = BY_ENCODER[command]
    said = only_error(call(capsys, [*words, *([] if command == "sids" else ["--no-mlflow"])]))
    assert asked == [hub.PATIENCE] * (not offline)
    why = "is not in the cache of" if offline else "the Hugging Face hub cannot be reached ("
    assert said.startswith(f"{ENCODED}: {why}") and "(hf download some/model)" in said
    assert "other sources are " in said and not list(Path().rglob("*.parquet"))


def test_an_encoder_without_an_owner_is_the_librarys_own(online: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def files(name: str, _: str) -> frozenset[str]:
        asked.append(name)
        if name != "plain":
            raise hub.NoSuchModelError("no such model")
        return frozenset()

    online.setattr(text_encoder, "require_package", lambda *_: None)
    online.setattr(text_encoder, "hub_files", files)
    text_encoder.check_model("plain", ["text"])
    assert asked == ["sentence-transformers/plain", "plain"]
    with pytest.raises(UserError, match="no such model; other sources are text; did you mean"):
        text_encoder.check_model("txt", ["text"])


def test_a_hub_that_never_answers_is_told_in_seconds(
    capsys: Capture, online: pytest.MonkeyPatch
) -> None:
    online.setattr(hub, "PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        served(online, f"http://127.0.0.1:{silent.getsockname()[1]}")
        said = refused(capsys, "run", "grpo", "--backbone", "some/model")
    assert "cannot be reached (" in said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "the Hugging Face hub has no such model, or not for you (it answers 404)"),
        (401, "the Hugging Face hub has no such model, or not for you (it answers 401)"),
        (503, "the Hugging Face hub cannot be reached (it answers 503)"),
    ],
)
def test_a_hub_that_does_not_give_the_model(
    capsys: Capture, online: pytest.MonkeyPatch, server: LocalServer, status: int, said: str
) -> None:
    server.script = [Answer(status=status)] * 20
    served(online, server.url)
    assert said in refused(capsys, "run", "grpo", "--backbone", "some/modle")


def test_a_name_that_is_none(capsys: Capture, online: pytest.MonkeyPatch) -> None:
    assert "is no name of the hub" in refused(capsys, "run", "grpo", "--backbone", "a/b/c d")


def in_cache(tmp_path: Path, *names: str) -> None:
    folder = tmp_path / "cache" / "models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    for name in names:
        (folder / "snapshots" / ("0" * 40) / name).write_text(json.dumps({}))


def test_offline_the_cache_is_all_there_is(
    capsys: Capture, online: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    online.setattr(constants, "HF_HUB_OFFLINE", True)
    online.setattr("huggingface_hub.HfApi", None)
    said = refused(capsys, "run", "grpo", "--backbone", "some/model")
    assert said.startswith(
        "--backbone some/model: is not in the cache of the Hugging Face hub, and"
    )
    hub.hub_files.cache_clear()
    in_cache(tmp_path, "config.json", "model.safetensors")
    assert "no tokenizer" in refused(capsys, "run", "grpo", "--backbone", "some/model")
    check_backbone("some/model", "compact")


def test_a_cached_model_needs_no_hub(online: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    served(online, "http://127.0.0.1:9")
    in_cache(tmp_path, "config.json", "model.safetensors", "tokenizer.json")
    check_backbone("some/model", "text")
    assert constants.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
