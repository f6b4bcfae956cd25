"""An ablation's figures as text, Markdown, CSV and JSON, beside those that its paper published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genrec_bench.studies.ablations.ablate import AblationResult, RowFigures
from genrec_bench.studies.ablations.ablation_file import Ablation, AblationTable
from genrec_bench.studies.text_tables import Style, csv_text, table_text
from genrec_bench.training.budgets import shown_budget

NONE, FAILED = "–", "failed"

DIFFER = "The settings differ: compare the order of the rows, not the figures."


@dataclass(frozen=True)
class Measured:
    """What our figures were measured with.

    Attributes:
        partial: whether the training set is smaller than the dataset's card expects.
        budget: of a run, None for a number of steps.
        assignments: words of ``--set`` for all rows.
        preset: name of the preset for what rows and words leave open; empty without one.
    """

    dataset: str
    partial: bool
    backbone: str
    budget: str | None
    seeds: tuple[int, ...]
    assignments: tuple[str, ...]
    preset: str = ""

    @property
    def title(self) -> str:
        """The dataset's name, and whether it is partial."""
        return f"{self.dataset} (partial)" if self.partial else self.dataset


def ablation_text(
    ablation: Ablation, result: AblationResult, measured: Measured, style: Style
) -> str:
    """Return the tables as text for a terminal, or as a Markdown page."""
    title = f"{ablation.title} ({ablation.paper}), on {measured.title}"
    markdown = style == "pipe"
    parts = [f"# {title}" if markdown else f"{title}\n{'=' * len(title)}"]
    parts += _head(ablation, measured)
    for table, rows in result:
        name, published = f"Table {table.name}", _published_line(table, measured)
        parts += [f"## {name}", published] if markdown else [f"{name}\n{published}"]
        parts += [_table(table, rows, measured, style), *_notes(table, rows)]
    return "\n\n".join(parts) + "\n"


def ablation_csv(result: AblationResult) -> str:
    """One line for each table, row and metric; numbers unrounded, empty where there is none."""
    datasets = dict.fromkeys(
        name for _, rows in result for figures in rows for name in figures.row.published
    )
    header = ["table", "row", "metric", "mean", "deviation", "runs", "failures"]
    lines = [
        [
            table.name,
            figures.row.label,
            metric.name,
            figures.means.get(metric.name),
            figures.deviations.get(metric.name),
            len(figures.runs),
            "; ".join(_failures(figures)),
            *(figures.row.published.get(name, {place: None})[place] for name in datasets),
        ]
        for table, rows in result
        for figures in rows
        for place, metric in enumerate(table.metrics)
    ]
    return csv_text([*header, *(f"published {name}" for name in datasets)], lines)


def ablation_values(
    ablation: Ablation, result: AblationResult, measured: Measured
) -> dict[str, Any]:
    """The tables in JSON types."""
    return {
        "title": ablation.title,
        "paper": ablation.paper,
        "published_setting": ablation.setting,
        "note": DIFFER,
        **{name: value for name, value in vars(measured).items() if name != "assignments"},
        "set": measured.assignments,
        "tables": [
            {
                "name": table.name,
                "note": table.note,
                "metrics": {metric.name: list(metric.mean) for metric in table.metrics},
                "rows": [_plain_row(table, figures) for figures in rows],
            }
            for table, rows in result
        ],
    }


def _plain_row(table: AblationTable, figures: RowFigures) -> dict[str, Any]:
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


def _head(ablation: Ablation, measured: Measured) -> list[str]:
    """Say what ours and the published figures were measured with, and that they are no match."""
    seeds = ", ".join(map(str, measured.seeds))
    facts = [
        f"backbone {measured.backbone}",
        *([f"preset {measured.preset}"] if measured.preset else []),
        f"budget {shown_budget(measured.budget)}"
        if measured.budget
        else "no budget but a number of steps",
        f"seed {seeds}" if len(measured.seeds) == 1 else f"seeds {seeds}",
        *measured.assignments,
    ]
    deviation = ", mean ± standard deviation over seeds" if len(measured.seeds) > 1 else ""
    return [
        f"Ours: {', '.join(facts)}. Test split{deviation}; hits are counted by item, where a "
        "metric's name does not begin with sid/.",
        f"Published: {ablation.setting}. {DIFFER}",
    ]


def _published_line(table: AblationTable, measured: Measured) -> str:
    """Say on which dataset the published figures are."""
    dataset = _published_dataset(table, measured.dataset)
    if dataset is None:
        return "There are no published figures."
    if dataset == measured.dataset:
        return f"The published figures are on {dataset}."
    return f"The published figures are on {dataset}; there are none on {measured.dataset}."


def _published_dataset(table: AblationTable, dataset: str) -> str | None:
    """Return which dataset's published figures stand beside ours: the same, or else the first."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.published))
    return dataset if dataset in names else next(iter(names), None)


def _table(
    table: AblationTable, rows: Sequence[RowFigures], measured: Measured, style: Style
) -> str:
    dataset = _published_dataset(table, measured.dataset)
    names = [metric.name for metric in table.metrics]
    headers = [measured.title, *names, "seeds"]
    if dataset is not None:
        headers += [f"published {name}" for name in names]
    lines = []
    for figures in rows:
        line = [figures.row.label, *(_cell(figures, name) for name in names), _seeds(figures)]
        if dataset is not None:
            values = figures.row.published.get(dataset, [None] * len(names))
            line += [NONE if value is None else f"{value:.4f}" for value in values]
        lines.append(line)
    return table_text(headers, lines, style)


def _cell(figures: RowFigures, name: str) -> str:
    if name not in figures.means:
        return FAILED if figures.failures else NONE
    mean = f"{figures.means[name]:.4f}"
    return f"{mean} ± {figures.deviations[name]:.4f}" if name in figures.deviations else mean


def _seeds(figures: RowFigures) -> str:
    if figures.row.sft:
        return NONE
    ended = len(figures.runs)
    return f"{ended} of {ended + len(figures.failures)}" if figures.failures else str(ended)


def _failures(figures: RowFigures) -> list[str]:
    return [f"seed {seed}: {failure.reason}" for seed, failure in figures.failures.items()]


def _notes(table: AblationTable, rows: Sequence[RowFigures]) -> list[str]:
    """Return the table's note, and every failure with its row."""
    failed = [
        f"Failed: {figures.row.label}, {failure}"
        for figures in rows
        for failure in _failures(figures)
    ]
    return [note for note in (table.note, *failed) if note]
