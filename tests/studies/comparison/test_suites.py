"""Suites: what a board says of a claim, and the comparisons in all worlds as one command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from compare_world import WORDS, Sweeps
from example_boards import full_section
from tiny_runs import Called, call

from genrec_bench.boards import claims as claims_module
from genrec_bench.boards.board import Section
from genrec_bench.boards.claims import SUITES, Claim, judge
from genrec_bench.data.cards import load_card
from genrec_bench.runs.registry import find


def of(algorithm: str, **changes: Any) -> Claim:
    return Claim(algorithm, "a world", "A claim", **changes)


def with_difference(section: Section, first: str, difference: float) -> Section:
    """The same where one row was this far above all that it is compared with, and told apart."""
    declared = {
        metric: tuple(
            replace(pair, difference=difference, distinct=True) if pair.first == first else pair
            for pair in pairs
        )
        for metric, pairs in section.declared.items()
    }
    return replace(section, declared=declared)


def test_a_claim_holds_if_both_comparisons_say_so() -> None:
    section = full_section()
    held = judge(of("ugr"), with_difference(section, "ugr", 0.02))
    assert (held.word, held.reason) == ("holds", "above SFT continued and grpo")
    assert [pair.second for pair in held.pairs] == ["SFT continued", "grpo"]
    refuted = judge(of("ugr"), with_difference(section, "ugr", -0.02))
    assert (refuted.word, refuted.reason) == ("does not hold", "below SFT continued and grpo")
    # Of vstar only the difference to grpo is larger than what tells two apart there.
    assert judge(of("vstar"), section).reason == "below grpo"


def test_what_cannot_be_told_apart_is_open_and_says_what_would_have_been_seen() -> None:
    found = judge(of("ugr"), full_section())
    assert found.word == "open"
    told = "not told apart from SFT continued and grpo; 0.0047 would have been seen"
    assert found.reason == told


def test_what_was_not_compared_is_open() -> None:
    section = full_section()
    assert judge(of("sasrec"), section).reason == "sasrec was not run to its end"
    assert judge(of("ugr"), None).reason == "ugr was not run to its end"
    alone = replace(section, declared={})
    reason = "it was not compared with SFT continued on two seeds or more"
    assert judge(of("ugr"), alone).reason == reason
    # The baseline has to beat SFT continued alone.
    assert len(judge(of("grpo", over=("control",)), section).pairs) == 1


def test_every_claim_has_a_card_and_an_algorithm_of_its_own() -> None:
    claims = SUITES["claims"]
    for claim in claims:
        world = load_card(claim.dataset).synthetic
        assert world is not None and world.world is not None
        assert find(claim.algorithm).name == claim.algorithm
    assert len({claim.dataset for claim in claims}) == len(claims) == 4


def small_world(folder: Path, name: str, seed: int) -> None:
    """Write the card of a world of eight items."""
    file = Path(claims_module.__file__).parents[2] / "datasets" / "synthetic-noisy.yaml"
    card = yaml.safe_load(file.read_text())
    card |= {"name": name, "expected": {"source": "nobody"}, "history_length": 4}
    card["synthetic"] |= {"seed": seed, "users": 60, "items_per_subcategory": 2}
    card["synthetic"] |= {"shared_sid_share": 0.0}
    card["synthetic"]["categories"] = {"garden": ["rake", "hose"], "office": ["pen", "lamp"]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Claim, ...]:
    """A suite of two small worlds in place of the four."""
    cards = tmp_path / "cards"
    cards.mkdir()
    for seed, name in enumerate(("one", "two")):
        small_world(cards, name, seed)
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(cards))
    found = (
        Claim("grpo", "one", "Feedback helps", over=("control",)),
        Claim("ugr", "two", "Confidence helps"),
    )
    monkeypatch.setitem(SUITES, "claims", found)
    return found


def test_all_worlds_are_one_command_that_goes_on(
    claims: tuple[Claim, ...],
    sweeps: Sweeps,
    capsys: pytest.CaptureFixture[str],
    data: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "runs"
    words = ["compare", "--suite", "claims", "--algorithms", "grpo,ugr", "--controls", "sft"]
    words += ["--budget", "60Mflop", "--tuning-budget", "400Mflop", "--seeds", "2", "--no-mlflow"]
    words += ["--data-dir", str(data), "--output", str(output)]

    def compare(*more: str) -> Called:
        return call(capsys, [*words, *more, "--set", *WORDS])

    planned = compare("--plan")
    assert planned.code == 0, planned.err
    assert planned.out.count("Comparison on") == 2
    # Twice two sweeps of 400 and six runs of 60.
    assert planned.out.splitlines()[-1].split() == ["all", "2", "worlds", "2.32", "GFLOP"]
    assert not list(output.rglob("record.json"))

    called = compare()
    assert called.code == 0, called.err
    assert called.err.index("all 2 worlds") < called.err.index("[1/")
    page = next(output.glob("suites/*/verdicts.md"))
    text = page.read_text()
    for claim in claims:
        assert claim.text in text and f"## {claim.dataset}: " in text
        assert claim.text in called.out
    assert "utility@10" in text and "Not compared yet" not in text
    verdicts = json.loads(page.with_name("verdicts.json").read_text())
    assert [each["world"] for each in verdicts] == ["one", "two"]
    assert [len(each["gains"]) for each in verdicts] == [1, 2]
    for board in (line for line in text.splitlines() if line.startswith("[The board](")):
        assert (page.parent / board.removeprefix("[The board](").removesuffix(")")).is_file()
    records = sorted(output.rglob("record.json"))
    assert len(records) == 2 * 3 * 2

    again = compare("--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["verdicts"] == verdicts
    assert sorted(output.rglob("record.json")) == records
    assert page.read_text() == text

    refused = compare("--dataset", "one")
    assert refused.code == 2
    assert "--suite claims brings its own datasets" in refused.err
