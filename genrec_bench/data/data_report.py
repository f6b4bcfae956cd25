"""Reports on prepared datasets, as plain values and as tables."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from genrec_bench.data.cards import card_names, load_card
from genrec_bench.data.dataset import Contents, Dataset
from genrec_bench.data.dataset_store import (
    card_recipe,
    changed_files,
    is_prepared,
    load_contents,
    read_manifest,
    split_name,
)
from genrec_bench.data.obtain import dataset_by_card
from genrec_bench.data.preparation.leaks import find_leaks
from genrec_bench.data.sids.sid_store import labels, load_sids
from genrec_bench.errors import UserError

WIDTH = 100
"""Characters a line of running text."""

Row = dict[str, Any]
"""One line of a table, by column heading."""


def list_datasets(data_dir: Path) -> list[Row]:
    """Return one row a card: whether it is prepared and how, its counts, its SIDs, its marks.

    `sids` are those that the files bring, and the labels of others. What cannot be read has its
    error instead, so that the others are listed.
    """
    rows: list[Row] = []
    for name in card_names():
        row: Row = {"dataset": name, "title": "", "prepared": is_prepared(name, data_dir)}
        try:
            row["title"] = load_card(name).title
            if row["prepared"]:
                manifest = read_manifest(name, data_dir)
                row |= {key: manifest[key] for key in ("items", "partial", "made")}
                own = ["the files'"] if manifest["sid_fingerprint"] else []
                row |= manifest["rows"] | {"sids": own + labels(name, data_dir)}
        except UserError as error:
            row["error"] = str(error)
        rows.append(row)
    return rows


def describe_dataset(
    contents: Contents, dataset: Dataset | None, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Return everything that `data show` prints.

    ``dataset`` has the SIDs that were asked for, and is None where none were made yet.

    Returns:
        `dataset`, `title`, `version`, `made`, `partial`, `fingerprint`, `sid_fingerprint`,
        `source`, `expected_from`, `differs_from_card` (source files by path), `report` of the
        preparation, `ceiling`; and the tables `counts`, `sids`, `shared`, `histories`, `leaks`,
        each a list of rows, those of SIDs empty where there are none; and `about_leaks`, a note.
    """
    card = contents.card
    leaks = find_leaks(contents.splits, contents.times, card.protocol)
    return {
        "dataset": dataset.name if dataset else card.name,
        "title": card.title,
        "version": card.version,
        "made": manifest["made"],
        "partial": manifest["partial"],
        "fingerprint": contents.fingerprint,
        "sid_fingerprint": dataset.sid_fingerprint if dataset else "",
        "source": card.source,
        "expected_from": card.expected.source,
        "differs_from_card": list(manifest["differs_from_card"]),
        "report": dict(contents.report),
        "ceiling": dict(contents.ceiling),
        "counts": count_rows(contents, dataset),
        "sids": sid_level_rows(dataset) if dataset else [],
        "shared": shared_sid_rows(dataset) if dataset else [],
        "histories": history_rows(contents),
        "leaks": leaks.as_rows(),
        "about_leaks": leaks.note,
    }


def count_rows(contents: Contents, dataset: Dataset | None) -> list[Row]:
    """Return what was found beside what the card expects."""
    expected = contents.card.expected
    splits = contents.splits
    users = np.concatenate([examples.users for examples in splits.values()])
    pairs = [
        ("users", len(np.unique(users)), expected.users),
        ("items", len(contents.item_names), expected.items),
        ("train rows", len(splits["train"]), expected.train_rows),
        ("valid rows", len(splits["valid"]), expected.valid_rows),
        ("test rows", len(splits["test"]), expected.test_rows),
    ]
    # Imported files hold examples; how many interactions they are made of is not known.
    interactions = contents.report.get("counts", {}).get("interactions")
    if interactions is not None:
        pairs.insert(2, ("interactions", interactions, expected.interactions))
    if dataset is not None:
        # Those of the card are the files': SIDs that were made are others.
        wanted = expected.distinct_sids if contents.sids is not None else None
        pairs.insert(2, ("distinct SIDs", len(dataset.catalog.unique_sids), wanted))
    rows = []
    for what, found, wanted in pairs:
        mark = "not on the card" if wanted is None else "" if found == wanted else "differs"
        if what == "train rows" and contents.partial:
            mark = "partial"
        rows.append({"count": what, "found": found, "expected": wanted, "": mark})
    return rows


def sid_level_rows(dataset: Dataset) -> list[Row]:
    """Return the distinct prefixes of each level and the items that share one."""
    catalog = dataset.catalog
    rows = []
    for level in range(1, catalog.num_levels + 1):
        _, counts = np.unique(catalog.sids[:, :level], axis=0, return_counts=True)
        rows.append(
            {
                "level": level,
                "codes": catalog.codes_per_level[level - 1],
                "codes used": len(np.unique(catalog.sids[:, level - 1])),
                "distinct prefixes": len(counts),
                "items per prefix (mean)": catalog.num_items / len(counts),
                "items per prefix (max)": int(counts.max()),
            }
        )
    return rows


