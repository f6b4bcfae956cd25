"""Traces of thought: what of them is refused, how they are taught, and in which order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Bench, call, only_error, run_folders
from worded_world import save_llama, trace_lines, worded_dataset, worded_policy

from genrec_bench.data.dataset_store import save_contents
from genrec_bench.errors import UserError
from genrec_bench.policy.answers import score_answers
from genrec_bench.training.curriculum import Curriculum, CurriculumStepper, insertion_probability
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_sharing import export_start, import_start, shared_starts
from genrec_bench.training.sft_tasks import check_words
from genrec_bench.training.sft_training import sequences_of_epoch
from genrec_bench.training.traces import load_traces
from genrec_bench.training.workers import Workers

DATASET = worded_dataset()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), places=512)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(trace_lines(DATASET, 20)))
    return path


def test_the_probability_is_that_of_the_paper() -> None:
    # Half way through 10 batches with 4 of traces: 1.5 * 5 / 10 * 4 / 10.
    assert insertion_probability(5, 10, 4, 1.5) == pytest.approx(0.3)
    assert insertion_probability(10, 10, 4, 1.5) == pytest.approx(0.6)
    assert insertion_probability(10, 10, 20, 1.5) == 1.0


@pytest.mark.parametrize(("aligned", "reasoned"), [(50, 20), (7, 30), (1, 1)])
def test_every_epoch_has_all_batches_and_thoughts_come_late(aligned: int, reasoned: int) -> None:
    plan = Curriculum(aligned, reasoned, 3, 1.5, seed=0)
    whole = aligned + reasoned
    steps = [plan.batch(step) for step in range(3 * whole)]
    for epoch in range(3):
        here = steps[epoch * whole : (epoch + 1) * whole]
        for reasons, count in ((True, reasoned), (False, aligned)):
            numbers = [number for kind, number in here if kind == reasons]
            assert numbers == list(range(epoch * count, (epoch + 1) * count))
    # Asked in another order, as after a resumption, it says the same.
    again = Curriculum(aligned, reasoned, 3, 1.5, seed=0)
    assert [again.batch(step) for step in reversed(range(3 * whole))] == steps[::-1]


def test_thoughts_rise_in_all_epochs_but_the_last() -> None:
    aligned, reasoned, seeds = 60, 30, 300
    where = np.zeros((2, aligned))
    last = []
    for seed in range(seeds):
        plan = Curriculum(aligned, reasoned, 3, 1.5, seed)
        for epoch in (0, 1):
            order = plan.order(epoch)
            tasks = np.cumsum(~order) - 1
            # At most one batch of traces follows each batch of tasks, until the tasks end.
            follows = np.bincount(tasks[order], minlength=aligned)
            assert follows[:-1].max() <= 1
            where[epoch] += follows > 0
        order = plan.order(2)
        last.append(order.nonzero()[0].mean() / (aligned + reasoned - 1))
    expected = [insertion_probability(i, aligned, reasoned, 1.5) for i in range(1, aligned)]
    # Each is a share of 600 draws, within four standard deviations; few plans run out early.
    found = where.sum(axis=0)[:-1] / (2 * seeds)
    assert np.abs(found - expected)[:40].max() < 4 * 0.5 / np.sqrt(2 * seeds)
    assert abs(np.mean(last) - 0.5) < 0.02, "the last epoch is even"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], r"sft_traces=.*traces.jsonl, line 1"),
        (["[1]"], "line 1: must be a JSON object"),
        ([], "holds no trace"),
        (['{"text": "a"}'], "trace 1: lacks 'example'; a trace has 'example' and 'text'"),
        (['{"example": 320, "text": "a"}'], "must be a row of the training split, 0 to 319"),
        (['{"example": -1, "text": "a"}'], "must be a row of the training split"),
        (['{"example": true, "text": "a"}'], "must be a row of the training split"),
        (['{"example": "3", "text": "a"}'], "must be a row of the training split"),
        (['{"example": 3, "text": " "}'], "text must be words"),
        (['{"example": 3, "text": 4}'], "text must be words"),
        (['{"example": 3, "text": "' + "a" * 20_001 + '"}'], "more than 20,000 characters"),
        (['{"example": 3, "text": "a</think>b"}'], "holds </think>"),
        (['{"example": 3, "text": "a"}', '{"example": 3}'], "trace 2: lacks 'text'"),
    ],
)
def test_what_is_no_trace_is_named(lines: list[str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=said) as error:
        load_traces(str(path), DATASET)
    assert "\n" not in str(error.value)


def test_traces_that_are_not_there_or_have_no_place_are_refused(tmp_path: Path, file: Path) -> None:
    for wrong, said in (
        (tmp_path / "none.jsonl", "there is no such file"),
        (tmp_path, "is a folder"),
        ("0" * 64, "a record knows traces by their hash; name the file"),
    ):
        with pytest.raises(UserError, match=said) as error:
            Settings(sft_traces=str(wrong))
        assert str(error.value).startswith("sft_traces=")
    for prompt in ("auto", "text", "compact"):
        with pytest.raises(UserError, match="thoughts have a place in prompt=gream alone"):
            check_words(DATASET, "some/model", Settings(sft_traces=str(file), prompt=prompt))
    check_words(DATASET, "some/model", Settings(sft_traces=str(file), prompt="gream"))


def test_records_know_traces_by_what_is_in_them(tmp_path: Path, file: Path) -> None:
    first = Settings(sft_traces=str(file)).sft()["sft_traces"]
    copy = tmp_path / "elsewhere.jsonl"
    copy.write_bytes(file.read_bytes())
    assert Settings(sft_traces=str(copy)).sft()["sft_traces"] == first
    copy.write_text(file.read_text() + trace_lines(DATASET, 21)[-1])
    assert Settings(sft_traces=str(copy)).sft()["sft_traces"] != first


def stepper_of(folder: Path, file: Path, *, epochs: float = 3) -> tuple[Any, CurriculumStepper]:
    policy = worded_policy(folder, DATASET, "prompt=gream")
    ledger = policy.meter = Ledger(policy.device)
    optimization = Optimization(
        policy, Workers(), learning_rate=0.01, weight_decay=0.0, warmup=0.0, max_grad_norm=1.0
    )
    options: dict[str, Any] = {"batch": 8, "seed": 0, "phase": "sft", "pace": 1.5}
    traces = load_traces(str(file), DATASET)
    parts = ({"title-sid": 0.1}, optimization, ledger, Workers())
    return policy, CurriculumStepper(
        policy, DATASET, *parts, traces=traces, epochs=epochs, **options
    )


def test_a_step_learns_tasks_or_thoughts_and_the_thoughts_are_learned(
    llama: Path, file: Path
) -> None:
    policy, stepper = stepper_of(llama, file, epochs=1)
    # 320 + 32 sequences of tasks, and 20 of traces, in whole batches of 8.
    assert len(stepper) == (44 + 3) * 8
    words = {"sft_tasks": "next-item,title-sid:0.1", "sft_batch": "8"}
    settings = from_words(Settings, {**words, "sft_traces": str(file)})
    prompt_format = policy.prompt_format
    assert sequences_of_epoch(prompt_format, DATASET, settings) == len(stepper)
    without = from_words(Settings, words)
    assert sequences_of_epoch(prompt_format, DATASET, without) == 352
    assert sequences_of_epoch(prompt_format, DATASET, Settings()) == 320
    traces = stepper._questions[-1]
    first = int(stepper._first[-2])
    seen: list[int] = []
    for index in range(47):
        rows = stepper._rows(index, 1.0)
        reasons = rows >= first
        assert reasons.all() or not reasons.any()
        seen += (rows[reasons] - first).tolist()
    assert set(seen) == set(range(20)) and len(seen) == 24
    ((question, answer),) = stepper._tokens([(traces, 4)])
    text = policy.prompt_format.tokenizer.decode(np.concatenate([question, answer]))
    row = int(load_traces(str(file), DATASET).examples[4])
    sid = policy.prompt_format.item_text[DATASET.train.targets[row]]
    thought = json.loads(file.read_text().splitlines()[4])["text"]
    assert text.endswith(f"Assistant:\n<think>\n{thought}\n</think>\n<answer>{sid}")
    asked, answers = zip(*stepper._tokens([(traces, n) for n in range(20)]), strict=True)

    def loss() -> float:
        with torch.no_grad(), stepper._ledger.phase("evaluation"):
            return -float(score_answers(policy, asked, answers).mean())

    before = loss()
    for index in range(8 * 47):
        if stepper._rows(index, 1.0)[0] >= first:
            stepper.step(index, 0.0)
    with stepper._ledger.phase("evaluation"):
        stepper.rehearse(8)
    assert loss() < 0.6 * before


def test_a_start_with_traces_is_trained_once_and_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, llama: Path, file: Path
) -> None:
    data = tmp_path / "data"
    save_contents(DATASET.contents, data, {})
    bench = Bench(capsys, data, tmp_path / "out")
    words = ("--backbone", str(llama), "prompt=gream", "sft_epochs=0.4", "steps=1")
    quick = ("validations=0", "pass_samples=0", f"sft_traces={file}")
    record = bench.record("grpo", *words, *quick)
    told = record["configuration"]["settings"]
    assert told["sft_traces"] == Settings(sft_traces=str(file)).traces_sha256
    assert "sft_trace_pace" not in told and str(tmp_path) not in json.dumps(told)
    (start,) = (data / "sft").glob("*/sft.json")
    assert json.loads(start.read_text())["key"]["settings"]["sft_traces"] == told["sft_traces"]
    other = bench.call("grpo", *words, *quick, "sft_trace_pace=3", "sft_targets=2")
    assert other.code == 0 and len(list((data / "sft").glob("*/sft.json"))) == 2
    # A record asks for the file, and with it finds its own start.
    (run, _) = sorted(run_folders(tmp_path / "out"), key=lambda folder: folder.name)
    again = ["run", "--from-record", str(run), "--backbone", str(llama), "--no-mlflow"]
    again += ["--data-dir", str(data), "--output", str(tmp_path / "again")]
    assert "a record knows traces by their hash; name the file" in only_error(call(capsys, again))
    # A start on traces is shared as any other.
    shared, wrong = shared_starts(data)
    assert len(shared) == 2 and not wrong
    export_start(shared[0], tmp_path / "start.tar")
    taken, is_new = import_start(tmp_path / "start.tar", tmp_path / "elsewhere")
    assert is_new and taken.weights == shared[0].weights
