"""What a prepared dataset holds, as plain values and as tables."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from genrec_bench.cards import Card, card_names, load_card
from genrec_bench.dataset import Dataset, Examples
from genrec_bench.store import changed_files, is_prepared, load_dataset, read_manifest

WIDTH = 100
"""Characters a line of running text."""

Row = dict[str, Any]
"""One line of a table, by column heading."""


def list_datasets(data_dir: Path) -> list[Row]:
    """Return one row a card: whether it is prepared, its rows by split, and the partial mark."""
    rows = []
    for name in card_names():
        card = load_card(name)
        row: Row = {"dataset": name, "title": card.title, "prepared": is_prepared(name, data_dir)}
        if row["prepared"]:
            manifest = read_manifest(name, data_dir)
            row |= {"items": manifest["items"], **manifest["rows"], "partial": manifest["partial"]}
        rows.append(row)
    return rows


def describe(dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that `data show` prints.

    Returns:
        `dataset`, `title`, `version`, `partial`, `fingerprint`, `sid_fingerprint`, `source`,
        `expected_from`, `differs_from_card` (source files by path), `ceiling`; and the tables
        `counts`, `sids`, `shared`, `histories`, `duplicates`, `overlaps`, each a list of rows.
    """
    card = dataset.card
    return {
        "dataset": dataset.name,
        "title": card.title,
        "version": card.version,
        "partial": dataset.partial,
        "fingerprint": dataset.fingerprint,
        "sid_fingerprint": dataset.sid_fingerprint,
        "source": card.source,
        "expected_from": card.expected.source,
        "differs_from_card": list(manifest["differs_from_card"]),
        "ceiling": dict(dataset.ceiling),
        "counts": count_rows(dataset),
        "sids": sid_level_rows(dataset),
        "shared": shared_sid_rows(dataset),
        "histories": history_rows(dataset),
        "duplicates": duplicate_rows(dataset),
        "overlaps": overlap_rows(dataset),
    }


def count_rows(dataset: Dataset) -> list[Row]:
    """Return what was found beside what the card expects."""
    expected = dataset.card.expected
    users = np.concatenate([examples.users for examples in dataset.splits.values()])
    pairs = [
        ("users", len(np.unique(users)), expected.users),
        ("items", dataset.catalog.num_items, expected.items),
        ("distinct SIDs", len(dataset.catalog.unique_sids), expected.distinct_sids),
        ("train rows", len(dataset.train), expected.train_rows),
        ("valid rows", len(dataset.valid), expected.valid_rows),
        ("test rows", len(dataset.test), expected.test_rows),
    ]
    rows = []
    for what, found, wanted in pairs:
        mark = "not on the card" if wanted is None else "" if found == wanted else "differs"
        if what == "train rows" and dataset.partial:
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
    rows: list[Row] = [
        {
            "among": "items",
            "that share their SID": int(shares.sum()),
            "share": float(shares.mean()),
        }
    ]
    for split, examples in dataset.splits.items():
        hit = shares[examples.targets]
        rows.append(
            {
                "among": f"{split} targets",
                "that share their SID": int(hit.sum()),
                "share": float(hit.mean()) if len(hit) else 0.0,
            }
        )
    return rows


def history_rows(dataset: Dataset) -> list[Row]:
    """Return the lengths of the histories of each split."""
    rows = []
    for split, examples in dataset.splits.items():
        lengths = examples.history_lengths
        if len(lengths):
            rows.append(
                {
                    "split": split,
                    "min": int(lengths.min()),
                    "median": float(np.median(lengths)),
                    "mean": float(lengths.mean()),
                    "max": int(lengths.max()),
                }
            )
    return rows


def duplicate_rows(dataset: Dataset) -> list[Row]:
    """Return the rows of each split whose history or whole content stands in that split again.

    A history with several targets is why rewards must go by row: looked up by history, all but one
    of its targets would be lost.
    """
    rows = []
    for split, examples in dataset.splits.items():
        keys = _history_keys(examples)
        targets = defaultdict(set)
        for key, target in zip(keys, examples.targets.tolist(), strict=True):
            targets[key].add(target)
        several = sum(len(targets[key]) > 1 for key in keys)
        counts = Counter(zip(keys, examples.targets.tolist(), strict=True))
        rows.append(
            {
                "split": split,
                "rows whose history has other targets too": several,
                "share": several / max(len(keys), 1),
                "rows that repeat another": len(keys) - len(counts),
            }
        )
    return rows


