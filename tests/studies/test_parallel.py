"""Jobs for several processes: their order, what they return or raise, and those that die."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import parallel_world as jobs
import pytest
import torch
from rich.console import Console
from sweep_world import Make
from tiny_runs import equal_weights, run_folders

from genrec_bench.errors import StorageError, UserError
from genrec_bench.progress import Progress
from genrec_bench.runs.jobs import Context, Crew, Job, do
from genrec_bench.studies import parallel, processes
from genrec_bench.studies.parallel import JobsBroken, Lost, carry_out, do_all, value_of
from genrec_bench.studies.worker import Answer, Died, Task, ToldProgress, answer
from genrec_bench.training import child_processes


class PlayedEngine:
    """Does jobs at once, the one begun first first; `deaths` has how often each is died of."""

    def __init__(self, count: int, deaths: dict[str, int]) -> None:
        self.count, self.deaths = count, deaths
        self.running: list[Task] = []
        self.events: list[str] = []

    @property
    def free(self) -> int:
        return self.count - len(self.running)

    def start(self, task: Task) -> None:
        assert self.free
        self.running.append(task)
        self.events.append(f"+{task.label}")

    def wait(self) -> tuple[Task, Answer | Died]:
        task = self.running.pop(0)
        self.events.append(f"-{task.label}")
        if self.deaths.get(task.label, 0):
            self.deaths[task.label] -= 1
            return task, Died("struck by lightning")
        return task, Answer("done", task.label.upper())


Play = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def play(make: Make, monkeypatch: pytest.MonkeyPatch) -> Play:
    def played(
        tasks: Sequence[Task], count: int, **deaths: int
    ) -> tuple[dict[str, Any], list[str]]:
        engine = PlayedEngine(count, deaths)

        @contextlib.contextmanager
        def engine_of(context: Context, jobs: int) -> Iterator[tuple[PlayedEngine, Any]]:
            yield engine, lambda: None

        monkeypatch.setattr(parallel, "engine_of", engine_of)
        told = partial(_note, engine.events)
        return carry_out(tasks, make(), told), engine.events

    return played


def _note(events: list[str], label: str, value: object) -> None:
    events.append(f"!{label}")


def task(label: str, *after: str) -> Task:
    return Task(label, jobs.about, after)


def test_jobs_begin_in_order_after_those_they_wait_for(play: Play) -> None:
    tasks = [task("a"), task("b"), task("c", "a"), task("d", "b", "c"), task("e")]
    values, events = play(tasks, 2)
    assert values == {label: label.upper() for label in "abcde"}
    # Whoever is free begins before what has ended is told of.
    wanted = "+a +b -a +c !a -b +e !b -c +d !c -e !e -d !d"
    assert events == wanted.split()
    assert play([], 2) == ({}, [])


def test_a_job_is_lost_after_three_deaths_with_all_that_wait_for_it(play: Play) -> None:
    tasks = [task("a"), task("b", "a"), task("c", "b"), task("d")]
    values, events = play(tasks, 1, a=2)
    assert values["a"] == "A" and events.count("+a") == 3
    values, events = play(tasks, 1, a=3, d=1)
    reason = "3 processes died of it, the last one: struck by lightning"
    assert values == {"a": Lost(reason), "b": Lost(reason), "c": Lost(reason), "d": "D"}
    assert "+b" not in events and "+c" not in events
    assert [event for event in events if event[0] == "!"] == ["!a", "!b", "!c", "!d"]


@pytest.fixture
def two(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Sequence[Task]], dict[str, Any]]]:
    """Two processes, in a folder with a file that must not be taken for a library."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "rich.py").write_text("raise SystemExit('imported from where the user stands')\n")
    monkeypatch.chdir(place)
    jobs.prepare_processes(monkeypatch, tmp_path / "site")
    context = make()
    object.__setattr__(context, "crew", Crew(2))
    threads = torch.get_num_threads()
    yield lambda tasks: carry_out(tasks, context)
    torch.set_num_threads(threads)


