"""Verification names what was altered, and nothing else."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from board_world import BEST as OTHER
from board_world import BUDGET, SETTINGS, TRACK, bare, reseal, save, whole
from board_world import GOOD as RANKS

from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.verify import Finding, budget_share, recompute, verify
from genrec_bench.boards.verify_together import contradictions, verify_together
from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data.dataset import Catalog
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import track_id
from genrec_bench.runs.records import join_outcomes
from genrec_bench.storage.parquet import parquet_bytes
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.metrics import evaluate_lists


def keys(one: Evidence) -> list[str]:
    return [finding.key for finding in verify(one).findings]


def changed(one: Evidence, path: str, value: Any) -> Evidence:
    """The same with one key of the record changed."""
    record = copy.deepcopy(one.record)
    *parents, last = path.split(" ")
    place = record
    for key in parents:
        place = place[key]
    place[last] = value
    return Evidence(record, one.outcomes, one.curves, one.path)


def test_metrics_follow_from_outcomes_by_hand() -> None:
    """Ranks 0, 1, 3, 0, miss, 2 of six targets.

    HR@1 is 2/6, HR@3 4/6, HR@5 5/6. NDCG@3 is (1 + 0.63093 + 1 + 0.5) / 6. MRR is
    (1 + 1/2 + 1/4 + 1 + 1/3) / 6. Hits among two samples are 0, 1, 2, 0, 1, 2: Pass@1 is
    (0 + 1/2 + 1 + 0 + 1/2 + 1) / 6.
    """
    one = whole("ugr", RANKS)
    found = recompute(one.of_split("test"), one.record)
    assert found["HR@1"] == pytest.approx(2 / 6) and found["HR@3"] == pytest.approx(4 / 6)
    assert found["HR@5"] == pytest.approx(5 / 6) and found["sid/HR@5"] == found["HR@5"]
    assert found["NDCG@3"] == pytest.approx((1 + 0.6309297535714575 + 1 + 0.5) / 6)
    assert found["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 + 1 / 3) / 6)
    assert found["Pass@1"] == pytest.approx(0.5)
    assert "Pass@5" not in found, "more samples than were drawn"
    assert "HR@20" not in found, "longer than the beam"
    start = recompute(one.of_split("test"), one.record, "start_")
    assert start["HR@10"] == pytest.approx(3 / 6)


def test_what_the_evaluation_writes_is_what_verification_finds() -> None:
    """All that `evaluate_lists` states is recomputed, but for figures of whole lists."""
    catalog: Catalog = tiny_catalog()
    generator = np.random.default_rng(0)
    shape = (40, 20)
    candidates = generator.integers(-1, len(catalog.unique_sids), shape).astype(np.int32)
    targets = generator.integers(0, catalog.num_items, 40).astype(np.int32)
    samples = generator.integers(0, len(catalog.unique_sids), (40, 10)).astype(np.int32)
    metrics, outcomes = evaluate_lists(Lists(candidates, targets, catalog), samples)
    record = bare("ugr", 0, settings={"beam_width": 20, "pass_samples": 10}).record
    found = recompute(outcomes, record)
    assert found == {name: metrics[name] for name in found}
    others = {name.partition("@")[0] for name in metrics.keys() - found.keys()}
    assert others <= {"coverage", "diversity", "popularity_lift", "unique_candidates", "gini"}


def test_a_true_record_holds() -> None:
    one = whole("ugr", RANKS, looks=(0.1, 0.2), **BUDGET)
    result = verify(one)
    assert result.findings == () and result.share == 1.0
    # Of two splits, by item and by SID: HR and NDCG at four lengths, MRR, Pass of one sample.
    assert result.metrics == 2 * 2 * 10 and result.start_metrics == 2 * 2 * 10
    assert verify(whole("ugr", RANKS, start=None)).start_metrics == 0
    failed = whole("ugr", RANKS, complete=False, metrics={}, failure="no")
    empty = Evidence(failed.record, join_outcomes({}), pd.DataFrame())
    assert verify(empty).findings == ()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("metrics test HR@10", 0.9, ["metrics.test.HR@10"]),
        ("metrics valid sid/NDCG@5", 0.1, ["metrics.valid.sid/NDCG@5"]),
        ("metrics test Pass@1", 0.6, ["metrics.test.Pass@1"]),
        ("sft test MRR", 0.0, ["sft.test.MRR"]),
        ("metrics test HR@50", 0.9, ["metrics.test.HR@50"]),
        ("metrics test quality", 0.9, ["metrics.test.quality"]),
        ("metrics test", {}, ["metrics.test.HR@1"]),
        ("track group_size", 8, ["track.group_size"]),
        ("track dataset", "e" * 64, ["track.dataset"]),
        ("track budget", "2Tflop", ["track.budget"]),
        ("budget limit", "2Tflop", ["track.budget"]),
        ("versions genrec_bench", "9.9.0", ["benchmark"]),
        ("budget spent update flops", 1e11, ["budget.spent: flops"]),
        ("budget spent update seconds", 1.0, ["budget.spent: seconds"]),
        ("budget spent update tokens", -5, ["budget.spent: tokens"]),
        ("run_id", "grpo-seed0-0", ["run_id"]),
        ("run_id", "ugr-seed01-0", ["run_id"]),
        ("seed", 7, ["run_id"]),
        ("algorithm", "grpo", ["run_id"]),
        ("complete", False, ["complete", "metrics.test"]),
        ("failure", "the loss is nan", ["complete"]),
        ("splits", ["valid"], ["metrics.test"]),
        ("metrics test coverage@10", 0.9, []),
    ],
)
def test_an_edit_is_found_at_its_key(path: str, value: Any, expected: list[str]) -> None:
    """Coverage is none of what outcomes tell, as the command says."""
    settings = SETTINGS | {"group_size": 16}
    one = whole("ugr", RANKS, settings=settings, **BUDGET)
    assert keys(one) == []
    edited = changed(one, path, value)
    assert keys(edited)[: len(expected)] == expected
    assert bool(keys(edited)) is bool(expected)


def test_a_finding_names_record_key_and_both_values() -> None:
    edited = changed(whole("ugr", RANKS), "metrics test HR@10", 0.9)
    (finding,) = verify(edited).findings
    assert finding == Finding("ugr-seed0-0", "metrics.test.HR@10", 0.9, 5 / 6)
    expected = "ugr-seed0-0: metrics.test.HR@10: stated 0.9, found 0.8333333333333334"
    assert str(finding) == expected


def test_metrics_without_outcomes_are_no_metrics() -> None:
    (finding, *_) = verify(bare("ugr", 0.3)).findings
    assert finding.found == "no example in the outcomes" and finding.key == "metrics.valid"


def test_examples_must_be_there_once_each() -> None:
    one = whole("ugr", RANKS)
    doubled = one.outcomes.replace({"example": {3: 2}})
    assert "outcomes: test" in keys(Evidence(one.record, doubled, one.curves))


@pytest.mark.parametrize(
    ("limit", "share", "expected"),
    [("1Tflop", 1.0, []), ("500Gflop", 2.0, ["budget.limit"]), ("4Tflop", 0.25, ["budget.limit"])],
)
def test_a_budget_is_spent_and_not_overspent(limit: str, share: float, expected: list[str]) -> None:
    one = whole("ugr", RANKS, track=TRACK | {"budget": limit}, budget_limit=limit)
    assert budget_share(one.record) == pytest.approx(share)
    assert keys(one) == expected
    failed = changed(changed(one, "complete", False), "failure", "no")
    assert "budget.limit" not in keys(failed), "a run that failed may have spent anything"


def test_a_run_that_did_not_end_as_it_says() -> None:
    """Failed and evaluated, or neither failed nor evaluated; older records give no reasons."""
    failed = whole("ugr", RANKS, complete=False, metrics={}, failure="no")
    one = Evidence(failed.record, join_outcomes({}), pd.DataFrame())
    assert keys(one) == []
    assert keys(changed(one, "failure", "")) == ["complete"]
    assert keys(changed(one, "complete", True)) == ["complete", "metrics.test"]
    old = {key: value for key, value in one.record.items() if key not in ("failure", "splits")}
    assert keys(Evidence(old, one.outcomes, one.curves)) == []
    (finding,) = verify(changed(whole("ugr", RANKS), "failure", "disk")).findings
    assert str(finding) == "ugr-seed0-0: complete: stated True, found failure 'disk'"


@pytest.mark.parametrize(
    ("tuning", "track", "expected"),
    [
        ({"limit": "6Tflop", "flops": 6.0e12}, "6Tflop", []),
        ({"limit": "6Tflop", "flops": 6.2e12, "seconds": 1e9}, "6Tflop", []),
        ({"limit": "6Tflop", "flops": 6.4e12}, "6Tflop", ["tuning.flops"]),
        ({"limit": "60s", "flops": 6.4e12, "seconds": 61}, "60s", []),
        ({"limit": "60s", "flops": 6.4e12, "seconds": 70}, "60s", ["tuning.seconds"]),
        ({"limit": "6Tflop", "flops": 6.0e12}, "60Tflop", ["track.tuning"]),
        ({"limit": "6Tflop", "flops": 6.0e12}, None, []),
        ({"limit": "a lot"}, "a lot", ["tuning.limit"]),
        (None, "6Tflop", []),
    ],
)
def test_tuning_cost_no_more_than_the_track_says(
    tuning: dict[str, Any] | None, track: str | None, expected: list[str]
) -> None:
    """Up to a twentieth more is a step that ended too late."""
    more = {} if track is None else {"tuning": track}
    assert keys(whole("ugr", RANKS, track=TRACK | more, tuning=tuning)) == expected


def test_equal_runs_with_different_results_contradict_each_other() -> None:
    first, second = whole("ugr", RANKS), whole("ugr", OTHER, minutes=5)
    (finding,) = contradictions([first, second])
    assert finding.record == "ugr-seed0-5" and "an equal run" in str(finding)
    assert verify_together([first, second]) == [], "a board shows the newest and says so"
    assert contradictions([first, whole("ugr", RANKS, minutes=5)]) == [], "bit-equal"
    assert contradictions([first, whole("ugr", OTHER, seed=1)]) == []
    assert contradictions([first, whole("ugr", OTHER, versions={"torch": "9"})]) == []
    # GPUs and clocks may contradict themselves.
    gpu: dict[str, Any] = {"hardware": {"device": "cuda"}}
    clock: dict[str, Any] = {"track": TRACK | {"budget": "40s"}, "budget_limit": "40s"}
    for changes in (gpu, clock):
        pair = (whole("ugr", ranks, **changes) for ranks in (RANKS, OTHER))
        assert contradictions(list(pair)) == []


def test_an_edited_start_differs_from_that_of_other_records() -> None:
    """Consistent within the record: its outcomes say what it states."""
    records = [whole("ugr", RANKS), whole("grpo", RANKS), whole("srpo", RANKS, start=OTHER)]
    assert not any(keys(one) for one in records)
    (finding,) = contradictions(records)
    assert finding.record == "srpo-seed0-0" and finding.key.startswith("sft.valid.")


def test_one_dataset_has_one_number_of_examples() -> None:
    findings = verify_together([whole("ugr", RANKS), whole("grpo", RANKS[:4])])
    assert {finding.key for finding in findings} == {"outcomes: test", "outcomes: valid"}


def fix_hash(path: Path) -> None:
    """State the hash that the outcomes have now."""
    record = json.loads(path.read_text())
    content = (path.parent / "outcomes.parquet").read_bytes()
    record["outcomes"]["sha256"] = hashlib.sha256(content).hexdigest()
    reseal(path, record)


def test_a_changed_file_is_found_by_its_hash_or_by_the_metrics(tmp_path: Path) -> None:
    path = save(tmp_path, whole("ugr", RANKS))
    file = path.parent / "outcomes.parquet"
    table = pd.read_parquet(file)
    table.loc[0, "item_rank"] = 5
    file.write_bytes(parquet_bytes(table))
    with pytest.raises(UserError, match=r"outcomes.parquet was changed after the run"):
        read_evidence(path)
    fix_hash(path)
    found = verify(read_evidence(path)).findings
    assert "metrics.test.HR@1" in {finding.key for finding in found}
    assert all(finding.record == str(path) for finding in found)


def test_a_track_is_found_whether_its_hash_was_fixed_or_not(tmp_path: Path) -> None:
    path = save(tmp_path, whole("ugr", RANKS, settings=SETTINGS | {"group_size": 16}))
    record = json.loads(path.read_text())
    record["track"]["group_size"] = 4
    reseal(path, record)
    with pytest.raises(UserError, match="track_id is not the hash of track"):
        read_evidence(path)
    reseal(path, record | {"track_id": track_id(record["track"])})
    assert keys(read_evidence(path)) == ["track.group_size"]


def test_a_truncated_table_is_one_clear_line(tmp_path: Path) -> None:
    path = save(tmp_path, whole("ugr", RANKS))
    file = path.parent / "outcomes.parquet"
    file.write_bytes(file.read_bytes()[:100])
    fix_hash(path)
    with pytest.raises(UserError, match="outcomes.parquet cannot be read as a table") as error:
        read_evidence(path)
    assert "\n" not in str(error.value)
