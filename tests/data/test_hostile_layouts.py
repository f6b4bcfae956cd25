"""Files in the layouts of others that were made to harm: each is refused in one line, and soon."""

import time
from pathlib import Path

import pytest
from test_layouts import INDEX, NAME, TEXTS, read, tiny_card, write

from genrec_bench.data.importers import import_contents
from genrec_bench.data.layouts.mimigenrec_files import read_mimigenrec
from genrec_bench.data.preparation.formats.json_lines import read_literal
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder

SEQUENCES = {"u": [0, 1, 2, 1], "v": [2, 1, 0, 2]}


@pytest.mark.parametrize("largest", [2000, 10**9, 2**62])
def test_ids_that_number_no_items(tmp_path: Path, largest: int) -> None:
    sequences = SEQUENCES | {"w": [0, largest, 1]}
    write(tmp_path, {"{}.inter.json": sequences})
    with pytest.raises(
        UserError, match="far above the number of items, 4; ids must count"
    ) as error:
        read("lcrec", tmp_path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("layout", ["s3rec", "bert4rec", "recbole"])
def test_names_with_more_digits_than_a_number_has(tmp_path: Path, layout: str) -> None:
    items = ["9" * 5000, "10", "9", "09", "010"]
    wanted = ("09", "9", "010", "10", "9" * 5000)
    if layout == "s3rec":
        write(tmp_path, {"{}.txt": "u " + " ".join(items) + "\n"})
    elif layout == "bert4rec":
        write(tmp_path, {"{}.txt": "".join(f"u {item}\n" for item in items)})
    else:
        head = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
        row = f"u\t{' '.join(items[:-1])}\t{items[-1]}\n"
        write(tmp_path, {f"{{}}.{split}.inter": head + row for split in ("train", "valid", "test")})
    assert read(layout, tmp_path).item_names == wanted


@pytest.mark.parametrize("category", ["/etc", "../x", "a/**", "x\0", ".."])
def test_a_category_that_leads_elsewhere(tmp_path: Path, category: str) -> None:
    write(tmp_path, {"{}.inter.json": SEQUENCES})
    with pytest.raises(UserError, match="--category .* must be a plain name, without a folder"):
        import_contents("lcrec", tmp_path, tiny_card("lcrec"), category)


@pytest.mark.parametrize("category", ["**", "[", "*", "?ools"])
def test_a_category_is_no_pattern(tmp_path: Path, category: str) -> None:
    write(tmp_path, {"{}.inter.json": SEQUENCES, "{}.index.json": INDEX, "{}.item.json": TEXTS})
    with pytest.raises(UserError, match="is missing; there is .*Tools.inter.json"):
        import_contents("lcrec", tmp_path, tiny_card("lcrec"), category)


@pytest.mark.parametrize(
    "text", ["{[1]: 2}", "{{}}", "[" * 5000, "9" * 5000, "1 + x", "x" * 300_000]
)
def test_what_is_no_literal(text: str) -> None:
    with pytest.raises(ValueError, match="no Python literal|too long"):
        read_literal(text)


@pytest.mark.parametrize("asked", ["<" + "9" * 200_000, "<a" * 100_000, "<1>" * 50_000 + "<"])
def test_a_prompt_takes_no_longer_than_it_is_long(tmp_path: Path, asked: str) -> None:
    entry = {"input": asked, "output": "<a_0><b_1>"}
    files = {f"sft/{split}.json": [entry] for split in ("train", "valid", "test")}
    write(tmp_path, {"id2sid.json": {k: "".join(v) for k, v in INDEX.items()}, **files})
    began = time.process_time()
    with pytest.raises(UserError):
        read_mimigenrec(Folder(tmp_path), tiny_card("mimigenrec"), NAME, [])
    assert time.process_time() - began < 2
