"""The board of a dataset: records sorted into sections, rows compared with each other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.boards.board import ORDER_BY, Board, BoardRow, Section
from genrec_bench.boards.compared import about_tests, conclusions, judged
from genrec_bench.boards.declared import declared, parts_of
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.gain_curves import with_gain_curves
from genrec_bench.boards.marks import is_off_budget
from genrec_bench.boards.near_tracks import with_nearly_equal_tracks
from genrec_bench.boards.outside import Beside, is_outside, outside_section
from genrec_bench.boards.reported import load_reported
from genrec_bench.boards.rows import (
    Defaults,
    Group,
    ceiling_row,
    control_of,
    differences,
    group,
    make_row,
    said_by_all,
    start_row,
    was_tuned,
)
from genrec_bench.boards.targets import Looks, target_values, unit_of
from genrec_bench.boards.units import unit_for
from genrec_bench.boards.verdict import unequal_cost
from genrec_bench.boards.verify import budget_share
from genrec_bench.data.cards import MARK, load_card
from genrec_bench.errors import UserError
from genrec_bench.runs import registry
from genrec_bench.runs.record_schema import own_figures, plain, version_key
from genrec_bench.statistics.conclusions import family
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.collapse import signs_of_collapse


def make_board(
    evidence: Iterable[Evidence],
    dataset: str,
    defaults: Defaults | None = None,
    folder: Path = Path(),
    baseline: str | None = None,
) -> Board:
    """Make the board of one dataset.

    Args:
        evidence: each run once; those of other datasets and trials of sweeps are left aside.
        defaults: by algorithm, the hyperparameters that go without saying in a row's name. For an
            algorithm that is not in it, these are the ones that most of its records have.
        folder: where the board will be written; links are relative to it.
        baseline: the algorithm whose gain sets the targets; None: the one that says so itself.

    Returns:
        The board, the same for the same records in any order.
    """
    baseline = registry.baseline() if baseline is None else baseline
    groups: dict[tuple[str, str], list[Evidence]] = {}
    for one in sorted(evidence, key=_age):
        record = one.record
        if record["dataset"] == dataset and one.on_test:
            groups.setdefault((record["benchmark"], record["track_id"]), []).append(one)
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    of_runs = [key for key in order if not is_outside(groups[key][0])]
    sections = [_section(groups[key], defaults or {}, folder, baseline) for key in of_runs]
    # The newest version first; within it what was compared at equal cost, then what has most runs.
    sections.sort(key=lambda section: bool(unequal_cost(section)))
    sections.sort(key=lambda section: version_key(section.benchmark), reverse=True)
    sections = with_nearly_equal_tracks(sections)
    beside = [Beside(one, groups[one.benchmark, one.track_id]) for one in sections]
    # Behind all others: a reader's first question is what our runs decide.
    theirs = [groups[key] for key in order if key not in of_runs]
    theirs.sort(key=lambda records: version_key(records[0].record["benchmark"]), reverse=True)
    sections += [outside_section(records, beside, defaults or {}, folder) for records in theirs]
    return Board(dataset, tuple(sections), load_reported(dataset), _title(dataset))


def _title(dataset: str) -> str:
    """The full name on the dataset's card; empty where it has none here."""
    try:
        return load_card(dataset.partition(MARK)[0]).title
    except UserError:
        return ""


def _age(one: Evidence) -> tuple[str, str, str]:
    """Sort key, oldest first; all records are written in one time zone."""
    record = one.record
    return record["times"]["finished"], record["run_id"], one.name


