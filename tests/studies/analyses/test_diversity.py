"""Candidate sets: how far apart, how good, how dear; and the analysis from the command line."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import SETTINGS, call, only_error, run_folders

from genrec_bench.algorithm import Algorithm
from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.progress import Progress
from genrec_bench.studies.analyses._candidate_sets import choose, pair_distances
from genrec_bench.studies.analyses.diversity import measure
from genrec_bench.training.hyperparameters import Hyperparameters

SIDS = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.int32)
QUIET = Progress(quiet=True)


def tree_of(sids: np.ndarray, rows: list[list[int]]) -> CandidateTree:
    """A tree of SID rows; -1 for no candidate."""
    trie = Trie.build(sids.astype(np.int32), tuple(int(k) for k in sids.max(axis=0) + 1))
    states = trie.leaf(torch.tensor(rows))
    return CandidateTree.build(trie, states, torch.zeros(*states.shape, sids.shape[1]))


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        # Leading codes in common: 2; 1 and 1; 0, 0 and 0. So (1/3 + 2/3 + 2/3 + 3) / 6.
        ([0, 1, 2, 3], 7 / 9),
        ([3, 2, 1, 0], 7 / 9),
        ([0, 1, -1, -1], 1 / 3),
        ([0, 3, -1, -1], 1.0),
        # The same SID twice is no distance away: (0 + 1 + 1) / 3.
        ([0, 0, 3, -1], 2 / 3),
        ([2, -1, -1, -1], math.nan),
        ([-1, -1, -1, -1], math.nan),
    ],
)
def test_distance_by_hand(candidates: list[int], expected: float) -> None:
    # The other prompt has more nodes, so that the first is padded.
    found = pair_distances(tree_of(SIDS, [candidates, [0, 1, 2, 3]]))
    assert found[0].item() == pytest.approx(expected, nan_ok=True)
    assert found[1].item() == pytest.approx(7 / 9)


@given(st.data())
def test_distance_is_the_mean_over_pairs(data: st.DataObject) -> None:
    num_levels = data.draw(st.integers(1, 4))
    code = st.tuples(*[st.integers(0, 2)] * num_levels)
    sids = np.array(sorted(data.draw(st.sets(code, min_size=2, max_size=12))))
    chosen = data.draw(st.permutations(range(len(sids))))
    chosen = chosen[: data.draw(st.integers(2, len(sids)))]
    distances = []
    for one, other in itertools.combinations(sids[chosen].tolist(), 2):
        shared = 0
        while shared < num_levels and one[shared] == other[shared]:
            shared += 1
        distances.append(1 - shared / num_levels)
    found = pair_distances(tree_of(sids, [list(chosen)]))
    assert found.item() == pytest.approx(np.mean(distances))


def test_queries_are_the_same_for_all_who_ask_for_as_many() -> None:
    examples = tiny_examples(tiny_catalog(), num_examples=40)
    some = choose(examples, 10)
    assert len(some) == 10 and some.users.tolist() == choose(examples, 10).users.tolist()
    assert some.users.tolist() == sorted(set(some.users.tolist()))
    for all_of_them in (0, 40, 41):
        assert choose(examples, all_of_them) is examples


class Single(Algorithm):
    """Finds one candidate, whatever is asked for."""

    @property
    def decoding(self) -> str:
        return "single"

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        return beam_search(policy, prompts, 1)


def test_a_set_that_holds_the_whole_catalog() -> None:
    catalog = tiny_catalog(num_sids=20)
    policy = tiny_policy(catalog)
    found = measure(policy, Algorithm(Hyperparameters()), tiny_examples(catalog), 24, QUIET)
    sids = catalog.unique_sids
    inner = len({tuple(sid[:1]) for sid in sids}) + len({tuple(sid[:2]) for sid in sids})
    everything = pair_distances(tree_of(sids, [list(range(20))])).item()
    assert found == {
        "Div": pytest.approx(everything),
        "MaxReward": 1.0,
        "candidates": 20.0,
        # The first prediction, then each prefix above the leaves once.
        "decoding tokens": 1.0 + inner,
    }
    assert policy.meter is None


def test_sets_of_one_have_no_distance_and_cost_a_path() -> None:
    catalog = tiny_catalog()
    policy, examples = tiny_policy(catalog), tiny_examples(catalog, num_examples=200)
    found = measure(policy, Single(Hyperparameters()), examples, 24, QUIET)
    assert math.isnan(found.pop("Div"))
    best = found.pop("MaxReward")
    assert found == {"candidates": 1.0, "decoding tokens": 3.0}
    # Two hundred examples are two batches; the policy is random, but no batch may be counted twice.
    prompts = policy.prompt_format.encode(examples, np.arange(200))
    targets = policy.item_leaves[torch.from_numpy(examples.targets.astype(np.int64))]
    hits = beam_search(policy, prompts, 1).hits(targets)
    assert best == pytest.approx(hits.double().mean().item()) and 0 < best < 1


def words(data: Path, output: Path, *more: str) -> list[str]:
    """The words of an analysis of a tiny dataset; those of `--set` come last."""
    ours = ["analyze", "diversity", "--dataset", "industrial", "--no-mlflow", "--json"]
    return [*ours, "--data-dir", str(data), "--output", str(output), *more, "--set", *SETTINGS]


def test_the_command(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = words(data, tmp_path / "runs", "--size", "6")
    first = call(capsys, asked)
    assert first.code == 0, first.err
    rows = {row["decoder"]: row for row in json.loads(first.out)["rows"]}
    assert list(rows) == ["beam", "top-k", "ved"]
    for row in rows.values():
        assert 0 < row["Div"] <= 1 and 0 <= row["MaxReward"] <= 1
        assert row["candidates"] == pytest.approx(6.0)
        # A beam of 6 may cost 1 + 2 * 6 tokens, and so may VED; there are four codes at level 1.
        assert row["decoding tokens"] <= 13
    assert rows["beam"]["decoding tokens"] == pytest.approx(11)
    (folder,) = (tmp_path / "runs" / "industrial" / "analyses").iterdir()
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(run_folders(tmp_path / "runs")) == 1, "one training serves all three"
    again = call(capsys, asked)
    assert again.out == first.out and len(run_folders(tmp_path / "runs")) == 1


def test_mistakes(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, expected in [(["--size", "1"], "at least 2"), (["--examples", "few"], "at least 0")]:
        assert expected in only_error(call(capsys, words(data, tmp_path, *more)))
    chosen = call(capsys, [*words(data, tmp_path), "inference=ved"])
    assert "this analysis chooses it itself" in only_error(chosen)
