"""Progress: bars that stay whole in narrow terminals, and lines for who reads a log file."""

import dataclasses
import io
import pickle
import re
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import Called, call, run_words, save_tiny, shrink_backbone

from genrec_bench import progress as progress_module
from genrec_bench.progress import Progress, shown_figures
from genrec_bench.studies import worker

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shrink_backbone(monkeypatch)
    return save_tiny(tmp_path / "data")


def run(capsys: Capture, data: Path, *more: str) -> Called:
    called = call(capsys, run_words("grpo", data, data.parent / "out", *more))
    assert called.code == 0, called.err
    return called


def test_a_log_file_has_a_line_at_each_look(
    capsys: Capture, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "FIRST_MOMENT", 0.0)
    called = run(capsys, data, "steps=4", "validations=4", "sft_patience=9")
    looks = [line for line in called.err.splitlines() if line.startswith("training: ")]
    shares = [line.split(", ")[0].removeprefix("training: ") for line in looks]
    assert shares == ["0%", "25%", "50%", "75%", "100%"]
    for number, line in enumerate(looks):
        assert f"step {number}" in line and "valid/NDCG@10 0." in line and "so far" in line
    assert "loss" in looks[1] and "reward" in looks[1] and "left" in looks[1]
    assert re.search(r"/s|s each", looks[1])
    sft = [line for line in called.err.splitlines() if line.startswith("SFT: ")]
    assert len(sft) >= 2 and "loss" in sft[0] and "valid/NDCG@10" in sft[0]


def test_the_price_of_sft_is_told_before_it_starts(capsys: Capture, data: Path) -> None:
    first, _, said, *rest = run(capsys, data).err.splitlines()
    assert first.startswith("grpo on industrial") and rest[0].startswith("SFT: ")
    assert re.fullmatch(
        r"training the SFT start, once for all runs that share it: at most 2 epochs, [\d.e-]+ "
        r"TFLOP, about \d+ s with its looks",
        said,
    )


def test_who_wants_json_is_told_as_little_as_ever(capsys: Capture, data: Path) -> None:
    called = run(capsys, data, "--json", "validations=2")
    assert not [line for line in called.err.splitlines() if line.startswith(("training:", "SFT:"))]


def test_a_step_that_takes_long_does_not_look_like_one_that_hangs(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.2)
    with Progress().bar("reading", 1) as bar:
        bar.update(0.25, loss=2.0)
        time.sleep(0.7)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4 and all(line.startswith("reading: 25%, loss 2") for line in lines)
    assert "nothing new for" in lines[-1]
    time.sleep(0.3)
    assert not capsys.readouterr().err


def test_time_left_leaves_out_what_an_earlier_process_did(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress().bar("training", 1.0) as bar:
        bar.update(0.5, step=50)
        now[0] += 10
        bar.update(0.6, step=60, loss=0.25)
        bar.tell()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "training: 60%, step 60, loss 0.25, 1/s, 10 s so far, about 40 s left"


def test_what_has_no_known_end_is_counted(capsys: Capture) -> None:
    with Progress().bar("file.gz", 0) as bar:
        bar.advance(2048)
        bar.tell()
    assert capsys.readouterr().err.startswith("file.gz: 2,048, ")


@pytest.mark.parametrize("silent", [{"quiet": True}, {"logged": False}])
def test_silence(capsys: Capture, monkeypatch: pytest.MonkeyPatch, silent: dict[str, bool]) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.1)
    progress = Progress(quiet=silent.get("quiet", False), logged=silent.get("logged", True))
    with progress.bar("encode", 5) as bar, progress.bars_of_jobs("jobs", 2) as jobs:
        bar.advance(1)
        bar.tell()
        jobs.advance()
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_jobs_of_other_processes_are_counted_in_a_log_file(capsys: Capture) -> None:
    with Progress().bars_of_jobs("jobs", 4) as jobs:
        jobs.begin(1, "training", 1.0)
        jobs.update(1, 0.5, {})
        jobs.advance()
        assert not jobs.shown
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jobs: 25%, ")


def test_a_process_on_a_cluster_names_the_job_in_its_lines(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shared:
        progress = Progress(logged=True)

    monkeypatch.setattr(worker, "_known", lambda content: Shared())
    said = []

    def replace(shared: Shared, **own: object) -> Shared:
        said.append(own["progress"])
        return shared

    monkeypatch.setattr(dataclasses, "replace", replace)
    worker.answer_packed(pickle.dumps(len), b"", "2/8 ugr, seed 1")
    (progress,) = said
    assert isinstance(progress, Progress)
    progress.say("training: 25%")
    assert capsys.readouterr().err == "[2/8 ugr, seed 1] training: 25%\n"


@pytest.mark.parametrize("title", ["training", "SIDs: epochs", "reviews_Office_Products_5.json.gz"])
@pytest.mark.parametrize(("width", "told"), [(80, True), (40, False), (30, False)])
@pytest.mark.parametrize("total", [1.0, 12345.0])
def test_bar_share_and_time_left_stay_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, title: str, width: int, told: bool, total: float
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress()
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "_console", console)
    figures = {"loss": 0.4321, "reward": 0.25, "HR@1": 0.125, "valid/NDCG@10": 0.2345}
    with progress.bar(title, total) as bar:
        for share in (0.1, 0.2, 0.43):
            bar.update(share * total, step=5, **figures)
            time.sleep(0.12)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue()).replace("\r", "\n").split("\n")
    assert all(len(line) <= width for line in lines)
    last = [line for line in lines if "43%" in line][-1]
    assert re.search(r"[━╸╺]{2,} +43% ", last) and re.search(r"-:--:--|0:00:0\d", last)
    assert ("loss 0" in last) == told and last.strip().startswith(title[:6])


@pytest.mark.parametrize(
    ("value", "text"), [(7.8e-10, "0"), (-4e-11, "0"), (-0.012, "-0.012"), (0.00002, "2e-05")]
)
def test_what_rounding_leaves_of_a_sum_is_no_figure(
    capsys: pytest.CaptureFixture[str], value: float, text: str
) -> None:
    with Progress().bar("training", 1.0) as bar:
        bar.update(0.5, reward=value)
        bar.tell()
    assert f"reward {text}," in capsys.readouterr().err
    assert shown_figures({"step": 3, "reward": value}) == f"reward {text}"


@pytest.mark.parametrize("label", ["", "[2/8 ugr] "])
@pytest.mark.parametrize("line", ["training: 25%", ""])
def test_a_line_is_written_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, label: str, line: str
) -> None:
    """So that lines of several threads do not mix."""
    pieces: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", pieces.append)
    Progress(label=label).say(line)
    assert pieces == [f"{label}{line}\n"]
