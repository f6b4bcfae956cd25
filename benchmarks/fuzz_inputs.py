"""One input of `fuzz.py`: made, given to its command, and judged by how that ends."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_binaries as binaries
import fuzz_mutations as mutations
from fuzz_kinds import Kind, command_lines, kinds
from fuzz_world import environment, first_start, stop_early

SECONDS = 10
"""Of the processor for one input."""

LONGEST = 3000
"""Characters of a line of complaint."""

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, or code that raises what that does."""

UNCHANGED = 0.02
"""Of inputs that are files."""


class Hang(BaseException):
    """An input takes too long."""


@dataclass
class Finding:
    """One thing that should not be; `key` is the same for what is likely the same mistake."""

    what: str
    key: str
    kind: str
    number: int
    words: list[str]
    file: str
    told: str


@dataclass
class Ground:
    """Where inputs are tried: `good` is the world, `case` one input's copy, `outside` a bait.

    All lie some folders deep in `top`, so that what climbs out of its folder stays below that.
    """

    top: Path
    good: Path = field(init=False)
    case: Path = field(init=False)
    outside: Path = field(init=False)

    def __post_init__(self) -> None:
        self.good = self.top / "a" / "b" / "good"
        self.case = self.top / "c" / "d" / "e" / "f" / "case"
        self.outside = self.top / "outside"
        for folder in (self.outside, self.case.parent):
            folder.mkdir(parents=True, exist_ok=True)


def make_input(
    ground: Ground, kind: Kind, rng: random.Random, others: Sequence[Path]
) -> tuple[list[str], str, bool]:
    """Lay out the case of an input, and return its command, its file, and whether that is changed.

    A few stay as they are: where good files are refused, changed ones are hardly read.
    """
    case = ground.case
    _lay_out(ground, kind)
    if not kind.targets:
        words = mutations.change_words(rng, rng.choice(command_lines()))
        return [word.replace(mutations.OUTSIDE, str(ground.outside)) for word in words], "", True
    files = sorted({path for one in kind.targets for path in case.glob(one) if path.is_file()})
    file = rng.choice(files)
    content = file.read_bytes()
    draw = rng.random()
    if draw < 0.05:
        content = mutations.replace_all(rng, content)
    elif draw < 0.08:
        content = rng.choice(others).read_bytes()
    elif draw < 0.1:
        file.unlink()
        if rng.random() < 0.5:
            file.mkdir()
    elif draw < 0.1 + UNCHANGED:
        return _filled(ground, rng.choice(kind.commands), file), str(file.relative_to(case)), False
    elif draw < 0.4 or not kind.structured:
        if file.suffix == ".db" and rng.random() < 0.7:
            content = binaries.change_sqlite(rng, content, case / "tmp" / "scratch.db")
        else:
            content = mutations.change_bytes(rng, content)
    else:
        content = _structured(kind, rng, file, content)
    content = content.replace(mutations.OUTSIDE.encode(), os.fsencode(ground.outside))
    if file.is_file():
        file.write_bytes(content[: mutations.LARGEST])
        if kind.seal is not None:
            kind.seal(rng, case, file)
    return _filled(ground, rng.choice(kind.commands), file), str(file.relative_to(case)), True


def _filled(ground: Ground, words: Sequence[str], file: Path) -> list[str]:
    """Return a command's words with the changed file, its folder, and a start for `{start}`."""
    names = {"{file}": str(file), "{folder}": str(file.parent)}
    if "{start}" in words:
        names["{start}"] = first_start(ground.good)
    return [re.sub(r"\{\w+\}", lambda found: names[found[0]], word) for word in words]


def _lay_out(ground: Ground, kind: Kind) -> None:
    """Copy what a kind needs of the world."""
    case = ground.case
    shutil.rmtree(case, ignore_errors=True)
    (case / "tmp").mkdir(parents=True)
    for part in kind.parts:
        source, target = ground.good / part, case / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy2(source, target)


def good_files(ground: Ground) -> list[Path]:
    """Return the files of the world that some kind of input changes."""
    patterns = {target for kind in kinds() for target in kind.targets}
    return sorted({path for one in patterns for path in ground.good.glob(one) if path.is_file()})


