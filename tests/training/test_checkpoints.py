"""What is saved comes back bit by bit, or is refused; a half-written checkpoint is none."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.errors import StorageError, UserError
from genrec_bench.policy.added_tokens import added_rows
from genrec_bench.policy.policy import Policy
from genrec_bench.storage.folders import remove_leftovers
from genrec_bench.training import checkpoints
from genrec_bench.training.checkpoints import (
    check_policy_fits,
    load_training,
    random_state,
    resume_training,
    save_policy,
    save_training,
    set_random_state,
    training_checkpoints,
)
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.workers import Workers

CATALOG = tiny_catalog()
CPU = torch.device("cpu")


def make_policy(seed: int = 0) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {"value": nn.Linear(16, 3)}
    return tiny_policy(CATALOG, seed=seed, extra_tokens=("[X]",), heads=heads)


def make_training(seed: int = 0) -> tuple[RolloutStepper, Optimization]:
    """GRPO with a reference that follows the policy, in a tiny world."""
    workers, policy = Workers(), make_policy(seed)
    ledger = policy.meter = Ledger(CPU)
    rates: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.1, "warmup": 0.0}
    rates |= {"max_grad_norm": 1.0, "head_learning_rate": 0.1, "added_rows": added_rows(policy)}
    optimization = Optimization(policy, workers, **rates)
    algorithm = GRPO(GRPOHyperparameters(beta=0.1, sync_every=1, updates_per_rollout=2))
    sizes: dict[str, Any] = {"group_size": 4, "prompts_per_step": 4, "seed": 3}
    stepper = RolloutStepper(
        policy, algorithm, tiny_examples(CATALOG, 9), optimization, ledger, workers, **sizes
    )
    return stepper, optimization


def save(folder: Path, step: int, stepper: RolloutStepper, optimization: Optimization) -> None:
    state = {"curves": [{"step": step, "loss": 0.1}], "random": random_state(CPU)}
    save_training(folder, step, stepper.modules(), optimization.state(), state)


def weights(stepper: RolloutStepper) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in stepper.modules().items()
        for key, value in module.state_dict().items()
    }


def test_a_resumed_training_is_the_training(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    for index in range(3):
        stepper.step(index, index / 6)
    save(tmp_path, 3, stepper, optimization)
    at_three = weights(stepper), optimization.state()
    copied = {name: value.clone() for name, value in at_three[1].items()}
    for index in range(3, 5):
        stepper.step(index, index / 6)

    again, its_optimization = make_training(seed=1)
    (checkpoint,) = training_checkpoints(tmp_path)
    tensors, state = load_training(checkpoint, again.modules())
    assert state["step"] == 3
    assert state["random"] == random_state(CPU)
    its_optimization.load(tensors)
    for name, value in weights(again).items():
        assert torch.equal(value, at_three[0][name]), name
    found = its_optimization.state()
    assert found.keys() == copied.keys()
    assert {name.split(".", 1)[1] for name in found} == {"step", "exp_avg", "exp_avg_sq"}
    for name, value in found.items():
        assert torch.equal(value, copied[name]), name
    for index in range(3, 5):
        again.step(index, index / 6)
    expected = weights(stepper)
    for name, value in weights(again).items():
        assert torch.equal(value, expected[name]), name
    tensors_of = [f"{name}.safetensors" for name in ("optimizer", "policy", "reference")]
    assert names(checkpoint) == [*tensors_of, "state.json"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def fail_at(count: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Write half a file and fail, the last of some times."""
    calls = 0

    def failing(what: Any, file: str, *args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        real(what, file, *args, **kwargs)
        if calls == count:
            path = Path(file)
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    return failing


@pytest.mark.parametrize(
    ("name", "count"), [("save_model", 1), ("save_model", 2), ("save_file", 1)]
)
def test_an_interrupted_save_leaves_the_former_checkpoint(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper, optimization = make_training()
    save(tmp_path, 1, stepper, optimization)
    kept = contents(tmp_path / "step-00000001")
    stepper.step(0, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, name, fail_at(count, getattr(checkpoints, name)))
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2, stepper, optimization)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    (checkpoint,) = training_checkpoints(tmp_path)
    assert contents(checkpoint) == kept
    save(tmp_path, 2, stepper, optimization)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_step_that_is_there_is_not_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between moving the old one away and the new one in there would be none.
    stepper, optimization = make_training()
    save(tmp_path, 1, stepper, optimization)
    kept = contents(tmp_path / "step-00000001")
    with monkeypatch.context() as patch:
        patch.delattr(checkpoints, "_replace")
        save(tmp_path, 1, stepper, optimization)
    # But one that is damaged is.
    DAMAGES["weights cut"](tmp_path / "step-00000001")
    save(tmp_path, 1, stepper, optimization)
    again = contents(tmp_path / "step-00000001")
    assert again == kept and names(tmp_path) == ["step-00000001"]


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    for step in (0, 3, 9, 10, 12):
        save(tmp_path, step, stepper, optimization)
    assert names(tmp_path) == ["step-00000010", "step-00000012"]


def test_an_interrupted_policy_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "policy"
    save_policy(make_policy(0), folder)
    kept = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_model", fail_at(1, save_model))
        with pytest.raises(KeyboardInterrupt):
            save_policy(make_policy(1), folder)
    assert contents(folder) == kept
    save_policy(make_policy(1), folder)
    assert {file.name for file in folder.iterdir()} == set(kept)
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}
    assert (folder / "heads.safetensors").read_bytes() != kept["heads.safetensors"]
    assert list(tmp_path.iterdir()) == [folder]


