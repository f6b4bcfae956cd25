"""SFT on a mixture of tasks: what is asked, how often, what is learned of it and billed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples_of
from hypothesis import strategies as st
from tiny_runs import Bench, only_error, tiny_dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
from worded_world import save_llama, worded_dataset, worded_policy

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.dataset_store import save_contents
from genrec_bench.errors import UserError
from genrec_bench.policy.answers import score_answers
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.templates import NEXT_ITEM, TASKS, TEMPLATES
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_tasks import Questions, QuestionSource, check_words, task_weights
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.task_steps import Mixture, TaskStepper
from genrec_bench.training.workers import Workers

ALL = ",".join([NEXT_ITEM, *TASKS])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def stepper_of(
    policy: Policy, dataset: Dataset, mixture: str, batch: int = 12, targets: int = 1
) -> TaskStepper:
    ledger = Ledger(policy.device)
    policy.meter = ledger
    optimization = Optimization(
        policy, Workers(), learning_rate=0.01, weight_decay=0.0, warmup=0.0, max_grad_norm=1.0
    )
    parts = (task_weights(mixture), optimization, ledger, Workers())
    sizes: dict[str, Any] = {"batch": batch, "targets": targets}
    return TaskStepper(policy, dataset, *parts, **sizes, seed=0, phase="sft")


def test_equal_mixtures_are_written_alike_and_the_default_leaves_no_trace() -> None:
    words = " sid-title : 2, next-item:4,title-sid "
    assert Settings(sft_tasks=words).sft_tasks == "next-item,title-sid:0.25,sid-title:0.5"
    again = Settings(sft_tasks=Settings(sft_tasks=words).sft_tasks)
    assert again == Settings(sft_tasks=words)
    for same in ("next-item", "next-item:3", " next-item "):
        assert Settings(sft_tasks=same) == Settings()
    assert "sft_tasks" not in Settings().resolved() and "sft_tasks" not in Settings().sft()
    assert again.sft()["sft_tasks"] == again.sft_tasks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title-sid", "next-item must be among them"),
        ("next-item,title-sud", "title-sud is no task.*did you mean 'title-sid'"),
        ("next-item,", "an empty word is no task"),
        ("next-item,title-sid,title-sid:2", "title-sid is given twice"),
        ("next-item,title-sid:0", "weight of title-sid must be a number above 0"),
        ("next-item,title-sid:nan", "weight of title-sid must be a number above 0"),
        ("next-item:-1", "weight of next-item must be"),
        ("next-item,sid-title:much", "such as sid-title:0.5"),
    ],
)
def test_mixtures_that_are_none_are_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        Settings(sft_tasks=text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "words", "prompt", "said"),
    [
        (worded_dataset(), "sft_tasks=next-item,title-sid", "compact", "title-sid needs words"),
        (worded_dataset(), "sft_code_tokens=titles", "compact", "titles: needs words, and prompts"),
        (tiny_dataset(), "sft_tasks=next-item,sid-title", "text", "sid-title needs titles of item"),
        (tiny_dataset(), "sft_tasks=next-item,titles-sid", "gream", "titles-sid needs titles"),
        (tiny_dataset(), "sft_tasks=next-item,history-title", "auto", "history-title needs titles"),
        (tiny_dataset(), "sft_code_tokens=titles", "auto", "titles: needs titles of items, and"),
        (
            worded_dataset(descriptions=()),
            "sft_tasks=next-item,description-sid",
            "text",
            "description-sid needs descriptions of items",
        ),
    ],
)
def test_what_lacks_words_is_refused(dataset: Dataset, words: str, prompt: str, said: str) -> None:
    settings = from_words(Settings, dict([words.split("=")]) | {"prompt": prompt})
    with pytest.raises(UserError, match=said) as error:
        check_words(dataset, "some/model", settings)
    assert "\n" not in str(error.value)
    check_words(dataset, "some/model", Settings(prompt=prompt))


def test_a_run_of_tiny_is_refused_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    save_contents(worded_dataset().contents, data, {})
    bench = Bench(capsys, data, output)
    said = only_error(bench.call("sft", "sft_tasks=next-item,title-sid"))
    assert "prompts of codes alone" in said
    assert not output.exists() and not (data / "sft").exists()


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(1, 12), min_size=4, max_size=4),
    st.integers(1, 7),
)
@examples_of(max_examples=40, deadline=None)
def test_an_epoch_has_each_task_as_often_as_it_weighs(
    counts: list[int], weights: list[int], batch: int
) -> None:
    an_epoch = [counts[0], *weights[1 : len(counts)]]
    mixture = Mixture(counts, an_epoch, batch, 3)
    steps = -(-3 * len(mixture) // batch)
    rows = np.concatenate([mixture.rows(index) for index in range(steps)])
    first = np.concatenate([[0], np.cumsum(counts)])
    for task, (count, visits) in enumerate(zip(counts, an_epoch, strict=True)):
        of_task = []
        for epoch in range(3):
            here = rows[epoch * len(mixture) : (epoch + 1) * len(mixture)]
            here = here[(here >= first[task]) & (here < first[task + 1])] - first[task]
            assert len(here) == visits
            of_task += here.tolist()
        often = np.bincount(of_task, minlength=count)
        assert often.max() - often.min() <= 1, "some are asked oftener than others"
    # QuestionSource in another order, as after a resumption, it says the same.
    again = Mixture(counts, an_epoch, batch, 3)
    for index in reversed(range(steps)):
        assert np.array_equal(again.rows(index), rows[index * batch : (index + 1) * batch])


def test_each_task_asks_for_its_item(llama: Path) -> None:
    dataset = worded_dataset()
    prompt_format = worded_policy(llama, dataset).prompt_format
    assert isinstance(prompt_format, TextPrompt)
    found = {name: Questions.of(name, dataset, prompt_format) for name in TASKS}
    # What has no words is not asked about, nor answered with.
    assert 3 not in found["title-sid"].rows and 3 not in found["sid-title"].rows
    assert 5 not in found["description-sid"].rows and 3 in found["description-sid"].rows
    assert 3 not in dataset.train.targets[found["history-title"].rows]
    frame = "\n\nResponse:\n"
    sid = prompt_format.item_text

    def ask(name: str, number: int, shortened: int = 0) -> tuple[str, str]:
        question, (answer,) = found[name].write(number, shortened)
        return question, answer

    assert ask("title-sid", 2) == (
        f"Which item has the title garden hose 2?{frame}",
        sid[2],
    )
    assert ask("sid-title", 2) == (
        f"Which title has the item {sid[2]}?{frame}",
        "garden hose 2",
    )
    question, answer = ask("description-sid", 4)
    assert "kettle" not in question and "lamp of size 4" in question and answer == sid[4]
    for name in ("titles-sid", "history-title"):
        questions = found[name]
        number = int(np.argmax(dataset.train.history_lengths[questions.rows]))
        row = questions.rows[number]
        history, target = dataset.train.history(row), int(dataset.train.targets[row])
        question, answer = ask(name, number)
        titles = dataset.catalog.titles
        if name == "titles-sid":
            assert "; ".join(titles[item] for item in history if titles[item]) in question
            assert answer == sid[target]
        else:
            assert prompt_format.spell(history) in question and answer == titles[target]
        shorter, same = ask(name, number, 1)
        assert len(shorter) < len(question) and same == answer
        assert (titles if name == "titles-sid" else sid)[history[-1]] in shorter


@pytest.mark.parametrize("name", TEMPLATES)
def test_words_that_look_like_fields_are_words(llama: Path, name: str) -> None:
    dataset = worded_dataset(titles=("a {sid} {0} {{x}}",) * 24)
    policy = worded_policy(llama, dataset, f"prompt={name}")
    assert isinstance(policy.prompt_format, TextPrompt) and policy.prompt_format.name == name
    question, _ = Questions.of("title-sid", dataset, policy.prompt_format).write(0)
    assert "a {sid} {0} {{x}}" in question


def test_answers_are_scored_as_transformers_scores_them(llama: Path) -> None:
    policy = worded_policy(llama, worded_dataset())
    policy.meter = count = WorkCount()
    generator = np.random.default_rng(0)
    sizes = [(9, 3), (4, 7), (1, 1), (30, 2)]
    questions, answers = (
        [generator.integers(0, 300, n) for n in column] for column in zip(*sizes, strict=True)
    )
    with torch.no_grad():
        found = score_answers(policy, questions, answers)
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    model.resize_token_embeddings(policy.vocabulary_size)
    model.load_state_dict(policy.backbone.state_dict())
    expected = []
    for question, answer in zip(questions, answers, strict=True):
        tokens = torch.from_numpy(np.concatenate([question, answer]))
        logits = model(tokens.unsqueeze(0)).logits[0, len(question) - 1 : -1]
        expected.append(-cross_entropy(logits, tokens[len(question) :], reduction="none"))
    assert torch.allclose(found, torch.cat(expected), atol=1e-5)
    assert count.tokens == sum(asked + answered - 1 for asked, answered in sizes)
    assert count.flops > 2 * 32 * policy.vocabulary_size * sum(size for _, size in sizes)


def test_next_item_weighs_within_a_mixture_what_it_weighs_alone(llama: Path) -> None:
    dataset = worded_dataset()
    policy = worded_policy(llama, dataset)
    mixed = stepper_of(policy, dataset, ALL)
    parts: tuple[Any, ...] = (mixed._optimization, mixed._ledger, Workers())
    plain = SupervisedStepper(policy, dataset.train, *parts, batch=8, seed=0, phase="sft")
    rows = np.arange(8)
    assert mixed._count(rows) == plain._count(rows) == 8
    with mixed._ledger.phase("sft"):
        assert mixed._learn(rows, 8.0) == plain._learn(rows, 8.0)


def test_each_token_of_an_answer_counts_once_however_it_is_cut(llama: Path) -> None:
    dataset = worded_dataset()
    policy = worded_policy(llama, dataset)
    stepper = stepper_of(policy, dataset, ALL)
    rows = stepper._rows(0, 1.0)
    count = stepper._count(rows)
    with stepper._ledger.phase("sft"):
        whole = stepper._learn(rows, count)
    grads = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    for parameter in policy.parameters():
        parameter.grad = None
    policy.tokens_per_forward = 64
    # As by two processes, in smaller passes.
    with stepper._ledger.phase("sft"):
        parts = [stepper._learn(some, count) for some in (rows[::2], rows[1::2])]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    again = [p.grad for p in policy.parameters() if p.grad is not None]
    for one, other in zip(grads, again, strict=True):
        assert (one - other).norm() <= 1e-4 * one.norm()
    # The mean over all tokens of answers, times a target's codes: next-item's own scale.
    levels = dataset.catalog.num_levels
    assert count * levels == sum(
        len(stepper._tokens([(q, n)])[0][1]) if q else levels for q, n in asked_of(stepper, rows)
    )


def asked_of(stepper: TaskStepper, rows: Any) -> list[tuple[QuestionSource | None, int]]:
    """The question behind each row of a mixture; none for next-item."""
    found: list[tuple[QuestionSource | None, int]] = []
    for row in rows.tolist():
        task = int(np.searchsorted(stepper._first, row, side="right"))
        questions = stepper._questions[task - 1] if task else None
        found.append((questions, row - int(stepper._first[task - 1]) if task else row))
    return found


def test_titles_end_and_codes_do_not(llama: Path) -> None:
    dataset = worded_dataset()
    policy = worded_policy(llama, dataset)
    stepper = stepper_of(policy, dataset, ALL)
    end = policy.prompt_format.tokenizer.eos_token_id
    for questions in stepper._questions:
        ((question, answer),) = stepper._tokens([(questions, 0)])
        assert (answer[-1] == end) == questions.answers_in_words
        assert questions.answers_in_words or len(answer) == dataset.catalog.num_levels
        assert question[-1] != end


def test_long_texts_are_shortened_to_what_the_backbone_reads(tmp_path: Path) -> None:
    told = tuple("a very long story about nothing " * 60 for _ in range(24))
    dataset = worded_dataset(descriptions=told)
    policy = worded_policy(save_llama(tmp_path, places=150), dataset)
    stepper = stepper_of(policy, dataset, "next-item,description-sid")
    ((question, answer),) = stepper._tokens([(stepper._questions[0], 0)])
    assert 75 < len(question) + len(answer) - 1 <= 150
    # A title cannot be shortened: it would be another answer.
    titles = worded_dataset(
        titles=tuple("a title of extraordinarily long words " * 20 for _ in range(24))
    )
    stepper = stepper_of(worded_policy(tmp_path, titles), titles, "next-item,sid-title")
    with pytest.raises(UserError, match="reads 150 tokens, and a question with its answer"):
        stepper.step(0, 0.0)


def test_a_mixture_teaches_each_of_its_tasks_and_is_billed(llama: Path) -> None:
    dataset = worded_dataset()
    policy = worded_policy(llama, dataset)
    stepper = stepper_of(policy, dataset, ALL, batch=32)
    ledger = policy.meter
    assert isinstance(ledger, Ledger)

    def losses() -> list[float]:
        found = []
        with torch.no_grad(), ledger.phase("evaluation"):
            for questions in stepper._questions:
                texts = stepper._tokens([(questions, number) for number in range(16)])
                asked, answers = zip(*texts, strict=True)
                found.append(-float(score_answers(policy, asked, answers).mean()))
        return found

    before = losses()
    tokens = 0
    for index in range(25):
        figures = stepper.step(index, 0.0)
        assert figures["part"] == 1.0
        for questions, number in asked_of(stepper, stepper._rows(index, 1.0)):
            if questions is None:
                prompts = policy.prompt_format.encode(dataset.train, np.array([number]))
                tokens += int(prompts.lengths) + dataset.catalog.num_levels - 1
            else:
                ((question, answer),) = stepper._tokens([(questions, number)])
                tokens += len(question) + len(answer) - 1
    pairs = zip(before, losses(), strict=True)
    assert all(late < 0.7 * early for early, late in pairs), before
    cost = ledger.spent["sft"]
    assert cost.tokens == tokens
    inner = sum(p.numel() for n, p in policy.backbone.named_parameters() if "layers" in n)
    assert cost.flops > 6 * tokens * inner


def test_a_start_on_tasks_is_kept_apart_and_told_in_the_record(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, llama: Path
) -> None:
    data = tmp_path / "data"
    save_contents(worded_dataset().contents, data, {})
    bench = Bench(capsys, data, tmp_path / "out")
    words = (
        "--backbone",
        str(llama),
        "sft_epochs=0.3",
        "steps=1",
        "validations=0",
        "pass_samples=0",
    )
    plain = bench.record("grpo", *words)
    mixed = bench.record(
        "grpo", *words, "prompt=gream", f"sft_tasks={ALL}", "sft_code_tokens=titles"
    )
    assert not {"sft_tasks", "sft_code_tokens"} & plain["configuration"]["settings"].keys()
    assert mixed["configuration"]["settings"]["sft_tasks"].startswith("next-item,title-sid:1,")
    assert mixed["track"]["sft"] != plain["track"]["sft"]
    assert (plain["track"]["prompt"], mixed["track"]["prompt"]) == ("text", "gream")
    keys = [json.loads(file.read_text())["key"] for file in (data / "sft").glob("*/sft.json")]
    assert sorted("tasks" in key for key in keys) == [False, True]
    # A policy of ours has learned what its codes mean.
    start = next((data / "sft").glob("*/policy"))
    known = ("--backbone", str(start), *words[2:], "sft_code_tokens=titles")
    prompt = "prompt=" + json.loads((start / "policy.json").read_text())["prompt"]
    said = bench.call("grpo", *known, prompt)
    assert said.code == 2 and "knows the tokens of all codes already" in said.err


def test_a_mixture_takes_sequences_of_several_targets(llama: Path) -> None:
    rows = [(0, [4], 9), (0, [4, 9], 2), (0, [4, 9, 2], 11), (1, [7], 8), (2, [6, 7, 8], 9)]
    examples = Examples.from_lists(*zip(*rows, strict=True))
    whole = worded_dataset()
    dataset = dataclasses.replace(whole, splits={**whole.splits, "train": examples})
    policy = worded_policy(llama, dataset)
    plain = stepper_of(policy, dataset, "next-item,title-sid:2")
    shared = stepper_of(policy, dataset, "next-item,title-sid:2", targets=3)
    assert (len(plain), len(shared)) == (5 + 10, 3 + 6)
    sequences, examples_alone = np.arange(3), np.arange(5)
    assert shared._count(sequences) == plain._count(examples_alone) == 5
    # The policy tells the ledger of the second.
    with shared._ledger.phase("sft"):
        alone = plain._learn(examples_alone, 5.0)
        assert shared._learn(sequences, 5.0) == pytest.approx(alone, rel=1e-5)