def unchanged(ground: Ground, kind: Kind) -> list[str]:
    """Give a kind's files as they are to each of its commands; return what fails of them."""
    wrong = []
    for words in kind.commands:
        _lay_out(ground, kind)
        os.environ.update(environment(ground.case))
        os.chdir(ground.case)
        file = next(path for one in kind.targets for path in sorted(ground.case.glob(one)))
        words = tuple(_filled(ground, words, file))
        with _stopped(kind.early):
            code, _, err, trace = call(words)
        if refused := _refused(kind, code, err):
            wrong.append(f"{kind.name}: {' '.join(words)}: {code!r} {refused} {trace}")
    os.chdir(ground.top)
    return wrong


def _refused(kind: Kind, code: object, err: str) -> str:
    """Return what a command says to good files, if it does not take them."""
    last = (err.strip().splitlines() or [""])[-1]
    taken = code == 0 or (kind.early and "comes before" in last)
    return "" if taken else last or "nothing"


def _structured(kind: Kind, rng: random.Random, file: Path, content: bytes) -> bytes:
    """Change a file by what it says, if one of the kind's changes can read it."""
    suffixes = {
        ".json": mutations.change_json,
        ".parquet": binaries.change_parquet,
        ".npy": binaries.change_npy,
        ".safetensors": binaries.change_safetensors,
        ".yaml": mutations.change_yaml,
    }
    own = suffixes.get(file.suffix)
    change = own if own in kind.structured and own is not None else rng.choice(kind.structured)
    try:
        return change(rng, content)
    except (ValueError, KeyError, IndexError, TypeError, OSError, RecursionError):
        return mutations.change_bytes(rng, content)


def call(words: Sequence[str]) -> tuple[object, str, str, str]:
    """Call the command line; return its exit code or what it raised, what it printed, and where.

    Standard output is as strict as a terminal's.
    """
    from genrec_bench.commands.cli import main

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    trace, code = "", object()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as left:
            code = 0 if left.code is None else left.code
        except BaseException as error:  # that nothing is raised is what is tried
            code = error
            # The message of what was raised may raise in turn.
            with contextlib.suppress(Exception):
                trace = traceback.format_exc()
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return code, texts[0], texts[1], trace


