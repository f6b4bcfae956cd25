"""The page of a board: whole in itself, safe, and with the model's numbers on it."""

import re
from dataclasses import replace
from math import inf
from urllib.parse import unquote

import pytest
from example_boards import (
    TARGETS,
    bare,
    board_without_targets,
    full_board,
    full_section,
    old_section,
    pair,
    row,
)
from hypothesis import given
from hypothesis import strategies as st
from page_tree import Node, first_track, heads, page_of, parse, table

from genrec_bench.boards.board import Board, BoardRow, Link, Section
from genrec_bench.boards.charts import element
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.section_view import figure, signed
from genrec_bench.statistics.resampling import Interval

LABEL = "Quality at the equal budget"
EVIL = "<script>alert('x')</script>\"' onload=\"x & <b>"


def quality(*rows: BoardRow, section: Section | None = None) -> dict[str, list[Node]]:
    made = replace(section or full_section(), rows=rows, pairs={}, gains={}, declared={})
    return table(page_of(made), LABEL)


@pytest.fixture(scope="module")
def html() -> str:
    return to_html(full_board())


@pytest.fixture(scope="module")
def page(html: str) -> Node:
    return parse(html)


@pytest.fixture(scope="module")
def section(page: Node) -> Node:
    return first_track(page)


def test_the_same_board_is_the_same_page(html: str) -> None:
    assert to_html(full_board()) == html


