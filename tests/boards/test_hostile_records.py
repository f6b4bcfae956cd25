"""Records that strangers forged field by field: each is named, none stops or hinders the others."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_world import BEST, BUDGET, GOOD, reseal, save, whole
from hostile_records import changed, make_hostile, parquet, write_table

from genrec_bench.boards.collecting import collect, record_paths
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_text
from genrec_bench.commands.cli import main
from genrec_bench.errors import UserError
from genrec_bench.runs.record_diff import differences
from genrec_bench.runs.record_schema import Record
from genrec_bench.runs.records import read_record
from genrec_bench.runs.run_config import config_of

ODD: list[Any] = [
    None, 3, -1, 1e300, "a/../b", "9" * 300, "x\x1b[2J" * 900, [], ["x", None], {}, {"x": [1]},
]  # fmt: skip


def parts_of(record: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in record.items() if isinstance(record, dict) else ():
        yield (*place, key)
        yield from parts_of(value, (*place, key))


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    tuning = {"study": "s", "limit": "1Tflop", "trials": 3, "failed": 0, "pruned": 1}
    tuning |= {"flops": 1e11, "seconds": 3.0, "tokens": 5}
    track = {**BUDGET["track"], "tuning": "1Tflop", "decoding": "beam", "beam_width": 10}
    more: dict[str, Any] = {
        "track": track,
        "budget_limit": "1Tflop",
        "tuning": tuning,
        "cutoffs": [1, 3, 5, 10],
    }
    more |= {"command": ["run", "ugr"], "commit": "c" * 40, "versions": {"torch": "2"}}
    one = whole("ugr", GOOD, looks=(0.1, 0.2), **more)
    return save(tmp_path / "honest", one)


def test_no_field_of_any_kind_breaks_a_reader(honest: Path, tmp_path: Path) -> None:
    """Every field replaced by every odd value: it is refused in one line, or bears all readers."""
    record = json.loads(honest.read_text())
    target = tmp_path / "forged"
    shutil.copytree(honest.parent, target)
    refused = taken = 0
    # What the board makes of those that are taken is looked at a few at a time.
    places = list(parts_of(record))
    while places:
        place, boards = places.pop(), list[Any]()
        for value in (..., *ODD):
            reseal(target / "record.json", changed(record, place, value))
            try:
                read = read_record(target)
            except UserError as error:
                line = str(error)
                assert "record.json" in line and line.isprintable() and len(line) < 4000
                refused += 1
                continue
            taken += 1
            assert config_of(read) and isinstance(differences(Record(record), read), list)
            boards.append(value)
        for value in boards[-1:] if len(places) % 4 else ():
            reseal(target / "record.json", changed(record, place, value))
            evidence, _ = collect(record_paths([target]))
            for one in evidence:
                to_text(make_board(evidence, one.record["dataset"]))
    assert refused > 500 and taken > 100


def odd_tables(outcomes: pa.Table) -> dict[str, bytes]:
    def with_column(name: str, values: Any) -> bytes:
        place = outcomes.column_names.index(name)
        return parquet(outcomes.set_column(place, name, pa.array(values)))

    n = outcomes.num_rows
    return {
        "text for ranks": with_column("item_rank", ["x"] * n),
        "lists for ranks": with_column("item_rank", [[1]] * n),
        "nulls for ranks": with_column("item_rank", [None] * n),
        "fractions for ranks": with_column("item_rank", [0.5] * n),
        "huge ranks": with_column("sid_rank", [2**62] * n),
        "negative ranks": with_column("start_item_rank", [-7] * n),
        "nothing for example": with_column("example", [float("nan")] * n),
        "numbers for splits": with_column("split", [3] * n),
        "moments for hits": with_column("sampled_hits", np.array([0] * n, "datetime64[s]")),
        "a column less": parquet(outcomes.drop_columns(["item_rank"])),
        "a column twice": parquet(outcomes.append_column("split", outcomes["split"])),
        "metadata that lie": parquet(outcomes, pandas='{"index_columns": ["split"], "columns": 3}'),
        "no table": b"PAR1" + b"\0" * 50 + b"PAR1",
        "nothing": b"",
    }


def test_no_table_of_any_kind_breaks_a_reader(honest: Path) -> None:
    outcomes = pq.read_table(honest.parent / "outcomes.parquet").replace_schema_metadata(None)
    before = {path.name: path.read_bytes() for path in honest.parent.iterdir()}
    for key in ("outcomes", "curves"):
        for name, content in odd_tables(outcomes).items():
            write_table(honest.parent, key, content)
            evidence, wrong = collect(record_paths([honest.parent]))
            fits = name == "metadata that lie" and key == "outcomes"
            assert len(evidence) == fits or key == "curves", (name, wrong)
            assert bool(wrong) is not bool(evidence)
            assert all("honest" in line and line.isprintable() for line in wrong)
            for file, old in before.items():
                (honest.parent / file).write_bytes(old)


def test_a_table_that_stands_for_more_than_a_machine_holds_is_refused_unread(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrec_bench.storage.parquet.MOST_CELLS", 10)
    _, (line, *_) = collect(record_paths([honest.parent]))
    assert "12 rows are more than can be meant" in line


def test_the_fifty_honest_are_shown_and_the_fifty_others_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(50):
        algorithm = f"algo{number // 5}"
        save(Path("runs"), whole(algorithm, BEST if number % 2 else GOOD, seed=number % 5))
    hostile = make_hostile(Path("runs"))
    assert len(hostile) == 50
    assert main(["leaderboard", "industrial", "--output", "runs", "--records", "runs"]) == 0
    said = capsys.readouterr()
    board = Path("runs/boards/industrial.md").read_text()
    assert all(f"| algo{number}" in board for number in range(10))
    assert "evil" not in said.out + board
    left_out = [line for line in said.err.splitlines() if line.startswith("left out: ")]
    for path in hostile:
        assert any(str(path.parent) in line for line in left_out), path
    assert all(line.isprintable() for line in said.err.splitlines())
    assert not any("runs/algo" in line.split(": ")[1] for line in left_out)
    shown, _ = collect(record_paths([Path("runs")]))
    names = {(one.record["algorithm"], one.record["seed"]) for one in shown}
    assert names == {(f"algo{number // 5}", number % 5) for number in range(50)}
