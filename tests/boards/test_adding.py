"""Records that others send: what enters the folder of boards, and what is refused, with reasons."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from board_world import BEST, GOOD, reseal, save, whole

from genrec_bench.commands.cli import main
from genrec_bench.runs import registry


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "default_hyperparameters", lambda: {"ugr": {"alpha": 0.5}})
    save(Path("leaderboards/v0.4/industrial"), whole("ugr", GOOD))


def add(*words: str) -> int:
    return main(["leaderboard", "add", *words])


def files() -> list[str]:
    return sorted(p.as_posix() for p in Path("leaderboards").rglob("*") if p.is_file())


def test_records_are_copied_without_anything_else_and_boards_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(Path("sent"), whole("ugr", BEST, 1))
    (path.parent / "policy").mkdir()
    (path.parent / "policy" / "model.safetensors").write_bytes(b"large")
    trial = whole("ugr", GOOD, 2, start=None, splits=("valid",))
    trial.record["metrics"]["test"] = {}
    outcomes = trial.outcomes[trial.outcomes["split"] == "valid"]
    save(Path("sent"), replace(trial, outcomes=outcomes))
    assert add("sent") == 0
    out = capsys.readouterr().out
    final = "leaderboards/v0.4/industrial/ugr-seed1-0"
    assert f"added: {final}\n" in out and "written: leaderboards/industrial.html" in out
    assert "left aside: 1 trials of sweeps" in out
    assert [name for name in files() if name.startswith(final)] == [
        f"{final}/{name}" for name in ("curves.parquet", "outcomes.parquet", "record.json")
    ]
    page = Path("leaderboards/industrial.md").read_text()
    assert "[seed 0](v0.4/industrial/ugr-seed0-0/record.json), [seed 1](v0.4/" in page
    assert main(["leaderboard", "verify", "leaderboards"]) == 0
    capsys.readouterr()
    before = files()
    assert add("sent") == 0
    assert "left aside: 1 that are there already" in capsys.readouterr().out
    assert files() == before


def test_a_single_seed_is_taken_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    first = save(Path("sent"), whole("grpo", BEST, 4))
    assert add("sent") == 0
    said = capsys.readouterr().out
    assert ", track " in said and "one seed alone. Its interval speaks of users" in said
    assert f"`genrec-bench run --from-record {first} --seed 5`" in said
    save(Path("sent"), whole("grpo", GOOD, 5))
    assert add("sent") == 0
    assert "one seed alone" not in capsys.readouterr().out
    save(Path("more"), whole("ugr", BEST, 1))
    assert add("more") == 0
    assert "one seed alone" not in capsys.readouterr().out, "with the one that was there"


def test_an_algorithm_that_nobody_has_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("sent"), whole("mine", BEST))
    assert add("sent") == 0
    assert "algorithms/ has no mine.py" in capsys.readouterr().out


def altered(path: Path) -> None:
    record = json.loads(path.read_text())
    record["metrics"]["test"]["HR@10"] = 0.99
    reseal(path, record)


def changed_beside(path: Path) -> None:
    (path.parent / "curves.parquet").write_bytes(b"")


def of_tomorrow(path: Path) -> None:
    record = json.loads(path.read_text())
    record["benchmark"] = "9.0"
    reseal(path, record)


def named(key: str, name: str) -> object:
    def change(path: Path) -> None:
        record = json.loads(path.read_text())
        if key == "file":
            record["outcomes"]["file"] = name
        else:
            record[key] = name
        reseal(path, record)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (altered, "metrics.test.HR@10: stated 0.99"),
        (changed_beside, "was changed after the run"),
        (of_tomorrow, "made by 9.0, and this is 0.4"),
        (named("dataset", "../../outside"), "'dataset' must be a plain name"),
        (named("dataset", "/absolute"), "'dataset' must be a plain name"),
        (named("dataset", ".."), "'dataset' must be a plain name"),
        (named("dataset", "a\nb"), "'dataset' must be a plain name"),
        (named("run_id", "../ugr-seed1-0"), "'run_id' must be a plain name"),
        (named("algorithm", "\x1b[31m"), "'algorithm' must be a plain name"),
        (named("file", "../../leaderboards/industrial.md"), "'outcomes.file' must be a plain name"),
        (named("benchmark", "../0.4"), "'benchmark' must be Major.Minor"),
    ],
)
def test_what_is_refused_says_why_and_leaves_nothing(
    change: object, reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save(Path("sent/good"), whole("ugr", BEST, 1))
    path = save(Path("sent/bad"), whole("ugr", GOOD, 2))
    assert callable(change)
    change(path)
    before = files()
    assert add("sent") == 2
    err = capsys.readouterr().err
    assert reason in err and "nothing was added" in err and "Traceback" not in err
    assert files() == before
    assert {each.name for each in tmp_path.iterdir()} == {"leaderboards", "sent"}


def test_another_result_for_a_run_that_is_there_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(Path("sent"), whole("ugr", BEST))
    assert add("sent") == 2
    assert "run_id" in capsys.readouterr().err


def test_without_records_or_folders_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for words, reason in (
        ((), "name the folders"),
        (("nowhere",), "nowhere: there is no such folder"),
        (("empty",), "no record was found below empty"),
    ):
        assert add(*words) == 2
        assert reason in capsys.readouterr().err


def test_a_run_too_large_for_a_repository_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(Path("sent"), whole("ugr", BEST, 1))
    size = sum(os.path.getsize(each) for each in path.parent.iterdir())
    monkeypatch.setattr("genrec_bench.boards.adding.MOST_BYTES", size - 1)
    assert add("sent") == 2
    assert f"{size:,} bytes with its files" in capsys.readouterr().err
