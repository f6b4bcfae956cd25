"""``genrec-bench data prepare``: files fetched or handed in, counts held against the card."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from raw_world import NAMES, RawWorld, raw_world, world_counts
from tiny_runs import Called, call, only_error

from genrec_bench.data.dataset_store import load_contents
from genrec_bench.data.obtain import check_own_files, raw_files
from genrec_bench.data.preparation.raw_recipe import Raw, SourceFile
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.locks import locked

CARDS = Path(__file__).parents[2] / "datasets"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def sports(tmp_path: Path) -> Iterator[RawWorld]:
    with raw_world("sports", tmp_path / "world") as world:
        yield world


@pytest.fixture
def yelp(tmp_path: Path) -> Iterator[RawWorld]:
    with raw_world("yelp", tmp_path / "world") as world:
        yield world


def prepare(capsys: Capture, world: RawWorld, *words: str, name: str = "") -> Called:
    words = ("data", "prepare", name or world.name, "--data-dir", str(world.data), *words)
    return call(capsys, words)


def last_line(called: Called) -> str:
    """The mistake, after what was said while all was well."""
    assert (called.code, called.out) == (2, "") and "Traceback" not in called.err
    line = called.err.splitlines()[-1]
    assert called.err.count("error:") == 1 and line.startswith("genrec-bench: error: ")
    return line.removeprefix("genrec-bench: error: ")


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file, dataset or not, but for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_fetched_or_handed_in_it_is_the_same(sports: RawWorld, capsys: Capture) -> None:
    called = prepare(capsys, sports, *sports.given)
    assert called.code == 0 and sports.requests == 0
    assert not (sports.data / "downloads").exists()
    for title in ("Files", "Filters", "Counts", "What splits give away"):
        assert f"{title}\n" in called.out
    assert f"\nwritten to {sports.data / 'sports'}\n" in called.out
    assert "genrec-bench sids build sports" in called.out
    contents = load_contents("sports", sports.data)
    assert contents.made == "prepared" and contents.item_names == tuple(NAMES)
    assert contents.report["differing_counts"] == []
    own = contents_of(sports.data / "sports")

    assert prepare(capsys, sports, *sports.given[:2]).code == 0
    assert [seen.path for seen in sports.servers[1].seen] == ["/meta_Sports_and_Outdoors.json.gz"]
    assert not sports.servers[0].seen
    assert contents_of(sports.data / "sports") == own
    shutil.rmtree(sports.data)
    assert prepare(capsys, sports).code == 0
    assert sports.requests == 3
    assert contents_of(sports.data / "sports") == own
    assert prepare(capsys, sports).code == 0
    assert sports.requests == 3, "what is here is not fetched again"


@pytest.mark.parametrize("words", [["data", "prepare"], ["sids", "build"]])
def test_it_waits_for_another_process_that_makes_it(
    sports: RawWorld, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    words = [*words, sports.name, "--data-dir", str(sports.data)]
    held, waited = Event(), Event()

    def say(_: Progress, text: str) -> None:
        if "another process" in text:
            waited.set()

    def other() -> None:
        with locked(sports.data / ".sports.lock"):
            held.set()
            assert waited.wait(timeout=60)

    monkeypatch.setattr(Progress, "say", say)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(other)
        held.wait()
        code = call(capsys, words).code
        in_turn = waited.is_set()
        waited.set()
        done.result()
    assert in_turn and code == 0


def test_what_is_odd_and_no_mistake_is_said(tmp_path: Path, capsys: Capture) -> None:
    """Seconds that are taken for milliseconds are in 1970."""
    log, things = tmp_path / "log.csv", tmp_path / "things.csv"
    rows = [f"u{n % 20},i{n % 7},{1_600_000_000 + n}" for n in range(200)]
    log.write_text("user,item,time\n" + "\n".join(rows))
    things.write_text("item,title,description\ni0,,\ni1,,\n")
    card: dict[str, Any] = yaml.safe_load((CARDS / "sports.yaml").read_text())
    card |= {"raw": {"format": "csv", "how": "ours", "columns": {"time_unit": "ms"}}, "filters": []}
    card["raw"] |= {"interactions": {"file": "log.csv"}, "items": {"file": "things.csv"}}
    card |= {"name": "mine", "expected": {"source": "nobody"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card))
    words = ["data", "prepare", "mine", "--data-dir", str(tmp_path / "data"), "--reviews", str(log)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREC_BENCH_CARDS", str(tmp_path))
        called = call(capsys, [*words, "--metadata", str(things)])
        assert called.code == 0
        assert (
            "first interaction is of 1970-01-19: is the unit of time the right one?" in called.err
        )
        assert f"{things}: not one item has a title or a description" in called.err
        assert "mine: its card expects no counts, so that nothing was compared" in called.err
        said = last_line(call(capsys, [*words, "--metadata", str(log)]))
        assert said == f"{log} was given for interactions and items alike"


def test_json(sports: RawWorld, capsys: Capture) -> None:
    called = prepare(capsys, sports, "--json")
    report = json.loads(called.out)
    assert report["counts"] == world_counts("leave-one-out")
    assert report["files"].keys() == {file.name for file in sports.files}
    (step,) = report["steps"]
    assert step["removed"] == {"user with fewer than 5": 4}


def test_no_path_of_this_machine_is_kept(sports: RawWorld, capsys: Capture) -> None:
    assert prepare(capsys, sports, *sports.given).code == 0
    told = (sports.data / "sports" / "manifest.json").read_text()
    assert str(sports.root) not in told and os.sep + sports.root.parts[1] not in told


def test_counts_that_are_not_the_cards(sports: RawWorld, capsys: Capture) -> None:
    assert prepare(capsys, sports).code == 0
    before = contents_of(sports.data)
    sports.write_files(users=50)
    said = last_line(prepare(capsys, sports, *sports.given))
    assert said.startswith("sports is there already, prepared (") and "--replace" in said
    assert contents_of(sports.data) == before
    called = prepare(capsys, sports, *sports.given, "--replace")
    line = last_line(called)
    assert line == (
        "sports: counts are not the card's: users: 50 found, 60 expected (-16.7%); "
        "interactions: 400 found, 480 expected (-16.7%); "
        "train_rows: 250 found, 300 expected (-16.7%); "
        "valid_rows: 50 found, 60 expected (-16.7%); test_rows: 50 found, 60 expected (-16.7%). "
        "Nothing was written; if these files are what you want: "
        "`genrec-bench data prepare sports --accept-counts`, and the same files"
    )
    assert "core users 5 items 5" in called.err and "Counts\n" in called.err
    assert contents_of(sports.data) == before
    assert last_line(prepare(capsys, sports, *sports.given, "--json", "--replace")) == line

    called = prepare(capsys, sports, *sports.given, "--accept-counts", "--replace")
    assert called.code == 0 and "written to" in called.out
    assert "not the card's, and are accepted: users: 50 found, 60 expected" in called.err
    contents = load_contents("sports", sports.data)
    assert contents.report["counts"]["users"] == 50
    assert len(contents.report["differing_counts"]) == 5
    assert json.loads((sports.data / "sports" / "manifest.json").read_text())["partial"]


def test_counts_may_be_off_by_a_hundredth(sports: RawWorld, capsys: Capture) -> None:
    expected: dict[str, Any] = {"source": "By hand.", "users": None, "interactions": 484}
    sports.change_card(expected=expected)
    assert prepare(capsys, sports).code == 0
    sports.change_card(expected=expected | {"interactions": 485})
    assert "card's: interactions: 480 found, 485 expected (-1.0%). No" in last_line(
        prepare(capsys, sports)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sprots"], "unknown dataset 'sprots'; did you mean 'sports'?; the datasets are "),
        (["sports@mine"], "unknown dataset 'sports@mine'; did you mean 'sports'?"),
        (["synthetic"], "dataset 'synthetic' has no raw files: it is drawn when it is asked for"),
        (["sports", "--reviews", "no.gz"], "no.gz is missing"),
        (["sports", "--metadata", "no.gz"], "no.gz is missing"),
        (["sports", "--reviews", "."], ". is no file"),
        (["sports", "--reviews"], "argument --reviews: expected one argument"),
    ],
)
def test_mistakes_fetch_nothing(
    sports: RawWorld, capsys: Capture, words: list[str], message: str
) -> None:
    name, *rest = words
    assert only_error(prepare(capsys, sports, *rest, name=name)).startswith(message)
    assert sports.requests == 0 and not sports.data.exists()


def test_a_card_without_raw_files_says_what_to_import(tmp_path: Path, capsys: Capture) -> None:
    with raw_world("beauty", tmp_path / "world") as world:
        world.change_card(raw=None, sids=None, filters=[])
        said = only_error(prepare(capsys, world))
        assert said.startswith("dataset 'beauty' has no raw files: ")
        assert "`genrec-bench data import lcrec DIR --as beauty`" in said


def test_what_no_program_may_fetch(yelp: RawWorld, capsys: Capture) -> None:
    folder, (reviews, businesses) = yelp.data / "downloads" / "yelp", yelp.files
    said = only_error(prepare(capsys, yelp))
    assert said.startswith(
        f"{folder / reviews.name} and {folder / businesses.name} are not there, and no program may "
        "fetch what is missing: agree to the licence at https://www.yelp.com/dataset"
    )
    assert said.endswith("; or `genrec-bench data prepare yelp --reviews FILE --metadata FILE`")

    said = only_error(prepare(capsys, yelp, "--reviews", str(reviews)))
    assert said.startswith(f"{folder / businesses.name} is not there")
    assert said.endswith("; or `genrec-bench data prepare yelp --reviews FILE --metadata FILE`")

    assert prepare(capsys, yelp, *yelp.given).code == 0
    own = contents_of(yelp.data / "yelp")
    shutil.rmtree(yelp.data)
    yelp.publish()
    assert prepare(capsys, yelp).code == 0
    assert contents_of(yelp.data / "yelp") == own


def swapped(world: RawWorld) -> list[str]:
    reviews, items = map(str, world.files)
    return ["--reviews", items, "--metadata", reviews]


def broken(content: bytes) -> Callable[[RawWorld], list[str]]:
    def words(world: RawWorld) -> list[str]:
        world.files[0].write_bytes(content)
        return world.given

    return words


@pytest.mark.parametrize(
    "words",
    [swapped, broken(b""), broken(b"{}\n"), broken(b"\x1f\x8b\x08"), broken(b"<html>sorry</html>")],
)
def test_files_of_something_else(
    sports: RawWorld, capsys: Capture, words: Callable[[RawWorld], list[str]]
) -> None:
    given = words(sports)
    assert given[1] in last_line(prepare(capsys, sports, *given))
    assert not (sports.data / "sports").exists()


@pytest.mark.parametrize("at", [1, 3, 4])
def test_interrupted_it_leaves_the_earlier_dataset(
    sports: RawWorld, capsys: Capture, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    assert prepare(capsys, sports).code == 0
    before = contents_of(sports.data)
    sports.write_files(users=50)
    write, written = pq.write_table, 0

    def cut_short(*words: object) -> None:
        nonlocal written
        written += 1
        if written == at:
            raise KeyboardInterrupt
        write(*words)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", cut_short)
        assert prepare(capsys, sports, *sports.given, "--accept-counts", "--replace").code == 130
    assert written == at
    assert contents_of(sports.data) == before
    assert not list(sports.data.glob(".sports-*"))
    assert prepare(capsys, sports, *sports.given, "--accept-counts", "--replace").code == 0
    assert contents_of(sports.data) != before


def test_a_disk_that_refuses_leaves_the_earlier_dataset(
    sports: RawWorld, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(capsys, sports).code == 0
    before = contents_of(sports.data)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    sports.write_files(users=50)
    assert "No space left" in last_line(
        prepare(capsys, sports, *sports.given, "--accept-counts", "--replace")
    )
    assert contents_of(sports.data) == before


def test_a_file_that_is_not_the_cards_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "log.csv"
    own.write_text("user,item,time\n")
    raw = Raw("csv", SourceFile("log.csv", sha256="0" * 64), how="ours")
    with pytest.raises(UserError, match=r"its sha256 is [0-9a-f]{64}, the card's is 0000"):
        check_own_files(raw, own, None)
    own_hash = file_sha256(own)
    right = dataclasses.replace(raw, interactions=SourceFile("log.csv", sha256=own_hash))
    check_own_files(right, own, None)
    assert raw_files("mine", right, own, None, tmp_path, Progress(quiet=True)) == (own, None)
    with pytest.raises(UserError, match="is no file"):
        check_own_files(raw, tmp_path, None)
