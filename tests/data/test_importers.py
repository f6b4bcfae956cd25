import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec_bench.data.cards import Card, load_card
from genrec_bench.data.data_report import shared_sid_rows
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.importers import import_contents
from genrec_bench.data.preparation.leaks import REPEATED_HISTORIES, find_leaks
from genrec_bench.errors import UserError

HEADER = "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid"
SIDS = ("<a_0><b_1>", "<a_12><b_3>", "<a_0><b_1>")
NAME = "Tools"


def tiny_card(layout: str) -> Card:
    name = {"minionerec": "industrial", "lcrec": "beauty"}[layout]
    return dataclasses.replace(
        load_card(name),
        category=NAME,
        codes_per_level=(4, 4),
        history_length=2,
        sha256={},
    )


def row(user: str, history: list[int], target: int, title: str = "a") -> str:
    """Return a CSV line as MiniOneRec writes it: Python lists in quotes."""
    cells = [
        user,
        str([title] * len(history)),
        title,
        str(history),
        str(target),
        str([SIDS[item] for item in history]),
        SIDS[target],
    ]
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def write_csv(path: Path, *lines: str, header: str = HEADER) -> None:
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")


@pytest.fixture
def minionerec(tmp_path: Path) -> Path:
    """Three items; titles with commas, quotes, line ends and letters beyond ASCII."""
    for folder in ("train", "valid", "test", "info", "index"):
        (tmp_path / folder).mkdir()
    title = 'Größe 1/2", "L"\nin two lines\u2028and three'
    write_csv(
        tmp_path / "train" / f"{NAME}_5.csv",
        row("A9", [0], 1, title),
        row("A9", [0, 1], 1, title),
        row("A2", [2], 0),
    )
    write_csv(tmp_path / "valid" / f"{NAME}_5.csv", row("A2", [2, 0], 1))
    write_csv(tmp_path / "test" / f"{NAME}_5.csv", row("A7", [1, 0, 2], 2))
    titles = ['Rake, 12"', "Säge", "Hose"]
    info = [f"{sid}\t{text}\t{i}\n" for i, (sid, text) in enumerate(zip(SIDS, titles, strict=True))]
    (tmp_path / "info" / f"{NAME}_5.txt").write_text("".join(info), encoding="utf-8")
    described = {str(i): {"title": text, "brand": "x"} for i, text in enumerate(titles)}
    write_json(tmp_path / "index" / f"{NAME}.item.json", described)
    write_json(tmp_path / "index" / f"{NAME}.index.json", index())
    return tmp_path


@pytest.fixture
def lcrec(tmp_path: Path) -> Path:
    sequences = {"u": [0, 1, 2, 1, 0], "v": [2, 2, 1]}
    write_json(tmp_path / f"{NAME}.inter.json", sequences)
    write_json(tmp_path / f"{NAME}.index.json", index())
    return tmp_path


def index(**changes: Any) -> dict[str, Any]:
    return {"0": ["<a_0>", "<b_1>"], "1": ["<a_12>", "<b_3>"], "2": ["<a_0>", "<b_1>"]} | changes


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def read(layout: str, directory: Path) -> Dataset:
    return import_contents(layout, directory, tiny_card(layout))[0].own


def rows_of(dataset: Dataset, split: str) -> list[tuple[int, list[int], int]]:
    part = dataset.splits[split]
    columns = zip(part.users.tolist(), part.targets.tolist(), strict=True)
    return [(user, part.history(i).tolist(), target) for i, (user, target) in enumerate(columns)]


