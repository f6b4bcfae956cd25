"""Every algorithm that is found keeps the contract; the checks catch those that do not.

``pytest tests/contract --algorithm ./mine.py`` looks at that file instead.
"""

from pathlib import Path

import pytest
import torch
from contract_faults import BROKEN, REINFORCE, load

from genrec_bench.algorithm import Algorithm
from genrec_bench.contract.played import Check, no_global_randomness
from genrec_bench.contract.stated import checks_for, name_of, run_check, run_checks
from genrec_bench.contract.tiny_world import groups, play, tiny_catalog, tiny_world
from genrec_bench.runs.registry import discover, find
from genrec_bench.training.hyperparameters import Hyperparameters


def failures(algorithm: type[Algorithm]) -> dict[str, str]:
    reasons = {name_of(check): run_check(check, algorithm) for check in checks_for(algorithm)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "found" not in metafunc.fixturenames:
        return
    path = metafunc.config.getoption("--algorithm")
    entries = discover().entries if path is None else (find(str(path.resolve())),)
    cases = [(entry, check) for entry in entries for check in checks_for(entry.algorithm)]
    metafunc.parametrize(
        ("found", "check"),
        [(entry.algorithm, check) for entry, check in cases],
        ids=[f"{entry.name}-{name_of(check).replace(' ', '-')}" for entry, check in cases],
    )


def test_contract(found: type[Algorithm], check: Check) -> None:
    assert (reason := run_check(check, found)) is None, f"{check.__doc__} But {reason}"


def test_a_good_algorithm_passes_every_check(tmp_path: Path) -> None:
    assert failures(load(tmp_path, [])) == {}


@pytest.mark.parametrize(
    ("check", "fault"), [(check, fault) for check, faults in BROKEN.items() for fault in faults]
)
def test_a_fault_is_caught_by_the_check_of_its_promise(
    tmp_path: Path, check: str, fault: str
) -> None:
    algorithm = load(tmp_path, BROKEN[check][fault])
    (wanted,) = [each for each in checks_for(algorithm) if name_of(each) == check]
    assert run_check(wanted, algorithm) is not None


def test_every_check_is_shown_to_catch_something(tmp_path: Path) -> None:
    assert {name_of(check) for check in checks_for(load(tmp_path, []))} == set(BROKEN)


def test_a_fault_in_a_switch_names_the_switch(tmp_path: Path) -> None:
    reasons = failures(load(tmp_path, BROKEN["switches"]["choice"]))
    assert list(reasons) == ["switches"]
    assert reasons["switches"].startswith("with mode=b, ")
    assert "KeyError: 'b'" in reasons["switches"]


def test_what_is_computed_on_padding_is_told_as_that(tmp_path: Path) -> None:
    reasons = failures(load(tmp_path, BROKEN["chunks"]["head that reads padding"]))
    assert list(reasons) == ["chunks"] and "padding is paid for" in reasons["chunks"]


def test_an_exception_is_reported_with_its_line(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [("tree.hits(seen.targets)", "tree.hit(seen.targets)")])
    line = REINFORCE.splitlines().index("        return seen.tree.hits(seen.targets).float()") + 1
    reason = failures(algorithm)["rewards"]
    assert reason.startswith(f"line {line}: AttributeError: ")


def test_an_algorithm_that_never_rolls_out_promises_less() -> None:
    class Control(Algorithm):
        """Learns from targets alone."""

        on_policy = False

    assert "rewards" not in {name_of(check) for check in checks_for(Control)}
    assert failures(Control) == {}


def test_the_tiny_world_holds_what_the_checks_need(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [])(Hyperparameters())
    world = tiny_world(algorithm)
    lengths = world.prompts.lengths.tolist()
    assert lengths == [4, 7, 10, 13, 4], "a start token and three codes an item"
    hits = {}
    for name, (tree, targets) in groups(algorithm, world).items():
        ranks = torch.where(tree.hits(targets), tree.ranks(), -1).amax(dim=1)
        hits[name] = ranks.tolist()
        if name.startswith("one real candidate"):
            assert tree.valid.sum(dim=1).tolist() == [1] * 5
        if name == "more places than SIDs":
            assert tree.valid.sum(dim=1).tolist() == [20] * 5 and tree.group_size == 23
    assert hits["a hit at rank 0"] == hits["one real candidate, a hit"] == [0] * 5
    assert hits["a hit at the last rank"] == [5] * 5
    assert hits["no hit"] == hits["one real candidate, no hit"] == [-1] * 5
    assert {rank >= 0 for rank in hits["a rollout"]} == {True, False}, "hits and misses in a batch"


def test_the_tiny_world_comes_from_its_seed_alone() -> None:
    with no_global_randomness():
        first, second, other = tiny_world(), tiny_world(), tiny_world(seed=1)
    for name, weight in first.policy.state_dict().items():
        assert torch.equal(weight, second.policy.state_dict()[name])
    name = "backbone.lm_head.weight"
    assert not torch.equal(first.policy.state_dict()[name], other.policy.state_dict()[name])


def test_the_tiny_catalog_shares_one_sid() -> None:
    catalog = tiny_catalog()
    assert (catalog.num_items, len(catalog.unique_sids), catalog.num_levels) == (21, 20, 3)
    assert catalog.items_of_sid(int(catalog.sid_of_item[0])).tolist() == [20, 0]


def test_play_computes_the_loss_of_the_file(tmp_path: Path) -> None:
    algorithm = load(tmp_path, [])(Hyperparameters())
    world = tiny_world(algorithm)
    # One hit among six candidates: its advantage is 5/6, that of the others -1/6.
    tree, targets = groups(algorithm, world)["a hit at rank 0"]
    played = play(algorithm, world, tree, targets)
    s = tree.sequence_log_probs().sort(dim=1, descending=True).values
    by_hand = -(5 * s[:, 0] - s[:, 1:].sum(dim=1)) / 6
    assert torch.allclose(played.losses, by_hand, atol=1e-4)


@pytest.mark.parametrize(
    ("check", "fault", "told"),
    [
        ("rewards", "of each prompt", "rewards"),
        (
            "loss of each prompt alone",
            "loss that depends on the batch",
            "loss of each prompt alone",
        ),
        ("repeated calls", "loss that counts", "repeated calls"),
        ("shown things stay", "reward that changes the tree", "shown things stay"),
    ],
)
def test_one_fault_is_one_finding(tmp_path: Path, check: str, fault: str, told: str) -> None:
    rows = list(run_checks(load(tmp_path, BROKEN[check][fault])))
    assert [row.check for row in rows if row.failure] == [told]
    # What was not looked at, or fails for the same reason, says so.
    assert {row.after for row in rows if row.after} == {told}
    assert not any(row.failure and row.after for row in rows)