def test_heads_and_what_a_policy_was_trained_for_are_saved(tmp_path: Path) -> None:
    policy = make_policy()
    save_policy(policy, tmp_path / "policy")
    heads = load_file(tmp_path / "policy" / "heads.safetensors")
    expected = policy.heads.state_dict()
    assert heads.keys() == expected.keys() == {"value.weight", "value.bias"}
    assert all(torch.equal(heads[name], expected[name]) for name in expected)
    described = json.loads((tmp_path / "policy" / "policy.json").read_text())
    assert described == {
        "codes_per_level": [4, 4, 4],
        # Padding, start and 12 codes come first.
        "extra_tokens": {"[X]": 14},
        "logprob_space": "full",
        "prompt": "compact",
    }


def test_a_policy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    check_policy_fits(tmp_path, (4, 4, 4), "compact")  # any folder without a policy
    save_policy(make_policy(), tmp_path / "policy")
    check_policy_fits(tmp_path / "policy", (4, 4, 4), "compact")
    with pytest.raises(UserError, match=r"codes_per_level \[4, 4, 4\], and this run has \[4, 4\]$"):
        check_policy_fits(tmp_path / "policy", (4, 4), "compact")
    with pytest.raises(UserError, match="trained with prompt compact, and this run has text$"):
        check_policy_fits(tmp_path / "policy", (4, 4, 4), "text")
    (tmp_path / "policy" / "policy.json").write_text("[1")
    with pytest.raises(UserError, match="policy.json: cannot be read"):
        check_policy_fits(tmp_path / "policy", (4, 4, 4), "compact")


