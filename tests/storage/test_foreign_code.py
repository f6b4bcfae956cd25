"""Code that is not ours raises what it likes: one line, and the user's own interrupt passes."""

from pathlib import Path

import pytest

from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs.registry import discover
from genrec_bench.storage.arrays import open_array
from genrec_bench.storage.python_files import guarded
from genrec_bench.studies.sweeps.database import check_address, sound
from genrec_bench.training.own_metrics import load_metrics

CODE = {
    "exits": ("import sys; sys.exit()", "SystemExit"),
    "exits in words": ("raise SystemExit('bye\\nbye')", "SystemExit: bye bye"),
    "a base": ("class Own(BaseException): pass\nraise Own('x')", "line 2: Own: x"),
    "a generator's": ("raise GeneratorExit", "GeneratorExit"),
    "no words": (
        "class Mute(Exception):\n  def __str__(self): raise KeyError\nraise Mute",
        "Mute: (which cannot be told)",
    ),
    "a long one": ("raise ValueError('x ' * 10_000)", "ValueError: x x"),
    "no Python": ("def", "SyntaxError"),
    "NUL": ("a = 'b\0'", "Error: source code string cannot contain null bytes"),
    "no UTF-8": ("a = '\udcff'", "SyntaxError"),
    "nested": ("(" * 1000 + ")" * 1000, "Error: "),
    "a loop": ("def f(): f()\nf()", "RecursionError"),
}


@pytest.mark.parametrize("name", CODE)
def test_whatever_a_file_does_as_it_is_loaded_is_one_line(tmp_path: Path, name: str) -> None:
    code, told = CODE[name]
    path = tmp_path / "mine.py"
    path.write_bytes(code.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        load_metrics(path)
    found = discover(file=path)
    (problem,) = found.problems
    for line in (str(error.value), problem.reason):
        assert told in line and line.isprintable() and len(line) < 500, line
    assert len(found.entries) > 4, "the others are there"


def test_an_interrupt_is_the_users_own(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupt, "", None)
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover(file=tmp_path / "mine.py")


HEADERS = [
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 2)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4)}",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}",
    b"{'descr': [], 'fortran_order': 3, 'shape': 4}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': ((2,), 2)}",
    b"'''",
    b"(" * 5000,
    b"\xff\xfe\x00",
    b"[" + b"9" * 5000 + b"]",
    b"",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_damaged_header_of_an_array_is_one_line(tmp_path: Path, header: bytes) -> None:
    for version in (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"):
        size = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
        file = tmp_path / "a.npy"
        file.write_bytes(b"\x93NUMPY" + version + size + header + b"\0" * 16)
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            open_array(file)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite",
        "",
        "postgresql://host:port/name",
        "mysql://u:p@h:99x/n",
        "nosuch://host/name",
        "sqlite+nosuch:///a.db",
        "://",
        "postgresql://[::1/x",
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(UserError, match=r"^--storage .*: cannot be opened: .*give the address"):
        check_address(url)


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("b\nc"), TypeError(), IndexError(3)])
def test_what_a_damaged_study_makes_a_library_raise_is_one_line(error: Exception) -> None:
    with pytest.raises(StorageError, match=r"^the study's database is damaged[^\n]*move it away"):
        with sound():
            raise error
