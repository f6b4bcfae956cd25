"""Algorithms are found by being there; what cannot be used is named, with the reason."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import genrec_bench.algorithms
from genrec_bench.commands.cli import make_parser
from genrec_bench.errors import UserError
from genrec_bench.runs.registry import baseline, discover, find, source_hash

GOOD = '''"""Mine: a name for the tests."""

from genrec_bench.algorithm import Algorithm


class Mine(Algorithm):
    """Learns nothing."""

    on_policy = False
'''

FIELDS = '''"""Mine, with a hyperparameter."""

from dataclasses import dataclass

from genrec_bench.algorithm import Algorithm
from genrec_bench.algorithm import Hyperparameters, hyperparameter


@dataclass(frozen=True)
class MineHyperparameters(Hyperparameters):
    """One."""

    weight: float = hyperparameter(0.5, low=0, high=2, help="of the term")
    centre: bool = hyperparameter(True, help="whether to subtract the mean")


class Mine(Algorithm):
    """Learns nothing."""

    on_policy = False
    hyperparameters_class = MineHyperparameters
'''


def write(folder: Path, text: str = GOOD, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that counts as the folder of algorithms, beside the real one."""
    before = set(sys.modules)
    package = genrec_bench.algorithms
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(package.__name__):
            del sys.modules[name]
            vars(package).pop(name.rpartition(".")[2], None)


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, points: str, package: str = "their_lab"
) -> None:
    """Lay out an installed package as pip does, with a module and its entry points."""
    (folder / f"{package}.py").write_text(GOOD.replace("Mine", "Theirs") + "\nNOTHING = 3\n")
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[genrec_bench.algorithms]\n{points}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)


def reason(name: str) -> str:
    (problem,) = [problem for problem in discover().problems if problem.name == name]
    assert "\n" not in problem.reason
    return problem.reason


def refused(argument: str, reserved: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as raised:
        find(argument, reserved)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_algorithms_that_are_shipped_can_all_be_used(root: Path) -> None:
    registry = discover()
    files = {path.stem for path in (root / "algorithms").glob("*.py")} - {"__init__"}
    assert {entry.name for entry in registry.entries} == files
    assert registry.problems == ()
    for entry in registry.entries:
        assert Path(root, entry.origin).resolve() == root / "algorithms" / f"{entry.name}.py"


def test_a_file_is_found_by_being_dropped_in(dropped: Path) -> None:
    write(dropped)
    entry = discover().get("mine")
    assert entry.algorithm.__name__ == "Mine"
    assert entry.summary == "Mine: a name for the tests."
    assert entry.documentation == "Mine: a name for the tests.\n\nLearns nothing."
    assert entry.origin == str(dropped / "mine.py")


def test_a_file_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FIELDS)
    monkeypatch.chdir(tmp_path)
    path_before, names = list(sys.path), ("mine.py", "./mine.py", str(tmp_path / "mine.py"))
    for argument in names:
        entry = find(argument)
        assert (entry.name, entry.origin) == ("mine", str(Path(argument)))
        assert entry.algorithm.hyperparameters_class().weight == 0.5  # type: ignore[attr-defined]
    assert sys.path == path_before
    assert "mine" not in sys.modules


