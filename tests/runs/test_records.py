"""Records: written once, whole or not at all, and never changed unnoticed."""

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import board_world
import numpy as np
import pandas as pd
import pytest
from board_world import comparable
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench import __version__
from genrec_bench.boards.collecting import record_paths
from genrec_bench.errors import UserError
from genrec_bench.runs import environment, records
from genrec_bench.runs.record_schema import Record, plain, track_id
from genrec_bench.runs.records import join_outcomes, new_run_id, read_record, write_record
from genrec_bench.storage.files import write_atomically

STARTED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def make_record(**changes: Any) -> dict[str, Any]:
    cost = {"tokens": 10, "flops": 2e9, "peak_memory_bytes": 1000}
    usual: dict[str, Any] = {
        "run_id": "ugr-seed0-x",
        "hyperparameters": {"alpha": np.float64(0.5), "level": 2},
        "cutoffs": (1, 10),
        "settings": {"steps": np.int64(160)},
        "track": {"backbone": "tiny", "dataset": "d" * 64, "budget": None, "group_size": 16},
        "hardware": {"cores": 2},
        "spent": {"update": cost | {"seconds": 1.5}, "rollout": cost | {"seconds": 0.5}},
        "metrics": {"valid": {"HR@10": 0.2}, "test": {"HR@10": np.float64(0.21)}},
        "started": STARTED,
        "finished": STARTED + timedelta(seconds=90),
    }
    return board_world.make_record("ugr", 0.2, **(usual | changes))


def make_outcomes() -> pd.DataFrame:
    ranks = {"example": [0, 1], "item_rank": [3, -1], "sid_rank": [2, -1]}
    ranks |= {"sampled_hits": [0, 4], "sid_sampled_hits": [1, 4]}
    return join_outcomes({split: pd.DataFrame(ranks) for split in ("valid", "test")})


def make_curves(seconds: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"step": [1], "name": ["loss"], "value": [0.5], "seconds": [seconds]})


def write(folder: Path, **changes: Any) -> Path:
    return write_record(folder, make_record(**changes), make_outcomes(), make_curves())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(tmp_path / "run", record, make_outcomes(), make_curves())
    assert read_record(path) == record == read_record(path.parent)
    assert record["benchmark"].count(".") == 1 and __version__.startswith(record["benchmark"] + ".")
    assert record["configuration"]["hyperparameters"] == {"alpha": 0.5, "level": 2}
    assert record["cutoffs"] == [1, 10]
    assert record["times"]["finished"] == "2026-03-01T12:01:30+00:00"
    outcomes = pd.read_parquet(path.parent / "outcomes.parquet")
    ranks, hits = ["item_rank", "sid_rank"], ["sampled_hits", "sid_sampled_hits"]
    assert list(outcomes.columns) == ["split", "example", *ranks, *hits]
    assert set(outcomes.dtypes[1:].astype(str)) == {"int32"}
    of_test = outcomes[outcomes["split"] == "test"]
    assert of_test["item_rank"].tolist() == [3, -1] and of_test["sampled_hits"].tolist() == [0, 4]
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["curves.parquet", "outcomes.parquet", "record.json"], "no temporary file stays"


def test_outcomes_of_a_run_that_was_not_evaluated_are_empty(tmp_path: Path) -> None:
    record = make_record(complete=False, metrics={})
    path = write_record(tmp_path, record, join_outcomes({}), make_curves())
    assert read_record(path)["metrics"] == {"valid": {}, "test": {}}
    assert len(pd.read_parquet(tmp_path / "outcomes.parquet")) == 0


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        write(tmp_path, seed=1)
    assert path.read_bytes() == before


def test_a_crash_before_the_end_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("disk full")

    monkeypatch.setattr(records, "write_json", fail)
    with pytest.raises(UserError, match="disk full"):
        write(tmp_path)
    assert not list(record_paths([tmp_path]))
    monkeypatch.undo()
    write(tmp_path)
    assert len(list(record_paths([tmp_path]))) == 1