def test_processes_do_jobs_and_others_go_on_with_those_they_died_of(
    two: Callable[[Sequence[Task]], dict[str, Any]],
    make: Make,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    job = Job("one", "grpo", ("steps=3",), 0)
    found = two(
        [
            Task("run", partial(jobs.run_and_die_once, job, tmp_path / "run")),
            *(Task(f"sum {n}", partial(jobs.add, n, 1)) for n in range(3)),
            Task("about", jobs.about),
        ]
    )
    assert [found[f"sum {n}"] for n in range(3)] == [1, 2, 3]
    about = found["about"]
    assert about["process"] != os.getpid() and about["folder"] == os.getcwd()
    assert about["dataset"] == make().dataset.fingerprint and about["crew"] == Crew()
    assert about["threads"] == int(os.environ["OMP_NUM_THREADS"])
    said = capfd.readouterr().err
    assert "resumed after step 1 of training" in said
    assert "run: worker 1 was killed by SIGKILL, perhaps for lack of memory; another" in said

    # The same as in this process without a death, bit by bit.
    context = make()
    (cut,) = run_folders(context.output)
    assert found["run"] == cut / "record.json"
    object.__setattr__(context, "output", tmp_path / "undisturbed")
    whole = do(job, context)
    assert equal_weights(whole.parent, cut)


def test_what_a_job_raises_ends_the_others(
    two: Callable[[Sequence[Task]], dict[str, Any]], tmp_path: Path
) -> None:
    waits = Task("wait", partial(jobs.wait_for, tmp_path / "never"))
    with pytest.raises(StorageError, match="^no storage$"):
        two([waits, Task("fail", partial(jobs.fail, "storage"))])


def test_a_mistake_is_told_as_it_would_be_here(make: Make) -> None:
    context = make()
    for kind, error in (("user", UserError), ("storage", StorageError), ("broken", JobsBroken)):
        came = answer(partial(jobs.fail, kind), context)
        with pytest.raises(error, match=f"no {kind}$") as raised:
            value_of(came)
        assert type(raised.value) is error
        assert ("ValueError" in str(raised.value)) == (kind == "broken")
    assert value_of(answer(partial(jobs.add, 1, 2), context)) == 3
    # What cannot be sent is told too.
    assert answer(lambda context: lambda: None, context).kind == "broken"


def test_runs_of_an_analysis_are_found_again_in_their_order(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make()
    same = [Job("a", "grpo", ("steps=1",), seed) for seed in (0, 1)]
    wanted = do_all(same, context)
    object.__setattr__(context, "crew", Crew(2))

    def played(tasks: Sequence[Task], context: Context) -> dict[str, Any]:
        return {task.label: task.work(context) for task in reversed(tasks)}

    monkeypatch.setattr(parallel, "carry_out", played)
    assert do_all(same, context) == wanted
    monkeypatch.setattr(
        parallel, "carry_out", lambda tasks, _: {task.label: Lost("why") for task in tasks}
    )
    with pytest.raises(UserError, match="^1/2 a, seed 0: why$"):
        do_all(same, context)


def test_threads_and_devices_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(processes, "_all_threads", lambda: 12)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv(child_processes.THREADS, raising=False)
    assert [processes.share_threads(count) for count in (1, 5, 12, 40)] == [12, 2, 1, 1]
    assert set_to == [12, 2, 1, 1]
    monkeypatch.setenv(child_processes.THREADS, "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert processes.share_threads(4) == 3

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv(processes.DEVICES, raising=False)
    assert processes.visible_devices() == ["0", "1", "2"]
    monkeypatch.setenv(processes.DEVICES, "2, GPU-7")
    assert processes.visible_devices() == ["2", "GPU-7"]


def test_what_a_process_is_at_is_shown_beside_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    told = ToldProgress(sent.append)
    with told.bar("training", 4) as bar:
        bar.update(1, loss=0.5)
        # Too soon after the last one to be told.
        bar.advance(1)
    assert sent == [("begin", "training", 4), ("update", 1, {"loss": 0.5}), ("end",)]

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress()
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "_console", console)
    with progress.bars_of_jobs("jobs", 4) as bars:
        bars.begin(2, "training", 4)
        bars.update(2, 1, {"loss": 0.5, "reward": 0.25, "unique_candidates": 15.5})
        # A piece of work of this process has no line of its own meanwhile.
        with progress.bar("other", 1) as bar:
            bar.update(1)
        bars.advance()
        bars.update(7, 1, {})
    lines = [line for line in shown.getvalue().splitlines() if "2: training" in line]
    # Whole in a narrow terminal, but for the figures.
    assert lines and "25%" in lines[-1] and "loss 0.5" in lines[-1]
    assert "jobs" in shown.getvalue() and "other" not in shown.getvalue()


def test_how_a_process_ended_in_words() -> None:
    assert child_processes.ending(3) == "ended with code 3"
    assert child_processes.ending(-signal.SIGSEGV) == "was killed by SIGSEGV"


def test_the_package_is_found_where_it_is_and_nothing_beside_the_user() -> None:
    environment = {child_processes.PATH: f"elsewhere{os.pathsep}"}
    assert child_processes.python(environment) == [sys.executable, "-P"]
    place = child_processes.package_place()
    assert environment[child_processes.PATH] == os.pathsep.join([str(place), "elsewhere"])
    assert environment[child_processes.SAFE] == "1"
    assert (place / "genrec_bench" / "studies" / "parallel.py").is_file()
