"""The other commands from end to end; MLflow and interruptions."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import MINE, call, only_error, run_words

from genrec_bench import __version__
from genrec_bench.commands.cli import main
from genrec_bench.training import rollouts

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")


def test_help_and_version(capsys: Capture) -> None:
    called = call(capsys, ["--version"])
    assert (called.code, called.out) == (0, f"genrec-bench {__version__}\n")
    called = call(capsys, ["--help"])
    assert called.code == 0
    for command in ("run", "data", "algorithms", "leaderboard", "bench"):
        assert f"\n    {command}" in called.out
        assert call(capsys, [command, "--help"]).code == 0
    helped = call(capsys, ["run", "--help"]).out
    for option in ("--dataset", "--backbone", "--budget", "--seed", "--set", "--data-dir"):
        assert option in helped
    for option in ("--output", "--no-mlflow", "--json"):
        assert option in helped


HEAVY = ("torch", "pandas", "mlflow", "sklearn", "matplotlib", "transformers", "pyarrow", "scipy")


def test_help_and_typos_import_nothing_heavy(environment: dict[str, str]) -> None:
    code = (
        "import sys; from genrec_bench.commands.cli import COMMANDS, main\n"
        "mistakes = [['ruN'], ['run'], ['run', 'ugr', '--bugdet', '9'], ['data', 'lost'],\n"
        "    ['sweep', 'ugr', '--total-budget', '9', '--trial-budget', '9s'],\n"
        "    ['ablate', 'urg'], ['analyze', 'rsk'], ['run', 'ugr', '--budget', '9']]\n"
        "for words in [['--help'], ['--version'], *([name, '--help'] for name in COMMANDS),\n"
        "    ['sids', 'build', '--help'], *mistakes]:\n"
        "    try: assert main(words) == 2, words\n"
        "    except SystemExit as end: assert end.code == 2 * (words in mistakes), words\n"
        f"sys.exit(str([name for name in {HEAVY} if name in sys.modules]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert process.stderr.endswith(b"[]\n"), process.stderr


def test_algorithms_are_listed_and_described(capsys: Capture) -> None:
    listed = call(capsys, ["algorithms"])
    assert listed.code == 0 and listed.err == ""
    for name in ("grpo", "sft", "ugr"):
        assert f"\n{name} " in listed.out
    described = call(capsys, ["algorithms", "ugr"])
    assert described.code == 0 and "arXiv 2602.11719" in described.out
    for name in ("alpha_min", "gamma_wrong", "learning_rate", "group_size", "sft_epochs"):
        assert f"\n{name} " in described.out
    told = json.loads(call(capsys, ["algorithms", "ugr", "--json"]).out)
    assert {row["name"] for row in told["hyperparameters"]} >= {"alpha_min", "beta"}
    assert "did you mean 'ugr'" in only_error(call(capsys, ["algorithms", "urg"]))


def test_a_file_of_ones_own_is_described_checked_and_run(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    described = call(capsys, ["algorithms", "./mine.py"])
    assert described.code == 0 and "An algorithm of one's own." in described.out
    assert "\nstrength " in described.out and "0 .. 2" in described.out
    assert "loaded" not in described.out
    checked = call(capsys, ["algorithms", "./mine.py", "--check"])
    assert checked.code == 0, checked.out
    assert "checks of mine" in checked.out and "FAILED" not in checked.out
    words = run_words("./mine.py", data, tmp_path / "out", "--json", "strength=1.5")
    record = json.loads(call(capsys, words).out)
    assert record["algorithm"] == "mine"
    assert record["configuration"]["hyperparameters"]["strength"] == 1.5
    words = run_words("./mine.py", data, tmp_path / "out", "strength=2.5")
    refused = call(capsys, words)
    assert refused.code == 2
    assert "strength=2.5: must be between 0 and 2" in refused.err.splitlines()[-1]


def test_a_file_that_breaks_the_contract_fails_its_check(capsys: Capture, tmp_path: Path) -> None:
    text = MINE.replace(
        "    hyperparameters_class = Choices",
        "    hyperparameters_class = Choices\n\n"
        "    def loss(self, batch, scores):\n"
        "        loss, figures = super().loss(batch, scores)\n"
        "        return loss.mean(), figures",
    )
    (tmp_path / "mine.py").write_text(text)
    checked = call(capsys, ["algorithms", "./mine.py", "--check"])
    assert checked.code == 2 and "FAILED" in checked.out


def test_data_are_listed_and_shown(capsys: Capture, data: Path) -> None:
    listed = call(capsys, ["data", "list", "--data-dir", str(data)])
    assert listed.code == 0 and "partial" in listed.out
    for name in ("synthetic", "industrial", "beauty", "instruments"):
        assert f"\n{name} " in listed.out
    shown = call(capsys, ["data", "show", "industrial", "--data-dir", str(data)])
    assert shown.code == 0 and "industrial [partial]" in shown.out
    assert call(capsys, ["data", "verify", "industrial", "--data-dir", str(data)]).code == 0


def test_the_data_directory_comes_from_the_environment(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENREC_BENCH_DATA", str(data))
    words = run_words("sft", data, tmp_path / "out")
    place = words.index("--data-dir")
    del words[place : place + 2]
    assert call(capsys, words).code == 0


def test_three_runs_make_a_board(capsys: Capture, data: Path, tmp_path: Path) -> None:
    for words in (("sft",), ("grpo",), ("ugr",), ("ugr", "--seed", "1"), ("ugr", "reward=rule")):
        assert call(capsys, run_words(words[0], data, tmp_path / "out", *words[1:])).code == 0
    shown = call(capsys, ["leaderboard", "industrial", "--output", "out", "--to", "boards"])
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0] == "industrial (partial)"
    names = [line.split("  ")[0] for line in lines]
    for name in ("SFT start", "sft", "grpo", "ugr", "ugr (reward=rule)", "ceiling"):
        assert name in names, name
    rows = [line for line in lines if line.startswith("ugr  ")]
    assert any("±" in row for row in rows), "two seeds"
    ceiling = " ".join(line for line in lines if line.startswith("ceiling"))
    assert "0.8500" in ceiling and "0.8100" in ceiling
    written = [f"written: boards/industrial.{suffix}" for suffix in ("md", "csv", "html")]
    assert shown.err.splitlines() == written
    page = (tmp_path / "boards" / "industrial.md").read_text()
    assert page.startswith("# industrial (partial)\n") and "| ugr (reward=rule)" in page
    (board,) = json.loads(
        call(capsys, ["leaderboard", "--output", "out", "--to", "boards", "--json"]).out
    )
    assert board["dataset"] == "industrial" and len(board["sections"]) == 1


def test_a_board_without_records_says_how_to_make_one(capsys: Capture) -> None:
    said = only_error(call(capsys, ["leaderboard"]))
    assert said.endswith("make one with `genrec-bench run grpo --dataset synthetic`")
    said = only_error(call(capsys, ["leaderboard", "industrial"]))
    assert said.endswith("make one with `genrec-bench run grpo --dataset industrial`")


def tracked(words: list[str]) -> list[str]:
    return [word for word in words if word != "--no-mlflow"]


def mlflow_runs(database: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("genrec-bench/industrial")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]))


def test_mlflow_has_the_run_and_hears_of_its_end(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = tracked(run_words("ugr", data, tmp_path / "out", "--json", "group_size=16"))
    called = call(capsys, words)
    record = json.loads(called.out)
    assert "MLflow" not in called.err and "warning" not in called.err, "MLflow says nothing"

    for number in (signal.SIGTERM, signal.SIGINT):

        def end(*_: object, signal_number: int = number) -> dict[str, float]:
            # To this thread: another one would hand it on at a moment of its own.
            signal.raise_signal(signal_number)
            return {}

        with monkeypatch.context() as patch:
            patch.setattr(rollouts, "_figures", end)
            interrupted = call(capsys, words)
        assert interrupted.code == 130 and interrupted.out == ""
        assert interrupted.err.splitlines()[-1].startswith("genrec-bench: interrupted")
        _, killed = mlflow_runs(tmp_path / "out" / "mlflow.db")
        assert killed.info.status == "KILLED", "the second time it is the first one's run again"
    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "_figures", None)
        with pytest.raises(TypeError):
            main(words)

    finished, failed = mlflow_runs(tmp_path / "out" / "mlflow.db")
    assert finished.info.status == "FINISHED" and failed.info.status == "FAILED"
    assert failed.info.run_id == killed.info.run_id
    assert finished.info.run_name == "ugr, seed 0"
    assert finished.data.tags["run_id"] == record["run_id"]
    assert finished.data.tags["partial"] == "true" and finished.data.tags["seed"] == "0"
    parameters = finished.data.params
    assert parameters["hyperparameters.gamma_wrong"] == "0.5"
    assert parameters["settings.group_size"] == "16"
    assert parameters["track.sft"] == record["fingerprints"]["sft"]
    figures = finished.data.metrics
    assert {"HR_at_1", "HR_at_16", "unique_candidates", "reward", "spent/flops"} <= figures.keys()
    assert figures["test/NDCG_at_10"] == record["metrics"]["test"]["NDCG@10"]
    assert figures["valid/sid/HR_at_10"] == record["metrics"]["valid"]["sid/HR@10"]
    (folder,) = (tmp_path / "out" / "mlartifacts").glob(f"{finished.info.run_id}/artifacts")
    assert json.loads((folder / "record.json").read_text()) == record


def test_mlflow_goes_where_it_is_sent(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    called = call(capsys, tracked(run_words("sft", data, tmp_path / "out")))
    assert called.code == 0, called.err
    (run,) = mlflow_runs(tmp_path / "elsewhere.db")
    assert run.info.status == "FINISHED"
    assert not (tmp_path / "out" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_interrupted_closes_its_run_and_can_be_resumed(
    environment: dict[str, str], data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = tracked(run_words("ugr", data, tmp_path / "out", "steps=100000", "sft_epochs=0.05"))
    process = subprocess.Popen(
        [sys.executable, "-m", "genrec_bench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "MLFLOW_TRACKING_URI": ""},
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "mlflow.db").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(10)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert [run.info.status for run in mlflow_runs(tmp_path / "out" / "mlflow.db")] == ["KILLED"]