def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "file" / "record.json", b"{}")


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "board.md"
    write_atomically(path, b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["board.md"]


@pytest.mark.parametrize("file", ["outcomes.parquet", "curves.parquet"])
def test_a_changed_file_is_noticed(tmp_path: Path, file: str) -> None:
    path = write(tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} was changed after the run"):
        read_record(path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing beside it"):
        read_record(path)


def delete(record: Record, *keys: str) -> None:
    for key in keys[:-1]:
        record = record[key]
    del record[keys[-1]]


def test_a_record_holds_the_hash_of_itself(tmp_path: Path) -> None:
    """Hash of the compact JSON with sorted keys, made here with another program's words."""
    path = write(tmp_path)
    record = json.loads(path.read_text())
    text = path.read_text()
    sorted_keys = json.dumps({k: v for k, v in record.items() if k != "sha256"}, sort_keys=True)
    compact = sorted_keys.replace(", ", ",").replace(": ", ":")
    assert record["sha256"] == hashlib.sha256(compact.encode()).hexdigest()
    for old, new in (
        ('"cores": 2', '"cores": 64'),
        ('"seed": 0', '"seed": 1'),
        ('"steps": 160', '"steps": 161'),
        (record["sha256"], "0" * 64),
        (f'"{record["sha256"]}"', "null"),
    ):
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=r"sha256 is not the hash of the record.*changed"):
            read_record(path)
    path.write_text(json.dumps(record, indent=7))
    assert read_record(path) == record, "spaces are no content"
    record.pop("sha256")
    path.write_text(json.dumps(record))
    assert read_record(path) == record, "records of earlier versions have none"


BROKEN: list[tuple[Callable[[Record], Any], str]] = [
    (lambda r: delete(r, "seed"), "missing key 'seed'"),
    (lambda r: delete(r, "budget", "limit"), "missing key 'budget.limit'"),
    (lambda r: r.update(metrics=[]), "key 'metrics' must be a mapping"),
    (lambda r: r.update(seed=True), "key 'seed' must be an integer, not True"),
    (lambda r: r.update(commit=3), "key 'commit' must be text, not 3"),
    (lambda r: r.update(schema=2), "schema is 2; this version reads 1"),
    (lambda r: r["sft"]["test"].update({"HR@10": "0.2"}), "'sft.test.HR@10' must be a number"),
    (lambda r: r["budget"]["spent"].update(update={}), "missing key 'budget.spent.update.seconds'"),
    (lambda r: r["ceiling"].update(test=1), "key 'ceiling.test' must be a mapping"),
    (lambda r: r["track"].update(group_size=32), "track_id is not the hash of track"),
    (lambda r: r.update(dataset="../mine"), "'dataset' must be a plain name, without a folder"),
    (lambda r: r["metrics"]["test"].update({"HR@10": math.inf}), "1e999 is too large a number"),
    (lambda r: r["track"].update(group_size=math.inf), "cannot be read as a record"),
    (lambda r: r["outcomes"].update(file="../it"), "'outcomes.file' must be a plain name"),
]


@pytest.mark.parametrize(("breakage", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_record_is_named_with_its_key(
    tmp_path: Path, breakage: Callable[[Record], Any], message: str
) -> None:
    path = write(tmp_path)
    record = json.loads(path.read_text())
    breakage(record)
    # A reader of JSON takes it for a number, and it is not finite.
    path.write_text(json.dumps(record).replace("Infinity", "1e999"))
    with pytest.raises(UserError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"schema": NaN}'])
def test_what_is_no_record_is_a_user_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"record\.json"):
        read_record(path)


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_is_refused_with_its_key(bad: float) -> None:
    with pytest.raises(ValueError, match=r"metrics\.test\.HR@10 is"):
        make_record(metrics={"test": {"HR@10": bad}})


def test_outcomes_hold_ranks_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="user"):
        write_record(tmp_path, make_record(), make_outcomes().assign(user=1), make_curves())


def test_records_are_found_at_any_depth_but_not_among_mlflows_copies(tmp_path: Path) -> None:
    write(tmp_path / "industrial" / "b")
    write(tmp_path / "industrial" / "a")
    write(tmp_path / "beauty" / "c", dataset="beauty")
    copy = tmp_path / "mlartifacts" / "1" / "2" / "artifacts" / "record.json"
    copy.parent.mkdir(parents=True)
    copy.write_text("{}")
    found = list(record_paths([tmp_path, tmp_path / "missing"]))
    assert [path.parent.name for path in found] == ["c", "a", "b"]


def test_two_runs_with_one_seed_compare_equal_but_for_times(tmp_path: Path) -> None:
    spent = {"update": {"seconds": 9.9, "tokens": 10, "flops": 2e9, "peak_memory_bytes": 7}}
    first = make_record(spent=spent)
    spent["update"].update(seconds=1.1, peak_memory_bytes=8)
    later = {"started": STARTED + timedelta(days=1), "finished": STARTED + timedelta(days=2)}
    second = make_record(spent=spent, run_id="another", **later)
    write_record(tmp_path / "1", first, make_outcomes(), make_curves(seconds=1.0))
    write_record(tmp_path / "2", second, make_outcomes(), make_curves(seconds=2.0))
    assert first != second
    assert first["sha256"] != second["sha256"]
    assert comparable(first) == comparable(second)
    assert first["budget"]["spent"]["update"]["seconds"] == 9.9, "the record itself is untouched"
    assert comparable(make_record(spent=spent, seed=1)) != comparable(make_record(spent=spent))


def test_track_id_is_known_and_does_not_depend_on_order() -> None:
    expected = hashlib.sha256(b'{"a":1,"b":{"c":null}}').hexdigest()[:12]
    assert track_id({"b": {"c": None}, "a": 1}) == expected
    assert track_id({"a": 1, "b": {"c": 0}}) != expected


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False).filter(math.isfinite)
)


@given(
    st.recursive(
        scalars | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
@settings(max_examples=30)
def test_plain_values_survive_json(value: Any) -> None:
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


def test_run_ids_sort_by_time_and_never_collide() -> None:
    berlin = STARTED.astimezone(timezone(timedelta(hours=1)))
    names = {new_run_id("ugr", 3, berlin) for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith("ugr-seed3-20260301T120000Z-") for name in names)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_tells_whether_the_code_differs(tmp_path: Path) -> None:
    assert environment.commit(tmp_path) is None
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms" / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "--quiet")
    assert environment.commit(tmp_path) is None, "nothing is committed yet"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert environment.commit(tmp_path) == head
    (tmp_path / "notes.txt").write_text("not code")
    assert environment.commit(tmp_path) == head
    (tmp_path / "algorithms" / "mine.py").write_text("")
    assert environment.commit(tmp_path) == f"{head}-dirty"
    assert environment.commit(tmp_path / "algorithms") is None, "a checkout around us is not ours"


def test_commit_ignores_the_repository_of_a_running_git_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "-m", "first")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert environment.commit(tmp_path) is None


def test_environment_names_versions_and_hardware() -> None:
    versions = environment.versions()
    assert versions["genrec_bench"] == __version__ and versions["numpy"] == np.__version__
    assert {"python", "torch", "transformers", "peft", "accelerate"} <= set(versions)
    hardware = environment.hardware("cpu")
    assert hardware["device"] == "cpu" and hardware["cpu"]
    assert int(hardware["cores"]) >= 1 and int(hardware["memory_bytes"]) > 2**20
