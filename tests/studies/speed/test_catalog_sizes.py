"""A miniature of ``genrec-bench bench --sids``: what grows with a catalog, and what must not."""

import dataclasses
from typing import Any

import pytest
import torch
from test_bench import MINIATURE
from tiny_runs import call, only_error

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import WorkCount
from genrec_bench.studies.speed.bench import Workload, random_examples
from genrec_bench.studies.speed.catalog_sizes import (
    bench_catalogs,
    catalog_bytes,
    catalogs_text,
    read_sizes,
)
from genrec_bench.studies.speed.contenders import Ours, random_policy

CODES = (64, 64, 64)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    workload = dataclasses.replace(MINIATURE, codes_per_level=CODES)
    return bench_catalogs((100, 2000), workload, "cpu")


def test_figures_of_each_size(result: dict[str, Any]) -> None:
    small, large = result["catalogs"]
    assert (small["sids"], large["sids"]) == (100, 2000)
    for row in (small, large):
        assert 0 < row["rollout_fastest_ms"] <= row["rollout_ms"] and row["policy_s"] > 0
        assert 0 < row["update_fastest_ms"] <= row["update_ms"]
    assert large["trie_bytes"] > 5 * small["trie_bytes"]
    growth = result["growth"]["rollout"]
    assert growth * small["rollout_fastest_ms"] == pytest.approx(large["rollout_fastest_ms"])
    assert result["kept"] is (max(result["growth"].values()) <= 1.2)
    told = catalogs_text(result)
    assert f"rollout {growth:.2f} times" in told and "From 100 to 2,000 SIDs" in told


def test_a_large_catalog_takes_no_more_work_and_few_bytes() -> None:
    """What time stands for, without a clock: FLOPs and tokens of a step, and bytes an item."""
    workload = Workload(num_prompts=4, history_length=3, group_size=5, small=MINIATURE.small)
    work = []
    for size in (1_000, 100_000):
        catalog = tiny_catalog(size, workload.codes_per_level)
        policy = random_policy(workload.small, catalog, torch.device("cpu"))
        ours = Ours(policy, random_examples(catalog, workload), workload.group_size)
        policy.meter = count = WorkCount()
        ours.rollout()
        ours.update()
        work.append((count.tokens, count.flops))
        trie = sum(t.nbytes for t in vars(policy.trie).values() if isinstance(t, torch.Tensor))
        assert (catalog_bytes(catalog) + trie) / size < 150
    assert work[1][0] <= 1.2 * work[0][0] and work[1][1] <= 1.2 * work[0][1]


def test_sizes_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_sizes("1e4, 200,1e3") == (200, 1000, 10_000)
    for wrong in ("", "1e4,", "99", "1e9", "150.5", "nan", "inf", "ten", "1e4,10000", "-5"):
        with pytest.raises(UserError, match="^--sids "):
            read_sizes(wrong)
        assert "--sids" in only_error(call(capsys, ["bench", f"--sids={wrong}"]))
    with pytest.raises(UserError, match="codes a level"):
        bench_catalogs((10**8,), dataclasses.replace(MINIATURE, codes_per_level=(16,)), "cpu")
    error = only_error(call(capsys, ["bench", "--sids", "1e4", "--prompts", "3"]))
    assert error == "--prompts: is of --backbone; name a shape too"
