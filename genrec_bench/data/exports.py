"""A dataset's split written for programs of others, so that any system can learn from it.

    csv         {train,valid,test}.csv  example,user,history,target; histories are JSON lists
                items.csv               item,title,sid,train_targets
                test.qrels              TREC's judgments, which go with run files in its layout
    recbole     NAME.{train,valid,test}.inter, NAME.index.json, NAME.item.json, NAME.yaml
    cornac      {train,valid,test}.tsv  user, session, item, time: lines of the format USIT
    minionerec  {train,valid,test}/NAME.csv, info/NAME.txt, index/NAME.{index,item}.json

Rows of a split stand in the order of its examples. Items go by their names, but for MiniOneRec,
which numbers them; ``README.txt`` says so, and how ranked lists come back.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.folders import written_whole

Files = Iterator[tuple[str, str]]
"""Names of files, which may lie in folders, and what they hold."""

_APART = re.compile(r"[\s,;|]")
"""What separates items somewhere in a RecBole or TREC file, and so can be in no name there."""


def export_dataset(dataset: Dataset, layout: str, folder: Path) -> list[Path]:
    """Write a dataset's split in a layout of `WRITERS` into a new folder.

    Returns:
        The paths of the files.

    Raises:
        UserError: there is no such layout, the folder holds something, or names of users or items
            cannot be written in that layout.
        StorageError: the disk refuses.
    """
    check_target(layout, folder)
    files = dict(WRITERS[layout](dataset))
    files["README.txt"] = _readme(dataset, layout)
    with written_whole(folder) as new:
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="")
    return [folder / name for name in files]


def check_target(layout: str, folder: Path) -> None:
    """Raise UserError unless the layout is known and the folder is new or empty."""
    if layout not in WRITERS:
        known = ", ".join(WRITERS)
        hint = nearest(layout, WRITERS)
        raise UserError(f"--to {layout}: no such layout{hint}; there are {known}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already and not empty; nothing is replaced")


def _csv(dataset: Dataset) -> Files:
    names, catalog = dataset.catalog.item_names, dataset.catalog
    for split, examples in _splits(dataset):
        rows = (
            (number, user, json.dumps([names[i] for i in history], ensure_ascii=False), names[item])
            for number, (user, history, item) in enumerate(examples)
        )
        yield f"{split}.csv", _table(("example", "user", "history", "target"), rows)
    items = zip(names, catalog.titles, _spelled(dataset), catalog.popularity.tolist(), strict=True)
    yield "items.csv", _table(("item", "title", "sid", "train_targets"), items)
    if not any(map(_APART.search, names)):
        targets = dataset.test.targets.tolist()
        lines = (f"{number} 0 {names[item]} 1\n" for number, item in enumerate(targets))
        yield "test.qrels", "".join(lines)


def _recbole(dataset: Dataset) -> Files:
    """RecBole's atomic files of a split that is made already, each row with its history.

    Source: https://recbole.io/docs/user_guide/usage/running_different_models.html, "sequential",
    and https://recbole.io/docs/user_guide/config/data_settings.html (benchmark_filename).
    """
    name, names = dataset.card.name, dataset.catalog.item_names
    _check_names(dataset, "recbole")
    for split, examples in _splits(dataset):
        lines = (
            f"{user}\t{' '.join(names[i] for i in history)}\t{names[item]}\n"
            for user, history, item in examples
            # It has no example without a history.
            if history
        )
        header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
        yield f"{name}.{split}.inter", header + "".join(lines)
    yield from _beside(dataset, f"{name}.")
    length = max(int(part.history_lengths.max(initial=1)) for part in dataset.splits.values())
    yield (
        f"{name}.yaml",
        "# Of RecBole: the split is made, and the full softmax takes no negative samples.\n"
        "benchmark_filename: [train, valid, test]\n"
        "load_col: {inter: [user_id, item_id_list, item_id]}\n"
        "alias_of_item_id: [item_id_list]\n"
        f"MAX_ITEM_LIST_LENGTH: {length}\n"
        "train_neg_sample_args: ~\n"
        "loss_type: CE\n"
        "eval_args: {order: TO, mode: full}\n",
    )


def _cornac(dataset: Dataset) -> Files:
    """Cornac's sessions, one for each sequence: of training those that no longer one contains.

    A session is learned from place by place, its first items too, which the split gives as history
    alone. Source: https://cornac.readthedocs.io/en/stable/api_ref/data.html, SequentialDataset.
    """
    names = dataset.catalog.item_names
    if wrong := next((name for name in names if "\t" in name or "\n" in name), None):
        raise UserError(f"{dataset.name}: item {wrong!r} cannot be written between tabs")
    for split, examples in _splits(dataset):
        sequences = [(user, (*history, item)) for user, history, item in examples]
        kept = longest(sequences) if split == "train" else sequences
        lines = (
            f"{user}\t{session}\t{names[item]}\t{time}\n"
            for session, (user, items) in enumerate(kept)
            for time, item in enumerate(items)
        )
        yield f"{split}.tsv", "".join(lines)


def longest(
    sequences: Sequence[tuple[str, tuple[int, ...]]],
) -> list[tuple[str, tuple[int, ...]]]:
    """The sequences of users that are no beginning of a longer one of the same user, each once."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for user, items in sorted(set(sequences)):
        # A sequence stands right before those that begin with it.
        if found and found[-1][0] == user and found[-1][1] == items[: len(found[-1][1])]:
            found.pop()
        found.append((user, items))
    return found


