"""An ablation's figures as text, Markdown, CSV and JSON, beside those that its paper published."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from genrec_bench.studies.ablations.ablate import Figures, Outcome
from genrec_bench.studies.ablations.ablation_file import Ablation, Table

NONE, FAILED = "–", "failed"

DIFFER = "The settings differ: compare the order of the rows, not the figures."


@dataclass(frozen=True)
class Measured:
    """What our figures were measured with.

    Attributes:
        dataset: its name.
        partial: whether its training set is smaller than its card expects.
        backbone: its name.
        budget: of a run, None for a number of steps.
        seeds: of each row.
        assignments: words of ``--set`` for all rows.
    """

    dataset: str
    partial: bool
    backbone: str
    budget: str | None
    seeds: tuple[int, ...]
    assignments: tuple[str, ...]

    @property
    def title(self) -> str:
        """The dataset's name, and whether it is partial."""
        return f"{self.dataset} (partial)" if self.partial else self.dataset


def render(ablation: Ablation, outcome: Outcome, measured: Measured) -> str:
    """The tables as text for a terminal."""
    title = _title(ablation, measured)
    parts = [f"{title}\n{'=' * len(title)}", *_head(ablation, measured)]
    for table, rows in outcome:
        parts += [f"Table {table.name}\n{_published_line(table, measured)}"]
        parts += [_layout(table, rows, measured, "simple"), *_notes(table, rows)]
    return "\n\n".join(parts) + "\n"


def to_markdown(ablation: Ablation, outcome: Outcome, measured: Measured) -> str:
    """The tables as a Markdown page."""
    parts = [f"# {_title(ablation, measured)}", *_head(ablation, measured)]
    for table, rows in outcome:
        parts += [f"## Table {table.name}", _published_line(table, measured)]
        parts += [_layout(table, rows, measured, "pipe"), *_notes(table, rows)]
    return "\n\n".join(parts) + "\n"


def to_csv(outcome: Outcome) -> str:
    """One line for each table, row and metric; numbers unrounded, empty where there is none."""
    datasets = dict.fromkeys(
        name for _, rows in outcome for figures in rows for name in figures.row.published
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ["table", "row", "metric", "mean", "deviation", "runs", "failures"]
    writer.writerow([*header, *(f"published {name}" for name in datasets)])
    for table, rows in outcome:
        for figures in rows:
            for place, metric in enumerate(table.metrics):
                published = (figures.row.published.get(name) for name in datasets)
                writer.writerow(
                    [
                        table.name,
                        figures.row.label,
                        metric.name,
                        figures.means.get(metric.name),
                        figures.deviations.get(metric.name),
                        len(figures.runs),
                        "; ".join(_failures(figures)),
                        *(None if values is None else values[place] for values in published),
                    ]
                )
    return buffer.getvalue()


def to_plain(ablation: Ablation, outcome: Outcome, measured: Measured) -> dict[str, Any]:
    """The tables in JSON types."""
    return {
        "title": ablation.title,
        "paper": ablation.paper,
        "published_setting": ablation.setting,
        "note": DIFFER,
        "dataset": measured.dataset,
        "partial": measured.partial,
        "backbone": measured.backbone,
        "budget": measured.budget,
        "seeds": list(measured.seeds),
        "set": list(measured.assignments),
        "tables": [
            {
                "name": table.name,
                "note": table.note,
                "metrics": {metric.name: list(metric.mean) for metric in table.metrics},
                "rows": [_plain_row(table, figures) for figures in rows],
            }
            for table, rows in outcome
        ],
    }


def _plain_row(table: Table, figures: Figures) -> dict[str, Any]:
    names = [metric.name for metric in table.metrics]
    row = figures.row
    return {
        "label": row.label,
        "sft": row.sft,
        "set": list(row.set),
        "evaluate": list(row.evaluate),
        "means": dict(figures.means),
        "deviations": dict(figures.deviations),
        "runs": {str(seed): name for seed, name in figures.runs.items()},
        "failures": {str(seed): failure.reason for seed, failure in figures.failures.items()},
        "published": {
            dataset: dict(zip(names, values, strict=True))
            for dataset, values in row.published.items()
        },
    }


def _title(ablation: Ablation, measured: Measured) -> str:
    return f"{ablation.title} ({ablation.paper}), on {measured.title}"


def _head(ablation: Ablation, measured: Measured) -> list[str]:
    """Say what ours and the published figures were measured with, and that they are no match."""
    seeds = ", ".join(map(str, measured.seeds))
    facts = [
        f"backbone {measured.backbone}",
        f"budget {measured.budget}" if measured.budget else "no budget but a number of steps",
        f"seed {seeds}" if len(measured.seeds) == 1 else f"seeds {seeds}",
        *measured.assignments,
    ]
    deviation = ", mean ± standard deviation over seeds" if len(measured.seeds) > 1 else ""
    return [
        f"Ours: {', '.join(facts)}. Test split{deviation}; hits are counted by item, where a "
        "metric's name does not begin with sid/.",
        f"Published: {ablation.setting}. {DIFFER}",
    ]


def _published_line(table: Table, measured: Measured) -> str:
    """Say on which dataset the published figures are."""
    dataset = _published_dataset(table, measured.dataset)
    if dataset is None:
        return "There are no published figures."
    if dataset == measured.dataset:
        return f"The published figures are on {dataset}."
    return f"The published figures are on {dataset}; there are none on {measured.dataset}."


def _published_dataset(table: Table, dataset: str) -> str | None:
    """Return which dataset's published figures stand beside ours: the same, or else the first."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.published))
    return dataset if dataset in names else next(iter(names), None)


def _layout(table: Table, rows: Sequence[Figures], measured: Measured, style: str) -> str:
    dataset = _published_dataset(table, measured.dataset)
    names = [metric.name for metric in table.metrics]
    headers = [measured.title, *names, "seeds"]
    if dataset is not None:
        headers += [f"published {name}" for name in names]
    lines = []
    for figures in rows:
        label = figures.row.label
        line = [label.replace("|", "\\|") if style == "pipe" else label]
        line += [_cell(figures, name) for name in names] + [_seeds(figures)]
        if dataset is not None:
            values = figures.row.published.get(dataset, [None] * len(names))
            line += [NONE if value is None else f"{value:.4f}" for value in values]
        lines.append(line)
    return tabulate(
        lines,
        headers,
        tablefmt=style,
        disable_numparse=True,
        colalign=("left", *["right"] * (len(headers) - 1)),
    )


def _cell(figures: Figures, name: str) -> str:
    if name not in figures.means:
        return FAILED if figures.failures else NONE
    mean = f"{figures.means[name]:.4f}"
    return f"{mean} ± {figures.deviations[name]:.4f}" if name in figures.deviations else mean


def _seeds(figures: Figures) -> str:
    if figures.row.sft:
        return NONE
    ended = len(figures.runs)
    return f"{ended} of {ended + len(figures.failures)}" if figures.failures else str(ended)


def _failures(figures: Figures) -> list[str]:
    return [f"seed {seed}: {failure.reason}" for seed, failure in figures.failures.items()]


def _notes(table: Table, rows: Sequence[Figures]) -> list[str]:
    """Return the table's note, and every failure with its row."""
    failed = [
        f"Failed: {figures.row.label}, {failure}"
        for figures in rows
        for failure in _failures(figures)
    ]
    return [note for note in (table.note, *failed) if note]
