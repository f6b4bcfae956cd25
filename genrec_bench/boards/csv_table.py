"""A board as CSV: one line for each row and quantity, with all digits and where they come from.

Quantities:

- `test/HR@10`, ...: a metric of the test split; `value` is the mean over seeds. Those that have
  tests also have an interval, an interquartile mean and ranks; `by_seed` is in order of `seeds`.
- `gain/HR@1`, `gain/HR@2`, ...: gain over the SFT start by list length; intervals as they are.
- `spent/flops`, ...: what counts against the budget, mean over seeds.
- `phase/rollout/flops`, ...: the same by phase of the ledger; `sft` and `evaluation` do not count.
- `lost/flops`, ...: what the failed runs of a row that has finished ones spent, all together.
- `tuning/flops`, `tuning/trials`, ...: what finding the hyperparameters took.
- `reach/25%`, ...: budget to reach a target, in the unit of the budget: the median over seeds;
  `missed` where there is none.
- `told/backbone`, ...: what the maker of an outside system declares of it; nobody checks it.
- `pair/NDCG@10`, ...: `row` less `other`, with the tests. Lines of the kind `gain` (less the SFT
  start) and `declared` (less SFT continued, less the baseline) are corrected among their own kind;
  those of the kind `pair` are all pairs.

A track of outside systems has our rows too, on the same users, so that pairs may be of both.

`records` are those of `seeds` and, after them, of `failed_seeds`. Lines of the kind `reported` are
a paper's figures and nothing of ours. Empty: does not apply. Text that a
spreadsheet would take for a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

from genrec_bench.boards.board import Board, BoardRow, Section
from genrec_bench.boards.text_cells import MISSED, spreadsheet_text

COLUMNS = (
    "dataset benchmark track partial kind row algorithm other seeds failed_seeds quantity value "
    "deviation low high iqm iqm_low iqm_high best_rank worst_rank by_seed p_user p_seed p p_holm "
    "distinct effect probability smallest_difference records"
).split()
"""Of the file, in this order; none goes or changes its meaning without a line in the changelog."""


def to_csv(board: Board) -> str:
    """The board as CSV with a header line; the same for the same records."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for line in _lines(board):
        writer.writerow({key: spreadsheet_text(_written(value)) for key, value in line.items()})
    return buffer.getvalue()


def _lines(board: Board) -> Iterator[dict[str, Any]]:
    for section in board.sections:
        common = {
            "dataset": board.dataset,
            "benchmark": section.benchmark,
            "track": section.track_id,
            "partial": section.partial,
        }
        for row in section.rows:
            own = {
                "kind": row.kind,
                "row": row.name,
                "algorithm": row.algorithm,
                "seeds": () if row.kind == "failed" else row.seeds,
                "failed_seeds": tuple(sorted(row.failures)),
                "records": tuple(each.path or each.run_id for each in row.links),
            }
            yield from (common | own | line for line in _of_row(row))
        yield from (common | line for line in _of_pairs(section))
    for line in board.reported:
        own = {"dataset": board.dataset, "kind": "reported", "row": line.algorithm}
        own["records"] = f"{line.paper}, {line.table}"
        for metric, value in line.metrics.items():
            yield own | {"quantity": f"test/{metric}", "value": value}


def _of_row(row: BoardRow) -> Iterator[dict[str, Any]]:
    for metric, mean in row.means.items():
        line: dict[str, Any] = {"quantity": f"test/{metric}", "value": mean}
        line["deviation"] = row.deviations.get(metric)
        finished = [each for each in row.links if not each.failed]
        if row.seeds and all(metric in each.value for each in finished):
            line["by_seed"] = tuple(each.value[metric] for each in finished)
        if estimate := row.estimates.get(metric):
            line |= {"low": estimate.interval.low, "high": estimate.interval.high}
            line |= {"iqm": estimate.iqm, "iqm_low": estimate.iqm_interval.low}
            line["iqm_high"] = estimate.iqm_interval.high
        if rank := row.ranks.get(metric):
            line |= {"best_rank": rank[0], "worst_rank": rank[1]}
        yield line
    for k, mean, low, high in row.gains_at:
        # The records stand at the row's other lines; at these they would be most of the file.
        gain = {"quantity": f"gain/HR@{k}", "value": mean, "low": low, "high": high}
        yield gain | {"records": ()}
    yield from ({"quantity": f"told/{key}", "value": text} for key, text in row.outside.items())
    costs: dict[str, Mapping[str, Any]] = {"spent": row.spent, "lost": row.lost}
    costs |= {f"phase/{phase}": spent for phase, spent in row.phases.items()}
    costs["tuning"] = row.tuning or {}
    for what, amounts in costs.items():
        yield from ({"quantity": f"{what}/{key}", "value": x} for key, x in amounts.items())
    for label, each in row.targets.items():
        yield {
            "quantity": f"reach/{label}",
            "value": MISSED if each.median is None else each.median,
            "by_seed": tuple(MISSED if one is None else one for one in each.by_seed),
        }
    if not row.means and not row.spent:
        yield {"quantity": "none"}


def _of_pairs(section: Section) -> Iterator[dict[str, Any]]:
    families = (("gain", section.gains), ("declared", section.declared), ("pair", section.pairs))
    found = [
        (kind, metric, pair)
        for kind, by_metric in families
        for metric, pairs in by_metric.items()
        for pair in pairs
    ]
    for kind, metric, pair in found:
        yield {
            "kind": kind,
            "row": pair.first,
            "other": pair.second,
            "quantity": f"pair/{metric}",
            "value": pair.difference,
            "low": pair.interval.low,
            "high": pair.interval.high,
            "p_user": pair.p_user,
            "p_seed": pair.p_seed,
            "p": pair.p_bootstrap,
            "p_holm": pair.p_adjusted,
            "distinct": pair.distinct,
            "effect": pair.effect,
            "probability": pair.probability,
            "smallest_difference": pair.smallest_difference,
        }


def _written(value: Any) -> str:
    """Numbers with all digits; several values with spaces between them."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(_written(each) for each in value)
    return value if isinstance(value, str) else repr(value)