def _minionerec(dataset: Dataset) -> Files:
    """MiniOneRec's files, with titles and SIDs beside each number.

    Source: https://github.com/AkaliKong/MiniOneRec, data/.
    """
    name, titles = dataset.card.name, [_one_line(text) for text in dataset.catalog.titles]
    sids = ["".join(tokens) for tokens in _tokens(dataset)]
    columns = "user_id history_item_title item_title history_item_id item_id".split()
    columns += ["history_item_sid", "item_sid"]
    for split, examples in _splits(dataset):
        rows = (
            (
                user,
                str([titles[i] for i in history]),
                titles[item],
                str(list(history)),
                item,
                str([sids[i] for i in history]),
                sids[item],
            )
            for user, history, item in examples
            if history
        )
        yield f"{split}/{name}.csv", _table(columns, rows)
    lines = (
        f"{sid}\t{title}\t{n}\n" for n, (sid, title) in enumerate(zip(sids, titles, strict=True))
    )
    yield f"info/{name}.txt", "".join(lines)
    yield from _beside(dataset, f"index/{name}.", numbered=True)
    items = enumerate(dataset.catalog.item_names)
    yield "items.csv", _table(("number", "item"), items)


WRITERS: Mapping[str, Callable[[Dataset], Files]] = {
    "csv": _csv,
    "recbole": _recbole,
    "cornac": _cornac,
    "minionerec": _minionerec,
}
"""By the name of a layout: what yields its files."""


def _splits(
    dataset: Dataset,
) -> Iterator[tuple[str, list[tuple[str, tuple[int, ...], int]]]]:
    """Each split with the user's name, history and target of its examples."""
    users = dataset.contents.user_names
    for split, examples in dataset.splits.items():
        pairs = zip(examples.users.tolist(), examples.targets.tolist(), strict=True)
        yield (
            split,
            [
                (users[user] if users else str(user), tuple(examples.history(i).tolist()), item)
                for i, (user, item) in enumerate(pairs)
            ],
        )


def _beside(dataset: Dataset, begin: str, numbered: bool = False) -> Files:
    """SIDs and texts of the items, as MiniOneRec and LC-Rec have them."""
    contents, count = dataset.contents, dataset.catalog.num_items
    names = [str(n) for n in range(count)] if numbered else list(dataset.catalog.item_names)
    index = dict(zip(names, _tokens(dataset), strict=True))
    yield f"{begin}index.json", json.dumps(index, ensure_ascii=False)
    texts = zip(contents.titles, contents.descriptions, contents.categories, strict=True)
    described = {
        name: {"title": title, "description": description, "categories": list(categories)}
        for name, (title, description, categories) in zip(names, texts, strict=True)
    }
    yield f"{begin}item.json", json.dumps(described, ensure_ascii=False)


def _tokens(dataset: Dataset) -> list[list[str]]:
    return [
        [f"<{chr(ord('a') + level)}_{code}>" for level, code in enumerate(sid)]
        for sid in dataset.catalog.sids.tolist()
    ]


def _spelled(dataset: Dataset) -> list[str]:
    return ["-".join(map(str, sid)) for sid in dataset.catalog.sids.tolist()]


def _check_names(dataset: Dataset, layout: str) -> None:
    """Refuse names that would be read as several."""
    kinds = {"item": dataset.catalog.item_names, "user": dataset.contents.user_names}
    for kind, names in kinds.items():
        if wrong := next(filter(_APART.search, names), None):
            raise UserError(
                f"--to {layout}: {kind} {wrong!r} of {dataset.name} has a separator of that layout "
                "in its name; csv and minionerec have none"
            )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def _readme(dataset: Dataset, layout: str) -> str:
    names = "the numbers of items.csv" if layout == "minionerec" else "their names in the dataset"
    sizes = ", ".join(f"{split} {len(part):,}" for split, part in dataset.splits.items())
    return (
        f"{dataset.name}: examples {sizes}; {dataset.catalog.num_items:,} items.\n"
        f"Written by `genrec-bench export --dataset {dataset.name} --to {layout}`; fingerprint of "
        f"the data {dataset.fingerprint}, of the SIDs {dataset.sid_fingerprint}.\n"
        f"Items go by {names}. Test examples are numbered from 0 on, in the order in which they "
        "stand here.\n"
        "Learn from the training split, choose by the validation split, and rank all items for "
        "each test example. A file with the columns example, rank, item (names in the dataset) "
        "comes back by\n\n"
        f"    genrec-bench score FILE --dataset {dataset.name} --as LABEL\n"
    )
