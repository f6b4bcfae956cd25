"""Jobs: the words of a run, finished runs found again, and trained policies opened."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny_runs import SETTINGS, run_folders

from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.runs.jobs import (
    Context,
    Job,
    configure,
    do,
    find_done,
    load_policy,
    split_words,
    start_policy,
)
from genrec_bench.runs.options import add_context_options, context_of, several_seeds
from genrec_bench.runs.records import read_record
from genrec_bench.runs.run_folder import UNSEEN, end_unseen
from genrec_bench.studies.analyses import find_analysis
from genrec_bench.training.evaluate import evaluate

Make = Callable[..., Context]


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    def context(*words: str) -> Context:
        parser = argparse.ArgumentParser()
        add_context_options(parser)
        given = ["--dataset", "industrial", "--data-dir", str(data), "--no-mlflow"]
        given += ["--output", str(tmp_path / "runs"), "--set", *SETTINGS, *words]
        with context_of(parser.parse_args(given)) as opened:
            return opened

    return context


@pytest.mark.parametrize("command", ["ablate", "compare", "analyze dynamics", "analyze budget"])
def test_seeds_mean_the_same_in_every_command(command: str) -> None:
    name, *kind = command.split()
    parser = argparse.ArgumentParser()
    if kind:
        find_analysis(kind[0]).add_options(parser)
    else:
        import_module(f"genrec_bench.commands.{name}_command").add_options(parser)
    words = ["ugr"] if name == "ablate" else []
    for given, seeds in (("--seeds=2", (0, 1)), ("--seeds=4,2", (4, 2)), ("--seed=4", (4,))):
        assert parser.parse_args([*words, given]).seeds == seeds


def test_seeds_and_words_are_read_or_refused() -> None:
    assert several_seeds("3, 0,2147483647") == (3, 0, 2**31 - 1)
    assert several_seeds("3") == several_seeds("0,1,2") == (0, 1, 2)
    for wrong in ("", "0", "0,", "-1", "0,0", "2147483648", "1,2147483648", "one", "²", "1001"):
        with pytest.raises(argparse.ArgumentTypeError):
            several_seeds(wrong)
    assert split_words(["a=1", "b=c=d", "e="]) == {"a": "1", "b": "c=d", "e": ""}
    with pytest.raises(UserError, match=r"^--set a: must be key=value, in one word$"):
        split_words(["a"])
    with pytest.raises(UserError, match=r"^--set a: given twice$"):
        split_words(["a=1", "a=1"])


def test_a_jobs_own_words_win_over_those_of_all(make: Make) -> None:
    context = make("alpha_min=0.25", "weight_decay=0.5")
    job = Job("mine", "ugr", ("alpha_min=0.75", "steps=7", "reward=rule"))
    entry, algorithm, settings = configure(job, context)
    hyperparameters = vars(algorithm.hyperparameters)
    assert entry.name == "ugr" and hyperparameters["alpha_min"] == 0.75
    assert hyperparameters["reward"] == "rule"
    assert (settings.steps, settings.weight_decay, settings.group_size) == (7, 0.5, 4)
    with pytest.raises(UserError, match="--set alpha_min: neither a hyperparameter of grpo nor"):
        configure(Job("other", "grpo"), context)


def test_a_finished_job_is_found_and_one_of_another_seed_is_not(make: Make) -> None:
    context = make()
    job = Job("mine", "grpo", ("steps=1",))
    assert find_done(job, context) is None
    record = do(job, context)
    assert find_done(job, context) == record and do(job, context) == record
    # The label is for people; saying a default aloud changes nothing.
    same = Job("by another name", "grpo", ("steps=1", "updates_per_rollout=1"))
    assert find_done(same, context) == record
    assert find_done(Job("mine", "grpo", ("steps=1",), seed=1), context) is None
    second = do(job, context, reuse=False)
    assert second != record and len(run_folders(context.output)) == 2
    # The first one is found also where both began in one second, whose names have no order.
    assert find_done(job, context) == record
    first = record.parent.rename(record.parent.with_name("grpo-seed0-99991231T235959Z-ffffff"))
    assert find_done(job, context) == first / record.name


@pytest.mark.parametrize("find", [find_done, do])
def test_a_run_that_was_killed_before_it_was_told_is_told_by_who_finds_it(
    make: Make, find: Callable[[Job, Context], Path | None]
) -> None:
    context, job = make(), Job("mine", "grpo", ("steps=1",))
    record = do(job, context)
    end_unseen(record.parent)
    assert find(job, context) == record
    assert not (record.parent / UNSEEN).exists()
    # To ask for it once more is another run.
    assert do(job, context, reuse=False) != record


def metrics_of(policy: Policy, context: Context, job: Job) -> dict[str, float]:
    _, algorithm, settings = configure(job, context)
    dataset = context.dataset
    return evaluate(
        policy,
        dataset.test,
        dataset.catalog,
        context.workers,
        settings.beam_width,
        context.progress,
        title="again",
        algorithm=algorithm,
        sampling=settings,
    ).metrics


def test_policies_are_those_that_the_record_tells_of(make: Make) -> None:
    context = make()
    # Reranking asks for the confidence tokens, which the saved policy has to bring along.
    job = Job("mine", "ugr", ("rerank=true", "learning_rate=0.01", "steps=4"))
    record = do(job, context)
    figures = read_record(record)
    before = torch.get_rng_state()
    policy, _ = load_policy(record, job, context)
    start = start_policy(context, job)
    assert torch.equal(before, torch.get_rng_state())
    for opened in (policy, start):
        assert not opened.training and opened.meter is None
    assert metrics_of(policy, context, job) == pytest.approx(figures["metrics"]["test"])
    plain = Job("start", "sft")
    assert metrics_of(start, context, plain) == pytest.approx(figures["sft"]["test"])
    assert figures["metrics"]["test"]["NDCG@10"] != figures["sft"]["test"]["NDCG@10"]
    assert start.extra_tokens == {} != policy.extra_tokens


def test_a_policy_that_was_deleted_is_told_of(make: Make) -> None:
    context = make()
    job = Job("mine", "sft", ("steps=1",))
    record = do(job, context)
    (record.parent / "policy").rename(record.parent / "elsewhere")
    with pytest.raises(UserError, match="policy: is missing; delete "):
        load_policy(record, job, context)
