"""The wheel works away from the checkout, and the checkout hides no library's name."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

LINKS = {"algorithms": "algorithms", "datasets": "datasets", "presets": "runs/presets"}
"""Folders at top level, and where they are in the package."""

SOURCES = ["pyproject.toml", "README.md", "LICENSE", "genrec_bench", *LINKS]


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python in a folder and return what it printed; a failure shows all it said."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools leaves a build folder behind, whose stale files would get into
    # the next wheel.
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(root / name, copy)
    pip = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", "dist", ".", cwd=copy)
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, "--target", str(target), str(wheel), cwd=target)
    return target


def test_wheel_holds_the_package_with_algorithms_and_cards_and_nothing_else(
    root: Path, wheel: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    top_level = {name.split("/")[0] for name in names}
    (dist_info,) = top_level - {"genrec_bench"}
    assert dist_info.endswith(".dist-info")

    wanted = {"genrec_bench/py.typed"}
    for folder, pattern in [
        ("genrec_bench", "**/*.py"),
        ("algorithms", "**/*.py"),
        ("datasets", "**/*.yaml"),
        ("presets", "**/*.yaml"),
        ("genrec_bench", "boards/page/*.*"),
    ]:
        found = {path.relative_to(root).as_posix() for path in (root / folder).glob(pattern)}
        assert found, f"no {pattern} in {folder}"
        own = folder == "genrec_bench"
        place = "" if own else f"genrec_bench/{LINKS[folder].removesuffix(folder)}"
        wanted |= {f"{place}{name}" for name in found}
    assert wanted <= names


def test_wheel_says_what_it_is(root: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        said = Metadata.from_email(archive.read(name), validate=True)
        licenses = [each for each in archive.namelist() if each.endswith("licenses/LICENSE")]
    assert said.summary and said.keywords and said.author
    assert said.license_expression == "Apache-2.0" and len(licenses) == 1
    assert said.description_content_type == "text/markdown"
    assert said.description == (root / "README.md").read_text()
    classifiers = said.classifiers or []
    assert (
        "Typing :: Typed" in classifiers and "Programming Language :: Python :: 3.11" in classifiers
    )
    # There is no address that everybody can reach, and none is made up.
    assert not said.project_urls and not said.home_page
    assert {"cluster", "dev", "docs", "text"} <= set(said.provides_extra or ())


def test_wheel_imports_and_lists_its_algorithms_and_cards_elsewhere(
    root: Path, installed: Path, tmp_path: Path
) -> None:
    code = """
import importlib.metadata, importlib.resources, json, pkgutil
import genrec_bench, genrec_bench.algorithms
print(json.dumps({
    "file": genrec_bench.__file__,
    "versions": [genrec_bench.__version__, importlib.metadata.version("genrec-bench")],
    "algorithms": sorted(m.name for m in pkgutil.iter_modules(genrec_bench.algorithms.__path__)),
    "cards": sorted(
        entry.name
        for entry in (importlib.resources.files("genrec_bench") / "datasets").iterdir()
        if entry.name.endswith(".yaml")
    ),
}))
"""
    said = json.loads(run("-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)))
    assert Path(said["file"]).is_relative_to(installed)
    assert len(set(said["versions"])) == 1
    modules = (root / "algorithms").glob("*.py")
    assert said["algorithms"] == sorted(m.stem for m in modules if m.stem != "__init__")
    assert said["cards"] == sorted(card.name for card in (root / "datasets").glob("*.yaml"))


def test_wheel_answers_on_the_command_line_elsewhere(installed: Path, tmp_path: Path) -> None:
    said = run("-P", "-m", "genrec_bench", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "genrec-bench" in said
    assert not list(tmp_path.iterdir()), "asking for help left files behind"


def test_libraries_are_unharmed_when_started_from_the_root(root: Path) -> None:
    # With `-c` the working directory, and so our own datasets/, comes first on the path.
    code = """
import importlib.util
spec = importlib.util.find_spec("datasets")
import accelerate, datasets, mlflow, peft, transformers
print(spec.origin, datasets.Dataset.from_dict({"item": [1, 2]}).num_rows, sep="\\n")
"""
    origin, num_rows = run("-c", code, cwd=root).splitlines()[-2:]
    assert not Path(origin).is_relative_to(root / "datasets")
    assert num_rows == "2"


def test_folder_of_cards_can_never_be_a_package(root: Path) -> None:
    assert not list((root / "datasets").rglob("*.py"))


@pytest.mark.parametrize(("name", "place"), LINKS.items())
def test_links_are_relative(root: Path, name: str, place: str) -> None:
    link = root / "genrec_bench" / place
    assert not link.readlink().is_absolute() and link.resolve() == root / name
