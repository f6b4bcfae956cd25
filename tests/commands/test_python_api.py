"""The Python API: as the commands, in any thread, and without touching what is not its own."""

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from board_world import comparable
from compare_world import WORDS
from tiny_runs import NUM_ITEMS, SETTINGS, Bench, record_and_curves, run_folders, shrink_backbone

import genrec_bench
from genrec_bench.data import dataset_store
from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.synthetic import generate
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import split_words, words_of

QUICK: dict[str, Any] = dict(split_words(SETTINGS))


@pytest.fixture
def given(data: Path, tmp_path: Path, somewhere: None) -> dict[str, Any]:
    """Arguments of a quick run."""
    return {"dataset": "industrial", "data_dir": data, "settings": QUICK, "quiet": True}


def test_the_package_is_imported_at_once(environment: dict[str, str]) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import genrec_bench\n"
        "assert set(genrec_bench.__all__) <= set(dir(genrec_bench))\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "assert new <= {'genrec_bench', *sys.stdlib_module_names}, new\n"
        "genrec_bench.UserError; assert 'torch' not in sys.modules\n"
        "assert not hasattr(genrec_bench, 'runn')\n"
        "from genrec_bench import *; assert callable(run) and callable(compare)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def test_a_run_is_that_of_the_command(
    given: dict[str, Any], bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    record = genrec_bench.run("grpo", seed=3, **given)
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    said = capsys.readouterr()
    assert said.out == said.err == ""
    expected, curves = record_and_curves(bench.run("grpo", "--seed", "3"))
    assert comparable(record) == comparable(expected)
    pd.testing.assert_frame_equal(
        record.curves.drop(columns="seconds"), curves.drop(columns="seconds")
    )
    assert len(record.outcomes) == 54 and record.path == Path("runs/industrial") / (
        record["run_id"] + "/record.json"
    )
    # The same call finds it, and another run is made only where it is asked for.
    assert genrec_bench.run("grpo", seed=3, **given).path == record.path
    assert genrec_bench.run("grpo", seed=3, reuse=False, **given).path != record.path
    assert not list(Path("runs").glob("mlflow.db"))
    assert "HR@10" in shown(record) and len(shown(record)) < 200


def shown(value: Any) -> str:
    class Printer:
        text = ""

        def __init__(self) -> None:
            self.text = self.write  # type: ignore[assignment]
            self.said = ""

        def write(self, text: str) -> None:
            self.said += text

    printer = Printer()
    value._repr_pretty_(printer, False)
    return printer.said


def test_threads_take_turns_and_change_no_result(given: dict[str, Any]) -> None:
    found: dict[int, genrec_bench.Record] = {}
    seeds = (0, 1)

    def work(seed: int) -> None:
        found[seed] = genrec_bench.run("ugr", seed=seed, **given)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(seeds)
    for seed in seeds:
        again = genrec_bench.run("ugr", seed=seed, output="again", **given)
        assert comparable(again) == comparable(found[seed])


def test_records_are_a_table(given: dict[str, Any], bench: Bench) -> None:
    records = [genrec_bench.run(name, **given) for name in ("grpo", "sft")]
    table = genrec_bench.load_records()
    assert table["algorithm"].tolist() == ["grpo", "sft"] and table["path"].is_unique
    for row, record in enumerate(records):
        assert table["metrics.test.NDCG@10"][row] == record["metrics"]["test"]["NDCG@10"]
    assert table["configuration.settings.beam_width"].tolist() == [10, 10]
    assert len(genrec_bench.load_records(records[0].path or "", "runs")) == 2
    (Path(table["path"][0]).parent / "curves.parquet").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out: .*curves.parquet was changed") as warned:
        assert genrec_bench.load_records("runs")["algorithm"].tolist() == ["sft"]
    assert warned[0].filename == __file__
    with pytest.raises(UserError, match="^nowhere: there is no such record or folder$"):
        genrec_bench.load_records("nowhere")
    Path("empty").mkdir()
    assert genrec_bench.load_records("empty").empty


def test_a_policy_recommends(given: dict[str, Any]) -> None:
    record = genrec_bench.run("grpo", **given)
    assert record.path is not None
    for place in (record.path, record.path.parent, str(record.path.parent / "policy")):
        policy = genrec_bench.load_policy(place)
    assert isinstance(policy, genrec_bench.Recommender) and len(policy.items) == NUM_ITEMS
    with pytest.warns(UserWarning, match="evaluation had 10") as warned:
        assert len(policy.recommend(["item 1"], k=12)) == 12
    assert warned[0].filename == __file__, "a warning of the caller's own line"


