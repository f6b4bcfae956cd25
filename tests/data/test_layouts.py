"""What the layouts have in common, and those of S3-Rec, BERT4Rec, RecBole and MIMIGenRec."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec_bench.data.cards import LAYOUTS, Card, card_names, load_card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.dataset_store import load_contents, save_contents
from genrec_bench.data.importers import READERS, import_contents
from genrec_bench.errors import UserError

NAME = "Tools"
INDEX: dict[str, list[str]] = {
    "0": ["<a_0>", "<b_1>"],
    "1": ["<a_1>", "<b_3>"],
    "2": ["<a_0>", "<b_1>"],
}
TEXTS: dict[str, object] = {
    "0": {"title": "Rake", "description": "long"},
    "1": {"title": "Säge", "description": ["sharp", "steel"], "features": ["light"]},
    "2": {"title": None, "categories": "Garden, Hoses", "brand": "x"},
}


def tiny_card(layout: str, **changes: Any) -> Card:
    """Return a card with a recipe, two levels and short histories."""
    name = "industrial" if LAYOUTS[layout] == "chronological" else "beauty"
    small: dict[str, Any] = {"codes_per_level": (4, 4), "history_length": 3, "sha256": {}}
    return dataclasses.replace(
        load_card(name), **small, layout=layout, category=NAME, layouts={}, **changes
    )


def write(folder: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = folder / name.format(NAME)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return folder


def read(layout: str, folder: Path, **changes: Any) -> Contents:
    return import_contents(layout, folder, tiny_card(layout, **changes))[0]


def rows_of(contents: Contents, split: str) -> list[tuple[int, list[str], str]]:
    """Return user, history and target by the items' names."""
    part, names = contents.splits[split], contents.item_names
    columns = zip(part.users.tolist(), part.targets.tolist(), strict=True)
    return [
        (user, [names[item] for item in part.history(i)], names[target])
        for i, (user, target) in enumerate(columns)
    ]


def prompt(history: list[str], target: str, place: int, **more: Any) -> dict[str, Any]:
    asked = f"given the following chronological interaction history: {', '.join(history)}"
    return {
        "prompt": [{"role": "system", "content": "x"}, {"role": "user", "content": asked}],
        "reward_model": {"style": "rule", "ground_truth": target},
        "extra_info": {"index": place, "task": "task1_sid_sft"},
    } | more


def answer(asked: str, target: str) -> dict[str, str]:
    return {"instruction": "x", "input": asked, "output": target}


RAKE, SAW = "<a_0><b_1>", "<a_1><b_3>"
MIMI: dict[str, object] = {
    "id2sid.json": INDEX,
    "new_tokens.json": [],
    "rl/train.json": [
        prompt([SAW], RAKE, 1),
        prompt([RAKE, SAW, RAKE, SAW], SAW, 0),
        prompt([], SAW, 9) | {"prompt": [{"role": "user", "content": "titles: a, b?"}]},
        prompt([], SAW, 2)
        | {"prompt": [{"role": "user", "content": "Which item has the title: Säge?"}]},
    ],
    "rl/valid.json": [prompt([RAKE], RAKE, 0)],
    "rl/test.json": [prompt([SAW], SAW, 0)],
}
SEQUENCES = "1 3 1 2 1 10\n2 2 2 3\n3 1\n"
PAIRS = "".join(
    f"{user} {item}\n" for user, *items in map(str.split, SEQUENCES.splitlines()) for item in items
)
HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
SPLITS: dict[str, object] = {
    "{}.train.inter": f"{HEADER}u\t0 1 2 0\t1\nv\t2\t0\n",
    "{}.valid.inter": f"{HEADER}u\t1\t2\n",
    "{}.test.inter": f"{HEADER}w\t1 2\t0\n",
}
LCREC: dict[str, object] = {"{}.inter.json": {"u": [0, 1, 2, 1, 0], "v": [2, 2, 1]}}
FILES: dict[str, dict[str, object]] = {
    "lcrec": {**LCREC, "{}.index.json": INDEX},
    "mimigenrec": MIMI,
    "s3rec": {"{}.txt": SEQUENCES},
    "bert4rec": {"{}.txt": PAIRS},
    "recbole": SPLITS,
}


def test_every_reader_is_of_a_layout_that_cards_know() -> None:
    assert set(READERS) == set(LAYOUTS) - {"synthetic"}
    for name in card_names():
        card = load_card(name)
        assert all(LAYOUTS[layout] in ("", card.protocol) for layout in card.imports)


