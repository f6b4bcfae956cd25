"""What all tests share: a quiet, offline process, the real data, a throw-away data directory."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from compare_world import Compare, Sweeps
    from local_server import LocalServer
    from sweep_world import Make
    from tiny_runs import Bench

    from genrec_bench.studies.sweeps.result import SweepResult

# Set before torch, Hugging Face and MLflow are imported; subprocesses inherit them. The tests'
# tensors are small: more threads than two only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
)

# A shell has its background jobs ignore interrupts, and what pytest starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that takes longer because others run beside it has found nothing.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--algorithm",
        type=Path,
        metavar="PATH",
        help="run the contract tests on this algorithm's file instead of on all that are found",
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """The environment of a process that runs the repository's own code."""
    return os.environ | {"PYTHONPATH": str(root)}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data, in the layouts of the projects that publish it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data, beside the repository) are not here")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with a tiny dataset, for a smaller `tiny`; SFT starts gather in it."""
    from tiny_runs import save_tiny, shrink_backbone

    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield save_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> "Bench":
    """Runs commands that share a data directory and an output folder."""
    from tiny_runs import Bench

    return Bench(capsys, data, tmp_path / "runs")


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay out of the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def compare(
    capsys: pytest.CaptureFixture[str],
    data: Path,
    tmp_path: Path,
    somewhere: None,
    monkeypatch: pytest.MonkeyPatch,
) -> "Compare":
    """Calls the command with quick settings; no steps are taken to see what they cost."""
    from compare_world import Compare, measure_nothing

    measure_nothing(monkeypatch)
    return Compare(capsys, data, tmp_path / "runs")


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> "Sweeps":
    """A stand-in for the sweeps of a comparison."""
    from compare_world import stand_in

    return stand_in(monkeypatch)


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Counts the steps of rollouts in `taken`; `raise` says at which one to raise what."""
    from compare_world import count_steps

    return count_steps(monkeypatch)


@pytest.fixture
def make(data: Path, tmp_path: Path) -> "Make":
    """Makes contexts of quick runs from words of `--set`."""
    from sweep_world import quick_context

    return partial(quick_context, data, tmp_path / "runs")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> "SweepResult":
    """What the quick sweep comes to when nothing happens to it."""
    from sweep_world import quick_context, request

    from genrec_bench.studies.sweeps.sweep import sweep

    return sweep(request(), quick_context(data, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's data directory, which no test can take for the user's cache."""
    folder = tmp_path_factory.mktemp("genrec-bench-data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENREC_BENCH_DATA", str(folder))
        yield folder


@pytest.fixture
def server() -> Iterator["LocalServer"]:
    """A server of a raw file."""
    from download_world import CONTENT
    from local_server import local_server

    with local_server(CONTENT) as served:
        yield served
