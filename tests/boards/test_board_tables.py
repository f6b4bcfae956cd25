"""Boards as text: what stands where, in which unit, and where it comes from."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from board_world import BEST, BUDGET, GOOD, KEYS, START, bare, whole

from genrec_bench import benchmark_version
from genrec_bench.boards.board import Board, BoardRow
from genrec_bench.boards.csv_table import COLUMNS, to_csv
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import apart_statement, to_markdown, to_text
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.statistics.resampling import Interval


def make(*evidence: Evidence) -> Board:
    return make_board(evidence, "industrial")


def looked() -> list[Evidence]:
    """GRPO gains 0.04 over 0.10; the looks of both are at 0, half and all of a teraflop."""
    records = [whole("grpo", BEST, s, looks=(0.1, 0.121, 0.14), **BUDGET) for s in (0, 1)]
    return records + [whole("ugr", GOOD, s, looks=(0.1, 0.1, 0.125), **BUDGET) for s in (0, 1)]


def squeezed(page: str) -> str:
    """Widths of columns are layout."""
    return re.sub(r"-{2,}", "-", re.sub(r" {2,}", " ", page))


def part(page: str, heading: str) -> str:
    """What stands under a heading of a Markdown page."""
    _, _, rest = squeezed(page).partition(f"# {heading}\n")
    assert rest, f"no heading {heading}"
    return re.split(r"\n#+ ", rest)[0].strip()


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\0", "|") for cell in line.replace("\\|", "\0").split("|")[1:-1]]


def test_a_board_without_outcomes_is_as_written_by_hand() -> None:
    """Seeds with 0.10 and 0.14 have mean 0.12 and standard deviation 0.04 / sqrt(2) = 0.0283."""
    values = {key: index / 10 for index, key in enumerate(KEYS, start=1)}
    constant = {key: value for key, value in values.items() if key != "HR@10"}
    runs = [
        bare("ugr", 0, seed=seed, metrics={"test": constant | {"HR@10": hits}})
        for seed, hits in ((0, 0.10), (7, 0.14))
    ]
    records = [*runs, bare("grpo", 0, metrics={"test": values | {"NDCG@10": 0.45}})]
    page = to_markdown(make(*records))
    head, _, _ = squeezed(page).partition("### Quality")
    assert head == (
        "# industrial (partial)\n\n"
        "Made from records by `genrec-bench leaderboard industrial`; not to be edited.\n\n"
        f"## genrec-bench {benchmark_version()}, 2 times SFT, 1 to 2 seeds, "
        f"track {records[0].record['track_id']}\n\n"
        "No verdict: it takes outcomes of the SFT start, a row of SFT continued, and two seeds or "
        "more.\n\n"
        # 1 TFLOP that counts, and half a TFLOP of SFT.
        "Amazon Industrial and Scientific, 2016-10 to 2018-11 (industrial): with a part of the "
        "training set; backbone tiny; a run spends 2 times what the SFT start cost; 1 to 2 seeds a "
        "row.\n\n"
        "dataset industrial (partial), fingerprint dddddddd, backbone tiny, budget none, "
        "group size 16\n\n"
    )
    assert part(page, "Quality at the equal budget").startswith(
        "| industrial (partial) | rank by NDCG@10 | NDCG@10 | 95% interval | IQM "
        "| HR@10 | 95% interval | IQM | seeds |\n"
        "|:-|-:|-:|-:|-:|-:|-:|-:|-:|\n"
        "| SFT start | – | 0.0500 | – | – | 0.0500 | – | – | – |\n"
        "| ugr | – | 0.5000 | – | – | 0.1200 | – | – | 2 |\n"
        "| grpo | – | 0.4500 | – | – | 0.3000 | – | – | 1 |\n"
        "| ceiling | – | 0.8000 | – | – | 0.9000 | – | – | – |\n"
    )
    assert part(page, "All metrics").splitlines()[2:] == [
        "| SFT start | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 |",
        "| ugr | 0.1000 ± 0.0000 | 0.2000 ± 0.0000 | 0.1200 ± 0.0283 | 0.4000 ± 0.0000 "
        "| 0.5000 ± 0.0000 | 0.6000 ± 0.0000 | 0.7000 ± 0.0000 |",
        "| grpo | 0.1000 | 0.2000 | 0.3000 | 0.4000 | 0.4500 | 0.6000 | 0.7000 |",
        "| ceiling | – | – | 0.9000 | – | 0.8000 | – | – |",
    ]
    assert "| grpo | seed 0 |" in part(page, "Records"), "without a file there is no link"
    assert part(page, "What was spent") == (
        "| per run | s | TFLOP | Mtok | rollout, TFLOP | update, TFLOP "
        "| sft, TFLOP (does not count) | evaluation, TFLOP (does not count) |\n"
        "|:-|-:|-:|-:|-:|-:|-:|-:|\n"
        "| ugr | 40.0 | 1.00 | 2.00 | 0.50 | 0.50 | 0.50 | 0.50 |\n"
        "| grpo | 40.0 | 1.00 | 2.00 | 0.50 | 0.50 | 0.50 | 0.50 |"
    )


def test_intervals_ranks_and_targets_are_those_of_the_board() -> None:
    board = make(*looked())
    (estimate,) = [r.estimates["NDCG@10"] for r in board.sections[0].rows if r.name == "grpo"]
    page = to_markdown(board)
    line = part(page, "Quality at the equal budget").splitlines()[3]
    interval = f"{estimate.interval.low:.4f} to {estimate.interval.high:.4f}"
    assert cells(line)[2:5] == [f"{estimate.mean:.4f}", interval, f"{estimate.iqm:.4f}"]
    targets = part(page, "Budget to reach targets")
    assert "25% is 0.1100, 50% is 0.1200, 75% is 0.1300, 100% is 0.1400" in targets
    assert targets.splitlines()[-2:] == [
        "| grpo | 0.50 (2 of 2) | 0.50 (2 of 2) | 1.00 (2 of 2) | 1.00 (2 of 2) |",
        "| ugr | 1.00 (2 of 2) | 1.00 (2 of 2) | missed (0 of 2) | missed (0 of 2) |",
    ]
    assert "| SFT start | grpo |" in part(page, "Pairs by HR@10")
    assert "The smallest difference that this design finds" in page
    assert "0.50 (2 of 2)" in to_text(board)


def pair(first: str, second: str, *, distinct: bool, tested: bool = True) -> Pair:
    interval = Interval(-0.1, 0.1) if tested else Interval(float("-inf"), float("inf"))
    return Pair(
        first, second, 0.1, interval, 0.1, 0.1, 0.1, 0.1, distinct, 0.1, 0.5, Interval(0, 1), 0.1
    )


@pytest.mark.parametrize(
    ("told_apart", "expected"),
    [
        ("", "By HR@10, no two rows can be told apart."),
        ("ab ac bc", "By HR@10, 3 of 3 pairs are told apart: a is above b, c; b is above c."),
        ("bc", "By HR@10, 1 of 3 pairs are told apart: b is above c."),
        ("ac", "By HR@10, 1 of 3 pairs are told apart: a is above c."),
    ],
)
def test_what_is_told_apart_is_one_line(told_apart: str, expected: str) -> None:
    pairs = tuple(pair(*two, distinct=two in told_apart) for two in ("ab", "ac", "bc"))
    untested = pair("a", "d", distinct=False, tested=False)
    (section,) = make(bare("a", 0.1)).sections
    told = replace(section, pairs={"HR@10": (*pairs, untested)})
    assert apart_statement(told, "HR@10") == expected
    assert apart_statement(told, "NDCG@10") == "", "no test"


def test_failures_are_rows_and_reasons() -> None:
    failed = {"complete": False, "metrics": {}, "failure": "loss is <nan> | stop"}
    board = make(bare("ugr", 0.1), bare("ugr", 0, 1, **failed), bare("grpo", 0, 3, **failed))
    page = to_markdown(board)
    quality = part(page, "Quality at the equal budget")
    ugr, grpo = (cells(line) for line in quality.splitlines()[3:5])
    assert (ugr[0], ugr[-1]) == ("ugr", "1 of 2")
    assert grpo == ["grpo [failed]", *["–"] * 7, "0 of 1"]
    assert "grpo failed with seed 3: loss is &lt;nan&gt;" in page
    assert "ugr failed with seed 1: loss is <nan> | stop" in to_text(board)
    assert "| grpo [failed] | 40.0 |" in part(page, "What was spent"), "it is charged all the same"


def test_seeds_that_failed_are_linked_and_their_cost_is_shown() -> None:
    failed = {"complete": False, "metrics": {}, "failure": "loss is nan"}
    records = [
        Evidence(one.record, path=Path("runs", one.record["run_id"], "record.json"))
        for one in (bare("ugr", 0.1, 1), bare("ugr", 0, 0, **failed), bare("grpo", 0, 2, **failed))
    ]
    board = make(*records)
    page = to_markdown(board)
    links = part(page, "Records")
    assert (
        "| ugr | [seed 1](runs/ugr-seed1-0/record.json), "
        "[seed 0 (failed)](runs/ugr-seed0-0/record.json) |" in links
    )
    assert "[seed 2 (failed)](runs/grpo-seed2-0/record.json)" in links
    for text in (page, to_text(board), to_html(board)):
        assert "The failed runs cost 40.0 s, 1.00 TFLOP, 2.00 Mtok more." in text
    assert ">0 failed</a>" in to_html(board)
    assert 'href="runs/ugr-seed0-0/record.json"' in to_html(board)
    found = {(line["row"], line["quantity"]): line for line in read_csv(board)}
    assert found["ugr", "lost/seconds"]["value"] == "40.0"
    hits = found["ugr", "test/HR@10"]
    assert (hits["seeds"], hits["failed_seeds"], hits["by_seed"]) == ("1", "0", "0.1")
    assert hits["records"] == "runs/ugr-seed1-0/record.json runs/ugr-seed0-0/record.json"
    assert ("grpo", "lost/seconds") not in found, "there it is what the row spent"
    assert found["grpo", "spent/seconds"]["value"] == "40.0"


def test_pages_and_tables_write_amounts_alike() -> None:
    """Half a teraflop is 500 GFLOP in all of them."""
    spent = {"update": {"seconds": 1.0, "tokens": 5e5, "flops": 5e11, "peak_memory_bytes": 1}}
    board = make(bare("a|b", 0.1, spent=spent))
    lines = part(to_markdown(board), "What was spent").splitlines()
    assert cells(lines[0])[1:4] == ["s", "GFLOP", "ktok"]
    assert cells(lines[2])[:4] == ["a|b", "1.0", "500.00", "500.00"]
    html = to_html(board)
    assert "TFLOP" not in html and "Mtok" not in html and html.count("500.00") >= 2


def test_tuning_is_on_the_bill_and_controls_are_marked() -> None:
    tuning = {"limit": "6Tflop", "flops": 5.5e12, "trials": 9, "failed": 1, "pruned": 3}
    control = bare("sft", 0.2, control="SFT continued")
    page = to_markdown(make(bare("ugr", 0.1, tuning=tuning), control))
    spent = part(page, "What was spent").splitlines()
    assert spent[0].endswith("| tuning in all, TFLOP | trials (failed, pruned) |")
    assert spent[2].startswith("| SFT continued [control] |")
    assert spent[2].endswith("| – | – |") and spent[3].endswith("| 5.50 | 9 (1, 3) |")


def test_samples_have_columns_where_evaluation_drew_any() -> None:
    sampled = bare("grpo", 0.2, metrics={"test": {"HR@10": 0.2, "Pass@10": 0.0625}})
    assert "Pass@" not in to_text(make(bare("ugr", 0.1)))
    shown = to_text(make(bare("ugr", 0.1), sampled))
    assert "Pass@10" in shown and "Pass@1 " not in shown and "0.0625" in shown


def test_partial_stands_at_every_dataset_and_only_where_it_is_true() -> None:
    partial = make(bare("ugr", 0.1))
    for text in (to_text(partial), to_markdown(partial)):
        assert text.count("industrial (partial)") == 3, "title, track and table"
    whole_set = make(bare("ugr", 0.1, partial=False))
    assert "partial" not in to_text(whole_set) + to_markdown(whole_set)


def test_published_figures_stand_apart_with_their_setting() -> None:
    page = to_markdown(make(bare("ugr", 0.1)))
    reported = part(page, "As reported, other settings")
    assert "| V-STAR, Table 1 | V-STAR | – | 0.1189 | 0.1361 | 0.1641 |" in reported
    assert "- V-STAR, Table 1: Qwen2.5-1.5B" in reported
    before, _, _ = page.partition("## As reported")
    assert "MiniOneRec" not in before
    assert "As reported" not in to_markdown(make_board([bare("u", 0.1, dataset="x")], "x"))


def read_csv(board: Board) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(board))))


def test_csv_gives_back_every_number_of_the_board() -> None:
    failed = bare("srpo", 0, 5, complete=False, metrics={}, failure="no, it did", **BUDGET)
    board = make(*looked(), failed)
    (section,) = board.sections
    lines = read_csv(board)
    assert list(lines[0]) == COLUMNS and len({len(line) for line in lines}) == 1
    found = {(line["kind"], line["row"], line["other"], line["quantity"]): line for line in lines}
    ours = [line for line in lines if line["kind"] != "reported"]
    assert len(ours) == len([key for key in found if key[0] != "reported"]), "one line for each"

    def line(row: BoardRow, quantity: str) -> dict[str, str]:
        return found[row.kind, row.name, "", quantity]

    for row in section.rows:
        for metric, mean in row.means.items():
            assert float(line(row, f"test/{metric}")["value"]) == mean
        for metric, estimate in row.estimates.items():
            own = line(row, f"test/{metric}")
            assert float(own["low"]) == estimate.interval.low
            assert float(own["iqm_high"]) == estimate.iqm_interval.high
        for phase, costs in row.phases.items():
            for cost, amount in costs.items():
                assert float(line(row, f"phase/{phase}/{cost}")["value"]) == amount
        for label, reached in row.targets.items():
            value = line(row, f"reach/{label}")["value"]
            assert value == ("missed" if reached.median is None else repr(reached.median))
    for metric, pairs in section.pairs.items():
        for each in pairs:
            own = found["pair", each.first, each.second, f"pair/{metric}"]
            assert float(own["p_holm"]) == each.p_adjusted
            assert own["distinct"] == str(each.distinct).lower()
    grpo = found["result", "grpo", "", "test/HR@10"]
    assert (grpo["seeds"], grpo["by_seed"]) == ("0 1", "1.0 1.0")
    assert grpo["records"] == "grpo-seed0-0 grpo-seed1-0"
    srpo = found["failed", "srpo", "", "spent/seconds"]
    assert (srpo["failed_seeds"], srpo["seeds"], srpo["value"]) == ("5", "", "40.0")
    assert found["reported", "UGR", "", "test/HR@1"]["value"] == "0.0747"


def test_csv_holds_no_infinity() -> None:
    text = to_csv(make(whole("ugr", GOOD), whole("grpo", START)))
    assert "inf" not in text.replace("industrial", "") and "nan" not in text


def test_csv_quotes_what_needs_it() -> None:
    name: dict[str, Any] = {"hyperparameters": {"alpha": 'a, "b"', "weight": True}}
    lines = read_csv(make(bare("ugr", 0.1), bare("ugr", 0.1, 1), bare("ugr", 0.2, 2, **name)))
    assert {line["row"] for line in lines} >= {"ugr", 'ugr (alpha=a, "b")'}
