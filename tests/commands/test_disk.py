"""A disk that refuses, and files that something else broke: one clear line, and no more harm."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashes import COMMANDS, assert_same_end, count_moments, in_root, kills, moments, prepare
from fake_training import checkpoint_every_step
from tiny_runs import Called, call, last_error, shrink_backbone

from genrec_bench.training.checkpoints import training_checkpoints

Capture = pytest.CaptureFixture[str]
WORDS = COMMANDS["grpo"]

WRITING = ("fsync", "mkdir", "rename", "replace")
"""Of the moments of `crashes.py`, those that a full disk refuses."""


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """A smaller `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The root of a run that nothing disturbed, and how many moments it had."""
    root = prepare(tmp_path_factory.mktemp("whole"))
    return root, count_moments(WORDS, root)


@pytest.fixture(scope="module")
def whole(undisturbed: tuple[Path, int]) -> Path:
    """The root of a run that nothing disturbed; to be copied."""
    return undisturbed[0]


@pytest.fixture(scope="module")
def cut(undisturbed: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run that was killed with two checkpoints; to be copied."""
    root, copies = prepare(tmp_path_factory.mktemp("cut")), tmp_path_factory.mktemp("copies")
    total = undisturbed[1]
    for copy in reversed(kills(WORDS, root, range(total - 60, total, 10), copies)):
        folders = list(copy.glob("out/*/*/checkpoints"))
        done = list(copy.glob("out/*/*/record.json"))
        if folders and len(training_checkpoints(folders[0])) == 2 and not done:
            return copy
    raise AssertionError("no kill left two checkpoints and no record")


def copied(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "root", symlinks=True))


def give(capsys: Capture, root: Path, words: list[str] = WORDS) -> Called:
    with checkpoint_every_step():
        return call(capsys, in_root(words, root))


def check_nothing_half_written(root: Path) -> None:
    """Whatever has a name of its own is whole: the same command ends as if nothing had been."""
    for folder in root.glob("out/*/*/"):
        names = {path.name for path in folder.iterdir()}
        if "record.json" in names:
            assert {"outcomes.parquet", "curves.parquet", "policy"} <= names


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (errno.ENOSPC, 2),
        (errno.EROFS, 60),
        (errno.ENOSPC, 110),
        *(
            pytest.param(error, first, marks=pytest.mark.slow)
            for error in (errno.ENOSPC, errno.EROFS, errno.EIO)
            for first in range(0, 150, 13)
        ),
    ],
)
def test_a_disk_that_refuses(
    error: int, first: int, capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    """From some moment on it is full, or read-only; later it is mended."""
    root, refused = prepare(tmp_path / "root"), 0

    def refuse(count: int, name: str) -> None:
        nonlocal refused
        if count >= first and name in WRITING:
            refused += 1
            raise OSError(error, os.strerror(error))

    with moments(root, refuse):
        called = give(capsys, root)
    assert refused
    said = last_error(called)
    assert "cannot " in said and said.endswith(os.strerror(error)), said
    check_nothing_half_written(root)
    assert not list(root.glob("out/*/*/record.json")), "a full disk is no verdict on a run"
    assert give(capsys, root).code == 0
    assert_same_end(whole, root)


@pytest.mark.parametrize(
    "most",
    [20_000, *(pytest.param(most, marks=pytest.mark.slow) for most in (1_000, 2_500, 60_000))],
)
def test_files_that_may_not_grow(most: int, capsys: Capture, whole: Path, tmp_path: Path) -> None:
    """The system's own refusal, in the middle of a file."""
    root = prepare(tmp_path / "root")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        called = give(capsys, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = last_error(called)
    assert "cannot write" in said and "File too large" in said
    check_nothing_half_written(root)
    assert give(capsys, root).code == 0
    assert_same_end(whole, root)


@pytest.mark.parametrize(
    "place", ["out", "out/industrial", "data/sft", "data/sft/industrial-*/evaluation-valid-*.json"]
)
def test_something_else_is_in_the_way(
    place: str, capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    # A folder without the right to write is one for everybody but root; a file is one for all.
    root = copied(whole, tmp_path)
    for path in root.glob(place):
        remove(path)
        path.mkdir() if path.suffix == ".json" else path.write_text("in the way")
    said = last_error(give(capsys, root))
    assert str(next(root.glob(place))) in said


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("place", ["out", "out/industrial", "data/sft", "data"])
def test_a_folder_that_is_read_only(
    place: str, capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    root = copied(whole, tmp_path)
    for path in root.glob("data/sft/*.lock"):
        path.unlink()
    (root / place).chmod(0o555)
    try:
        called = give(capsys, root, [*WORDS, "sft_seed=7"])
    finally:
        (root / place).chmod(0o755)
    assert "Permission denied" in last_error(called)


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content), 97):
        content[place] ^= 0x15
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


BOARD = ["leaderboard", "industrial", "--output", "{root}/out", "--to", "{root}/boards"]

BREAKABLE: dict[str, tuple[list[str], Callable[[Path], None]]] = {
    "data/industrial/train.parquet": (WORDS, halve),
    "data/industrial/manifest.json": (WORDS, empty),
    "out/industrial/*/record.json": (BOARD, halve),
    "out/industrial/*/outcomes.parquet": (BOARD, garble),
    "out/industrial/*/curves.parquet": (BOARD, empty),
}


REMADE: dict[str, Callable[[Path], None]] = {
    "data/sft/*/sft.json": halve,
    "data/sft/*/policy/model.safetensors": garble,
    "data/sft/*/evaluation-test-*.json": empty,
    "data/sft/*/evaluation-test-*.parquet": halve,
}
"""Caches: what is damaged there is named, and made again."""


def files(root: Path) -> set[str]:
    """All files by name, but for what every run makes at its beginning."""
    found = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    return {name for name in found if not name.endswith((".lock", "/run.json"))}


def check_broken(pattern: str, harm: Callable[[Path], None], root: Path, capsys: Capture) -> None:
    (path,) = root.glob(pattern)
    harm(path)
    before = files(root)
    called = give(capsys, root, BREAKABLE[pattern][0])
    last_error(called)
    # The file, or the folder that is to be deleted with it.
    assert any(str(place) in called.err for place in (path, *list(path.parents)[:2])), called.err
    assert files(root) == before


@pytest.mark.parametrize("pattern", BREAKABLE)
def test_a_broken_file_is_named(pattern: str, capsys: Capture, whole: Path, tmp_path: Path) -> None:
    check_broken(pattern, BREAKABLE[pattern][1], copied(whole, tmp_path), capsys)


@pytest.mark.parametrize("pattern", REMADE)
def test_a_broken_cache_is_named_and_made_again(
    pattern: str, capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    root = copied(whole, tmp_path)
    (path,) = root.glob(pattern)
    REMADE[pattern](path)
    broken = path.read_bytes()
    called = give(capsys, root, WORDS)
    assert called.code == 0 and "Traceback" not in called.err
    assert any(str(place) in called.err for place in (path, *list(path.parents)[:2])), called.err
    (again,) = root.glob(pattern)
    assert again.read_bytes() != broken


@pytest.mark.slow
@pytest.mark.parametrize("harm", [halve, garble, empty])
@pytest.mark.parametrize("pattern", BREAKABLE)
def test_a_broken_file_is_named_however_it_was_broken(
    pattern: str, harm: Callable[[Path], None], capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    check_broken(pattern, harm, copied(whole, tmp_path), capsys)


@pytest.mark.parametrize("name", ["run.json", "record.json"])
@pytest.mark.parametrize("harm", [halve, empty])
def test_a_broken_run_is_named_and_stands_in_no_other_ones_way(
    harm: Callable[[Path], None], name: str, capsys: Capture, whole: Path, tmp_path: Path
) -> None:
    root = copied(whole, tmp_path)
    (path,) = root.glob(f"out/industrial/*/{name}")
    harm(path)
    broken = path.read_bytes()
    called = give(capsys, root)
    assert called.code == 0
    told = f"passed over: {path}"
    assert called.err.count(told) == 1 or name == "record.json"
    assert path.read_bytes() == broken and len(list(root.glob("out/industrial/*/record.json"))) == 2
    # The next one finds the run that was made in its place.
    comparison = give(capsys, root, ["runs", "list", "--output", "{root}/out"])
    assert comparison.code == 0 and comparison.out.count("complete") == 1 + (name == "run.json")


def test_a_broken_checkpoint_costs_the_steps_since_the_one_before(
    capsys: Capture, whole: Path, cut: Path, tmp_path: Path
) -> None:
    root = copied(cut, tmp_path)
    (folder,) = root.glob("out/*/*/checkpoints")
    before, last = training_checkpoints(folder)
    halve(last / "optimizer.safetensors")
    called = give(capsys, root)
    assert called.code == 0
    assert f"resumed after step {int(before.name.removeprefix('step-'))}" in called.err
    assert_same_end(whole, root)


def test_without_a_whole_checkpoint_a_run_says_what_to_do(
    capsys: Capture, whole: Path, cut: Path, tmp_path: Path
) -> None:
    root = copied(cut, tmp_path)
    (folder,) = root.glob("out/*/*/checkpoints")
    for checkpoint in training_checkpoints(folder):
        halve(checkpoint / "policy.safetensors")
    said = last_error(give(capsys, root))
    assert said.endswith(f"policy.safetensors was changed; delete {folder} to start anew")
    assert not (folder.parent / "record.json").exists(), "a run that can go on has not failed"
    # As it says.
    shutil.rmtree(folder)
    assert give(capsys, root).code == 0
    assert_same_end(whole, root)
