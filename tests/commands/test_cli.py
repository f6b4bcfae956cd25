"""The command line: what it prints where, its exit codes, and one clear line for each mistake."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import MINE, call, last_error, only_error, run_folders, run_words, save_tiny

from genrec_bench import __version__
from genrec_bench.commands.cli import main
from genrec_bench.data import cards
from genrec_bench.runs.records import read_record
from genrec_bench.training import loop

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")

INTERFACE = {
    "algorithm": str,
    "dataset": str,
    "seed": int,
    "complete": bool,
    "partial": bool,
    "track": dict,
    "budget": dict,
    "sft": dict,
    "metrics": dict,
}


def test_with_json_the_record_alone_is_on_stdout(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    called = call(capsys, run_words("ugr", data, tmp_path / "out", "--json"))
    assert called.code == 0
    record = json.loads(called.out)
    (folder,) = run_folders(tmp_path / "out")
    assert record == read_record(folder)
    for key, kind in INTERFACE.items():
        assert type(record[key]) is kind, key
    assert record["budget"]["limit"] is None and record["budget"]["spent"]["update"]["flops"] > 0
    for figures in (record["sft"]["test"], record["metrics"]["valid"], record["metrics"]["test"]):
        assert {"HR@10", "NDCG@10", "sid/HR@10", "sid/NDCG@10"} <= figures.keys()
        assert all(type(value) is float for value in figures.values())


def test_without_a_terminal_there_is_no_bar(capsys: Capture, data: Path, tmp_path: Path) -> None:
    called = call(capsys, run_words("sft", data, tmp_path / "out"))
    (folder,) = run_folders(tmp_path / "out")
    assert called.out == f"record: {folder / 'record.json'}\n"
    first, *lines = called.err.splitlines()
    assert first == "sft on industrial (partial), backbone tiny"
    start, result = [line for line in lines if " test HR@1 " in line]
    assert start.startswith("SFT start    test HR@1 ") and result.startswith("sft ")
    assert not {"\r", "\x1b"} & set(called.err)


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_shown_a_bar_with_figures(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        called = call(capsys, run_words("grpo", data, tmp_path / "out", "--budget", "5ktok"))
    assert called.code == 0 and called.out.startswith("record: ")
    shown = terminal.getvalue()
    assert "training" in shown and "loss" in shown and "spent" in shown and "100%" in shown


def test_the_process_keeps_stdout_for_the_record(
    environment: dict[str, str], data: Path, tmp_path: Path
) -> None:
    # peft and transformers have things to say about adapters; nobody has to read them.
    choices = ("sft_epochs=0.05", "steps=1", "lora_rank=2")
    words = run_words("sft", data, tmp_path / "out", "--json", *choices)
    process = subprocess.run(
        [sys.executable, "-m", "genrec_bench", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    record = json.loads(process.stdout)
    assert record["complete"] and len(process.stderr.splitlines()) == 5
    versions = record["versions"]
    assert versions["genrec_bench"] == __version__ and "torch" in versions


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ugrr"], "there is no algorithm 'ugrr'; did you mean 'ugr'? (found: "),
        (["ugr", "--set", "alpha_mn=0.1"], "did you mean 'alpha_min'?"),
        (["ugr", "--set", "beam_widht=5"], "did you mean 'beam_width'?"),
        (["grpo", "--set", "alpha_min=0"], "neither a hyperparameter of grpo nor a setting"),
        (["grpo", "--set", "backbone=x/y"], "nor a setting; it is an option: --backbone"),
        (["grpo", "--set", "data_dir=x"], "nor a setting; it is an option: --data-dir"),
        (["grpo", "--set", "seed=3"], "nor a setting; it is an option: --seed"),
        (["grpo", "--set", "clip_low=2"], "clip_low=2.0: must be between 0 and 1"),
        (["grpo", "--set", "clip_low=much"], "clip_low=much: must be a float"),
        (["grpo", "--set", "steps=0"], "steps=0: must be at least 1"),
        (["grpo", "--set", "steps=2.5"], "steps=2.5: must be an int"),
        (["grpo", "--set", "learning_rate=1e30"], "must be between 1e-08 and 1"),
        (["grpo", "--set", "max_grad_norm=inf"], "max_grad_norm=inf: must be a finite number"),
        (["grpo", "--set", "reward=ruel"], "did you mean 'rule'?"),
        (["ugr", "--set", "confidence=maybe"], "confidence=maybe: must be true or false"),
        (["grpo", "--set", "foo"], "--set foo: must be key=value"),
        (["grpo", "--set", "beta=0.1", "beta=0.2"], "--set beta: given twice"),
        (["grpo", "--set", "beta=0.1", "--set", "beta=0.2"], "--set beta: given twice"),
        (["grpo", "--set", "steps=1", "steps=1"], "--set steps: given twice"),
        (["grpo", "--set", "minibatches=9", "prompts_per_step=8"], "prompts_per_step=8: must be"),
        (["grpo", "--budget", "90"], "budget '90' is not understood"),
        (["grpo", "--budget", "0s"], "budget '0s' comes to 0 seconds"),
        (["grpo", "--budget", "1e999tok"], "1e999tok"),
        (["grpo", "--budget", "fast"], "budget 'fast' is not understood"),
        (["grpo", "--budget", ""], "budget '' is not understood"),
        (["grpo", "--dataset", "industrail"], "did you mean 'industrial'?"),
        (["grpo", "--backbone", "tyni"], "did you mean 'tiny'?"),
        (["grpo", "--backbone", "./nowhere"], "--backbone ./nowhere: "),
        (["grpo", "--backbone", "."], "holds no config.json"),
        (["./nowhere.py"], "./nowhere.py: there is no such file"),
        (["./folder/"], "an algorithm given by its path is a Python file"),
        (["./broken.py"], "broken.py: line 2: SyntaxError"),
        (["./empty.py"], "no class derived from genrec_bench.algorithm.Algorithm"),
        (["./raises.py"], "raises.py: line 1: ZeroDivisionError"),
        (["./exits.py"], "SystemExit: 7"),
        (["./clash.py"], "'steps' of Choices has the name of a setting"),
        (["grpo", "--output", "broken.py"], "--output broken.py: cannot be a folder"),
        (["grpo", "--output", "broken.py/runs"], "--output broken.py/runs: cannot be a folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: Capture, data: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef (\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "clash.py").write_text(MINE.replace("strength", "steps").replace("print", "str"))
    if "--dataset" not in words:
        words = [*words, "--dataset", "industrial"]
    called = call(capsys, ["run", *words, "--data-dir", str(data), "--no-mlflow"])
    assert said in only_error(called)
    assert not run_folders(tmp_path / "runs"), "a mistake that is seen at once leaves nothing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rum"], "invalid choice: 'rum'"),
        (["run"], "run: name an algorithm, or give --config or --from-record"),
        (["sweep"], "the following arguments are required: ALGO"),
        (["run", "ugr", "--seed", "-1"], "argument --seed: -1: must be a whole number"),
        (["run", "ugr", "--seed", "1.5"], "argument --seed: 1.5: must be a whole number"),
        (["run", "ugr", "--seed", "4294967296"], "must be a whole number from 0 to 2147483647"),
        (["run", "ugr", "--bugdet", "9s"], "unrecognized arguments: --bugdet 9s"),
        (["data"], "the following arguments are required: COMMAND"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(
    # argparse alone would print the usage first.
    capsys: Capture,
    words: list[str],
    said: str,
) -> None:
    assert said in only_error(call(capsys, words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run grpo --budget 2 xsft", "xsft; --budget takes one word: --budget 2xsft"),
        ("run grpo --budget=2 xsft", "xsft; --budget takes one word: --budget 2xsft"),
        ("run --budget 2 xsft grpo", "grpo; --budget takes one word: --budget 2xsft"),
        ("run grpo --budget 90 seconds --seed 1", "--budget takes one word: --budget 90s"),
        ("compare --tuning-budget 3 T flop", "--tuning-budget takes one word: --tuning-budget 3T"),
        (
            "sweep grpo --total-budget 6 xsft --trial-budget 1 xsft",
            "takes one word: --total-budget 6xsft; --trial-budget takes one word: --trial-budget 1",
        ),
        ("compare --algorithms grpo, ugr", "ugr; --algorithms takes one word: --algorithms grpo,u"),
        ("recommend here --history 3 , 8", ", 8; --history takes one word: --history 3,8"),
        ("run grpo --dataset my data", "data; --dataset takes one word: quote a value that has"),
        ("run grpo --bugdet 2 xsft", "--bugdet 2 xsft; did you mean '--budget'?"),
        ("run grpo --set steps = 5", "--set steps: must be key=value, in one word"),
        ("run grpo --set ks=1, 5", "--set 5: must be key=value, in one word"),
    ],
)
def test_a_value_in_several_words_is_told_in_one(capsys: Capture, words: str, said: str) -> None:
    assert said in only_error(call(capsys, words.split()))


@pytest.mark.parametrize(
    "words", ["run grpo more", "data list more", "run grpo --seed 1 2 --quiet"]
)
def test_a_word_too_many_is_no_value(capsys: Capture, words: str) -> None:
    said = only_error(call(capsys, words.split()))
    assert "unrecognized arguments: " in said and "takes one word: --" not in said


def test_a_data_directory_that_cannot_be_written(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ["run", "ugr", "--no-mlflow", "--data-dir", "file/data"]
    assert "cannot write to file/data" in only_error(call(capsys, words))


def test_an_sft_start_that_cannot_be_written(capsys: Capture, tmp_path: Path) -> None:
    where = save_tiny(tmp_path / "data")
    (where / "sft").write_text("in the way")
    called = call(capsys, run_words("sft", where, tmp_path / "out"))
    assert str(where / "sft") in last_error(called)


def test_a_prompt_in_words_needs_a_tokenizer(capsys: Capture, data: Path, tmp_path: Path) -> None:
    called = call(capsys, run_words("sft", data, tmp_path / "out", "prompt=text"))
    assert "prompt=text: tiny has no tokenizer" in last_error(called)


def test_a_broken_card_is_named(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets").mkdir()
    card = tmp_path / "datasets" / "mine.yaml"
    monkeypatch.setattr(cards, "files", lambda _: tmp_path)
    for text, said in (
        ("name: [", "datasets/mine.yaml: not valid YAML"),
        ("name: mine\nverison: 1\n", "unknown key 'verison'; did you mean 'version'?"),
        ("name: mine\n", "missing key 'version'"),
        ("", "datasets/mine.yaml: is empty"),
        ("- 1", "the file must be a mapping"),
    ):
        card.write_text(text)
        here = ["--data-dir", str(tmp_path)]
        assert said in only_error(call(capsys, ["run", "sft", "--dataset", "mine", *here]))
        listed = call(capsys, ["data", "list", *here])
        assert listed.code == 0 and said in listed.out


def test_what_we_did_wrong_has_a_traceback(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_share", None)
    with pytest.raises(TypeError):
        main(run_words("sft", data, tmp_path / "out"))


@pytest.mark.parametrize("number", ["ENOSPC", "EROFS", "EACCES", "EDQUOT"])
def test_a_disk_that_refuses_is_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)), "runs/x")

    monkeypatch.setattr("genrec_bench.data.obtain.obtain", refuse)
    said = only_error(call(capsys, ["run", "grpo"]))
    assert said == f"cannot use runs/x: {os.strerror(getattr(errno, number))}"


def test_what_is_no_disks_fault_is_not_hidden(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "gone")

    monkeypatch.setattr("genrec_bench.data.obtain.obtain", refuse)
    with pytest.raises(ConnectionResetError):
        call(capsys, ["run", "grpo"])