def test_an_edited_file_is_read_anew_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = write(tmp_path)
    before = file.stat()
    find(str(file))
    file.write_text(GOOD.replace("Learns nothing", "Learns NOTHING"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert find(str(file)).algorithm.__doc__ == "Learns NOTHING."
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_files_of_one_name_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(GOOD.replace("Learns", f"{name} learns"))
    found = [find(str(tmp_path / name / "mine.py")).algorithm for name in ("a", "b")]
    assert [cls.__doc__ for cls in found] == ["a learns nothing.", "b learns nothing."]
    assert found[0].__module__ != found[1].__module__


def test_the_path_of_a_shipped_file_is_no_duplicate(root: Path) -> None:
    assert find(str(root / "algorithms" / "sft.py")).algorithm is find("sft").algorithm


def test_an_installed_package_offers_an_algorithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "other = their_lab:Theirs")
    entry = discover().get("other")
    assert entry.algorithm.__name__ == "Theirs"
    assert entry.origin == "entry point their_lab:Theirs of their_lab 1.2"
    assert (
        source_hash(entry) == hashlib.sha256((tmp_path / "their_lab.py").read_bytes()).hexdigest()
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("their_lab:NOTHING", "3 is not a class derived from genrec_bench.algorithm.Algorithm"),
        ("their_lab:Missing", "AttributeError: module 'their_lab' has no attribute 'Missing'"),
        ("no_such_module:Theirs", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_broken_entry_point_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    install(tmp_path, monkeypatch, f"other = {value}")
    assert reason("other").endswith(said)
    assert f"entry point {value} of their_lab 1.2" in refused("other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"""Doc."""\n\ndef f(:\n', "line 3: SyntaxError: invalid syntax"),
        ("import nowhere_to_be_found\n", "line 1: ModuleNotFoundError: No module named"),
        (
            "from genrec_bench.hyperparameters import Hyperparameters\n",
            "No module named 'genrec_bench.hyperparameters'; import it from genrec_bench.algorithm",
        ),
        (
            "from genrec_bench.policy.tree import Trees\n",
            "policy/tree.py); import it from genrec_bench.algorithm",
        ),
        ("from genrec_bench.algorithm import Nothing\n", "genrec_bench/algorithm.py)"),
        ("x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("raise ValueError('one\\ntwo')\n", "line 1: ValueError: one two"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ('"""Doc."""\n', "no class derived from genrec_bench.algorithm.Algorithm in it"),
        ("from genrec_bench.algorithm import Algorithm\n", "no class derived"),
        (GOOD.replace("class Mine", "class _Mine"), "no class derived"),
        (GOOD + "\nclass Yours(Mine): pass\n", "2 classes (Mine, Yours) derived"),
        (GOOD.replace("on_policy = False", ""), "Mine does not define reward or advantage or loss"),
        (
            GOOD.replace("on_policy = False", "def rewards(self, seen): pass"),
            "Mine does not define reward or advantage or loss; did you mean 'rewards'?",
        ),
        (GOOD + "    hyperparameters_class = dict\n", "Mine.hyperparameters_class is not a class"),
        (
            FIELDS.replace("@dataclass(frozen=True)\n", ""),
            "MineHyperparameters lacks the decorator @dataclass(frozen=True)",
        ),
        (FIELDS.replace("0.5, low", "3, low"), "weight=3: must be between 0 and 2"),
        (
            FIELDS.replace('hyperparameter(0.5, low=0, high=2, help="of the term")', "field()")
            .replace("import dataclass\n", "import dataclass, field\n")
            .replace("frozen=True", "frozen=True, kw_only=True"),
            "missing 1 required keyword-only argument: 'weight'",
        ),
        (FIELDS.replace("frozen=True", ""), "TypeError: cannot inherit non-frozen dataclass"),
        (GOOD + "    __doc__ = 5\n", "the docstring of its class is int, and no text"),
        (GOOD + "\n__doc__ = [1]\n", "the docstring of its module is list, and no text"),
        (GOOD + "    trains = 'yes'\n", "Mine.trains is 'yes'; it must be True or False"),
        (FIELDS.replace('help="of the term"', "help=3"), "help and choices must be text"),
        (FIELDS.replace("low=0", "low='0'"), "low, high and most must be numbers"),
    ],
)
def test_a_broken_file_is_named_and_breaks_nothing_else(
    dropped: Path, text: str, said: str
) -> None:
    shipped = {entry.name for entry in discover().entries}
    (dropped / "broken.py").write_text(text)
    write(dropped)
    assert {entry.name for entry in discover().entries} == shipped | {"mine"}
    assert said in reason("broken")
    message = refused("broken")
    assert str(dropped / "broken.py") in message and said in message
    assert said in refused(str(dropped / "broken.py"))


def test_a_helper_beside_the_class_and_an_alias_do_not_count(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD + "\nclass _Helper(Mine): pass\nAlias = Mine\n")
    assert find(str(file)).algorithm.__name__ == "Mine"


def test_a_dot_in_a_files_name_is_a_problem_not_a_silence(dropped: Path) -> None:
    (dropped / "mine.v2.py").write_text(GOOD)
    assert "no dot" in reason("mine.v2")


def test_two_of_one_name_are_both_named(
    dropped: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(dropped)
    site = tmp_path_factory.mktemp("site")
    install(site, monkeypatch, "mine = their_lab:Theirs")
    elsewhere = write(site)
    origins = [str(dropped / "mine.py"), "entry point their_lab:Theirs of their_lab 1.2"]
    assert "mine" not in {entry.name for entry in discover().entries}
    message = refused("mine")
    assert all(origin in message for origin in origins)
    message = refused(str(elsewhere))
    assert all(origin in message for origin in [*origins, str(elsewhere)])


def test_a_file_that_takes_a_shipped_name_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, name="sft.py")
    message = refused(str(file))
    assert str(file) in message and message.count("sft.py") == 2


def test_an_unknown_name_brings_the_nearest_and_the_list() -> None:
    message = refused("stf")
    assert message.startswith("there is no algorithm 'stf'; did you mean 'sft'? (found: ")
    assert "sft" in message.partition("found: ")[2]


@pytest.mark.parametrize(
    ("argument", "said"),
    [("./missing.py", "no such file"), ("missing.py", "no such file"), ("./mine", "a Python file")],
)
def test_a_path_to_nothing_is_refused(argument: str, said: str) -> None:
    message = refused(argument)
    assert argument in message and said in message


def test_a_hyperparameter_must_not_have_the_name_of_a_setting(tmp_path: Path) -> None:
    file = write(tmp_path, FIELDS)
    assert find(str(file), reserved=("group_size",)).name == "mine"
    message = refused(str(file), reserved=("group_size", "weight"))
    assert "hyperparameter 'weight' of MineHyperparameters" in message


def test_the_hash_is_that_of_the_file_and_of_those_it_derives_from(
    dropped: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(dropped)
    parent = discover().get("mine")
    assert source_hash(parent) == hashlib.sha256(GOOD.encode()).hexdigest()
    child = tmp_path_factory.mktemp("child") / "yours.py"
    text = "from genrec_bench.algorithms.mine import Mine\nclass Yours(Mine): pass\n"
    child.write_text(text)
    before = source_hash(find(str(child)))
    assert before == hashlib.sha256((text + GOOD).encode()).hexdigest()
    (dropped / "mine.py").write_text(GOOD + "# changed\n")
    assert source_hash(find(str(child))) != before


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    args = make_parser().parse_args(["algorithms", *arguments])
    code = args.execute(args)
    return code, capsys.readouterr().out


def test_the_command_lists_what_is_found_and_what_is_broken(
    dropped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(dropped)
    code, text = answer(capsys)
    assert code == 0
    (line,) = [line for line in text.splitlines() if line.startswith("mine")]
    assert "Mine: a name for the tests." in line and str(dropped / "mine.py") in line
    assert "cannot be used" not in text

    (dropped / "broken.py").write_text("1 / 0\n")
    code, text = answer(capsys)
    assert code == 2
    assert f"broken ({dropped / 'broken.py'}): line 1: ZeroDivisionError" in text
    code, text = answer(capsys, "--json")
    said = json.loads(text)
    assert code == 2
    assert "mine" in [each["name"] for each in said["algorithms"]]
    assert [each["name"] for each in said["problems"]] == ["broken"]


def test_the_command_describes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, FIELDS)
    code, text = answer(capsys, str(file))
    assert code == 0
    assert "Learns nothing." in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("weight", "centre"))]
    assert rows[0] == ["weight", "0.5", "0", "..", "2", "all", "of", "the", "term"]
    assert rows[1][:4] == ["centre", "true", "true,", "false"]
    code, text = answer(capsys, str(file), "--json")
    said = json.loads(text)
    assert said["sha256"] == hashlib.sha256(FIELDS.encode()).hexdigest()
    assert [row["name"] for row in said["hyperparameters"]] == ["learning_rate", "weight", "centre"]
    assert "group_size" in [row["name"] for row in said["settings"]]
    write(tmp_path, FIELDS.replace("weight:", "group_size:"))
    with pytest.raises(UserError, match="'group_size' of MineHyperparameters has the name of a"):
        answer(capsys, str(file))


def test_what_an_algorithm_prints_does_not_spoil_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, GOOD + "\nprint('loading')\n")
    code, text = answer(capsys, str(file), "--json")
    assert code == 0 and json.loads(text)["name"] == "mine"


def test_the_command_checks_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, FIELDS)
    code, text = answer(capsys, str(file), "--check")
    assert code == 0 and "ok      hyperparameters" in text and "FAILED" not in text
    file.write_text(FIELDS.replace('help="of the term"', 'help=""'))
    code, text = answer(capsys, str(file), "--check")
    assert code == 2 and "FAILED  hyperparameters: weight has no help text" in text
    code, text = answer(capsys, str(file), "--check", "--json")
    failed = [row for row in json.loads(text)["checks"] if row["failure"]]
    assert code == 2
    found = {"check": "hyperparameters", "failure": "weight has no help text", "after": ""}
    assert failed == [{"algorithm": "mine", **found}]


def test_one_algorithm_is_the_baseline_and_those_derived_from_it_are_not() -> None:
    assert baseline() == "grpo"
    heirs = [one.name for one in discover().entries if one.algorithm.is_baseline]
    assert {"srpo", "ugr", "vstar"} < set(heirs), "they derive from it and are no baseline"