def _section(
    records: Sequence[Evidence], defaults: Defaults, folder: Path, baseline: str
) -> Section:
    """Make a section of comparable records, oldest first."""
    last = records[-1].record
    unit = unit_of(last["track"])
    # What went without saying in an older version is not what does today.
    usual = defaults if last["benchmark"] == benchmark_version() else {}
    groups = group(records, usual)
    targets, why_none = _targets(groups, unit, baseline)
    apart = _looks_apart(groups, baseline)
    rows = [make_row(one, unit, {} if one.name in apart else targets, folder) for one in groups]
    # Looks that find other values make another curve; how often a row looked is seen in its curve.
    other = [name for name, keys in apart.items() if keys != ["validations"]]
    rows = [replace(row, curve=()) if row.name in other else row for row in rows]
    ranked = [row for row in rows if row.kind != "failed"]
    ranked.sort(key=lambda row: (-row.means.get(ORDER_BY, -1.0), row.name))
    failed = [row for row in rows if row.kind == "failed"]
    starts = start_row(records, folder)
    compared = conclusions([*starts, *ranked], groups, records)
    ranked = with_gain_curves(ranked, {one.name: one for one in groups}, records)
    shown = [judged(row, compared) for row in (*starts, *ranked)]
    shown += [*failed, *ceiling_row(records, folder)]
    measure = _measure(groups, baseline)
    parts = parts_of(shown, measure.name if measure else "")
    with_start, with_others = declared(shown, parts)
    used = sum(len(one.finished) + len(one.failed) for one in groups)
    notes = [
        *_about_rows(shown, len(records) - used),
        *about_tests(shown),
        *_about_tuning(groups, defaults),
        *_about_shared(groups, usual),
        *([why_none] if why_none else []),
        *_about_examples(last["track"]),
        *_about_looks(groups, apart, unit),
        *_about_budgets(groups),
        *_about_collapse(groups),
        *_about_own(groups),
    ]
    return Section(
        benchmark=last["benchmark"],
        track_id=last["track_id"],
        track=last["track"],
        partial=any(one.record["partial"] for one in records),
        num_records=len(records),
        unit=unit,
        rows=tuple(shown),
        pairs={metric: each.pairs for metric, each in compared.items()},
        smallest_difference={
            metric: each.smallest_difference for metric, each in compared.items() if each.pairs
        },
        target_values=targets,
        notes=tuple(notes),
        parts=parts,
        gains={metric: family(each.pairs, with_start) for metric, each in compared.items()},
        declared={metric: family(each.pairs, with_others) for metric, each in compared.items()},
    )


def _targets(
    groups: Sequence[Group], unit: BudgetKind, baseline: str
) -> tuple[dict[str, float], str]:
    """The values to reach, or why there are none."""
    measure = _measure(groups, baseline)
    if measure is None:
        return {}, f"No targets: they are shares of what {baseline} gains, and it was not run here."
    known: list[Looks | None] = measure.looks(unit)
    seen = [each for each in known if each is not None]
    if len(seen) < len(known):
        return {}, f"No targets: some runs of {baseline} kept no figures of validation."
    settings = measure.first.record["configuration"]["settings"]
    targets = target_values(seen, settings.get("validation_examples", math.inf))
    if not targets:
        return {}, f"No targets: {baseline} gained less than one validation example's worth."
    return targets, ""


def _measure(groups: Sequence[Group], baseline: str) -> Group | None:
    """The row whose gain sets the targets; None where it was not run."""
    # In order of name: where there are several, the usual configuration is the first.
    known = (one for one in groups if one.algorithm == baseline and one.kind == "result")
    return next(known, None)


def _looks_apart(groups: Sequence[Group], baseline: str) -> dict[str, list[str]]:
    """By name, the settings of validation in which a row differs from that which sets the targets.

    Where that one was not run, rows are compared with the first that finished, for the curves.
    """
    finished = [one for one in groups if one.finished]
    measure = _measure(groups, baseline) or (finished[0] if finished else None)
    if measure is None:
        return {}
    found = {one.name: one.looks_apart(measure) for one in finished}
    return {name: keys for name, keys in found.items() if keys}


def _about_rows(rows: Sequence[BoardRow], replaced: int) -> list[str]:
    notes = [f"Ordered by {ORDER_BY}. Spent: mean of the runs, without SFT and evaluation."]
    if replaced:
        what = "record is" if replaced == 1 else "records are"
        notes.append(
            f"{replaced} {what} not shown: the same configuration and seed was run again, "
            "and the newest complete run counts."
        )
    for row in rows:
        if row.failures and row.kind != "failed":
            notes.append(
                f"{row.name}: {len(row.failures)} of {len(row.failures) + len(row.seeds)} seeds "
                "failed; its figures are of those that finished. The failed runs cost "
                f"{_amounts(row.lost)} more."
            )
    return notes


