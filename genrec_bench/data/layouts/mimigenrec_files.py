"""MIMIGenRec's layout: examples as prompts in JSON, items told by their SIDs.

    id2sid.json (item to SID), {rl,sft}/{train,valid,test}.json

A list of objects: in ``rl`` the user's message of ``prompt`` has the history and
``reward_model.ground_truth`` the target, in ``sft`` ``input`` and ``output``. Examples of other
tasks stand among them (titles from SIDs, SIDs from titles): taken are those whose prompt holds SIDs
and whose answer is one. ``rl`` is read where it is there, and its rows stand in the order of
``extra_info.index``, since the files are shuffled. A split may be cut in parts, ``train*.json``.

The files name no users: each example counts as a user. Where items share a SID, it stands for the
first of them. Titles come from the questions for them, and from ``CATEGORY.item.json`` where it is
there.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.layouts.catalog_files import (
    ItemTexts,
    examples_of,
    item_names,
    read_sids,
    read_texts,
    vector_notes,
)
from genrec_bench.data.sids.sid_spelling import parse_sid
from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import parse_json
from genrec_bench.storage.source_files import Folder

INDEX = "id2sid.json"
TASKS = ("rl", "sft")
SPLITS = ("train", "valid", "test")

# One way to read each token, so that a long text which is none takes no longer than another.
_SID = re.compile(r"(?:<[^<>\d]*\d[^<>]*>)+")
_TITLE = re.compile(r"Which item has the title: (.*)\?\s*", re.DOTALL)


def read_mimigenrec(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read the files of a folder; ``notes`` gets what there is to say of them."""
    root = folder.path
    index = folder.mapping(root / INDEX)
    names = item_names(root / INDEX, index, {})
    sids = read_sids(root / INDEX, index, names, card.codes_per_level)
    first: dict[tuple[int, ...], int] = {}
    for item, name in enumerate(names):
        first.setdefault(parse_sid(index[name], card.num_levels, INDEX), item)
    kind = next((task for task in TASKS if (root / task).is_dir()), TASKS[0])
    titles: dict[int, str] = {}
    splits, users = {}, 0
    for split in SPLITS:
        rows = []
        others = 0
        for where, asked, answer in _entries(folder, root / kind, split):
            found = _SID.findall(asked)
            title = _TITLE.fullmatch(asked)
            if not _SID.fullmatch(answer) or (not found and title is None):
                others += 1
                continue
            target = _item(answer, first, card, where)
            if title is not None:
                titles[target] = title[1]
                continue
            history = [_item(sid, first, card, where) for sid in found]
            rows.append((users, history[-card.history_length :], target))
            users += 1
        if not rows:
            raise UserError(f"{root / kind}: no example of {split} has SIDs in prompt and answer")
        if others:
            notes.append(f"{kind}/{split}: {others} examples are of other tasks, and are left out")
        splits[split] = examples_of(rows)
    shared = len(names) - len(first)
    notes += [*sids.notes, "the files name no users: each example counts as a user"]
    if shared:
        notes.append(f"{shared} items have the SID of an earlier one, which stands for them")
    known = ItemTexts(tuple(titles.get(item, "") for item in range(len(names))))
    if (texts_file := root / f"{category}.item.json").is_file():
        known = read_texts(folder, texts_file, names)
    notes += vector_notes(root, category, len(names), card.name)
    return Contents(
        card, tuple(names), known.titles, splits, sids.codes, known.descriptions, known.categories
    )


def _entries(folder: Folder, root: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """Yield where each entry of a split stands, what it asks, and the answer."""
    paths = sorted(root.glob(f"{split}*.json"))
    if not paths:
        raise UserError(f"{root / f'{split}.json'} is missing")
    entries: list[tuple[int, str, str, str]] = []
    for path in paths:
        content = parse_json(folder.text(path), str(path))
        if not isinstance(content, list):
            raise UserError(f"{path}: expected a list of examples")
        for number, entry in enumerate(content, start=1):
            where = f"{path}, example {number}"
            place, asked, answer = _read(entry, where)
            entries.append((number if place is None else place, where, asked, answer))
    entries.sort(key=lambda entry: entry[0])
    yield from (entry[1:] for entry in entries)


def _read(entry: object, where: str) -> tuple[int | None, str, str]:
    """Return place, question and answer of an example of either kind."""
    fields = entry if isinstance(entry, Mapping) else {}
    try:
        if "prompt" in fields:
            (asked,) = (said["content"] for said in fields["prompt"] if said["role"] == "user")
            answer = fields["reward_model"]["ground_truth"]
            place = fields.get("extra_info", {}).get("index")
        else:
            asked, answer, place = fields["input"], fields["output"], None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{where}: neither `prompt` and `reward_model.ground_truth` nor `input` and `output`"
        ) from None
    if not isinstance(asked, str) or not isinstance(answer, str):
        raise UserError(f"{where}: question and answer must be texts")
    return (place if type(place) is int else None), asked, answer.strip()


def _item(sid: str, first: Mapping[tuple[int, ...], int], card: Card, where: str) -> int:
    codes = parse_sid(sid, card.num_levels, where)
    if codes not in first:
        raise UserError(f"{where}: SID {sid} names no item of {INDEX}")
    return first[codes]