def test_cards_take_what_is_published_of_their_data() -> None:
    both = ["minionerec", "mimigenrec", "recbole"]
    assert list(load_card("industrial").imports) == list(load_card("office").imports) == both
    for name in ("beauty", "instruments", "sports"):
        assert list(load_card(name).imports) == ["lcrec", "s3rec", "recbole"]
    for name, layout, told in (
        ("yelp", "lcrec", "'yelp' has no layout 'lcrec': it is made from raw files; a card of"),
        ("office", "lcrec", "it is imported from files in the layout minionerec or mimigenrec or"),
        ("synthetic", "s3rec", "it is drawn, not imported"),
    ):
        with pytest.raises(UserError, match=told):
            import_contents(layout, Path(), load_card(name))


@pytest.mark.parametrize("layout", sorted(FILES.keys() - {"bert4rec"}))
def test_an_import_is_kept_with_its_layout(layout: str, tmp_path: Path) -> None:
    name = "industrial" if LAYOUTS[layout] == "chronological" else "beauty"
    card = load_card(name)
    four = {item: [*sid, "<c_0>", "<d_0>"][: card.num_levels] for item, sid in INDEX.items()}
    files = json.loads(json.dumps(FILES[layout]))
    if layout == "mimigenrec":
        text = json.dumps(files | {"id2sid.json": four})
        files = json.loads(text.replace("<b_1>,", "<b_1><c_0>,"))
        for split in ("train", "valid", "test"):
            for row in files[f"rl/{split}.json"]:
                for part in ("prompt", "reward_model"):
                    text = json.dumps(row[part])
                    for sid in (RAKE, SAW):
                        text = text.replace(f"{sid}<c_0>", sid).replace(sid, f"{sid}<c_0>")
                    row[part] = json.loads(text)
    elif layout == "lcrec":
        files["{}.index.json"] = four
    folder = write(tmp_path / "files", files)
    contents, sources = import_contents(layout, folder, card, NAME)
    assert contents.layout == layout and contents.made == "imported" and sources
    save_contents(contents, tmp_path / "data", sources)
    kept = load_contents(name, tmp_path / "data")
    assert (kept.layout, kept.made, kept.report) == (layout, "imported", contents.report)
    assert kept.fingerprint == contents.fingerprint


@pytest.mark.parametrize("layout", ["s3rec", "bert4rec"])
def test_sequences_are_split_leave_one_out(layout: str, tmp_path: Path) -> None:
    contents = read(layout, write(tmp_path, FILES[layout]))
    assert contents.item_names == ("1", "2", "3", "10"), "in order of numbers, by their names"
    assert rows_of(contents, "train") == [(0, ["3"], "1"), (0, ["3", "1"], "2")]
    assert rows_of(contents, "valid") == [(0, ["3", "1", "2"], "1"), (1, ["2"], "2")]
    assert rows_of(contents, "test") == [(0, ["1", "2", "1"], "10"), (1, ["2", "2"], "3")]
    assert contents.sids is None and set(contents.titles) == {""}
    assert "1 of 3 users have fewer than 3 items" in contents.report["notes"][0]