def complaints(code: object, out: str, err: str, trace: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with the end of a command: what, a key, and what is told of it."""
    if isinstance(code, BaseException):
        what = "hang" if isinstance(code, Hang) else "traceback"
        yield what, f"{type(code).__name__} {_place(code)}", trace[-1500:]
        return
    if code not in (0, 2):
        yield "exit code", f"{code!r} {_template(err)}", err[-800:]
    last = (err.strip().splitlines() or [""])[-1]
    if code == 2 and not last.startswith("genrec-bench: error: "):
        yield "no line", _template(last), err[-800:]
    for name, text in (("stdout", out), ("stderr", err)):
        for line in text.split("\n"):
            if any(unicodedata.category(c) == "Cc" and c != "\t" for c in line):
                yield ("control characters", f"{name} {_template(line)}", repr(line[:300]))
                break
    if len(last) > LONGEST:
        yield "long line", _template(last[:80]), last[:300]
    for line in err.splitlines():
        if re.search(r"genrec_bench/.*\.py:\d+: \w*Warning: ", line):
            yield "warning", _template(line), line[:300]
            break


def _place(error: BaseException) -> str:
    """Where in the package an error was raised."""
    inside = "genrec_bench" + os.sep
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if inside in frame.filename and "benchmarks" not in frame.filename
    ]
    if not frames:
        return "?"
    return f"{frames[-1].filename.rpartition(inside)[2]}:{frames[-1].lineno} {frames[-1].name}"


def _template(line: str) -> str:
    """A line without what differs between two of its kind."""
    line = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+", "*", line)
    return re.sub(r"[\d.]+", "N", line)[:90]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `Hang` if the body takes too long."""

    def late(signum: int, frame: Any) -> None:
        signal.setitimer(signal.ITIMER_PROF, 5)  # again, should somebody swallow it
        raise Hang(f"more than {SECONDS} s")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Guard:
    """Sees every write of this process, and remembers those outside of a folder."""

    def __init__(self) -> None:
        self.allowed = ""
        self.strays: list[str] = []
        sys.addaudithook(self._seen)

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.allowed:
            return
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            self._check(path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            self._check(args[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._check(args[1])
        elif event == "os.system" or event.startswith(("subprocess.", "os.exec", "os.posix_spawn")):
            # Asked for the commit, the processor and the fonts.
            if args[0] not in ("git", "uname", "fc-list"):
                self.strays.append(f"{event} {args[:2]}")

    def _check(self, path: Any) -> None:
        # What a hook raises would come out of the call that it hears of.
        with contextlib.suppress(Exception):
            absolute = os.path.abspath(os.fsdecode(path))
            # The folder itself is opened by who asks whether it can be written to.
            if not f"{absolute}{os.sep}".startswith((self.allowed, "/dev/", "/proc/")):
                self.strays.append(absolute)


def listing(ground: Ground) -> set[tuple[str, int, int]]:
    """All files of the ground that no input may touch."""
    found = set()
    for where, below, files in os.walk(ground.top):
        below[:] = [name for name in below if Path(where) / name != ground.case]
        for name in (*files, *below):
            path = os.path.join(where, name)
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                is_folder = name in below
                found.add(
                    (
                        path,
                        0 if is_folder else status.st_size,
                        0 if is_folder else status.st_mtime_ns,
                    )
                )
    return found


def try_input(
    ground: Ground, kind: Kind, seed: int, number: int, guard: Guard, others: Sequence[Path]
) -> list[Finding]:
    """Make and try one input, and return what was found."""
    rng = random.Random(f"{seed} {number}")
    guard.allowed = ""
    words, file, is_changed = make_input(ground, kind, rng, others)
    os.environ.update(environment(ground.case))
    tempfile.tempdir = None  # it remembers the folder of the case before
    os.chdir(ground.case)
    guard.allowed, guard.strays = f"{ground.case}{os.sep}", []
    began = time.process_time()
    with _stopped(kind.early):
        try:
            with limited():
                code, out, err, trace = call(words)
        except Hang as late:  # where even `call` could not take it
            code, out, err, trace = late, "", "", traceback.format_exc()
    seconds = time.process_time() - began
    guard.allowed = ""
    os.chdir(ground.top)
    interrupts = code == INTERRUPTED and file.endswith(".py")  # as Ctrl-C does
    found = [] if interrupts else list(complaints(code, out, err, trace))
    if not is_changed and (said := _refused(kind, code, err)):
        found.append(("good file refused", f"{kind.name} {words[0]} {_template(said)}", said))
    found += [("stray write", f"{words[0]} {_template(path)}", path) for path in guard.strays]
    if seconds > SECONDS and not any(what == "hang" for what, *_ in found):
        found.append(("hang", f"{kind.name} {words[0]}", f"{seconds:.0f} s"))
    return [Finding(what, key, kind.name, number, words, file, told) for what, key, told in found]


@contextlib.contextmanager
def _stopped(early: bool) -> Iterator[None]:
    """Stop commands where the work would begin, if that is asked for."""
    import genrec_bench.contract.stated as stated
    import genrec_bench.data.obtain as obtaining
    import genrec_bench.studies.speed.backbone_bench as of_backbones
    import genrec_bench.studies.speed.bench as speed
    import genrec_bench.studies.speed.catalog_sizes as of_catalogs

    places = ((obtaining, "obtain"), (speed, "bench"), (stated, "run_check")) + (
        (of_backbones, "bench_backbone"),
        (of_catalogs, "bench_catalogs"),
    )
    kept = [(module, name, getattr(module, name, None)) for module, name in places]
    for module, name, there in kept:
        if early and there is not None:
            setattr(module, name, stop_early)
    try:
        yield
    finally:
        for module, name, there in kept:
            if there is not None:
                setattr(module, name, there)