def cut(name: str, share: float) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights cut in the header": cut("policy.safetensors", 0.01),
    "weights cut": cut("policy.safetensors", 0.9),
    "no weights": lambda folder: (folder / "reference.safetensors").unlink(),
    "optimizer cut": cut("optimizer.safetensors", 0.5),
    "empty optimizer": cut("optimizer.safetensors", 0.0),
    "state cut": cut("state.json", 0.5),
    "state is a list": lambda folder: (folder / "state.json").write_text("[]"),
    "other weights": lambda folder: (folder / "optimizer.safetensors").rename(
        folder / "policy.safetensors"
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over(name: str, tmp_path: Path) -> None:
    stepper, optimization = make_training()
    stepper.step(0, 0.0)
    save(tmp_path, 1, stepper, optimization)
    expected = weights(stepper)
    stepper.step(1, 0.5)
    save(tmp_path, 2, stepper, optimization)
    damaged = tmp_path / "step-00000002"
    load_training(damaged, stepper.modules())
    DAMAGES[name](damaged)
    with pytest.raises(StorageError) as error:
        load_training(damaged, stepper.modules())
    assert str(damaged) in str(error.value) and "\n" not in str(error.value)
    again, _ = make_training(seed=1)
    found = resume_training(tmp_path, again.modules(), Workers())
    assert found is not None and found[1]["step"] == 1
    for key, value in weights(again).items():
        assert torch.equal(value, expected[key]), key
    # The training comes to step 2 again: what it saves then must not be taken for the damaged one.
    assert [path.name for path in training_checkpoints(tmp_path)] == ["step-00000001"]


def test_with_no_whole_checkpoint_there_is_one_line(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    for step in (1, 2):
        save(tmp_path, step, stepper, optimization)
        DAMAGES["optimizer cut"](tmp_path / f"step-{step:08d}")
    with pytest.raises(StorageError) as error:
        resume_training(tmp_path, stepper.modules(), Workers())
    assert str(error.value) == (
        f"{tmp_path / 'step-00000002'}: cannot be resumed from: optimizer.safetensors was changed; "
        f"delete {tmp_path} to start anew"
    )
    assert names(tmp_path) == ["step-00000001", "step-00000002"], "nothing is deleted unasked"


def test_every_changed_byte_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    save(tmp_path, 1, stepper, optimization)
    checkpoint = tmp_path / "step-00000001"
    generator = np.random.default_rng(0)
    for file in sorted(checkpoint.iterdir()):
        content = file.read_bytes()
        for place in generator.integers(len(content), size=20).tolist():
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            if file.name == "state.json" and json_equal(bytes(changed), content):
                continue
            with pytest.raises(StorageError, match="cannot be resumed from"):
                load_training(checkpoint, stepper.modules())
        file.write_bytes(content)
    load_training(checkpoint, stepper.modules())


def json_equal(one: bytes, other: bytes) -> bool:
    """Whether a change says nothing: a space for another white space."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_a_start_without_checkpoints_clears_what_was_left(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    folder = tmp_path / "checkpoints"
    assert resume_training(folder, stepper.modules(), Workers()) is None
    name = "0123456789abcdef" * 2
    (folder / f".step-00000003.{name}").mkdir(parents=True)
    (folder / f".step-00000003.{name}" / "policy.safetensors").write_bytes(b"half")
    assert resume_training(folder, stepper.modules(), Workers()) is None
    assert names(folder) == []


def test_leftovers_are_told_from_other_files(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 2
    kept = ["policy", ".run.json", ".hidden", f"step.{name}", f".step.{name}.txt", f".step.{name}0"]
    for file in (*kept, f".record.json.{name}", f".a.{name}"):
        (tmp_path / file).write_text("")
    (tmp_path / f".policy.{name}").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / "nowhere")


def test_a_folder_without_a_state_is_no_checkpoint(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    save(tmp_path, 12, stepper, optimization)
    save(tmp_path, 9, stepper, optimization)
    # Steps are compared as numbers.
    found = [path.name for path in training_checkpoints(tmp_path)]
    assert found == ["step-00000009", "step-00000012"]
    (tmp_path / "step-00000099").mkdir()
    assert [path.name for path in training_checkpoints(tmp_path)] == found


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of what must survive a power cut: content, its folder, the rename."""
    stepper, optimization = make_training()
    done: list[str] = []
    rename, fsync = os.rename, os.fsync

    def renamed(old: Path, new: Path) -> None:
        rename(old, new)
        done.append(f"rename to {new.name}")

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        place = os.fstat(descriptor).st_ino
        # The folder has another name by now, or will have.
        (name,) = [p.name for p in (tmp_path, *tmp_path.rglob("*")) if p.stat().st_ino == place]
        done.append("folder" if name.startswith(".step") else name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", renamed)
        patch.setattr(os, "fsync", synced)
        save(tmp_path, 1, stepper, optimization)
    written = {f.name for f in (tmp_path / "step-00000001").iterdir()}
    assert set(done[:4]) == written and len(written) == 4
    assert done[4:] == ["folder", "rename to step-00000001", tmp_path.name]


def test_random_generators_go_on_where_they_were() -> None:
    before = random_state(CPU)
    kept = json.loads(json.dumps(before))
    drawn = torch.rand(3)
    assert random_state(CPU) != before
    set_random_state(kept, CPU)
    assert torch.equal(torch.rand(3), drawn)


def test_saving_does_not_touch_the_random_generators(tmp_path: Path) -> None:
    stepper, optimization = make_training()
    before = random_state(CPU)
    np_before = pickle.dumps(np.random.get_state())
    save(tmp_path, 1, stepper, optimization)
    save_policy(make_policy(), tmp_path / "policy")
    assert random_state(CPU) == before
    assert pickle.dumps(np.random.get_state()) == np_before
