"""What is kept is believed as long as it is what was written, made of what is asked for."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import Bench, call, record_and_curves, run_folders, save_tiny, shrink_backbone

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset_store import draw_contents
from genrec_bench.data.obtain import obtain
from genrec_bench.data.vectors.vector_cache import cached_vectors
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import SEAL, Unsound, read_sealed, sealed
from genrec_bench.training import evaluation_cache, sft_start

QUIET = Progress(quiet=True)
Harm = Callable[[Path], None]


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def flip(file: Path) -> None:
    """Change one bit where content is, and not the end, which may be padding."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def change_figure(file: Path) -> None:
    """Change a figure of a JSON file, and leave it as well formed as it was."""
    text = file.read_text()
    digit = next(n for n, c in enumerate(text) if c.isdecimal() and text[n - 1] == ".")
    file.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])


def test_a_seal_is_of_all_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for told in ({"a": 1.0, "b": [1, {"c": None}]}, {}):
        file.write_text(json.dumps(sealed(told)))
        assert read_sealed(file) == (sealed(told), True)
        for change in ({"d": 1}, {SEAL: "0" * 64}, {SEAL: 5}):
            file.write_text(json.dumps(sealed(told) | change))
            with pytest.raises(Unsound, match="a.json: was changed since it was written"):
                read_sealed(file)
    file.write_text(json.dumps({"a": 1}))
    assert read_sealed(file) == ({"a": 1}, False)
    for text in ("", "[]", "{"):
        file.write_text(text)
        with pytest.raises(Unsound, match="a.json"):
            read_sealed(file)


@pytest.mark.parametrize("harm", [flip, cut, Path.touch, "another", "without a seal"])
def test_vectors(harm: Harm | str, tmp_path: Path) -> None:
    """Flipped in a number, they are as finite and as many as they were."""
    import safetensors.numpy

    heard = Heard()

    def get(name: str, made_of: str, value: float) -> float:
        rows = np.full((4, 64), value)
        found = cached_vectors(tmp_path / name, 4, made_of, lambda: rows, heard.say)
        assert (found == found[0, 0]).all()
        return float(found[0, 0])

    assert get("a", "a", 1.0) == 1.0 and get("a", "a", 2.0) == 1.0 and get("b", "b", 3.0) == 3.0
    if harm == "another":
        shutil.copy(tmp_path / "b", tmp_path / "a")
    elif harm == "without a seal":
        content = safetensors.numpy.save({"vectors": np.ones((4, 64), dtype=np.float32)})
        (tmp_path / "a").write_bytes(content)
    elif not isinstance(harm, str):
        harm(tmp_path / "a")
    whole = harm is Path.touch
    assert get("a", "a", 2.0) == (1.0 if whole else 2.0)
    assert len(heard.lines) == (not whole)
    assert all(f"{tmp_path / 'a'}: " in line and "made again" in line for line in heard.lines)


@pytest.mark.parametrize("name", ["train.parquet", "items.parquet", "manifest.json"])
def test_a_drawn_dataset(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = obtain("synthetic", tmp_path, QUIET)
    file = tmp_path / "synthetic" / name
    (change_figure if name == "manifest.json" else flip)(file)
    heard = Heard()
    again = obtain("synthetic", tmp_path, heard)
    (line,) = heard.lines
    assert line == f"{line.partition(name)[0]}{name}" + line.partition(name)[2]
    assert "changed since it was written; the dataset is made again" in line
    assert again.fingerprint == whole.fingerprint
    assert obtain("synthetic", tmp_path, heard).card == load_card("synthetic")
    assert heard.lines == [line]
    assert draw_contents(load_card("synthetic"), tmp_path).fingerprint == whole.fingerprint


@pytest.fixture
def small(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A run with its own data directory."""
    shrink_backbone(monkeypatch)
    yield Bench(capsys, save_tiny(tmp_path / "data"), tmp_path / "runs")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


EVALUATION = "evaluation-test-*.json"
CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "figures": (EVALUATION, change_figure, "SFT test is evaluated again"),
    "outcomes": ("evaluation-test-*.parquet", flip, "SFT test is evaluated again"),
    "cut": ("evaluation-valid-*.json", cut, "SFT valid is evaluated again"),
    "weights": ("policy/model.safetensors", flip, "the SFT start is trained again"),
    "configuration": ("policy/config.json", cut, "the SFT start is trained again"),
    "what it cost": ("sft.json", change_figure, "the SFT start is trained again"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_on_a_damaged_start_is_not_lost(case: str, small: Bench) -> None:
    """Whatever was damaged, the next run says so, and its record is the one it would have been."""
    pattern, harm, said = CASES[case]
    whole = record_and_curves(small.run("grpo"))[0]
    harm(only(small.data / "sft", f"*/{pattern}"))
    called = small.call("grpo")
    assert called.code == 0, called.err
    (line,) = [line for line in called.err.splitlines() if "again" in line and "sft" in line]
    assert said in line
    first, second = (record_and_curves(folder)[0] for folder in run_folders(small.output))
    for record in (first, second):
        for key in ("sft", "metrics", "track_id", "fingerprints"):
            assert record[key] == whole[key], key
    verified = call(small.capsys, ["leaderboard", "verify", str(small.output)])
    assert verified.code == 0, verified.err


def test_an_evaluation_of_another_start_is_not_taken(small: Bench) -> None:
    small.run("grpo")
    one = only(small.data / "sft", "*-*[0-9a-f]")
    small.run("grpo", "sft_epochs=1")
    (other,) = {path.parent for path in small.data.glob("sft/*/sft.json")} - {one}
    for file in one.glob("evaluation-*"):
        shutil.copy(file, other / file.name)
    called = small.call("grpo", "sft_epochs=1", "--seed", "1")
    assert called.code == 0 and called.err.count("was made of something else; SFT ") == 2


def test_what_was_kept_before_there_were_seals_is_verified_and_sealed(
    small: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights by their hash, figures by the outcomes that they follow from."""
    small.run("grpo")
    start = only(small.data / "sft", "*/sft.json")
    for file in start.parent.glob("*.json"):
        told = json.loads(file.read_text())
        outcomes = told.pop("files").get(file.with_suffix(".parquet").name)
        bare = {key: told[key] for key in told if key not in (SEAL, "made_of")}
        file.write_text(json.dumps(bare | ({"outcomes": outcomes} if outcomes else {})))
    with monkeypatch.context() as patch:
        patch.setattr(sft_start, "train_start", pytest.fail)
        patch.setattr(evaluation_cache, "evaluate", pytest.fail)
        small.run("grpo", "--seed", "1")
    assert all(SEAL in json.loads(file.read_text()) for file in start.parent.glob("*.json"))
    # Figures that do not follow are not believed.
    file = only(start.parent, EVALUATION)
    told = json.loads(file.read_text())
    told["metrics"]["HR@10"] += 0.01
    outcomes = told["files"][file.with_suffix(".parquet").name]
    bare = {key: told[key] for key in ("cost", "metrics")} | {"outcomes": outcomes}
    file.write_text(json.dumps(bare))
    called = small.call("grpo", "--seed", "2")
    assert "its figures are not those of its outcomes; SFT test is evaluated again" in called.err
