"""Rank correlations of prefixes with their rewards; and the analysis from the command line."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tiny_runs import SETTINGS, call, only_error, run_folders
from torch import Tensor

from genrec_bench.algorithm import Algorithm
from genrec_bench.algorithms.vstar import VSTAR, VSTARHyperparameters
from genrec_bench.contract.tiny_world import (
    HIDDEN_SIZE,
    tiny_catalog,
    tiny_examples,
    tiny_policy,
    tiny_trie,
)
from genrec_bench.data.dataset import Examples
from genrec_bench.decoding.sampling import sample
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.progress import Progress
from genrec_bench.studies.analyses._candidate_sets import (
    batches,
    candidate_rewards,
    prefix_log_probs,
    prefix_rewards,
    prefix_values,
    scored_by,
    spearman,
)
from genrec_bench.studies.analyses.correlation import correlations
from genrec_bench.training.hyperparameters import Hyperparameters

SIDS = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 0]], dtype=np.int32)
TRIE = Trie.build(SIDS, (3, 3))
QUIET = Progress(quiet=True)


def tree_of(*rows: list[int], log_probs: Tensor | None = None) -> CandidateTree:
    """A tree of SID rows; -1 for no candidate."""
    leaves = TRIE.leaf(torch.tensor(rows))
    empty = torch.zeros(*leaves.shape, 2)
    return CandidateTree.build(TRIE, leaves, empty if log_probs is None else log_probs)


def correlation(
    first: list[float], second: list[float], counted: list[bool] | None = None
) -> float:
    mask = torch.tensor([counted or [True] * len(first)])
    return float(spearman(torch.tensor([first]), torch.tensor([second]), mask))


def test_spearman_by_hand() -> None:
    # Differences of ranks 0, 1, -1: 1 - 6 * 2 / (3 * 8) = 0.5.
    assert correlation([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    assert correlation([1, 2, 3], [-1, -2, -30]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5 and 1, 2, 3: 1.5 / sqrt(1.5 * 2).
    assert correlation([1, 7, 7], [1, 2, 3]) == pytest.approx(0.8660254)
    # The place that does not count would turn the order about.
    assert correlation([9, 1, 2], [-9, 5, 6], [False, True, True]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second", "counted"),
    [
        ([1, 2, 3], [4, 4, 4], None),
        ([0.1, 0.1], [1, 2], None),
        ([1, 2, 3], [1, 2, 3], [False, True, False]),
        ([1, 2, 3], [1, 2, 3], [False, False, False]),
    ],
)
def test_spearman_is_undefined(
    first: list[float], second: list[float], counted: list[bool] | None
) -> None:
    assert math.isnan(correlation(first, second, counted))


@given(st.data())
def test_spearman_is_scipys(data: st.DataObject) -> None:
    """Rows of unequal length, with many ties."""
    pair = st.tuples(st.integers(-2, 2), st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]))
    rows = data.draw(st.lists(st.lists(pair, min_size=2, max_size=8), min_size=1, max_size=4))
    width = max(map(len, rows))
    values = torch.full((2, len(rows), width), 0.5, dtype=torch.float64)
    counted = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        # In any places, as the nodes of a level stand among others.
        places = data.draw(st.permutations(range(width)))[: len(row)]
        values[:, number, places] = torch.tensor(row, dtype=torch.float64).T
        counted[number, places] = True
    found = spearman(values[0], values[1], counted)
    for row, one in zip(rows, found.tolist(), strict=True):
        first, second = zip(*row, strict=True)
        if len(set(first)) == 1 or len(set(second)) == 1:
            assert math.isnan(one)
        else:
            assert one == pytest.approx(stats.spearmanr(first, second).statistic)


def test_prefix_log_probs_by_hand() -> None:
    # Prompt 0: SIDs (0,1), (1,0), (0,0). Prompt 1: SID (2,0) and two empty places, whose numbers
    # mean nothing.
    log_probs = torch.tensor(
        [[[-0.25, -1.0], [-0.5, -2.0], [-0.25, -3.0]], [[-0.5, -0.75], [9.0, 9.0], [9.0, 9.0]]]
    )
    found = prefix_log_probs(tree_of([1, 2, 0], [4, -1, -1], log_probs=log_probs))
    # Nodes: (0), (1), (0,0), (0,1), (1,0); and (2), (2,0).
    assert found.tolist() == [[-0.25, -0.5, -3.25, -1.25, -2.5], [-0.5, -1.25, 0, 0, 0]]


def test_prefix_rewards_by_hand() -> None:
    # SID (0,0) is drawn twice and hit, (0,1) and (1,0) once each: prefix (0) has 2 hits in 3.
    tree = tree_of([0, 1, 0, 2], [4, 3, -1, -1])
    rewards = candidate_rewards(tree, TRIE.leaf(torch.tensor([0, 3])), None)
    assert rewards.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    # Nodes of prompt 1: (1), (2), (1,2), (2,0).
    found = prefix_rewards(tree, rewards)
    assert found.tolist() == [[2 / 3, 0, 1, 0, 0], [1, 0, 1, 0, 0]]


def test_semantic_rewards_by_hand() -> None:
    # The target (0,0) is (1, 0). (0,1) is (3, 4): cosine 0.6; (1,0) is (-2, 0): cosine -1; nothing
    # is known of (1,2): cosine 0; (2,0) equals the target but is another SID.
    rows = [[1.0, 0], [3, 4], [-2, 0], [0, 0], [1, 0]]
    tree = tree_of([0, 1, 2, 3, 4], [1, 1, -1, -1, -1])
    target = TRIE.leaf(torch.tensor([0, 0]))
    found = candidate_rewards(tree, target, torch.tensor(rows))
    expected = [[1, -0.4, -2, -1, 0], [-0.4, -0.4, 0, 0, 0]]
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-6)


def vstar_policy() -> tuple[Policy, VSTAR, Examples]:
    catalog = tiny_catalog()
    algorithm = VSTAR(VSTARHyperparameters())
    torch.manual_seed(0)
    embeddings = torch.randn(20, 5)
    heads = algorithm.heads(HIDDEN_SIZE, 5, tiny_trie(catalog))
    for head in heads.values():
        for parameter in head.parameters():
            # A head that has learned nothing yet says 0 everywhere.
            torch.nn.init.normal_(parameter)
    policy = tiny_policy(catalog, heads=heads, embeddings=embeddings)
    return policy, algorithm, tiny_examples(catalog, num_examples=9)


def test_values_do_not_depend_on_how_the_work_is_cut() -> None:
    policy, algorithm, examples = vstar_policy()
    with torch.no_grad():
        ((prompts, _),) = batches(policy, examples)
        tree = sample(policy, prompts, 8, key=0)
        whole = prefix_values(policy, algorithm, prompts, tree)
        policy.tokens_per_forward = 40
        parts = prefix_values(policy, algorithm, prompts, tree)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert (whole[tree.is_node] != 0).all() and not whole[~tree.is_node].any()


class Oracle(Algorithm):
    """Knows the target, which is the same for all, and says so or the opposite.

    It prefers long prefixes to short ones, which must not matter: only those of a level compete.
    """

    def __init__(self, target: int, sign: float) -> None:
        super().__init__(Hyperparameters())
        self.target, self.sign = target, sign

    def values(self, scores: Scores) -> Tensor:
        targets = torch.full((len(scores.tree.states),), self.target)
        rewards = prefix_rewards(scores.tree, scores.tree.hits(targets))
        return self.sign * rewards + 10.0 * scores.tree.levels


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_who_knows_the_reward_correlates_perfectly(sign: float) -> None:
    catalog = tiny_catalog()
    policy = tiny_policy(catalog)
    # Two batches, histories of unequal length.
    others = tiny_examples(catalog, num_examples=150)
    examples = Examples(
        others.users, others.history_items, others.history_offsets, np.full(150, 3, dtype=np.int32)
    )
    oracle = Oracle(int(policy.item_leaves[3]), sign)
    before = torch.random.get_rng_state()
    table = correlations(policy, examples, QUIET, size=16, temperature=1.5, valued_by=oracle)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert table["signal"].tolist() == ["probability"] * 3 + ["value"] * 3
    assert table["level"].tolist() == [1, 2, 3] * 2
    values = table[table["signal"] == "value"]
    assert values["Spearman"].to_numpy() == pytest.approx(np.full(3, sign))
    # A pool defines both signals or neither; only pools that hold the target define them.
    assert values["queries"].tolist() == table["queries"].tolist()[:3]
    assert 0 < values["queries"].max() < 150
    probability = table["Spearman"].to_numpy()[:3]
    assert (np.abs(probability) < 1).all()
    again = correlations(policy, examples, QUIET, size=16, temperature=1.5, valued_by=oracle)
    assert again.equals(table)


def test_pools_without_the_target_say_nothing_of_the_hit_but_of_the_meaning() -> None:
    catalog = tiny_catalog()
    policy, examples = tiny_policy(catalog), tiny_examples(catalog)
    # At this temperature every draw is the most probable code: one prefix a level.
    frozen = correlations(policy, examples, QUIET, size=4, temperature=1e-4)
    assert frozen["queries"].tolist() == [0, 0, 0] and frozen["Spearman"].isna().all()
    embeddings = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    rewards = {"semantic": embeddings, "hit": None}
    meant = correlations(policy, examples, QUIET, size=16, temperature=3.0, rewards=rewards)
    assert meant["reward"].tolist() == ["semantic"] * 3 + ["hit"] * 3
    assert meant["queries"].tolist()[:3] == [len(examples)] * 3
    # Both rewards are asked about the same pools, as is each of them alone.
    for reward, own in rewards.items():
        alone = correlations(
            policy, examples, QUIET, size=16, temperature=3.0, rewards={reward: own}
        )
        rows = meant[meant["reward"] == reward].reset_index(drop=True)
        assert rows.equals(alone)


def test_pools_of_another_policy_are_scored_by_the_one_that_is_asked() -> None:
    catalog = tiny_catalog()
    asked, other = tiny_policy(catalog, seed=1), tiny_policy(catalog, seed=2)
    examples = tiny_examples(catalog, num_examples=9)
    with torch.no_grad():
        ((prompts, _),) = batches(asked, examples)
        tree = sample(other, prompts, 8, key=0)
        asked.tokens_per_forward = 40
        found = scored_by(asked, prompts, tree)
        expected = score(asked, prompts, tree).node_log_probs
    assert torch.equal(found.states, tree.states)
    assert torch.allclose(found.log_probs, expected, atol=1e-5)
    assert not torch.allclose(found.log_probs, tree.log_probs, atol=0.1)
    # A policy's own pools are the same pools, drawn by itself or not.
    own = correlations(other, examples, QUIET, size=8, temperature=1.0)
    again = correlations(other, examples, QUIET, size=8, temperature=1.0, drawn_by=other)
    assert again["queries"].tolist() == own["queries"].tolist()
    assert again["Spearman"].to_numpy() == pytest.approx(own["Spearman"].to_numpy(), nan_ok=True)


def words(data: Path, output: Path, *more: str, assignments: tuple[str, ...] = ()) -> list[str]:
    ours = ["analyze", "correlation", "--dataset", "industrial", "--no-mlflow", "--json"]
    ours += ["--data-dir", str(data), "--output", str(output)]
    return [*ours, *more, "--set", *SETTINGS, *assignments]


def rows_of(out: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(out)["rows"]
    return found


def test_the_command(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "runs"
    called = call(capsys, words(data, output, "--size", "12", "--shared-pools"))
    assert called.code == 0, called.err
    rows = rows_of(called.out)
    assert [(row["reward"], row["policy"], row["signal"], row["level"]) for row in rows] == [
        (reward, policy, signal, level)
        for reward in ("hit", "semantic")
        for policy, signal in [
            ("SFT start", "probability"),
            ("beam + GRPO", "probability"),
            ("V-STAR", "probability"),
            ("V-STAR", "value"),
        ]
        for level in (1, 2, 3)
    ]
    assert all(-1 <= row["Spearman"] <= 1 and 0 < row["queries"] <= 30 for row in rows)
    (folder,) = (output / "industrial" / "analyses").iterdir()
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    used = json.loads((folder / "analysis.json").read_text())["records"]
    assert [record["algorithm"] for record in used] == ["vstar", "vstar"]
    # Another reward is another analysis of the same runs.
    meant = call(capsys, words(data, output, "--size", "12", "--reward", "semantic"))
    assert meant.code == 0, meant.err
    assert rows_of(meant.out) != rows and len(run_folders(output)) == 2
    assert len(list((output / "industrial" / "analyses").iterdir())) == 2
    assert (data / "embeddings").is_dir()


def test_mistakes(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*more: str, assignments: tuple[str, ...] = ()) -> str:
        asked = words(data, tmp_path / "runs", *more, assignments=assignments)
        return only_error(call(capsys, asked))

    assert "positive number" in error("--temperature", "0")
    assert "has no values" in error("--vstar", "value_weight=0")
    assert "chooses it itself" in error("--vstar", "beta=0.1", assignments=("beta=0.2",))
    # What makes the one of the two policies must not make the other.
    assert "chooses it itself" in error(assignments=("objective=sibling",))
    assert not run_folders(tmp_path / "runs")
