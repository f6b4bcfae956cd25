"""Metrics of one's own: computed, recorded, shown; a fault in one is one line, in time."""

import re
from pathlib import Path

import numpy as np
import pytest
from made_lists import CATALOG
from tiny_runs import SETTINGS, call, only_error

from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import read_evidence
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.verify import verify
from genrec_bench.data.dataset import Examples
from genrec_bench.errors import UserError
from genrec_bench.runs.records import read_record
from genrec_bench.storage.digests import file_sha256
from genrec_bench.training.own_metrics import RankedLists, load_metrics

Capture = pytest.CaptureFixture[str]

HEAD = '''
"""Metrics of one's own."""

import numpy as np
from genrec_bench.algorithm import RankedLists, metric

'''
FIRST = '''
def _share(lists, k):
    return lists.hits[:, :k].any(axis=1).mean()

@metric
def first_hits(lists: RankedLists) -> float:
    """HR@1 once more."""
    return _share(lists, 1)

@metric
def history_length(lists):
    return np.mean([len(lists.examples.history(i)) for i in range(len(lists.targets))])
'''
FAULTS = {
    "raises": ("    return 1 / 0", "own/broken: line 9: ZeroDivisionError: division by zero"),
    "nothing": ("    pass", "own/broken: returned NoneType None; it must return one finite number"),
    "nan": (
        "    return np.float64('nan')",
        "own/broken: returned float64 np.float64(nan); it must",
    ),
    "array": ("    return lists.ranks", "own/broken: line 9: AttributeError: 'RankedLists'"),
    "several": (
        "    return np.ones(3)",
        "own/broken: returned ndarray array([1., 1., 1.]); it must",
    ),
    "truth": (
        "    return True",
        "own/broken: returned bool True; it must return one finite",
    ),
    "writes": ("    lists.items[0] = 0; return 1.0", "own/broken: line 9: ValueError: assignment"),
    "exits": ("    raise SystemExit('bye')", "own/broken: line 9: SystemExit: bye"),
}


def lists() -> RankedLists:
    items = np.array([[0, 3, 5], [4, 1, 2], [5, 0, -1]], dtype=np.int32)
    examples = Examples.from_lists([0, 1, 2], [[1], [2, 3], [0, 1, 2]], [0, 2, 4])
    return RankedLists(items, examples, CATALOG)


def test_figures_by_hand(tmp_path: Path) -> None:
    """Of the targets 0, 2 and 4 the first stands first, the second third, the last nowhere."""
    file = tmp_path / "mine.py"
    file.write_text(HEAD + FIRST)
    own = load_metrics(file)
    assert lists().hits.sum() == 2
    found = own.figures(lists())
    assert found == pytest.approx({"own/first_hits": 1 / 3, "own/history_length": 2.0})
    assert own.sha256 == file_sha256(file)


def test_the_example_of_the_documentation_works(root: Path, tmp_path: Path) -> None:
    """Popularity 4 2 2 0 7 3 plus one, of 24: items 0 3 5 4 1 2 5 0 have 5 1 4 8 3 3 4 5."""
    text = (root / "docs" / "metrics.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "novelty.py"
    file.write_text(code)
    shares = np.array([5, 1, 4, 8, 3, 3, 4, 5]) / 24
    found = load_metrics(file).figures(lists())
    assert found == pytest.approx({"own/novelty": -np.log2(shares).mean()})


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_one_line(kind: str, tmp_path: Path) -> None:
    body, told = FAULTS[kind]
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}@metric\ndef broken(lists):\n{body}\n")
    with pytest.raises(UserError) as caught:
        load_metrics(file).figures(lists())
    assert str(caught.value).startswith(f"metrics={file}: {told}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no such file"),
        ("def (:\n", "line 1: SyntaxError"),
        ("import nothing_like_it\n", "line 1: ModuleNotFoundError"),
        ("def novelty(lists):\n    return 1.0\n", "no function in it is a metric"),
        ("from genrec_bench.metrics import metric\n", "import it from genrec_bench.algorithm"),
    ],
)
def test_a_file_that_is_none_is_refused_before_anything(
    text: str | None, told: str, tmp_path: Path, capsys: Capture, data: Path
) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(tmp_path / "runs")]
    called = call(capsys, ["run", "grpo", *words, "--no-mlflow", "--set", f"metrics={file}"])
    assert told in only_error(called) and called.code == 2
    assert not list((tmp_path / "runs").rglob("*.json"))


def test_a_run_computes_them_of_the_start_and_the_policy(
    tmp_path: Path, capsys: Capture, data: Path
) -> None:
    file, output = tmp_path / "mine.py", tmp_path / "runs"
    file.write_text(HEAD + FIRST)
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    words += ["--no-mlflow", "--set", *SETTINGS, f"metrics={file}", "ks=1,4"]
    assert call(capsys, ["run", "grpo", *words]).code == 0
    (path,) = output.rglob("record.json")
    record, evidence = read_record(path), read_evidence(path)
    for figures in (record["metrics"]["test"], record["sft"]["test"]):
        assert figures["own/first_hits"] == pytest.approx(figures["HR@1"])
        assert {"HR@1", "HR@4", "HR@10"} <= figures.keys() and "HR@3" not in figures
    assert record["cutoffs"] == [1, 4, 10] and "ks" not in record["configuration"]["settings"]
    told = record["own_metrics"]
    assert told["sha256"] == file_sha256(file) and told["file"] == "mine.py"
    assert verify(evidence).findings == ()
    made = make_board([evidence], "industrial")
    assert ",test/own/first_hits," in to_csv(made) and ",test/HR@4," in to_csv(made)
    undeclared = evidence.record | {"own_metrics": {**told, "figures": []}}
    found = verify(type(evidence)(undeclared, evidence.outcomes, evidence.curves)).findings
    assert {finding.found for finding in found} == {"nothing in the outcomes"}


def test_what_fails_on_real_lists_alone_is_refused_before_training(
    tmp_path: Path, capsys: Capture, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SFT start is evaluated first; so its lists show what a few random ones did not."""
    monkeypatch.setattr("genrec_bench.training.own_metrics.TRIED", 8)
    file, output = tmp_path / "mine.py", tmp_path / "runs"
    body = "    if len(lists.targets) > 8: raise KeyError('late')\n    return 1.0"
    file.write_text(f"{HEAD}@metric\ndef broken(lists):\n{body}\n")
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    words += ["--no-mlflow", "--set", *SETTINGS, f"metrics={file}"]
    called = call(capsys, ["run", "grpo", *words])
    assert called.code == 2 and "own/broken: line 9: KeyError: 'late'" in called.err
    assert "Traceback" not in called.err and not list(output.rglob("record.json"))