def shared_sid_rows(dataset: Dataset) -> list[Row]:
    """Return how many items, and which share of each split's targets, share their full SID."""
    catalog = dataset.catalog
    counts = np.bincount(catalog.sid_of_item, minlength=len(catalog.unique_sids))
    shares = counts[catalog.sid_of_item] > 1
    among = {"items": shares}
    among |= {f"{name} targets": shares[part.targets] for name, part in dataset.splits.items()}
    return [
        {
            "among": name,
            "that share their SID": int(hit.sum()),
            "share": float(hit.mean()) if len(hit) else 0.0,
        }
        for name, hit in among.items()
    ]


def history_rows(contents: Contents | Dataset) -> list[Row]:
    """Return the lengths of the histories of each split."""
    return [
        {
            "split": split,
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "mean": float(lengths.mean()),
            "max": int(lengths.max()),
        }
        for split, examples in contents.splits.items()
        if len(lengths := examples.history_lengths)
    ]


def verify_data(name: str, data_dir: Path) -> list[str]:
    """Return what is wrong with a prepared dataset, one line each; empty where all is well.

    ``NAME`` checks all SIDs that were made for the dataset, ``NAME@LABEL`` those of one label.

    Raises:
        UserError: not prepared, or so damaged that it cannot be loaded; altered files that make a
            difference to the contents are found by checksum first.
    """
    base, label = split_name(name)
    if not is_prepared(base, data_dir):
        load_contents(base, data_dir)  # draws `synthetic`, explains how to prepare any other
    problems = [f"{path} was altered or is missing" for path in changed_files(base, data_dir)]
    if problems:
        return problems
    contents, made = load_contents(base, data_dir), labels(base, data_dir)
    for one in [label] if label else made:
        try:
            load_sids(contents, one, data_dir)
        except UserError as error:
            problems.append(str(error))
    if not problems and contents.sids is None:
        by_card = card_recipe(contents.card)[2]
        if by_card in made and dataset_by_card(contents, data_dir) is None:
            problems.append(
                f"SIDs {by_card} are not of the card's recipe and vectors; a run builds them"
            )
    return problems


def format_list(rows: Sequence[Row]) -> str:
    """Return `data list` as a table."""
    shown = [
        {
            "dataset": row["dataset"],
            "prepared": "see below" if "error" in row else row.get("made", "no"),
            **{key: row.get(key, "") for key in ("items", "train", "valid", "test")},
            "": "partial" if row.get("partial") else "",
            "SIDs": ", ".join(row.get("sids", ())),
            "what": row["title"],
        }
        for row in rows
    ]
    broken = [row["error"] for row in rows if "error" in row]
    return "\n".join([_table(shown), *([""] if broken else []), *broken])


def format_description(report: Mapping[str, Any]) -> str:
    """Return `data show` as text."""
    mark = " [partial]" if report["partial"] else ""
    parts = [
        f"{report['dataset']}{mark}: {report['title']} (card version {report['version']})",
        textwrap.fill(f"Source: {report['source']}", WIDTH),
        *(f"{path} differs from the card's checksum" for path in report["differs_from_card"]),
        f"Fingerprint {report['fingerprint'][:16]}, "
        + (f"SIDs {report['sid_fingerprint'][:16]}" if report["sids"] else "no SIDs yet"),
        _titled("Counts", report["counts"]),
        textwrap.fill(f"Expected counts: {report['expected_from']}", WIDTH),
        _titled("SIDs by level", report["sids"]),
        _titled("Items that share a SID", report["shared"]),
        _titled("History lengths", report["histories"]),
        _titled("What splits give away", report["leaks"]),
        textwrap.fill(report["about_leaks"], WIDTH),
    ]
    if report["ceiling"]:
        rows = [
            {"split": split} | {metric: values[metric] for metric in sorted(values, key=_by_cutoff)}
            for split, values in report["ceiling"].items()
        ]
        parts.append(_titled("Ceiling, the best possible in expectation", rows))
    return "\n\n".join(filter(None, parts))


def format_imported(contents: Contents, differing: Sequence[str]) -> str:
    """Return what `data import` says when it is done."""
    card, splits = contents.card, contents.splits
    rows = ", ".join(f"{len(examples)} {split}" for split, examples in splits.items())
    lines = [f"{card.name}: {len(contents.item_names)} items; rows: {rows}"]
    lines += [f"{path} differs from the card's checksum" for path in differing]
    if contents.partial:
        lines.append(
            f"partial: {len(splits['train'])} of about {card.expected.train_rows} training rows"
        )
    return "\n".join([*lines, *contents.report["notes"]])


def _titled(title: str, rows: Sequence[Row]) -> str:
    """Return a table below its title; "" where there is no row."""
    return f"{title}\n{_table(rows)}" if rows else ""


def _table(rows: Sequence[Row]) -> str:
    return tabulate(rows, headers="keys", tablefmt="simple", floatfmt=".4g", missingval="-")


def _by_cutoff(metric: str) -> tuple[str, int]:
    """Sort "HR@5" before "HR@10"."""
    kind, cutoff = metric.split("@")
    return kind, int(cutoff)
