"""The data of `fuzz.py`'s world, and their files in the layouts of others."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fuzz_mutations import csv_of

USERS, ITEMS, EACH = 60, 24, 8
LAYOUTS = ("minionerec", "mimigenrec", "lcrec", "s3rec", "bert4rec", "recbole")


def made_log() -> list[tuple[str, str, int]]:
    """Return interactions of users who go from item to item."""
    draw = random.Random(0)
    rows = []
    for user in range(USERS):
        item, moment = user % ITEMS, 1_400_000_000 + 86_400 * user
        for _ in range(EACH):
            rows.append((f"U{user:02d}", f"I{item:02d}", moment))
            item = (item + (1 if draw.random() < 0.8 else 5)) % ITEMS
            moment += 86_400
    return rows


def made_texts() -> dict[str, tuple[str, str]]:
    """Return title and description of each item."""
    colours, things = (
        ("red", "green", "blue", "grey"),
        ("rake", "hose", "saw", "pot", "axe", "bin"),
    )
    return {
        f"I{i:02d}": (
            f"{colours[i % 4]} {things[i // 4]}",
            f"A {things[i // 4]}, {colours[i % 4]}.",
        )
        for i in range(ITEMS)
    }


def made_sids() -> list[list[int]]:
    """Return a SID for each item."""
    return [[i // 8, i // 2 % 4, i % 2] for i in range(ITEMS)]


def write_layouts(root: Path) -> None:
    """Write the same data in all layouts that can be imported."""
    tokens = [[f"<{'abc'[n]}_{code}>" for n, code in enumerate(sid)] for sid in made_sids()]
    index = {str(i): sid for i, sid in enumerate(tokens)}
    items = {
        str(i): {
            "title": title,
            "description": text,
            "features": ["f"],
            "categories": "Tools, Hand",
        }
        for i, (title, text) in enumerate(made_texts().values())
    }
    sequences: dict[str, list[int]] = {}
    for user, item, _ in made_log():
        sequences.setdefault(user, []).append(int(item[1:]))
    for layout in LAYOUTS:
        here = root / layout
        here.mkdir()
        beside = here / "index" if layout == "minionerec" else here
        beside.mkdir(exist_ok=True)
        if layout != "mimigenrec":
            (beside / "Tools.index.json").write_text(json.dumps(index))
        (beside / "Tools.item.json").write_text(json.dumps(items))
        np.save(beside / "Tools.emb-x-td.npy", np.eye(ITEMS, dtype="float32"))
    _write_minionerec(root / "minionerec", tokens, sequences)
    _write_mimigenrec(root / "mimigenrec", tokens, sequences)
    (root / "lcrec" / "Tools.inter.json").write_text(json.dumps(sequences))
    lines = [f"{user[1:]} {' '.join(map(str, items))}" for user, items in sequences.items()]
    (root / "s3rec" / "Tools.txt").write_text("\n".join(lines) + "\n")
    pairs = [f"{user[1:]} {item}" for user, items in sequences.items() for item in items]
    (root / "bert4rec" / "Tools.txt").write_text("\n".join(pairs) + "\n")
    for split, at in (("train", -3), ("valid", -2), ("test", -1)):
        rows = ["user_id:token\titem_id_list:token_seq\titem_id:token"]
        rows += [
            f"{user}\t{' '.join(map(str, items[:at]))}\t{items[at]}"
            for user, items in sequences.items()
        ]
        (root / "recbole" / f"Tools.{split}.inter").write_text("\n".join(rows) + "\n")


def _write_minionerec(
    here: Path, tokens: Sequence[Sequence[str]], sequences: Mapping[str, Sequence[int]]
) -> None:
    texts = ["".join(sid) for sid in tokens]
    head: list[object] = ["user_id", "history_item_id", "item_id", "history_item_sid", "item_sid"]
    for split, at in (("train", -3), ("valid", -2), ("test", -1)):
        rows: list[list[object]] = [
            [user, list(s[:at]), s[at], [texts[i] for i in s[:at]], texts[s[at]]]
            for user, s in sequences.items()
        ]
        (here / split).mkdir()
        (here / split / "Tools_5.csv").write_text(csv_of([head, *rows]))
    (here / "info").mkdir()
    titles = [title for title, _ in made_texts().values()]
    info = [f"{texts[i]}\t{titles[i]}\t{i}" for i in range(ITEMS)]
    (here / "info" / "Tools_5.txt").write_text("\n".join(info) + "\n")


def _write_mimigenrec(
    here: Path, tokens: Sequence[Sequence[str]], sequences: Mapping[str, Sequence[int]]
) -> None:
    texts = ["".join(sid) for sid in tokens]
    (here / "id2sid.json").write_text(json.dumps({str(i): text for i, text in enumerate(texts)}))
    (here / "rl").mkdir()
    for split, at in (("train", -3), ("valid", -2), ("test", -1)):
        entries = [
            {
                "prompt": [{"role": "user", "content": " ".join(texts[i] for i in s[:at])}],
                "reward_model": {"ground_truth": texts[s[at]]},
                "extra_info": {"index": n},
            }
            for n, s in enumerate(sequences.values())
        ]
        (here / "rl" / f"{split}.json").write_text(json.dumps(entries))