def _amounts(spent: Mapping[str, float]) -> str:
    """What was spent, each cost with its unit."""
    units = {cost: unit_for(cost, [amount]) for cost, amount in spent.items()}
    return ", ".join(f"{unit.write(spent[cost])} {unit.symbol}" for cost, unit in units.items())


def _about_looks(
    groups: Sequence[Group], apart: Mapping[str, Sequence[str]], unit: BudgetKind
) -> list[str]:
    """Which rows have other settings of validation than the row that sets the targets."""
    notes = []
    for one in groups:
        if one.name in apart and any(one.looks(unit)):
            settings = one.first.record["configuration"]["settings"]
            told = ", ".join(f"{key} {settings.get(key, 'unknown')}" for key in apart[one.name])
            left = "targets" if list(apart[one.name]) == ["validations"] else "targets and no curve"
            notes.append(
                f"{one.name} has no {left}: its validations are not like those of the others "
                f"({told})."
            )
    return notes


def _about_budgets(groups: Sequence[Group]) -> list[str]:
    """Which finished runs spent more or less than their budget by more than a step explains."""
    notes = []
    for one in groups:
        off = [
            f"seed {each.record['seed']} spent {budget_share(each.record):.1%}"
            for each in one.finished
            if is_off_budget(each.record)
        ]
        if off:
            notes.append(f"{one.name} ended off its budget: {', '.join(off)} of it.")
    return notes


def _about_collapse(groups: Sequence[Group]) -> list[str]:
    """Which rows' policies collapsed while they trained, and by which signs on their curves."""
    notes = []
    for one in groups:
        signs = {each.record["seed"]: signs_of_collapse(each.curves) for each in one.finished}
        told = [f"seed {seed}: {'; '.join(found)}" for seed, found in signs.items() if found]
        if told:
            notes.append(
                f"{one.name} collapsed in {len(told)} of {len(signs)} runs. {'. '.join(told)}."
            )
    return notes


def _about_examples(track: Mapping[str, Any]) -> list[str]:
    """That not all examples were ranked."""
    if not (most := track.get("test_examples")):
        return []
    return [
        f"Runs were judged on at most {most:,} examples of each split, the same draw for all: a "
        "quick look, not comparable with boards of whole splits."
    ]


def _about_own(groups: Sequence[Group]) -> list[str]:
    """Which metrics of one's own were computed by different files."""
    files: dict[str, set[str]] = {}
    for one in (run.record for each in groups for run in each.finished):
        for name in own_figures(one):
            files.setdefault(name, set()).add(one["own_metrics"]["sha256"][:8])
    return [
        f"{name} was computed by different files ({', '.join(sorted(found))}), so that rows may "
        "not be compared by it."
        for name, found in sorted(files.items())
        if len(found) > 1
    ]


def _about_tuning(groups: Sequence[Group], defaults: Defaults) -> list[str]:
    """Which hyperparameters tuning chose; the names of rows do not say."""
    notes = []
    for one in groups:
        usual: Mapping[str, Any] | None = defaults.get(one.algorithm)
        if was_tuned(one.first) and not control_of(one.first) and usual is not None:
            settings = one.first.record["configuration"]["settings"]
            found = differences(one.first, settings | plain(usual))
            # What today's algorithm has and the record does not was added since.
            chosen = [text for text in found if not text.startswith("without ")]
            notes.append(f"{one.name} was tuned: {', '.join(chosen) or 'the defaults were best'}.")
    return notes


def _about_shared(groups: Sequence[Group], usual: Defaults) -> list[str]:
    """Which values that are no defaults all rows have; the names of rows do not say."""
    shared = said_by_all([one.first for one in groups])
    told = [
        f"{key}={json.dumps(value)}"
        for key, value in sorted(shared.items())
        if any(plain(usual[a]).get(key, value) != value for a in usual if _shown(a, groups))
    ]
    return [f"All rows have {', '.join(told)}, which the names do not repeat."] if told else []


def _shown(algorithm: str, groups: Sequence[Group]) -> bool:
    """Whether a row of an algorithm is named by what it differs in from the defaults."""
    return any(
        one.algorithm == algorithm and not was_tuned(one.first) and not control_of(one.first)
        for one in groups
    )