def test_minionerec_is_read_as_written(minionerec: Path) -> None:
    contents, sources = import_contents("minionerec", minionerec, tiny_card("minionerec"))
    dataset = contents.own
    assert rows_of(dataset, "train") == [(0, [0], 1), (0, [0, 1], 1), (1, [2], 0)]
    assert rows_of(dataset, "valid") == [(1, [2, 0], 1)]
    assert rows_of(dataset, "test") == [(2, [0, 2], 2)], "the last two items of the history"
    assert dataset.catalog.sids.tolist() == [[0, 1], [12, 3], [0, 1]]
    assert contents.user_names == ("A9", "A2", "A7")
    assert dataset.catalog.codes_per_level == (13, 4)
    assert dataset.catalog.titles == ('Rake, 12"', "Säge", "Hose")
    assert sorted(sources) == [
        f"index/{NAME}.index.json",
        f"index/{NAME}.item.json",
        f"info/{NAME}_5.txt",
        f"test/{NAME}_5.csv",
        f"train/{NAME}_5.csv",
        f"valid/{NAME}_5.csv",
    ]
    assert all(len(checksum) == 64 for checksum in sources.values())


def test_lcrec_is_split_leave_one_out(lcrec: Path) -> None:
    dataset = read("lcrec", lcrec)
    assert rows_of(dataset, "train") == [(0, [0], 1), (0, [0, 1], 2)]
    assert rows_of(dataset, "valid") == [(0, [1, 2], 1), (1, [2], 2)]
    assert rows_of(dataset, "test") == [(0, [2, 1], 0), (1, [2, 2], 1)]
    assert dataset.catalog.titles == ("", "", "")


def bad_train(*lines: str, header: str = HEADER) -> Callable[[Path], None]:
    return lambda folder: write_csv(folder / "train" / f"{NAME}_5.csv", *lines, header=header)


def bad_cell(good: str, bad: str) -> Callable[[Path], None]:
    """Return what writes a training file whose only row has `bad` in place of `good`."""
    assert good in GOOD
    return bad_train(GOOD.replace(good, bad))


def bad_json(path: str, content: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / path, content)


def bad_index(content: object) -> Callable[[Path], None]:
    return bad_json(f"index/{NAME}.index.json", content)