def test_mistakes_are_raised_before_any_work(given: dict[str, Any]) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "no algorithm 'grpoo'; did you mean 'grpo'?": {"algorithm": "grpoo"},
        "steps=0: must be at least 1": {"settings": {"steps": 0}},
        "budget '9'": {"budget": "9"},
        "unknown dataset 'nothing'": {"dataset": "nothing"},
    }
    for message, changed in wrong.items():
        with pytest.raises(UserError) as error:
            genrec_bench.run(**{"algorithm": "grpo", **given, **changed})
        assert message in str(error.value)
    with pytest.raises(UserError, match="seeds"):
        genrec_bench.compare(**{**given, "seeds": [0, 0]})
    assert not run_folders(Path("runs"))


@pytest.mark.parametrize(
    ("call", "given", "said"),
    [
        ("run", {"budget": 2}, "budget=2: must be text with a unit, such as '2xsft' or '90s'"),
        ("run", {"algorithm": None}, "algorithm=None: must be text"),
        ("run", {"seed": "1"}, "seed='1': must be a whole number"),
        ("run", {"seed": 1.5}, "seed=1.5: must be a whole number"),
        ("run", {"settings": ["steps=2"]}, "settings=['steps=2']: must be a mapping of names to"),
        ("run", {"settings": {1: 2}}, "settings={1: 2}: must be a mapping of names to values"),
        ("run", {"dataset": Path("x")}, "dataset=PosixPath('x'): must be text"),
        ("run", {"output": None}, "output=None: must be a path"),
        ("compare", {"algorithms": "grpo,ugr"}, "algorithms='grpo,ugr': must be a list of texts"),
        ("compare", {"controls": [1]}, "controls=[1]: must be a list of texts"),
        ("compare", {"seeds": "0,1"}, "seeds='0,1': must be a whole number, or a list of them"),
        ("compare", {"seeds": 2.0}, "seeds=2.0: must be a whole number, or a list of them"),
        ("compare", {"tuning_budget": 6}, "tuning_budget=6: must be text with a unit"),
        ("compare", {"workers": "2"}, "workers='2': must be a whole number"),
        ("load_records", {}, "place=7: must be a path"),
        ("load_policy", {"path": None}, "path=None: must be a path"),
    ],
)
def test_an_argument_of_another_type_is_one_line(
    call: str, given: dict[str, Any], said: str
) -> None:
    words = {"algorithm": "grpo"} if call == "run" else {}
    places = (7,) if call == "load_records" else ()
    with pytest.raises(UserError) as caught:
        getattr(genrec_bench, call)(*places, **(words | given))
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_arrays_and_their_numbers_are_taken() -> None:
    with pytest.raises(UserError, match="no algorithm 'grpoo'"):
        genrec_bench.run("grpoo", seed=cast(int, np.int64(3)))
    with pytest.raises(UserError, match="no algorithm 'grpoo'"):
        genrec_bench.compare(algorithms=("grpoo",), seeds=cast(Any, np.arange(3)), quick=True)


def test_values_are_written_as_words() -> None:
    values = {"a": True, "b": None, "c": 1e-05, "d": "x,y", "e": 3}
    assert words_of(values) == ("a=true", "b=none", "c=1e-05", "d=x,y", "e=3")


def test_a_comparison_has_a_verdict_a_board_and_records(
    given: dict[str, Any], compare: Any
) -> None:
    given |= {"settings": dict(split_words(WORDS)), "budget": "100Mflop", "seeds": [0, 1]}
    found = genrec_bench.compare(algorithms=["grpo"], quick=True, **given)
    assert found.page.is_file() and found.failures == ()
    assert sorted(found.records["algorithm"]) == ["grpo", "grpo", "sft", "sft"]
    assert sorted(found.records["seed"]) == [0, 0, 1, 1]
    assert set(found.table["algorithm"]) >= {"grpo", "sft"}
    assert found.verdict and str(found).startswith(found.verdict)


NOTEBOOK = Path("docs/quickstart.ipynb")


@pytest.mark.parametrize("notebook", [NOTEBOOK], ids=str)
def test_a_notebook_runs_and_stores_nothing(
    root: Path, notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = json.loads((root / notebook).read_text())["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [cell for cell in codes if cell["outputs"] or cell["execution_count"]]
    shrink_backbone(monkeypatch)

    def fewer(card: Card) -> Contents:
        assert card.synthetic is not None
        smaller = replace(card, synthetic=replace(card.synthetic, users=400))
        return replace(generate(smaller), card=card)

    monkeypatch.setattr(dataset_store, "generate", fewer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENREC_BENCH_DATA", str(tmp_path / "data"))
    names: dict[str, Any] = {}
    for number, cell in enumerate(codes):
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)
    assert names["record"]["complete"] and not names["comparison"].failures
    assert len(names["table"]) == 5