@pytest.mark.parametrize(
    ("layout", "text", "message"),
    [
        ("s3rec", PAIRS, "line 2: user '1' is there twice; two fields a line .* bert4rec"),
        ("s3rec", "1 2 3\n1 2 3\n", "line 2: user '1' is there twice$"),
        ("s3rec", "1 2 3\n7\n", "line 2: a user needs an item"),
        ("s3rec", "1::2::3\n", "'1::2::3': blanks or tabs separate"),
        ("bert4rec", SEQUENCES, "line 1: 6 fields, expected user and item; .* layout s3rec"),
        ("bert4rec", "1 2\n3\n", "line 2: 1 fields, expected user and item"),
        ("bert4rec", "1,2\n", "'1,2': blanks or tabs separate"),
        ("bert4rec", "1 2\n1 3\n", "no user has three items"),
    ],
)
def test_each_mistake_in_sequences_is_named(
    layout: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read(layout, write(tmp_path, {"{}.txt": text}))


@pytest.mark.parametrize("separator", ["\t", ",", "::", " | "])
def test_recbole_splits_are_taken_as_they_are(separator: str, tmp_path: Path) -> None:
    files = {name: str(text).replace("\t", separator) for name, text in SPLITS.items()}
    contents = read("recbole", write(tmp_path, files))
    assert rows_of(contents, "train") == [(0, ["1", "2", "0"], "1"), (1, ["2"], "0")]
    assert rows_of(contents, "valid") == [(0, ["1"], "2")]
    assert rows_of(contents, "test") == [(2, ["1", "2"], "0")]
    assert f"separated by {separator!r}" in contents.report["notes"][0]


@pytest.mark.parametrize("timed", [False, True])
def test_recbole_interactions_get_their_histories(timed: bool, tmp_path: Path) -> None:
    def file(*rows: str) -> str:
        lines = ["user_id:token\titem_id:token\ttimestamp:float", *rows]
        return "\n".join(line if timed else line.rpartition("\t")[0] for line in lines) + "\n"

    folder = write(
        tmp_path,
        {
            "{}.train.inter": file("u\ta\t1.0", "u\tc\t3e0", "u\tb\t2", "v\ta\t1"),
            "{}.val.inter": file("u\td\t4", "v\tb\t2"),
            "{}.test.inter": file("u\ta\t5"),
        },
    )
    contents = read("recbole", folder)
    order = ["a", "b", "c"] if timed else ["a", "c", "b"]
    assert rows_of(contents, "train") == [(0, order[:1], order[1]), (0, order[:2], order[2])]
    assert sorted(rows_of(contents, "valid")) == [(0, order, "d"), (1, ["a"], "b")]
    assert rows_of(contents, "test") == [(0, [*order[1:], "d"], "a")]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("id:token\t", "id:float\t", 1), "column 'user_id' is of the type float"),
        (HEADER.replace("token_seq", "token"), "column 'item_id_list' is of the type token, and"),
        (HEADER.replace("token_seq", "tokens"), "type 'tokens'; did you mean 'token'"),
        (HEADER.replace("user_id", "uid"), "no column is called 'user_id'"),
        ("user_id\titem_id\n", "no column is called name:type"),
        ("user_id:token\titem_id\n", "not every column is called name:type"),
    ],
)
def test_each_mistake_in_a_header_is_named(header: str, message: str, tmp_path: Path) -> None:
    files = SPLITS | {"{}.train.inter": f"{header}u\t0\t1\n"}
    with pytest.raises(UserError, match=rf"{NAME}\.train\.inter, line 1: .*{message}"):
        read("recbole", write(tmp_path, files))


def test_mimigenrec_takes_the_examples_and_leaves_other_tasks(tmp_path: Path) -> None:
    contents = read("mimigenrec", write(tmp_path, MIMI))
    # In the order of `extra_info.index`, with the first item of a shared SID, a user an example.
    assert rows_of(contents, "train") == [(0, ["1", "0", "1"], "1"), (1, ["1"], "0")]
    assert rows_of(contents, "valid") == [(2, ["0"], "0")]
    assert rows_of(contents, "test") == [(3, ["1"], "1")]
    assert contents.sids is not None and contents.sids.tolist() == [[0, 1], [1, 3], [0, 1]]
    assert contents.titles == ("", "Säge", "")
    told = contents.report["notes"]
    assert "rl/train: 1 examples are of other tasks, and are left out" in told
    assert "1 items have the SID of an earlier one, which stands for them" in told


def test_mimigenrec_in_the_form_for_sft_and_in_parts(tmp_path: Path) -> None:
    asked = "The user has interacted with items {} in chronological order. Can you predict?"
    write(
        tmp_path / NAME,
        {
            "id2sid.json": INDEX,
            "sft/train_1.json": [answer(asked.format(f"{RAKE}, {SAW}"), SAW)],
            "sft/train_2.json": [answer(f'What is the title of item "{SAW}"?', "Säge")],
            "sft/valid.json": [answer(asked.format(SAW), RAKE)],
            "sft/test.json": [answer(asked.format(SAW), RAKE)],
            "{}.item.json": TEXTS,
        },
    )
    contents = read("mimigenrec", tmp_path)
    assert rows_of(contents, "train") == [(0, ["0", "1"], "1")]
    assert contents.titles == ("Rake", "Säge", "")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rl/test.json", [prompt([SAW], "<a_3><b_3>", 0)], "example 1: SID <a_3><b_3> names no"),
        ("rl/test.json", [{"text": 1}], "example 1: neither `prompt` and"),
        ("rl/test.json", [prompt([SAW], "a title", 0)], "no example of test has SIDs"),
        ("rl/test.json", {"a": 1}, "expected a list of examples"),
        ("rl/test.json", "[", "line 1: malformed JSON"),
        ("id2sid.json", INDEX | {"2": "<a_0>"}, "item 2: SID has 1 levels, not 2"),
    ],
)
def test_each_mistake_in_mimigenrec_files_is_named(
    file: str, content: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"{file}.*{message}|rl: {message}"):
        read("mimigenrec", write(tmp_path, MIMI | {file: content}))


