"""A way to decode that is not trained: it is counted, evaluated, put to use and put on a board."""

from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import Bench, call, only_error, record_and_curves

from genrec_bench.runs.opened_policy import open_policy
from genrec_bench.training.ledger import of_training

DECODER = '''
"""Popular items first: a mixture of the policy and of counts, as D3 mixes in another model."""

from dataclasses import dataclass

import torch

from genrec_bench.algorithm import Algorithm, Hyperparameters, beam_search, fixed


@dataclass(frozen=True)
class Choices(Hyperparameters):
    """One."""

    alpha: float = fixed(0.1, low=0, high=1, help="weight of the policy")


class Popular(Algorithm):
    """Ranks children by alpha log p + (1 - alpha) log of their count among their siblings."""

    hyperparameters_class = Choices
    trains = False
    decoding = "counts"

    def begin(self, data):
        """Count, and do a product that is billed."""
        counts = data.prefix_counts.float() + 1
        self.counts = counts.log() - counts[data.trie.parent].log()
        torch.ones(10, 10) @ torch.ones(10, 10)

    def state(self):
        """What decoding needs."""
        return {"counts": self.counts} if hasattr(self, "counts") else {}

    def decode(self, policy, prompts, width):
        """Search by the mixture."""
        alpha = self.hyperparameters.alpha

        def rescore(some, states, log_probs):
            return alpha * log_probs + (1 - alpha) * self.counts[states]

        return beam_search(policy, prompts, width, rescore=rescore)
'''


@pytest.fixture
def decoder(tmp_path: Path) -> str:
    file = tmp_path / "popular.py"
    file.write_text(DECODER)
    return str(file)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> Bench:
    return Bench(capsys, data, tmp_path / "runs")


def test_it_is_evaluated_as_it_begins_and_pays_for_what_it_counts(
    bench: Bench, decoder: str
) -> None:
    folder = bench.run(decoder, "--budget", "1Gflop")
    record = bench.record("grpo", "--budget", "1Gflop")
    found = pd.read_parquet(folder / "curves.parquet")
    assert found["step"].tolist() == [0] and found["flops"].tolist() == [2 * 10**3]
    assert found["valid/NDCG@10"].notna().all()
    its, _ = record_and_curves(folder)
    assert of_training(its["budget"]["spent"], "flops") == 2 * 10**3
    assert its["complete"] and its["metrics"]["test"] != its["sft"]["test"]
    # One SFT start, one budget, and a way to decode of its own, which is part of the track.
    same = {name for name in its["track"] if its["track"][name] != record["track"][name]}
    assert same == {"decoding"}
    board = call(
        bench.capsys,
        ["leaderboard", "industrial", "--output", str(bench.output), "--to", str(folder.parent)],
    )
    assert board.code == 0, board.err
    assert "popular" in board.out and "grpo" in board.out
    verified = call(bench.capsys, ["leaderboard", "verify", str(bench.output)])
    assert verified.code == 0, verified.out + verified.err


def test_its_policy_recommends_as_it_was_evaluated(bench: Bench, decoder: str) -> None:
    folder = bench.run(decoder)
    assert (folder / "policy" / "algorithm.safetensors").is_file()
    opened = open_policy(folder, algorithm=decoder)
    again = open_policy(folder, algorithm=decoder)
    first = opened.recommend(["item 1", "item 2"], k=5)
    assert first.equals(again.recommend(["item 1", "item 2"], k=5))


def test_there_is_nothing_to_tune(bench: Bench, decoder: str) -> None:
    words = ["sweep", decoder, "--dataset", "industrial", "--data-dir", str(bench.data)]
    words += [
        "--output",
        str(bench.output),
        "--total-budget",
        "1Gflop",
        "--trial-budget",
        "0.5Gflop",
    ]
    assert "popular: is not trained" in only_error(call(bench.capsys, [*words, "--no-mlflow"]))
