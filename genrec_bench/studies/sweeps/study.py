"""A study: the trials of a sweep in a database, and the total budget that they share.

Optuna keeps the trials; any number of workers on any number of machines may work on one study. What
Optuna does not know is a budget. Here each trial has a charge: its trial budget while nobody knows
better, what it truly cost once that is written down. A charge never rises. Trials are numbered, one
after the other; the trial of number n may start only if

    (charges of all trials before n) + trial budget <= total budget.

Whoever asks later sees charges as they were or lower, so that all trials that ever start cost no
more than the total budget together, without a lock: of those that started take the one with the
highest number, and read the line above with what everything has cost in the end.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from genrec_bench.storage.digests import content_digest
from genrec_bench.studies.sweeps.admission import Trial, Verdict, verdict
from genrec_bench.studies.sweeps.database import open_storage, patiently, shown_url, sound
from genrec_bench.studies.sweeps.halving import LAST_RUNG, falls_behind
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.studies.sweeps.trial_sampler import EXCUSED, SweepSampler, quiet
from genrec_bench.training.hyperparameters import Value
from genrec_bench.training.search_space import Dimension

HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 120
"""How often a worker gives a sign of life, and the silence after which a trial counts as dead."""

COST, REASON, REFUSED, SIGNS = "cost", "reason", "refused", "signs of life"
"""User attributes of trials."""

PRUNED, KEPT = "pruned at", "kept at"
"""User attributes too: the last look's percentage, by what was decided on it."""


