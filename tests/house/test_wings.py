"""The order of the wings: imports go down and never in a circle, and each name is used once."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "genrec_bench"
WINGS = (
    ("errors", "progress"),
    ("storage",),
    ("statistics",),
    ("data",),
    ("policy",),
    ("decoding",),
    ("training",),
    ("algorithm",),
    ("algorithms",),
    ("runs",),
    ("tracking",),
    ("boards",),
    ("contract",),
    ("studies",),
    ("commands",),
    ("__main__",),
)
"""From the foundation up: a wing may import from those before it, and from itself."""

HEIGHT = {"": 0} | {wing: height for height, wings in enumerate(WINGS) for wing in wings}

STILL_GOING_UP: list[str] = []
STILL_TWICE: list[str] = []
"""What is not mended yet; both lists may only become shorter."""


def modules(root: Path) -> dict[str, ast.Module]:
    """Read every module of the package, under its dotted name."""
    files = [*(root / PACKAGE).rglob("*.py"), *(root / PACKAGE / "algorithms").glob("*.py")]
    names = {file: file.relative_to(root).with_suffix("").as_posix() for file in files}
    return {
        name.replace("/", ".").removesuffix(".__init__"): ast.parse(file.read_text())
        for file, name in names.items()
    }


def imports(tree: ast.Module, known: dict[str, ast.Module]) -> Iterator[str]:
    """Yield the package's own modules that a module imports, late imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def wing_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def below_the_face(known: dict[str, ast.Module]) -> dict[str, ast.Module]:
    """All modules but the package's root: it lends names from above, and imports them when asked.

    `tests/commands/test_python_api.py` holds that it imports nothing before.
    """
    return {module: tree for module, tree in known.items() if module != PACKAGE}


def going_up(known: dict[str, ast.Module]) -> list[str]:
    return sorted(
        f"{module} imports {other}"
        for module, tree in below_the_face(known).items()
        for other in set(imports(tree, known))
        if HEIGHT[wing_of(other)] > HEIGHT[wing_of(module)]
    )


def circle(known: dict[str, ast.Module]) -> list[str]:
    lower = below_the_face(known)
    graph = {module: set(imports(tree, known)) - {module} for module, tree in lower.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def twice(known: dict[str, ast.Module]) -> list[str]:
    packages = {module.rpartition(".")[0] for module in known}
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in known.items():
        if module not in packages:
            places[module.rpartition(".")[2] + ".py"].append(module)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[f"class {node.name}"].append(module)
    return sorted(name for name, found in places.items() if len(found) > 1)


def test_imports_only_go_down(root: Path) -> None:
    assert going_up(modules(root)) == STILL_GOING_UP


def test_no_imports_go_in_a_circle(root: Path) -> None:
    assert circle(modules(root)) == []


def test_every_name_is_used_once(root: Path) -> None:
    assert twice(modules(root)) == STILL_TWICE


def test_the_architecture_is_seen_at_a_glance(root: Path) -> None:
    entries = [path for path in (root / PACKAGE).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20


WORLD = {
    "genrec_bench.storage.files": "class Row: ...",
    "genrec_bench.runs.run": "from genrec_bench.storage.files import Row",
}


@pytest.mark.parametrize(
    ("module", "text", "up", "round_", "double"),
    [
        ("runs.other", "from genrec_bench.runs.run import x", [], False, []),
        (
            "data.cards",
            "def f():\n    from genrec_bench.runs import run",
            ["genrec_bench.data.cards imports genrec_bench.runs.run"],
            False,
            [],
        ),
        (
            "storage.files",
            "import genrec_bench.runs.run",
            ["genrec_bench.storage.files imports genrec_bench.runs.run"],
            True,
            [],
        ),
        ("data.files", "class Row: ...", [], False, ["class Row", "files.py"]),
    ],
)
def test_the_rules_of_the_wings_catch(
    module: str, text: str, up: list[str], round_: bool, double: list[str]
) -> None:
    texts = WORLD | {f"genrec_bench.{module}": text}
    known = {name: ast.parse(text) for name, text in texts.items()}
    assert going_up(known) == up
    assert bool(circle(known)) is round_
    assert twice(known) == double