@pytest.mark.parametrize("board", [full_board(), board_without_targets()], ids=lambda b: b.dataset)
def test_the_page_asks_nobody_for_anything(board: Board) -> None:
    html = to_html(board)
    page = parse(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|@font-face", html)
    loads = [n for n in page.walk() if n.name in {"img", "iframe", "object", "embed", "base"}]
    assert not loads
    for node in page.walk():
        assert "src" not in node.attributes and "style" not in node.attributes
        assert not [key for key in node.attributes if key.startswith("on")]
    assert [n.attributes["href"] for n in page.all("link")] == ["data:,"]
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy is not None and policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_text_from_records_is_never_markup() -> None:
    evil = replace(
        row("grpo", 0.08),
        name=EVIL,
        failures={4: EVIL},
        tuning={"limit": EVIL, "study": EVIL, "trials": EVIL},
        links=(Link(EVIL, 0, f"javascript:{EVIL}", {}),),
        phases={EVIL: {"flops": 1.0}},
    )
    section = replace(
        full_section(),
        benchmark=EVIL,
        track_id=EVIL,
        track={EVIL: EVIL, "budget": EVIL, "backbone": [EVIL]},
        rows=(evil, row("ugr", 0.08)),
        pairs={"NDCG@10": (pair(evil, row("ugr", 0.08), "NDCG@10"),)},
        target_values={EVIL: 0.07},
        notes=(EVIL,),
    )
    reported = [
        replace(each, paper=EVIL, table=EVIL, algorithm=EVIL, setting=EVIL, metrics={EVIL: 0.1})
        for each in full_board().reported
    ]
    html = to_html(Board(EVIL, (section,), tuple(reported)))
    assert html.count("<script") == html.count("</script") == 1
    page = parse(html)
    assert not page.all("b")
    for node in page.walk():
        assert not [key for key in node.attributes if key.startswith("on")]
    honest = {link.path for link in row("ugr", 0.08).links}
    (href,) = {str(n.attributes["href"]) for n in page.all("a") if n.text == "0"} - honest
    assert ":" not in href, "a path is taken for an address"
    assert unquote(href) == f"javascript:{EVIL}"


@given(st.text(), st.text())
def test_any_text_comes_back_as_it_was(text: str, value: str) -> None:
    """In drawings, and in what the templates write: HTML has no carriage return of its own."""
    node = parse(element("p", text, title=value)).one("p")
    assert node.text.replace("\r", "\n") == text.replace("\r", "\n")
    assert node.attributes["title"] == value


def test_half_a_surrogate_pair_can_be_written() -> None:
    html = to_html(replace(full_board(), dataset="a\ud800b"))
    assert "a?b" in html and html.encode("utf-8")


def test_every_record_is_linked(page: Node) -> None:
    hrefs = {str(node.attributes["href"]) for node in page.all("a")}
    titles = " ".join(str(node.attributes.get("title")) for node in page.all("a"))
    for each in full_board().sections:
        for link in (link for r in each.rows for link in r.links):
            assert link.path in hrefs
            assert link.run_id in titles
    # The value itself, not a rounded one.
    first = full_section().rows[1].links[0]
    assert f"seed 0: NDCG@10 {first.value['NDCG@10']!r}, HR@10 {first.value['HR@10']!r}" in titles


def test_record_without_a_file_is_named_but_not_linked() -> None:
    made = row("grpo", 0.08, seeds=(7,))
    (cells,) = quality(replace(made, links=(replace(made.links[0], path=""),))).values()
    (seed,) = [node for cell in cells for node in cell.all("span") if node.text == "7"]
    assert made.links[0].run_id in str(seed.attributes["title"])
    assert not [node for cell in cells for node in cell.all("a")]


def test_numbers_of_the_first_table_are_the_models(section: Node) -> None:
    names = heads(section, LABEL)
    lines = table(section, LABEL)
    rows = {each.name: each for each in full_section().rows}
    assert list(lines) == list(rows)
    for name, cells in lines.items():
        by_head: dict[str, Node] = {}
        for head, cell in zip(names[1:], cells, strict=True):
            by_head.setdefault(head, cell)
        for metric in ("NDCG@10", "HR@10"):
            cell, mean = by_head[metric], rows[name].means.get(metric)
            if mean is None:
                assert cell.text == "–" and "data-sort" not in cell.attributes
                continue
            assert float(str(cell.attributes["data-sort"])) == mean
            low_high = ""
            if estimate := rows[name].estimates.get(metric):
                interval = estimate.interval
                low_high = f"{figure(interval.low)} to {figure(interval.high)}"
            assert cell.shown == figure(mean) + low_high
        for head, cost in (("Device time", "seconds"), ("FLOPs", "flops"), ("Tokens", "tokens")):
            spent = rows[name].spent.get(cost)
            sort = by_head[head].attributes.get("data-sort")
            assert (None if sort is None else float(sort)) == spent
    # 6.024e12 FLOPs and 1.4e6 tokens, in the units of the heads.
    assert [cell.text for cell in lines["grpo"][-3:]] == ["90.0", "6.02", "1.40"]
    assert lines["grpo"][3].text == "1–2" and lines["random reward"][3].text == "6"
    assert lines["ceiling"][3].text == "–"


def test_further_metrics_and_interquartile_means_are_there(section: Node) -> None:
    names = heads(section, "Every metric")
    grpo = dict(zip(names[1:], table(section, "Every metric")["grpo"], strict=True))
    made = full_section().rows[1]
    for metric, mean in made.means.items():
        assert grpo[metric].text == f"{figure(mean)}± {figure(made.deviations[metric])}"
    iqm = made.estimates["NDCG@10"].iqm
    assert float(str(grpo["IQM NDCG@10"].attributes["data-sort"])) == iqm
    assert grpo["IQM NDCG@10"].text.startswith(figure(iqm))


def test_kinds_of_rows_are_told_apart_by_words(section: Node) -> None:
    names = section.all("table")[0].one("tbody").all("th")
    words = {
        n.attributes["data-sort"]: [t.text for t in n.all("span", class_="tag")] for n in names
    }
    assert words["SFT start"] == ["start"]
    assert words["SFT continued"] == words["random reward"] == ["control"]
    assert words["grpo"] == []
    assert words["ugr (confidence=token)"] == ["failed"]
    # Its name says it.
    assert words["ceiling"] == []


def test_failures_are_seen_with_their_reasons(section: Node) -> None:
    seeds = {name: cells[6].shown for name, cells in table(section, LABEL).items()}
    assert seeds["grpo"] == "50 1 2 3 4"
    assert seeds["srpo"] == "4 of 50 1 2 4"
    assert seeds["ugr (confidence=token)"] == "0 of 20 1"
    assert seeds["ceiling"] == "–"
    said = [node.text for node in section.all("small", class_="failure")]
    assert "seed 3 failed: the loss became nan at step 41" in said
    assert "seeds 0, 1 failed: <script>alert('x')</script> & the like" in said
    assert len(said) == 2, "a reason is said once"


def test_interval_of_one_seed_says_that_it_speaks_of_users_only() -> None:
    (cells,) = quality(row("grpo", 0.08, seeds=(0,))).values()
    assert cells[0].shown.endswith(", users only")
    assert cells[0].all("svg", class_="partial")


def test_interval_without_bounds_is_not_drawn() -> None:
    made = row("grpo", 0.08)
    none = Interval(-inf, inf)
    unbounded = {
        metric: replace(known, interval=none, iqm_interval=none)
        for metric, known in made.estimates.items()
    }
    (cells,) = quality(replace(made, estimates=unbounded)).values()
    assert cells[0].shown == f"{figure(made.means['NDCG@10'])}no interval"
    assert cells[0].all("circle") and not cells[0].all("line", class_="bar")


def test_tuning_cost_is_told(section: Node) -> None:
    lines = table(section, "What it cost")
    assert lines["grpo"][-1].text == "19.80 TFLOP24 trials, 1 failed, 15 pruned, of 20Tflop"
    assert lines["grpo"][-1].attributes["title"] == "study industrial-grpo"
    assert lines["random reward"][-1].text == "none"
    assert "ceiling" not in lines


def test_the_bill_is_the_sum_of_what_counts(section: Node) -> None:
    # Phases of 35%, 10% and 55% of 6 TFLOP, and of 30%, 10% and 60% of 90 s; neither the SFT start
    # nor evaluation is in it.
    flops, seconds = table(section, "What it cost")["grpo"][:2]
    assert (flops.shown, seconds.shown) == ("6.00", "90.0")
    said = flops.one("svg").attributes["aria-label"]
    assert said == "rollout 2.10, reference 0.60, update 3.30 TFLOP"


def test_phases_that_count_come_first_and_the_others_stand_apart(section: Node) -> None:
    label = "FLOPs by phase, TFLOP, mean of a row's runs"
    names = heads(section, label)
    assert names == ["Algorithm", "rollout", "reference", "update", "sft", "evaluation"]
    grpo = [cell.text for cell in table(section, label)["grpo"]]
    # Shares of 6 TFLOP: 35%, 10%, 55%; and what is outside of them.
    assert grpo == ["2.10", "0.60", "3.30", "3.29", "1.72"]
    failed = table(section, label)["ugr (confidence=token)"]
    assert [cell.text for cell in failed] == ["0.41", "–", "–", "–", "–"]


def test_old_records_make_a_page_without_what_they_lack() -> None:
    section = page_of(old_section())
    assert not section.all("figure")
    assert "The records of this track hold no validation curves." in section.text
    assert "told apart" not in section.one("section").text
    assert "Rank" not in heads(section, LABEL)
    grpo = table(section, LABEL)["grpo"][0]
    made = next(each for each in old_section().rows if each.name == "grpo")
    assert grpo.shown == f"{figure(made.means['NDCG@10'])}± {figure(made.deviations['NDCG@10'])}"
    assert "1 record" in section.text and "1 records" not in section.text
    assert not section.all("span", class_="flag")


def test_board_of_nothing_is_a_page() -> None:
    assert "0 records on 0 tracks" in parse(to_html(Board("empty", (), ()))).text
    empty = replace(full_section(), rows=(), pairs={}, target_values={}, num_records=0)
    assert not table(page_of(empty), LABEL)


def test_partial_is_flagged_at_board_and_track(page: Node) -> None:
    flags = page.all("span", class_="flag")
    assert [flag.text for flag in flags] == ["partial", "partial"]
    assert "smaller than the card expects" in str(flags[0].attributes["title"])


def test_what_is_fixed_is_listed(section: Node) -> None:
    facts = section.one("dl", class_="facts")
    said = dict(zip(*([n.text for n in facts.all(tag)] for tag in ("dt", "dd")), strict=True))
    assert said["group size"] == "16"
    assert said["tuning"] == "none"
    assert said["sft"] == full_section().track["sft"]


def test_targets_and_misses(section: Node) -> None:
    label = "FLOPs to reach each target, TFLOP, median over seeds"
    assert heads(section, label) == ["Algorithm", *TARGETS]
    lines = table(section, label)
    for each in full_section().rows:
        for reached, cell in zip(each.targets.values(), lines.get(each.name, []), strict=True):
            sort = cell.attributes.get("data-sort")
            assert (None if sort is None else float(sort)) == reached.median
    ugr = lines["ugr"][3]
    assert ugr.text == "missed5.40 · 4 missed"
    assert ugr.attributes["title"] == "seed by seed: missed, missed, missed, missed, 5.40"
    assert "missed" in str(ugr.attributes["class"])
    assert "SFT start" not in lines


def test_curves_have_a_line_and_a_band_for_each_row(section: Node) -> None:
    wide, narrow = section.one("svg", class_="wide"), section.one("svg", class_="narrow")
    for chart in (wide, narrow):
        groups = chart.all("g")
        drawn = [g.one("title").text for g in groups]
        assert drawn == [each.name for each in full_section().rows if each.curve]
        assert all(g.all("path", class_="line") and g.all("path", class_="band") for g in groups)
        said = [t.text for t in chart.all("text", class_="label")]
        # The ceiling is far beyond the axis.
        assert said == ["SFT start", *(f"target {label}" for label in TARGETS)]
        assert "FLOPs spent, TFLOP" in [t.text for t in chart.all("text")]
    legend = section.one("figure").one("ul")
    assert [item.text for item in legend.all("li")] == drawn


def test_a_ceiling_within_the_scale_is_drawn() -> None:
    made = full_section()
    near = replace(made, rows=(*made.rows[:-1], bare("ceiling", "ceiling", {"NDCG@10": 0.0772})))
    chart = page_of(near).one("svg", class_="wide")
    assert "ceiling on test" in [t.text for t in chart.all("text", class_="label")]


def test_pairs_and_what_is_said_of_them(section: Node) -> None:
    pairs = full_section().pairs["NDCG@10"]
    lines = table(section, "All pairs on NDCG@10")
    assert list(lines) == [f"{p.first} − {p.second}" for p in pairs]
    for p, cells in zip(pairs, lines.values(), strict=True):
        low, high = signed(p.interval.low), signed(p.interval.high)
        assert cells[0].shown == f"{signed(p.difference)}{low} to {high}"
        assert float(str(cells[0].attributes["data-sort"])) == p.difference
        assert cells[1].text == ("yes" if p.distinct else "no")
        numbers = [float(str(cell.attributes["data-sort"])) for cell in cells[2:]]
        ps = [p.p_adjusted, p.p_bootstrap, p.p_user, p.p_seed]
        assert numbers == [*ps, p.effect, p.probability, p.smallest_difference]
    told = [p for p in pairs if p.distinct]
    assert f"{len(told)} of 21 pairs are told apart:" in section.text
    assert f"{21 - len(told)} pairs can’t be told apart." in section.text
    assert "A difference of 0.0047 would most likely be seen in any pair." in section.text
    shown = [item.text for item in section.all("ul", class_="alike")[0].all("li")]
    assert len(shown) == len(told)
    # The start has 0.0749 and grpo 0.0811: the better one is named first.
    assert "grpo is above SFT start" in shown


def test_untested_pairs_are_not_called_alike() -> None:
    rows = (row("grpo", 0.08), row("ugr", 0.079))
    untested = replace(
        pair(*rows, "NDCG@10"), interval=Interval(-inf, inf), smallest_difference=inf
    )
    smallest = {"NDCG@10": inf}
    made = replace(full_section(), rows=rows, pairs={"NDCG@10": (untested,)})
    section = page_of(replace(made, smallest_difference=smallest))
    assert "0 of 1 pairs are told apart." in section.text
    assert "1 pair has too few seeds in common to be tested." in section.text
    assert "can’t be told apart" not in section.text
    assert "would most likely be seen" not in section.text
    (cells,) = table(section, "All pairs on NDCG@10").values()
    assert cells[0].shown.endswith("no interval")
    assert [cell.text for cell in cells[1:4]] == ["untested", "–", "–"]
    assert "inf" not in re.sub(r"inf[a-z]+", "", section.one("section").text)


def test_published_figures_stand_apart_without_ranks(page: Node) -> None:
    (published,) = (n for n in page.all("section") if n.attributes.get("id") == "published")
    assert "As reported, other settings" in published.text
    columns = "Algorithm Paper Where HR@5 HR@10 NDCG@10 Setting"
    assert heads(published, "Published figures") == columns.split()
    lines = table(published, "Published figures")
    assert [cell.text for cell in lines["Its method"][2:5]] == ["–", "0.1586", "0.1218"]
    # A zero at the end, as printed: the column has four digits.
    assert [cell.text for cell in lines["GRPO"][2:5]] == ["0.1103", "0.1580", "–"]
    for section in page.all("section"):
        if section is not published:
            assert "Its method" not in section.text


def test_board_without_targets_says_so() -> None:
    page = parse(to_html(board_without_targets()))
    assert "This track has no targets" in page.text
    (x_label,) = {t.text for t in page.all("text", class_="axis-name")}
    assert x_label == "Device time spent, s"
    assert not [n for n in page.all("section") if n.attributes.get("id") == "published"]
