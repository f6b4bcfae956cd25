"""MLflow's SQLite file: made by one of many, never half, and named in one line if it is broken."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tiny_runs import call, last_error
from watched_waits import waits_for_mlflow

from genrec_bench.errors import StorageError
from genrec_bench.storage import locks
from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking import database_file
from genrec_bench.tracking.database_file import lock_of, make_ready
from genrec_bench.tracking.store import URI, Store
from genrec_bench.tracking.tracker import Tracker

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier tests have met is forgotten, and MLflow is imported, which is no delay."""
    import mlflow.db
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    monkeypatch.setattr(tracking_courier, "_couriers", {})
    monkeypatch.delenv(URI, raising=False)


def track(output: Path, name: str = "run") -> None:
    """Track a run that does nothing."""
    with Tracker(output, "synthetic").track(output / "synthetic" / name, name, {"a": 1}, {}):
        pass


def half_made(file: Path) -> None:
    """Two programs have migrated it at once."""
    make_ready(file, "./mlruns")
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table _alembic_tmp_runs (x int)")


def begun(file: Path) -> None:
    """A program was killed between the first tables and the note of the schema."""
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    engine.dispose()


def other_program(file: Path) -> None:
    file.write_text("no database, and long enough to be read as one")


def torn(file: Path) -> None:
    """Pages in the middle are gone."""
    make_ready(file, "./mlruns")
    content = file.read_bytes()
    file.write_bytes(content[:8192] + os.urandom(len(content) - 8192))


def newer(file: Path) -> None:
    make_ready(file, "./mlruns")
    with closing(sqlite3.connect(file)) as database:
        database.execute("update alembic_version set version_num = 'feedbeef'")
        database.commit()


BROKEN: dict[Callable[[Path], None], str] = {
    half_made: "mlflow.db is broken: several programs made it at once, or one that was killed",
    begun: "mlflow.db is broken: several programs made it at once, or one that was killed",
    other_program: "file is not a database",
    torn: "mlflow.db",
    newer: "which does not know its schema feedbeef; install a newer MLflow, or",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_store_is_named_with_the_way_out_which_works(
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[Path], None],
) -> None:
    file = tmp_path / "mlflow.db"
    broken(file)
    capsys.readouterr()
    waits = waits_for_mlflow(monkeypatch)
    for number in range(3):
        track(tmp_path, str(number))
    assert len(waits) == tracking_courier.TRIES
    (line,) = capsys.readouterr().err.splitlines()
    assert BROKEN[broken] in line and database_file.WAY_OUT in line
    error = last_error(call(capsys, ["resend", "--output", str(tmp_path)]))
    assert BROKEN[broken] in error and database_file.WAY_OUT in error
    file.rename(tmp_path / "away.db")
    called = call(capsys, ["resend", "--output", str(tmp_path)])
    assert called.code == 0 and "3 runs" in called.out


@contextmanager
def held(file: Path, how: str) -> Iterator[None]:
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"begin {how}")
        yield


