"""MLflow's SQLite file: made, and brought to the schema of the installed MLflow, by one process.

Both are done in memory and put in place whole, since MLflow's own way, step by step in the file,
is spoiled by a process that is killed or joined by a second one. A file that was spoiled in that
way is told from a good one by what SQLite says of it, before MLflow is imported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from genrec_bench.errors import StorageError, one_line
from genrec_bench.storage.folders import remove
from genrec_bench.storage.locks import in_live_turn

PATIENCE, LONGEST_WAIT = 0.8, 30.0
"""Seconds to wait for others who write: for one of them, and for many."""

VERSIONS = "alembic_version"
"""The table that holds the revision of a file's schema."""

TEMPORARY = "_alembic_tmp_"
"""What the names of tables begin with while a migration rewrites them."""

DAMAGE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
WAY_OUT = "move it away and give `genrec-bench resend`, which fills a new one from the runs"

_alone = threading.Lock()
"""Alembic keeps what it is at for the whole process."""


class DatabaseLocked(StorageError):
    """Another program writes to a database for too long."""


def lock_of(file: Path) -> Path:
    """Return the file that is locked, and touched, while a database is made."""
    return file.with_name(f".{file.name.removesuffix('.db')}.lock")


def check(file: Path) -> None:
    """Refuse a database that cannot be used now; one that is not there, or empty, can be made.

    Others may write to it meanwhile, but not for long.

    Raises:
        StorageError: it is damaged, half made, locked, or cannot be read or written; the message
            says what to do.
    """
    until = time.monotonic() + LONGEST_WAIT
    while True:
        before = _written(file)
        try:
            _revision(file, write=True)
            return
        except DatabaseLocked:
            # Many who write keep each other waiting; one who hangs writes nothing.
            if _written(file) == before or time.monotonic() > until:
                raise


def check_whole(file: Path) -> None:
    """Refuse a database any page of which is damaged; takes as long as reading it.

    Raises:
        StorageError: it is damaged.
    """
    _revision(file, whole=True)


def make_ready(file: Path, artifacts: str) -> Path | None:
    """Make a database if there is none, or bring it to the installed MLflow's schema.

    Whoever comes first does it, and the others wait.

    Args:
        artifacts: address of the folder for files of experiments that have none of their own.

    Returns:
        Where the database that was there is kept as it was; None if there was none, or it was good.

    Raises:
        StorageError: the file cannot be used, or the disk refuses; the message says what to do.
    """
    if _is_ready(file):
        return None
    with in_live_turn(lock_of(file)):
        if _is_ready(file):
            return None
        for left in file.parent.glob(f".{file.name}.*"):
            remove(left)  # by a process that was killed
        old, kept = _revision(file), None
        new = file.with_name(f".{file.name}.{uuid4().hex}")
        try:
            _make(new, file if old else None, artifacts)
            if old:
                kept = file.with_name(f"{file.stem}-{old}{file.suffix}")
                _keep(file, kept)
                shutil.copymode(file, new)
            new.replace(file)
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from error
        finally:
            remove(new)
    return kept


def address_of(file: Path) -> str:
    """Return the address by which MLflow knows a database."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(file)).render_as_string()


def _revision(file: Path, *, write: bool = False, whole: bool = False) -> str:
    """Return the revision of a database's schema; empty where there is nothing yet.

    Args:
        write: whether to make sure that it can be written now.
        whole: whether to read all of it.

    Raises:
        StorageError: it is damaged, half made, locked, or cannot be used.
    """
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return ""
    # Writing is allowed, since what a killed process left in its journal is undone first.
    address = f"{file.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, PATIENCE, uri=True)) as database:
            names = {name for (name,) in database.execute("select name from sqlite_master")}
            found = list(database.execute(f"select * from {VERSIONS}")) if VERSIONS in names else []
            if write:
                database.execute("begin immediate")
                database.rollback()
            if whole and database.execute("pragma quick_check(1)").fetchone() != ("ok",):
                raise StorageError(f"{file} is damaged; {WAY_OUT}")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_BUSY:
            raise DatabaseLocked(f"{file} is locked by another program") from None
        raise StorageError(f"{file}: {error}" + (code in DAMAGE) * f"; {WAY_OUT}") from None
    if names and (len(found) != 1 or any(name.startswith(TEMPORARY) for name in names)):
        raise StorageError(
            f"{file} is broken: several programs made it at once, or one that was killed; {WAY_OUT}"
        )
    return str(found[0][0]) if found else ""


def _written(file: Path) -> list[int]:
    """Return when a database and its journal were last written; changes are news."""
    found = []
    for name in (file, *(file.with_name(f"{file.name}-{end}") for end in ("journal", "wal"))):
        with contextlib.suppress(OSError):
            found.append(name.stat().st_mtime_ns)
    return found


def _is_ready(file: Path) -> bool:
    """Return whether a database has the installed MLflow's schema.

    Raises:
        StorageError: it is of a newer MLflow, or as `_revision`.
    """
    import mlflow
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    revision = _revision(file)
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    scripts = ScriptDirectory(str(migrations))
    if revision in scripts.get_heads() or not revision:
        return bool(revision)
    try:
        scripts.get_revision(revision)
    except CommandError:
        raise StorageError(
            f"{file} was made by another MLflow than {mlflow.__version__}, which does not know its "
            f"schema {revision}; install a newer MLflow, or {WAY_OUT}"
        ) from None
    return False


def _make(new: Path, old: Path | None, artifacts: str) -> None:
    """Write a database of the installed MLflow's schema, with all that an older one holds."""
    import mlflow.db
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    name = f"file:{uuid4().hex}?mode=memory&cache=shared"
    address = f"sqlite:///{name}&uri=true"
    with contextlib.closing(sqlite3.connect(name, uri=True)) as memory:
        if old:
            with contextlib.closing(sqlite3.connect(old, LONGEST_WAIT)) as before:
                before.backup(memory)
        try:
            with _alone:
                # What `mlflow db upgrade` does; an empty database gets its tables.
                migrate = mlflow.db.upgrade.callback
                assert migrate is not None
                migrate(address)
            # It makes the experiment that each store has.
            store: Any = SqlAlchemyStore(address, artifacts)  # type: ignore[no-untyped-call]
            store.engine.dispose()
        except Exception as error:  # Alembic's, SQLAlchemy's and MLflow's own
            if old is None:
                raise
            raise StorageError(
                f"{old} cannot be brought to the schema of the installed MLflow "
                f"({one_line(error)}); {WAY_OUT}"
            ) from None
        with contextlib.closing(sqlite3.connect(new)) as disk:
            memory.backup(disk)


def _keep(file: Path, name: Path) -> None:
    """Give a file a second name, unless another file has it."""
    if not name.exists():
        try:
            os.link(file, name)
        except OSError:  # There are file systems without such links.
            shutil.copy2(file, name)
