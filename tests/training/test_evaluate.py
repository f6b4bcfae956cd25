"""Evaluation: the whole of a split, by the same beam and the same samples for everyone."""

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import SETTINGS, shrink_backbone, tiny_dataset

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.training import evaluation_cache, sft_start
from genrec_bench.training.evaluate import PROMPTS_AT_ONCE, Evaluation, evaluate
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.metrics import sample_metrics
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_start import SFTStart, evaluate_start
from genrec_bench.training.workers import Workers

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG, 40)
SAMPLING = Settings()


def found(
    sampling: Settings | None = SAMPLING,
    examples: Examples = EXAMPLES,
    policy: Policy | None = None,
) -> Evaluation:
    policy = policy or tiny_policy(CATALOG)
    quiet = Progress(quiet=True)
    return evaluate(
        policy, examples, CATALOG, Workers(), 10, quiet, title="test", sampling=sampling
    )


def drawn(samples: int, temperature: float) -> Settings:
    return Settings(pass_samples=samples, pass_temperature=temperature, pass_top_p=1.0)


def test_samples_add_figures_and_change_none() -> None:
    without, with_samples = found(None), found()
    assert found(drawn(0, 1.0)).metrics == without.metrics
    named = {f"{prefix}Pass@{k}" for prefix in ("", "sid/") for k in (1, 5, 10)}
    assert with_samples.metrics.keys() - without.metrics.keys() == named
    assert without.metrics == {k: v for k, v in with_samples.metrics.items() if k not in named}
    assert (without.outcomes["sampled_hits"] == -1).all()
    hits = ["sampled_hits", "sid_sampled_hits"]
    assert with_samples.outcomes.drop(columns=hits).equals(without.outcomes.drop(columns=hits))


def test_pass_at_k_can_be_told_from_the_outcomes() -> None:
    result = found()
    for prefix, column in (("", "sampled_hits"), ("sid/", "sid_sampled_hits")):
        hits = result.outcomes[column].to_numpy()
        assert hits.min() >= 0 and hits.max() > 0
        for name, value in sample_metrics(hits, 10).items():
            assert result.metrics[prefix + name] == value
    assert result.metrics["Pass@1"] < result.metrics["Pass@5"] < result.metrics["Pass@10"]


def test_the_figures_are_those_of_single_draws() -> None:
    # At a low temperature every draw is the most probable code after the other, and so is the beam
    # of one.
    metrics = found(drawn(2, 0.01)).metrics
    quiet = Progress(quiet=True)
    greedy = evaluate(tiny_policy(CATALOG), EXAMPLES, CATALOG, Workers(), 1, quiet, title="test")
    assert metrics["Pass@1"] == pytest.approx(greedy.metrics["HR@1"])
    assert metrics["sid/Pass@1"] == pytest.approx(greedy.metrics["sid/HR@1"])
    assert not {"Pass@5", "Pass@10"} & metrics.keys()


def test_an_evaluation_is_repeatable_and_leaves_the_generators_alone() -> None:
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    first = found()
    after = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    again = found()
    assert again.metrics == first.metrics and again.outcomes.equals(first.outcomes)
    warmer = found(drawn(10, 2.0)).outcomes
    assert not warmer["sampled_hits"].equals(first.outcomes["sampled_hits"])


def test_an_examples_outcome_does_not_depend_on_the_others() -> None:
    order = np.random.default_rng(0).permutation(len(EXAMPLES))
    whole, other_way = found().outcomes, found(examples=EXAMPLES.subset(order)).outcomes
    few_tokens = tiny_policy(CATALOG)
    few_tokens.tokens_per_forward = 50
    in_chunks = found(policy=few_tokens).outcomes
    for column in ("item_rank", "sid_rank", "sampled_hits", "sid_sampled_hits"):
        assert other_way[column].tolist() == whole[column][order].tolist()
        assert in_chunks[column].tolist() == whole[column].tolist()


def test_more_examples_than_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROMPTS_AT_ONCE > len(EXAMPLES)
    whole = found()
    monkeypatch.setattr("genrec_bench.training.evaluate.PROMPTS_AT_ONCE", 7)
    parts = found()
    assert parts.outcomes.equals(whole.outcomes) and parts.metrics == whole.metrics


def test_the_sft_start_is_evaluated_once_for_each_way_to_do_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_backbone(monkeypatch)
    dataset, backbone, workers = tiny_dataset(), find_backbone("tiny"), Workers()
    quiet = Progress(quiet=True)
    quick = dict(word.split("=") for word in SETTINGS) | {"sft_epochs": "0"}
    settings = from_words(Settings, quick)
    start: SFTStart = sft_start.sft_start(backbone, dataset, settings, tmp_path, workers, quiet)
    titles: list[str] = []

    def counted(*args: object, **options: object) -> Evaluation:
        titles.append(str(options["title"]))
        return evaluate(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation_cache, "evaluate", counted)

    def evaluated(**changes: str) -> Mapping[str, Evaluation]:
        chosen = from_words(Settings, quick | changes)
        return evaluate_start(start, backbone, dataset, chosen, workers, quiet)

    first = evaluated()
    assert titles == ["SFT valid", "SFT test"]
    again = evaluated(group_size="8")
    assert len(titles) == 2, "found in the cache"
    for split, result in first.items():
        assert again[split].metrics == result.metrics
        assert again[split].outcomes["sampled_hits"].tolist() == list(
            result.outcomes["sampled_hits"]
        )
        assert "Pass@10" in result.metrics
    ways: list[dict[str, str]] = [
        {"pass_samples": "0"},
        {"pass_samples": "20"},
        {"pass_temperature": "0.71"},
        {"pass_top_p": "0.91"},
        {"beam_width": "5"},
    ]
    for count, way in enumerate(ways, start=2):
        metrics = evaluated(**way)["test"].metrics
        assert len(titles) == 2 * count, way
        assert ("Pass@1" in metrics) == (way != ways[0])
    evaluated(**ways[2])
    evaluated()
    assert len(titles) == 2 * (1 + len(ways))