GOOD = row("A1", [0], 1)
TRAIN = rf"train/{NAME}_5\.csv"
INDEX = rf"index/{NAME}\.index\.json"
LCREC_INDEX = rf"{NAME}\.index\.json"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: shutil.rmtree(d / "valid"), "valid is missing"),
        (lambda d: (d / "test" / f"{NAME}_5.csv").unlink(), "expected exactly one file.*found 0"),
        (lambda d: (d / "train" / f"{NAME}_5.csv").write_text(""), f"{TRAIN} is empty"),
        (lambda d: (d / "train" / f"{NAME}_5.csv").write_bytes(b"\xff\xfe"), f"{TRAIN}: is UTF-16"),
        (lambda d: (d / "index" / f"{NAME}.item.json").unlink(), r"item\.json is missing"),
        (lambda d: shutil.copy(d / "train" / f"{NAME}_5.csv", d / "train" / f"{NAME}_9.csv"),
         f"expected exactly one file.*found 2; it holds {NAME}_5.csv, {NAME}_9.csv"),
        (bad_train(), f"{TRAIN} has no rows"),
        (bad_train(GOOD, header=HEADER.replace("item_id,", "id,")),
         f"{TRAIN}, line 1: missing column 'history_item_id', 'item_id'"),
        (bad_train(GOOD, "A1,a,b"), f"{TRAIN}, line 3: 3 fields, the header has 7"),
        (bad_train(row("A", [0], 1, "two\nlines"), "A1,a"), f"{TRAIN}, line 4: 2 fields"),
        (bad_train(GOOD, '"A1","x'), f"{TRAIN}, line 3: unexpected end"),
        (bad_train(GOOD, GOOD.replace('"[0]"', '"[0"')), f"{TRAIN}, line 3: history_item_id"),
        (bad_cell('"[0]"', '"[0.5]"'), f"{TRAIN}, line 2: history_item_id"),
        (bad_cell('"[0]"', '"[]"'), f"{TRAIN}, line 2: the history is empty"),
        (bad_cell('"[0]"', '"[3]"'), f"{TRAIN}, line 2: item id 3 is out of range 0"),
        (bad_cell('"[0]"', '"[-1]"'), f"{TRAIN}, line 2: item id -1 is out of range"),
        (bad_cell(',"1",', ',"7",'), f"{TRAIN}, line 2: item id 7 is out of range"),
        (bad_cell(',"1",', ',"one",'), f"{TRAIN}, line 2: item id 'one' is not"),
        (bad_cell("<b_3>", "<b_x>"), f"{TRAIN}, line 2: SID token '<b_x>' is not of"),
        (bad_cell("<b_3>", "<b_3>!"), f"{TRAIN}, line 2: SID token '<a_12><b_3>!'"),
        (bad_cell("<b_3>", ""), f"{TRAIN}, line 2: SID has 1 levels"),
        (bad_cell("<a_12><b_3>", ""), f"{TRAIN}, line 2: item 1 without SID"),
        (bad_cell("<b_3>", "<b_9>"), f"{TRAIN}, line 2: SID <a_12><b_9> names no item"),
        (bad_cell("<a_12><b_3>", "<a_0><b_1>"),
         f"{TRAIN}, line 2: SID <a_0><b_1> disagrees with .*{INDEX}, where item 1 has <a_12><b_3>"),
        (bad_cell("['<a_0><b_1>']", "['<a_12><b_3>']"),
         f"{TRAIN}, line 2: SID <a_12><b_3> disagrees"),
        (bad_cell("['<a_0><b_1>']", "['<a_0><b_1>'"), f"{TRAIN}, line 2: history_item_s"),
        (bad_cell("['<a_0><b_1>']", "[]"), f"{TRAIN}, line 2: 1 ids .* but 0 SIDs"),
        (bad_index({"0": ["<a_0>", "<b_1>"], "2": []}), f"{INDEX}: item 1 has no SID"),
        (bad_index(index(**{"3": ["<a_1>", "<b_1>"]})), f"{INDEX}: SID <a_1><b_1> names no item"),
        (bad_index(index(**{"1": "<a_1>"})), f"{INDEX}, item 1: SID has 1 levels, not 2"),
        (bad_index(index(**{"1": ["<a_x>", "<b_1>"]})), f"{INDEX}, item 1: SID token '<a_x>'"),
        (bad_index(index(**{"1": ["<a_1>"]})), f"{INDEX}, item 1: SID has 1 levels, not 2"),
        (bad_index([1]), f"{INDEX}: expected a JSON object"),
        (bad_json(f"index/{NAME}.item.json", {"0": {}, "1": {"title": 3}, "2": {}}),
         r"item\.json: item 1 must be an object whose title is text"),
        (lambda d: (d / "index" / f"{NAME}.index.json").write_text('{"0":\n[}'),
         f"{INDEX}, line 2: malformed JSON"),
        (lambda d: (d / "index" / f"{NAME}.index.json").write_text('{"0": 1, "0": 2}'),
         f"{INDEX}, line 1: malformed JSON: key '0' stands twice"),
        (lambda d: (d / "info" / f"{NAME}_5.txt").write_text(f"{SIDS[0]}\ta\t0\n{SIDS[0]} b 1\n"),
         f"info/{NAME}_5.txt, line 2: expected SID, title and item id"),
        (lambda d: (d / "info" / f"{NAME}_5.txt").write_text(f"{SIDS[0]}\ta\t1\n"),
         f"info/{NAME}_5.txt, line 1: SID <a_0><b_1> disagrees"),
    ],
)  # fmt: skip
def test_each_mistake_in_minionerec_files_is_named(
    minionerec: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(minionerec)
    with pytest.raises(UserError, match=message) as caught:
        read("minionerec", minionerec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bad_json(f"{NAME}.inter.json", {"u": [0, 1, 7]}), f"{LCREC_INDEX}: item 7 has no SID"),
        (bad_json(f"{NAME}.inter.json", {"u": [0, 1]}), "user 'u' has 2 items; leave-one-out"),
        (bad_json(f"{NAME}.inter.json", {"u": [0, 1, "2"]}), "user 'u' must have a list of int"),
        (bad_json(f"{NAME}.inter.json", {"u": 3}), "user 'u' must have a list of integer"),
        (bad_json(f"{NAME}.inter.json", {}), "expected a JSON object with at least one entry"),
        (bad_json(f"{NAME}.index.json", index(**{"4": ["<a_1>", "<b_1>"]})),
         f"{LCREC_INDEX}: item 3 has no SID; ids must be 0 to 3"),
        (bad_json(f"{NAME}.index.json", index(**{"2": ["<a_1>", "<b_1>", "<c_1>"]})),
         f"{LCREC_INDEX}, item 2: SID has 3 levels"),
        (lambda d: (d / f"{NAME}.inter.json").rename(d / "Other.inter.json"),
         rf"{NAME}\.inter\.json is missing; there is .*Other\.inter\.json"),
        (lambda d: (d / f"{NAME}.index.json").write_text(" \n"), f"{LCREC_INDEX} is empty"),
    ],
)  # fmt: skip
def test_each_mistake_in_lcrec_files_is_named(
    lcrec: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(lcrec)
    with pytest.raises(UserError, match=message):
        read("lcrec", lcrec)


def test_layouts_are_told_apart(lcrec: Path) -> None:
    ours, other = tiny_card("lcrec"), tiny_card("minionerec")
    for layout, folder, card, message in (
        ("minionerec", lcrec, other, "holds files of layout 'lcrec', not 'minionerec'"),
        ("minionerec", lcrec, ours, "'beauty' has no layout 'minionerec': it is .* layout lcrec"),
        ("lcrec", lcrec, load_card("synthetic"), "no layout 'lcrec': it is drawn, not imported"),
        ("lcerc", lcrec, ours, "unknown layout 'lcerc'; did you mean 'lcrec'"),
        ("lcrec", lcrec / "absent", ours, "absent is not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            import_contents(layout, folder, card)


@pytest.mark.real
def test_the_real_industrial_files(shared_data: Path) -> None:
    card = load_card("industrial")
    contents, sources = import_contents("minionerec", shared_data / "minionerec", card)
    dataset = contents.own
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (10393, 4532, 4533)
    assert dataset.partial
    assert (dataset.catalog.num_items, len(dataset.catalog.unique_sids)) == (3686, 3670)
    assert card.sha256.items() <= sources.items()
    shared = {line["among"]: line for line in shared_sid_rows(dataset)}
    assert shared["items"]["that share their SID"] == 31
    assert shared["test targets"]["share"] == pytest.approx(0.070, abs=0.0005)
    assert dataset.catalog.titles[4].startswith("Dico 541-774-21/2 Nyalox Cup Brush")
    # The third row of the training file.
    assert dataset.train.history(2).tolist() == [3437, 642, 642]
    assert dataset.train.targets[2] == 2520
    # The notes count histories that validation and test share on the same files.
    shared_histories = find_leaks(dataset.splits).found(REPEATED_HISTORIES, "test", "valid")
    assert shared_histories is not None and 150 < shared_histories < 300


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder", "users", "items", "interactions"),
    [
        ("beauty", "Beauty", 22363, 12101, 198502),
        ("instruments", "Instruments", 24772, 9922, 206153),
    ],
)
def test_the_real_lcrec_files(
    shared_data: Path, name: str, folder: str, users: int, items: int, interactions: int
) -> None:
    card = load_card(name)
    contents, sources = import_contents("lcrec", shared_data / "lcrec" / folder, card)
    dataset = contents.own
    assert sources == card.sha256
    assert not dataset.partial
    assert (len(dataset.valid), len(dataset.test)) == (users, users)
    # The first item of a user is never a target.
    assert len(dataset.train) + 2 * users == interactions - users
    assert len(dataset.train) == card.expected.train_rows
    assert dataset.catalog.num_items == items
    assert len(dataset.catalog.unique_sids) == card.expected.distinct_sids
    assert int(dataset.test.history_lengths.max()) == card.history_length
    np.testing.assert_array_equal(dataset.valid.users, np.arange(users))
