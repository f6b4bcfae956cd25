"""House rules that no linter knows."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_LINES = 400
MAX_LINES_OF_AN_ALGORITHM = 150
# One paper with two algorithms, and a loss for a value beside them.
LONGER_ALGORITHMS = {"vstar.py": 220}

GENERATED = {"runs", "build", "dist", "mlruns", "mlartifacts", "__pycache__"}
BINARY = {".parquet", ".safetensors", ".png", ".npz", ".db"}

# Somebody's folder, and where their packages come from: neither means anything to the next person.
FOREIGN = {
    "a path of one machine": re.compile(
        r"(?<![\w.*~-])/(?:home|root|work|tmp|opt|mnt|Users)/\w|\b[A-Z]:\\\w"
    ),
    "a package index": re.compile(
        r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|conda\.anaconda\.org"
        r"|(?:--|PIP_)(?:extra[-_])?index[-_]url|--find[-_]links",
        re.IGNORECASE,
    ),
}


def text_files(root: Path) -> Iterator[Path]:
    """What a clone holds, found without git; links to folders are not followed."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in GENERATED
            and not name.endswith(".egg-info")
            and (name == ".ci" or not name.startswith("."))
        ]
        # In a worktree .git is a file, which names the folder of the repository.
        names = [name for name in names if Path(name).suffix not in BINARY and name != ".git"]
        yield from (Path(folder) / name for name in names)


def too_long(root: Path) -> list[str]:
    found = []
    for path in text_files(root):
        name = path.relative_to(root)
        if name.suffix == ".py":
            limit = MAX_LINES
            if name.parts[0] == "algorithms":
                limit = LONGER_ALGORITHMS.get(name.name, MAX_LINES_OF_AN_ALGORITHM)
            if (length := len(path.read_text().splitlines())) > limit:
                found.append(f"{name} has {length} lines; {limit} are allowed")
    return found


def foreign(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number} names {what}: {line.strip()[:80]}"
        for path in text_files(root)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]


def test_every_file_tells_one_story(root: Path) -> None:
    assert not too_long(root)


def test_no_file_names_a_machine_or_a_package_index(root: Path) -> None:
    assert not foreign(root)


@pytest.mark.parametrize(
    ("name", "length", "caught"),
    [
        ("genrec_bench/a.py", 400, False),
        ("genrec_bench/a.py", 401, True),
        ("algorithms/a.py", 150, False),
        ("algorithms/a.py", 151, True),
        ("algorithms/vstar.py", 220, False),
        ("algorithms/vstar.py", 221, True),
        ("README.md", 900, False),
        ("runs/a.py", 900, False),
    ],
)
def test_the_length_rule_catches(tmp_path: Path, name: str, length: int, caught: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("\n" * length)
    assert bool(too_long(tmp_path)) is caught


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("cd /" + "home/ann/genrec", True),
        ('path = "/' + 'tmp/x"', True),
        ("C:" + "\\Users", True),
        ("https://" + "pypi." + "org/simple", True),
        ("pip install --index" + "-url x", True),
        ("#!/usr/bin/env bash", False),
        ("~/.cache/genrec-bench or ../shared/data", False),
        ("docs/home/work/tmp/x", False),
    ],
)
def test_the_rule_on_foreign_names_catches(tmp_path: Path, line: str, caught: bool) -> None:
    (tmp_path / "a.md").write_text(line)
    assert bool(foreign(tmp_path)) is caught


def test_json_is_read_in_one_place(root: Path) -> None:
    """Whatever reads JSON gets the bounds of `storage/bounded_json.py` without asking for them."""
    own = {
        "storage/bounded_json.py",
        # It reads again what it has just written, without the numbers that JSON does not have.
        "studies/comparison/suites.py",
    }
    package = root / "genrec_bench"
    reading = re.compile(r"\bjson\.loads?\(|JSONDecoder|\bfrom_json\(|pd\.read_json\(")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if reading.search(path.read_text(encoding="utf-8"))
    }
    assert found == own