@pytest.mark.parametrize("how", ["immediate", "exclusive"])
def test_a_store_that_another_program_holds_is_waited_for_twice(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    make_ready(tmp_path / "mlflow.db", "./mlruns")
    waits = waits_for_mlflow(monkeypatch)
    with held(tmp_path / "mlflow.db", how):
        for number in range(4):
            track(tmp_path, str(number))
    # Each ends when SQLite gives up.
    assert len(waits) == tracking_courier.TRIES
    assert database_file.PATIENCE < tracking_courier.PATIENCE
    (line,) = capfd.readouterr().err.splitlines()
    assert "no answer" in line or "locked" in line


def test_a_process_that_hangs_while_it_makes_the_store_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENCE", 0.3)
    file = tmp_path / "mlflow.db"
    with locks.locked(lock_of(file)), pytest.raises(StorageError, match="does not go on"):
        make_ready(file, "./mlruns")
    with locks.locked(lock_of(file)), pytest.raises(StorageError, match="does not go on"):
        make_ready(file, "./mlruns")


def test_who_works_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE", 2.0)
    lock, ready = tmp_path / "lock", multiprocessing.get_context("fork").Event()

    def work() -> None:
        with locks.in_live_turn(lock):
            ready.set()
            time.sleep(4.0)
            (tmp_path / "done").touch()

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert ready.wait(30)
    with locks.in_live_turn(lock):
        assert (tmp_path / "done").exists(), "it was waited for longer than silence is borne"
    process.join(30)


@pytest.mark.parametrize("moment", ["upgrade", "backup", "replace"])
def test_a_store_whose_maker_was_killed_is_made_by_the_next(tmp_path: Path, moment: str) -> None:
    file = tmp_path / "mlflow.db"

    def make() -> None:
        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def half(new: Path, *_: object) -> None:
            new.write_text("half")
            die()

        if moment == "replace":
            Path.replace = die  # type: ignore[assignment, method-assign]
        elif moment == "backup":
            database_file._make = half  # type: ignore[assignment]
        else:
            import mlflow.db

            mlflow.db.upgrade.callback = die
        make_ready(file, "./mlruns")

    process = multiprocessing.get_context("fork").Process(target=make)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and not file.exists()
    make_ready(file, "./mlruns")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.lock"}
    database_file.check_whole(file)


def test_an_older_store_is_brought_to_todays_schema_and_kept(
    tmp_path: Path, capfd: Capture
) -> None:
    import mlflow
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from mlflow.tracking import MlflowClient
    from sqlalchemy import create_engine

    scripts = Path(mlflow.__file__).parent / "store" / "db_migrations"
    old = next(iter(ScriptDirectory(str(scripts)).walk_revisions())).down_revision
    assert isinstance(old, str)
    file = tmp_path / "mlflow.db"
    engine = create_engine(f"sqlite:///{tmp_path / 'memory.db'}")
    with closing(sqlite3.connect(tmp_path / "memory.db")) as database:
        database.execute("pragma journal_mode=off")
    Base.metadata.create_all(engine)
    config = Config(str(scripts / "alembic.ini"))
    config.set_main_option("script_location", str(scripts))
    with engine.begin() as connection:
        connection.exec_driver_sql("pragma synchronous=off")
        config.attributes["connection"] = connection
        command.upgrade(config, old)
    engine.dispose()
    (tmp_path / "memory.db").rename(file)
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "insert into experiments (experiment_id, name, lifecycle_stage, artifact_location) "
            "values (7, 'earlier', 'active', 'x')"
        )
        database.commit()
    before = file.read_bytes()
    Store(tmp_path).ask("search_experiments")
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and f"it is kept as mlflow-{old}.db" in said
    assert (tmp_path / f"mlflow-{old}.db").read_bytes() == before
    client = MlflowClient(database_file.address_of(file))
    assert {experiment.name for experiment in client.search_experiments()} >= {"earlier"}
    assert make_ready(file, "./mlruns") is None


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["in the output", "named"])
def test_programs_that_start_at_once_make_one_store(
    tmp_path: Path, root: Path, named: bool
) -> None:
    code = (
        "import os, sys; os.nice(5); from pathlib import Path; "
        "from genrec_bench.tracking.tracker import Tracker; out = Path(sys.argv[1])\n"
        "with Tracker(out, 'x').track(out / sys.argv[2], sys.argv[2], {}, {}): pass"
    )
    uri = f"sqlite:///{tmp_path / 'own.db'}" if named else ""
    environment = {**os.environ, "PYTHONPATH": str(root), URI: uri}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), f"run{number}"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    said = [process.communicate()[1] for process in started]
    assert not any(process.returncode for process in started), said
    file = tmp_path / ("own.db" if named else "mlflow.db")
    with closing(sqlite3.connect(file)) as database:
        runs = list(database.execute("select name, status from runs order by name"))
    assert runs == [(f"run{number}", "FINISHED") for number in range(8)] and set(said) == {""}
