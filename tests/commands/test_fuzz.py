"""Good files and command lines changed at random: what CI runs of `benchmarks/fuzz.py`."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

INPUTS = 2000
"""Always the same, few of them of kinds that take long. All are for those who have minutes."""


def test_changed_inputs_end_as_they_should(
    environment: dict[str, str], root: Path, ground: Path
) -> None:
    """Exit code 0 or 2, one line, no traceback, no stray write; see the head of the script."""
    process = subprocess.run(
        [
            sys.executable,
            str(root / "benchmarks" / "fuzz.py"),
            *("--count", str(INPUTS), "--quick", "--keep", str(ground)),
        ],
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"\n{INPUTS} inputs, " in process.stdout
    # What was changed knows nothing of this moment, this machine and this checkout.
    record = json.loads((ground / "a/b/good/runs/small/grpo/record.json").read_text())
    assert record["run_id"].startswith("grpo-seed0-20260102T0304")
    assert record["times"]["finished"].startswith("2026-01-02T03:04")
    assert record["commit"] == "0" * 40
    assert record["hardware"]["cpu"] == "Some processor"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: each input copies files and removes them again."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def inputs(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that judges how a command ended; benchmarks/ is no package."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    import fuzz_inputs

    return fuzz_inputs


@pytest.mark.parametrize(
    ("code", "out", "err", "found"),
    [
        (0, "fine\n", "", []),
        (2, "", "genrec-bench: error: no\n", []),
        (ValueError("x"), "", "", ["traceback"]),
        (1, "", "", ["exit code"]),
        (2, "", "something is wrong\n", ["no line"]),
        (0, "\x1b[31mred", "", ["control characters"]),
        (2, "", f"genrec-bench: error: {'x' * 5000}\n", ["long line"]),
        (0, "", "/x/genrec_bench/a.py:1: RuntimeWarning: overflow\n", ["warning"]),
    ],
)
def test_what_should_not_be_is_found(
    inputs: ModuleType, code: object, out: str, err: str, found: list[str]
) -> None:
    assert [what for what, *_ in inputs.complaints(code, out, err, "")] == found


def test_writes_beside_the_folder_of_an_input_are_seen(inputs: ModuleType, tmp_path: Path) -> None:
    case, beside = tmp_path / "case", tmp_path / "case2"
    case.mkdir()
    guard = inputs.Guard()
    guard.allowed = f"{case}/"
    (case / "file").write_text("x")
    case.mkdir(exist_ok=True)
    assert not guard.strays
    beside.mkdir()
    (tmp_path / "file").write_text("x")
    guard.allowed = ""
    assert guard.strays == [str(beside), str(tmp_path / "file")]