def overlap_rows(dataset: Dataset) -> list[Row]:
    """Return, for each pair of splits, the later one's rows that stand in the earlier one too."""
    splits = dataset.splits
    rows = []
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        known, keys = _history_keys(splits[earlier]), _history_keys(splits[later])
        known_targets = splits[earlier].targets.tolist()
        histories, pairs = set(known), set(zip(known, known_targets, strict=True))
        targets = splits[later].targets.tolist()
        rows.append(
            {
                "rows of": later,
                "also in": earlier,
                "same history": sum(key in histories for key in keys),
                "same history and target": sum(
                    pair in pairs for pair in zip(keys, targets, strict=True)
                ),
            }
        )
    return rows


def verify(name: str, data_dir: Path) -> list[str]:
    """Return what is wrong with a prepared dataset, one line each; empty where all is well.

    Raises:
        UserError: not prepared, or so damaged that it cannot be loaded; altered files that make a
            difference to the contents are found by checksum first.
    """
    card = load_card(name)
    if not is_prepared(name, data_dir):
        load_dataset(name, data_dir)  # draws `synthetic`, explains how to import any other
    problems = [f"{path} was altered or is missing" for path in changed_files(name, data_dir)]
    if not problems:
        load_dataset(card.name, data_dir)
    return problems


def format_list(rows: Sequence[Row]) -> str:
    """Return `data list` as a table."""
    shown = [
        {
            "dataset": row["dataset"],
            "prepared": "yes" if row["prepared"] else "no",
            **{key: row.get(key, "") for key in ("items", "train", "valid", "test")},
            "": "partial" if row.get("partial") else "",
            "what": row["title"],
        }
        for row in rows
    ]
    return _table(shown)


def format_description(report: Mapping[str, Any]) -> str:
    """Return `data show` as text."""
    mark = " [partial]" if report["partial"] else ""
    parts = [
        f"{report['dataset']}{mark}: {report['title']} (card version {report['version']})",
        textwrap.fill(f"Source: {report['source']}", WIDTH),
        *(f"{path} differs from the card's checksum" for path in report["differs_from_card"]),
        f"Fingerprint {report['fingerprint'][:16]}, SIDs {report['sid_fingerprint'][:16]}",
        _titled("Counts", report["counts"]),
        textwrap.fill(f"Expected counts: {report['expected_from']}", WIDTH),
        _titled("SIDs by level", report["sids"]),
        _titled("Items that share a SID", report["shared"]),
        _titled("History lengths", report["histories"]),
        _titled("Duplicates within a split", report["duplicates"]),
        _titled("Duplicates across splits", report["overlaps"]),
    ]
    if report["ceiling"]:
        rows = [
            {"split": split} | {metric: values[metric] for metric in sorted(values, key=_by_cutoff)}
            for split, values in report["ceiling"].items()
        ]
        parts.append(_titled("Ceiling, the best possible in expectation", rows))
    return "\n\n".join(parts)


def format_imported(dataset: Dataset, card: Card, differing: Sequence[str]) -> str:
    """Return what `data import` says when it is done."""
    rows = ", ".join(f"{len(examples)} {split}" for split, examples in dataset.splits.items())
    lines = [f"{dataset.name}: {dataset.catalog.num_items} items; rows: {rows}"]
    lines += [f"{path} differs from the card's checksum" for path in differing]
    if dataset.partial:
        lines.append(
            f"partial: {len(dataset.train)} of about {card.expected.train_rows} training rows"
        )
    return "\n".join(lines)


def _titled(title: str, rows: Sequence[Row]) -> str:
    return f"{title}\n{_table(rows)}"


def _table(rows: Sequence[Row]) -> str:
    return tabulate(rows, headers="keys", tablefmt="simple", floatfmt=".4g", missingval="-")


def _by_cutoff(metric: str) -> tuple[str, int]:
    """Sort "HR@5" before "HR@10"."""
    kind, cutoff = metric.split("@")
    return kind, int(cutoff)


def _history_keys(examples: Examples) -> list[bytes]:
    """Return each history as bytes, equal for equal histories."""
    return [examples.history(i).tobytes() for i in range(len(examples))]