class Study:
    """The trials of one sweep, shared by all who work on it.

    Args:
        url: of the database.
        name: of the study; workers that give the same one share it.

    Attributes:
        mark: tells it from studies of this name in other databases.

    Raises:
        UserError: the database cannot be opened.
        StorageError: here as in all methods: it does not answer, however often it is asked.
    """

    def __init__(
        self, url: str, name: str, space: Sequence[Dimension], request: SweepRequest
    ) -> None:
        self.name, self._space, self._asked = name, space, request
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = open_storage(url, HEARTBEAT_SECONDS, GRACE_SECONDS)
        self._study = patiently(
            lambda: optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=SweepSampler(request.sampler, request.seed, space),
                pruner=optuna.pruners.NopPruner(),
            )
        )
        self._id: int = patiently(lambda: self._storage.get_study_id_from_name(name))
        self.mark = content_digest(f"{shown_url(url)} {self._id}")[:32]

    def trials(self) -> list[Trial]:
        """Return all trials as they are now, in order of number."""
        found = patiently(lambda: self._study.get_trials(deepcopy=False))
        with sound():
            return [self._seen(trial) for trial in sorted(found, key=lambda trial: trial.number)]

    def verdict(self, before: int | None = None) -> Verdict:
        """Say whether a trial may start: that of a number, or the next one."""
        trials, asked = self.trials()[:before], self._asked
        return verdict(trials, asked.total, asked.trial.amount, asked.most, self.excused)

    @property
    def excused(self) -> int:
        """How many of the first trials failed and were made up for by a further attempt."""
        with sound():
            return int(self.noted(EXCUSED) or 0)

    def excuse(self) -> None:
        """Make a further attempt: what has failed so far does not speak against the rest.

        It stays charged. The next trial has the defaults again.
        """
        self.note(EXCUSED, len(self.trials()))

    def ask(self) -> int:
        """Begin a trial and return its number. It may start only if ``start`` says so."""
        with quiet():
            return patiently(lambda: self._study.ask()).number

    def start(self, number: int) -> Mapping[str, Value] | None:
        """Return a running trial's point, or None if the budget does not pay for it.

        A trial that it does not pay for is closed. Asked again, it answers the same.
        """
        if self.verdict(number) != "start":
            self._tell(number, TrialState.FAIL, {REFUSED: True})
            return None
        self.beat(number)
        with quiet():
            trial = self._open(number)
            for dimension in self._space:
                patiently(partial(_choose, trial, dimension))
            return dict(trial.params)

    def report(self, number: int, share: float, value: float) -> bool:
        """Note what a look at validation data found; return whether to give the trial up.

        Args:
            share: of its budget that is spent.
        """
        step = int(100 * share)
        with quiet():
            trial = self._open(number)
            noted = trial.user_attrs
            # A trial that was cut short looks again at what it has seen, and hears the same.
            if step >= noted.get(PRUNED, math.inf):
                return True
            if step <= noted.get(KEPT, -1) or not math.isfinite(value):
                return False
            patiently(lambda: trial.report(value, step))
            prunes = self._asked.pruner == "halving" and step < LAST_RUNG
            behind = prunes and self._falls_behind(number, step)
            patiently(lambda: trial.set_user_attr(PRUNED if behind else KEPT, step))
        return behind

    def _falls_behind(self, number: int, step: int) -> bool:
        # No tuning is what all tuning is compared with.
        if number in (0, self.excused):
            return False
        found = patiently(lambda: self._study.get_trials(deepcopy=False))
        looks = {trial.number: trial.intermediate_values for trial in found}
        own = looks.pop(number)
        return falls_behind(own, step, list(looks.values()))

    def complete(self, number: int, value: float, cost: Mapping[str, float]) -> bool:
        """Close a trial that came to its end; False if it was taken for dead meanwhile."""
        return self._tell(number, TrialState.COMPLETE, {COST: dict(cost)}, value)

    def prune(self, number: int, cost: Mapping[str, float], reason: str) -> bool:
        """Close a trial that was given up; False if it was taken for dead meanwhile."""
        return self._tell(number, TrialState.PRUNED, {COST: dict(cost), REASON: reason})

    def fail(self, number: int, cost: Mapping[str, float], reason: str) -> bool:
        """Close a trial that failed; False if it was taken for dead meanwhile."""
        return self._tell(number, TrialState.FAIL, {COST: dict(cost), REASON: reason})

    def beat(self, number: int) -> None:
        """Give a sign of life of a running trial; a trial that has ended needs none."""
        patiently(lambda: self._beat(number))

    @contextlib.contextmanager
    def beating(self, numbers: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Give signs of life of the trials that ``numbers`` names at any time, in a ``with``."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                # The next sign may get through; the grace period is made for that.
                with contextlib.suppress(Exception):
                    for number in numbers():
                        self._beat(number)
            self._storage.remove_session()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def bury(self, ours: Sequence[int]) -> None:
        """Mark trials as failed whose workers gave no sign of life for the grace period.

        Args:
            ours: running trials that this machine will take up itself; they stay.
        """
        running = (TrialState.RUNNING,)
        for trial in patiently(lambda: self._study.get_trials(deepcopy=False, states=running)):
            # A worker may die before its first sign; from ours on, the grace period runs.
            if trial.number in ours or SIGNS not in trial.user_attrs:
                self.beat(trial.number)
        with quiet():
            patiently(lambda: optuna.storages.fail_stale_trials(self._study))

    def noted(self, key: str) -> Any:
        """Return what a worker noted under a key for all of them; None if nobody did."""
        return patiently(lambda: self._study.user_attrs).get(key)

    def note(self, key: str, content: Any) -> None:
        """Note something for all workers, in plain JSON types."""
        patiently(lambda: self._study.set_user_attr(key, content))

    def _beat(self, number: int) -> None:
        trial_id = self._trial_id(number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.record_heartbeat(trial_id)
            self._storage.set_trial_user_attr(trial_id, SIGNS, True)

    def _open(self, number: int) -> optuna.Trial:
        return patiently(lambda: optuna.Trial(self._study, self._trial_id(number)))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _tell(
        self,
        number: int,
        state: TrialState,
        attributes: Mapping[str, Any],
        value: float | None = None,
    ) -> bool:
        """Write a trial's end down: the cost first, so that no end is without it."""
        try:
            with quiet():
                trial = self._open(number)
                for key, content in attributes.items():
                    patiently(partial(trial.set_user_attr, key, content))
                told = patiently(
                    lambda: self._study.tell(number, value, state, skip_if_finished=True)
                )
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return told.state == state

    def _seen(self, trial: FrozenTrial) -> Trial:
        cost, told = trial.user_attrs.get(COST), trial.state.is_finished()
        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        state: Any = states.get(trial.state, "running")
        charge, reason = self._asked.trial.amount, str(trial.user_attrs.get(REASON, ""))
        if told and trial.user_attrs.get(REFUSED):
            state, charge = "refused", 0.0
        elif trial.state == TrialState.FAIL:
            state = "failed" if cost is not None else "died"
            reason = reason or "gave no sign of life; charged with all it may have spent"
        if told and cost is not None:
            charge = float(cost[self._asked.trial.kind])
        return Trial(trial.number, state, trial.value, trial.params, cost, charge, reason)


def _choose(trial: optuna.Trial, dimension: Dimension) -> None:
    """Have the sampler choose one hyperparameter, unless it has before."""
    name, low, high = dimension.name, dimension.low, dimension.high
    if dimension.choices:
        trial.suggest_categorical(name, dimension.choices)
    elif dimension.whole:
        step = round(dimension.step or 1)
        trial.suggest_int(name, round(low), round(high), step=step, log=dimension.log)
    else:
        trial.suggest_float(name, low, high, step=dimension.step, log=dimension.log)
