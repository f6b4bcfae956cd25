"""The command: what it reads, writes, verifies and refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from board_world import BEST, GOOD, START, metrics_of, reseal, save, whole
from tiny_runs import Bench, call, save_tiny, shrink_backbone

from genrec_bench.boards.collecting import collect, record_paths, write_boards
from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.sections import make_board
from genrec_bench.commands.cli import make_parser
from genrec_bench.errors import UserError
from genrec_bench.runs import registry
from genrec_bench.runs.records import read_record
from genrec_bench.storage.parquet import parquet_bytes

BAD = '''
"""Nothing comes of it."""
from genrec_bench.algorithms.grpo import GRPO

class Bad(GRPO):
    """Its loss is no number."""

    def loss(self, batch, scores):
        loss, figures = super().loss(batch, scores)
        return loss * float("nan"), figures
'''


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of the command are folders below the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "default_hyperparameters", lambda: {"ugr": {"alpha": 0.5}})


def run(*arguments: str) -> int:
    args = make_parser().parse_args(["leaderboard", *arguments])
    return int(args.execute(args))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    reseal(path, json.loads(text.replace(old, new)))


def test_the_command_prints_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("runs/industrial"), whole("ugr", GOOD))
    save(Path("copies"), whole("ugr", GOOD))  # the same run
    save(Path("elsewhere"), whole("grpo", BEST))
    save(Path("runs/beauty"), whole("grpo", BEST, minutes=1, dataset="beauty"))
    assert run("industrial", "--records", "elsewhere", "copies") == 0
    out, err = capsys.readouterr()
    assert "ugr (weight=true)" in out and "grpo" in out
    endings = ("md", "csv", "html")
    written = [Path("runs/boards", f"industrial.{ending}") for ending in endings]
    assert err.splitlines() == [f"written: {path}" for path in written]
    page = written[0].read_text()
    assert page.startswith("# industrial (partial)\n") and "| grpo" in page
    # Links lead from the board to the files, of equal copies to that of the results.
    assert "[seed 0](../industrial/ugr-seed0-0/record.json)" in page
    assert "[seed 0](../../elsewhere/grpo-seed0-0/record.json)" in page
    assert Path("runs/boards/../../elsewhere/grpo-seed0-0/record.json").is_file()
    assert written[1].read_text().startswith("dataset,benchmark,track,")
    assert "../../elsewhere/grpo-seed0-0/record.json" in written[2].read_text()
    assert not Path("runs/boards/beauty.md").exists()
    assert run() == 0
    assert Path("runs/boards/beauty.md").exists()
    capsys.readouterr()
    assert run("industrial", "--json") == 0
    (board,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert board["dataset"] == "industrial" and board["sections"][0]["num_records"] == 1


def test_without_records_the_command_says_how_to_make_one() -> None:
    with pytest.raises(UserError, match="genrec-bench run grpo --dataset synthetic"):
        run()
    save(Path("runs"), whole("ugr", GOOD))
    with pytest.raises(UserError, match="no such dataset; did you mean 'industrial'"):
        run("industral")
    with pytest.raises(UserError, match="--records nowhere: there is no such folder"):
        run("industrial", "--records", "nowhere")
    with pytest.raises(UserError, match="'beauty': one dataset at most"):
        run("industrial", "beauty")
    for word in ("verify", "add"):
        with pytest.raises(UserError, match=f"^{word} nowhere: there is no such folder$"):
            run(word, "nowhere")
        with pytest.raises(UserError, match=f"^{word} runs/x: is a file, and a folder is needed$"):
            Path("runs/x").write_text("")
            run(word, "runs/x")
    Path("empty").mkdir()
    with pytest.raises(UserError, match="no record was found"):
        run("verify", "empty")
    assert not Path("runs/boards").exists(), "nothing is written after a mistake"
    Path("leaderboards").mkdir()
    with pytest.raises(
        UserError, match="run grpo --dataset beauty.*that come .*--records leaderboards"
    ):
        run("beauty")


def test_a_record_may_be_named_by_its_file_as_runs_print_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(Path("runs/industrial"), whole("ugr", GOOD))
    other = save(Path("runs/industrial"), whole("grpo", BEST))
    assert other.name == "record.json"
    assert run("verify", str(other)) == 0
    out = capsys.readouterr().out
    assert "grpo" in out and "ugr-seed0" not in out
    assert run("industrial", "--output", "none", "--records", str(other)) == 0
    assert "ugr" not in Path("none/boards/industrial.md").read_text().split("Published")[0]
    assert run("add", str(other), "--to", "mine") == 0
    assert len(list(Path("mine").rglob("record.json"))) == 1


def test_a_users_runs_and_the_shipped_boards_are_not_mixed() -> None:
    save(Path("runs/industrial"), whole("ugr", GOOD))
    save(Path("leaderboards/v1/industrial"), whole("grpo", BEST))
    before = sorted(Path("leaderboards").rglob("*"))
    assert run() == 0
    assert "| grpo" not in Path("runs/boards/industrial.md").read_text()
    assert run("--records", "leaderboards") == 0
    assert "| grpo" in Path("runs/boards/industrial.md").read_text()
    for more in ([], ["--records", "leaderboards"]):
        with pytest.raises(UserError, match="--to leaderboards: it holds records.*renew.*add"):
            run("industrial", "--to", "leaderboards", *more)
    assert sorted(Path("leaderboards").rglob("*")) == before
    # Where nothing else is read, there is nothing to be mixed with.
    assert run("industrial", "--to", "leaderboards", "--output", "leaderboards") == 0
    assert "| ugr" not in Path("leaderboards/industrial.md").read_text()


def test_trials_of_sweeps_alone_make_no_board() -> None:
    trial = whole("ugr", GOOD, start=None, splits=("valid",))
    record = trial.record | {"metrics": {"valid": metrics_of(GOOD[::-1]), "test": {}}}
    outcomes = trial.outcomes[trial.outcomes["split"] == "valid"]
    save(Path("runs"), Evidence(record, outcomes, trial.curves))
    with pytest.raises(UserError, match="no record was found"):
        run()
    assert run("verify") == 0


def test_altered_records_are_named_and_left_out_of_the_board(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(Path("runs"), whole("grpo", BEST))
    first = save(Path("runs"), whole("ugr", GOOD))
    edit(first, '"HR@10": 0.8333333333333334', '"HR@10": 0.9')
    second = save(Path("runs"), whole("srpo", GOOD))
    edit(second, '"group_size": 16', '"group_size": 8')
    third = save(Path("runs"), whole("vstar", GOOD))
    Path(third.parent, "curves.parquet").write_bytes(b"")
    assert run() == 0
    said = capsys.readouterr().err.splitlines()
    assert {line.split(": ")[0] for line in said} == {"left out", "written"}
    said = [line for line in said if line.startswith("left out: ")]
    for path in (first, second, third):
        assert any(str(path.parent) in line for line in said)
    assert not any("grpo" in line for line in said)
    assert any("metrics.test.HR@10: stated 0.9, found 0.8333333333333334" in line for line in said)
    board = Path("runs/boards/industrial.md").read_text()
    assert "| grpo" in board and not any(f"| {name}" in board for name in ("ugr", "srpo", "vstar"))
    shutil.rmtree("runs/grpo-seed0-0")
    with pytest.raises(UserError, match="no record is left, as the lines above say"):
        run()


def test_verify_lists_what_holds_and_every_key_that_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(Path("runs"), whole("grpo", BEST))
    assert run("verify") == 0
    out, _ = capsys.readouterr()
    assert "runs/grpo-seed0-0/record.json" in out and "holds" in out
    assert out.count("Not recomputed") == 1 and "coverage" in out
    path = save(Path("runs"), whole("ugr", GOOD))
    table = pd.read_parquet(path.parent / "outcomes.parquet")
    table.loc[table["split"] == "test", "item_rank"] = 0
    content = parquet_bytes(table)
    digest = json.loads(path.read_text())["outcomes"]["sha256"]
    Path(path.parent, "outcomes.parquet").write_bytes(content)
    edit(path, digest, hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match="some records do not hold.*; 1 others do"):
        run("verify", "runs")
    out, err = capsys.readouterr()
    assert "altered" in next(line for line in out.splitlines() if "ugr-seed0-0" in line)
    # Ranks of GOOD are all set to 0: HR and NDCG at four lengths, and MRR.
    assert len(err.splitlines()) == 9
    assert run() == 0
    assert "and 6 more; `leaderboard verify` lists them" in capsys.readouterr().err


def test_verify_tells_equal_runs_that_differ_and_a_board_shows_the_newest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rounding may do that, so that nobody is called a forger for it; the exit code is 0."""
    save(Path("runs"), whole("ugr", GOOD))
    second = save(Path("runs"), whole("ugr", BEST, minutes=5))
    assert run("verify") == 0
    out, err = capsys.readouterr()
    line, note = err.splitlines()
    assert line.startswith(f"contradicts: {second}: metrics.") and "an equal run" in line
    assert "may be honest" in note and "altered" not in out + err
    results = [line.split()[-1] for line in out.splitlines() if "record.json" in line]
    assert results == ["holds", "contradicts"]
    assert run("verify", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["wrong"] == [] and len(said["contradictions"]) == 1
    assert [line["result"] for line in said["records"]] == results
    # What was altered is called so all the same, and is an error.
    edit(second, '"HR@10": 1.0', '"HR@10": 0.9')
    with pytest.raises(UserError, match="some records do not hold.*; 1 others do"):
        run("verify")
    assert f"altered: {second}" in capsys.readouterr().err
    edit(second, '"HR@10": 0.9', '"HR@10": 1.0')
    assert run() == 0
    assert "1 record is not shown" in Path("runs/boards/industrial.md").read_text()


def test_two_different_records_of_one_run_are_refused() -> None:
    save(Path("a"), whole("ugr", GOOD))
    save(Path("b"), whole("ugr", BEST))
    kept, wrong = collect(record_paths([Path("a"), Path("b")]))
    assert len(kept) == 1 and any("run_id" in line and "differs" in line for line in wrong)
    kept, wrong = collect(record_paths([Path("a"), Path("a/ugr-seed0-0"), Path("missing")]))
    assert len(kept) == 1 and wrong == []


def test_a_board_is_rewritten_in_place_and_under_any_name(tmp_path: Path) -> None:
    write_boards(make_board([whole("ugr", GOOD)], "industrial"), tmp_path)
    paths = write_boards(make_board([whole("grpo", START)], "industrial"), tmp_path)
    assert paths[0] == tmp_path / "industrial.md"
    assert "| ugr " not in paths[0].read_text() and "| grpo " in paths[0].read_text()
    named = write_boards(make_board([whole("ugr", GOOD)], "industrial"), tmp_path, "board")
    assert [path.name for path in named] == ["board.md", "board.csv", "board.html"]


def test_records_that_were_really_made_are_verified_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From two runs to a board; one that failed and a forged ledger are seen for what they are."""
    shrink_backbone(monkeypatch)
    bench = Bench(capsys, save_tiny(tmp_path / "data"), tmp_path / "runs")
    more = ("validations=2", "pass_samples=10", "steps=4")
    folder = bench.run("grpo", *more)
    bench.run("sft", *more)
    (tmp_path / "bad.py").write_text(BAD)
    assert bench.call(str(tmp_path / "bad.py"), *more).code == 2
    called = call(capsys, ["leaderboard", "verify", "runs"])
    assert called.code == 0, called.err
    assert called.out.count("  holds") == 3 and called.out.count("holds, failed run") == 1
    called = call(capsys, ["leaderboard", "industrial"])
    assert called.code == 0, called.err
    page = Path("runs/boards/industrial.md").read_text()
    assert "| bad [failed] " in page and "bad failed with seed 0: step 1: the loss is nan" in page
    lines = page.partition("### Quality")[2].splitlines()
    start = next(line for line in lines if "SFT start" in line)
    assert " to " in start, "the start's outcomes are kept, so it has an interval"
    (board,) = [make_board([read_evidence(folder / "record.json")], "industrial")]
    (row,) = [row for row in board.sections[0].rows if row.name == "grpo"]
    # Looks at the start, halfway and at the end.
    assert len(row.curve) == 3 and row.curve[0][0] == 0.0
    record = read_record(folder)
    last = json.dumps(record["budget"]["spent"]["update"]["flops"])
    edit(folder / "record.json", last, "1.0")
    called = call(capsys, ["leaderboard", "verify", "runs"])
    assert called.code == 2 and "budget.spent: flops: stated" in called.err