@pytest.mark.parametrize("layout", ["lcrec", "recbole", "mimigenrec"])
def test_texts_and_vectors_beside_the_files_are_read_or_named(layout: str, tmp_path: Path) -> None:
    folder = write(tmp_path, FILES[layout] | {"{}.item.json": TEXTS, "{}.user.json": {}})
    np.save(folder / f"{NAME}.emb-llama-td.npy", np.zeros((3, 5), dtype=np.float32))
    np.save(folder / f"{NAME}.emb-short-td.npy", np.zeros((2, 5), dtype=np.float32))
    (folder / f"{NAME}.emb-bad-td.npy").write_bytes(b"\x80\x04K\x01.")
    contents = read(layout, folder)
    assert contents.titles == ("Rake", "Säge", "")
    assert contents.descriptions == ("long", "sharp steel light", "")
    assert contents.categories == ((), (), ("Garden", "Hoses"))
    told = "\n".join(contents.report["notes"])
    assert f"{NAME}.emb-llama-td.npy has a vector of 5 numbers for each item: `genrec-b" in told
    assert f"{NAME}.emb-short-td.npy is of shape (2, 5): not one row for each item" in told
    assert "bad-td.npy is no array that NumPy reads without running code" in told
    assert f"not read: {NAME}.user.json" in told


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"title": 3}, "item 1 must be an object whose title is text"),
        ({"title": "a", "description": [1]}, "item 1 must be an object whose description is text"),
        ({"categories": 3}, "item 1 must be an object whose categories are texts"),
        ("Rake", "item 1 must be an object whose title is text"),
    ],
)
def test_texts_that_are_none_are_named(entry: object, message: str, tmp_path: Path) -> None:
    files = FILES["lcrec"] | {"{}.item.json": {**TEXTS, "1": entry}}
    with pytest.raises(UserError, match=rf"item\.json: {message}"):
        read("lcrec", write(tmp_path, files))


@pytest.mark.parametrize("kind", ["index", "item"])
def test_files_that_count_from_another_number_are_named(kind: str, tmp_path: Path) -> None:
    content: Mapping[str, object] = INDEX if kind == "index" else TEXTS
    from_one = {str(int(item) + 1): what for item, what in content.items()}
    folder = write(tmp_path, FILES["recbole"] | {f"{{}}.{kind}.json": from_one})
    with pytest.raises(UserError, match="item 0 .*: this file counts from 1, the items from 0"):
        read("recbole", folder)
    folder = write(tmp_path, {"{}.txt": "1 1 2 3\n", f"{{}}.{kind}.json": content})
    with pytest.raises(UserError, match="item 3 .*: this file counts from 0, the items from 1"):
        read("s3rec", folder)


def test_without_an_index_sids_come_of_the_cards_recipe(tmp_path: Path) -> None:
    folder = write(tmp_path, LCREC)
    contents = read("lcrec", folder)
    assert contents.sids is None and contents.item_names == ("0", "1", "2")
    assert contents.report["notes"][0].startswith(f"{NAME}.index.json is missing: SIDs are made")
    with pytest.raises(UserError, match=r"Tools\.index\.json is missing"):
        read("lcrec", folder, sids=None)
    with pytest.raises(UserError, match="bring no SIDs .*does not say under 'sids' how they are"):
        read("s3rec", write(tmp_path, FILES["s3rec"]), sids=None)


SPELL: dict[str, Callable[[list[int]], object]] = {
    "numbers": lambda codes: codes,
    "text": lambda codes: "-".join(map(str, codes)),
    "tokens": lambda codes: "".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(codes)),
    "from one": lambda codes: [code + 1 for code in codes],
    "going on": lambda codes: [code + 4 * level for level, code in enumerate(codes)],
}


@pytest.mark.parametrize("spelling", SPELL)
def test_an_index_in_another_spelling_is_the_same(spelling: str, tmp_path: Path) -> None:
    codes = {"0": [0, 1], "1": [1, 3], "2": [0, 1]}
    index = {item: SPELL[spelling](sid) for item, sid in codes.items()}
    contents = read("lcrec", write(tmp_path, LCREC | {"{}.index.json": index}))
    assert contents.sids is not None and contents.sids.tolist() == list(codes.values())
    assert "SIDs are read so: " in contents.report["notes"][0]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("lcrec", ("u", "v")),
        ("s3rec", ("1", "2", "3")),
        ("bert4rec", ("1", "2", "3")),
        ("recbole", ("u", "v", "w")),
        # The files name no users.
        ("mimigenrec", ()),
    ],
)
def test_users_keep_the_names_of_the_files(
    layout: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert read(layout, write(tmp_path, FILES[layout])).user_names == expected
