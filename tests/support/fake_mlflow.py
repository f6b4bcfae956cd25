"""A stand-in for MLflow that can be away, and that remembers all that it was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking import folder_view
from genrec_bench.tracking.store import URI, Store


@dataclass
class FakeRun:
    """What MLflow knows of a run."""

    server: FakeServer
    run_id: str
    name: str
    start_time: int
    tags: dict[str, str]
    status: str = "RUNNING"
    end_time: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    received: list[tuple[str, float, int, int]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def info(self) -> SimpleNamespace:
        return SimpleNamespace(
            run_id=self.run_id,
            start_time=self.start_time,
            status=self.status,
            lifecycle_stage="deleted" if self.server.deleted else "active",
        )

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(tags=dict(self.tags))

    def points(self) -> list[tuple[str, int, float]]:
        """What the database holds: equal figures of one moment are one."""
        return sorted((key, step, value) for key, value, _, step in set(self.received))


@dataclass
class FakeServer:
    """MLflow, with switches.

    Attributes:
        away: every request fails.
        fail_after: how many requests succeed before one fails; None for no failure.
        loses_answers: a request that fails is carried out before.
        refuses: names of figures and parameters that it will never take.
        deleted: somebody has deleted the experiment with all its runs, and may restore it.
    """

    away: bool = False
    fail_after: int | None = None
    loses_answers: bool = False
    refuses: tuple[str, ...] = ()
    deleted: bool = False
    runs: dict[str, FakeRun] = field(default_factory=dict)
    requests: int = 0
    experiments: list[str] = field(default_factory=list)

    def by_name(self, name: str) -> FakeRun:
        (found,) = [run for run in self.runs.values() if run.name == name]
        return found


class FakeClient:
    """The part of `MlflowClient` that is used."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        server, method = self._server, object.__getattribute__(self, f"_{name}")

        def ask(*args: Any, **kwargs: Any) -> Any:
            server.requests += 1
            fails = server.away
            if server.fail_after is not None:
                fails, server.fail_after = server.fail_after == 0, max(server.fail_after - 1, 0)
            if fails and not server.loses_answers:
                raise ConnectionError("server went away\nand a long story")
            answer = method(*args, **kwargs)
            if fails:
                raise TimeoutError("no answer")
            return answer

        return ask

    def _check_active(self) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        if self._server.deleted:
            raise MlflowException("must be in the 'active' state", INVALID_PARAMETER_VALUE)

    def _run(self, run_id: str) -> FakeRun:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        if run_id not in self._server.runs:
            raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)
        return self._server.runs[run_id]

    def _get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=name) if name in self._server.experiments else None

    def _create_experiment(self, name: str, artifacts: str | None, tags: dict[str, str]) -> str:
        self._server.experiments.append(name)
        return name

    def _create_run(self, experiment: str, start: int, tags: dict[str, str], name: str) -> FakeRun:
        self._check_active()
        run = FakeRun(self._server, f"id{len(self._server.runs)}", name, start, dict(tags))
        self._server.runs[run.run_id] = run
        return run

    def _search_runs(self, experiments: list[str], asked: str, view: int) -> list[FakeRun]:
        name, _, token = asked.removeprefix("tags.").partition(" = ")
        return [r for r in self._server.runs.values() if r.tags.get(name) == token.strip("'")]

    def _update_run(self, run_id: str, status: str) -> None:
        self._check_active()
        self._run(run_id).status = status

    def _delete_run(self, run_id: str) -> None:
        del self._server.runs[run_id]

    def _log_batch(
        self, run_id: str, metrics: Iterable[Any] = (), params: Iterable[Any] = ()
    ) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        self._check_active()
        run = self._run(run_id)
        figures = [(m.key, m.value, m.timestamp, m.step) for m in metrics]
        assert len(figures) <= 1000
        names = {key for key, *_ in figures} | {param.key for param in params}
        if not names.isdisjoint(self._server.refuses):
            raise MlflowException("not this one", INVALID_PARAMETER_VALUE)
        run.received += figures
        run.params |= {param.key: param.value for param in params}

    def _set_tag(self, run_id: str, key: str, value: str) -> None:
        self._check_active()
        self._run(run_id).tags[key] = value

    def _set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        self._check_active()
        run = self._run(run_id)
        run.status, run.end_time = status, end_time

    def _log_artifact(self, run_id: str, path: str) -> None:
        with open(path, errors="replace") as file:
            self._run(run_id).files[path.rpartition("/")[2]] = file.read()


@contextlib.contextmanager
def dying() -> Iterator[None]:
    """What a kill leaves: the locks are free, and no end is told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_view, "tell_end", lambda *_: None)
        yield


def install(patch: pytest.MonkeyPatch, server: FakeServer) -> FakeServer:
    """Put a stand-in in MLflow's place, and forget earlier outages."""
    patch.delenv(URI, raising=False)
    patch.setattr(Store, "_opened", lambda store: FakeClient(server))
    patch.setattr(tracking_courier, "_couriers", {})
    return server
