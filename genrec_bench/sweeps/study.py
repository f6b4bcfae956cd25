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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from genrec_bench.budget import Budget
from genrec_bench.errors import StorageError, UserError
from genrec_bench.hyperparameters import Value
from genrec_bench.sweeps.search_space import Dimension
from genrec_bench.sweeps.trial_sampler import Sampler, SamplerName, quiet

T = TypeVar("T")
PrunerName = Literal["halving", "none"]
Verdict = Literal["start", "wait", "stop"]

PRUNERS: tuple[PrunerName, ...] = ("halving", "none")

FIRST_RUNG, REDUCTION, LAST_RUNG = 25, 2, 75
"""Pruning: at a quarter of the budget, and again at half of it, the better half goes on. Percent.
From the last figure on there is too little left to save."""

HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 120
"""How often a worker gives a sign of life, and the silence after which a trial counts as dead."""

TRIES, PAUSE = 5, 1.0
"""How often to ask a database that does not answer, and seconds in between; they double."""

SLACK = 1e-9
"""Relative; what sums of decimal fractions may be off by."""

COST, REASON, REFUSED, SIGNS, PRUNED = "cost", "reason", "refused", "signs of life", "pruned at"
"""User attributes of trials."""


@dataclass(frozen=True)
class Trial:
    """A trial as the database has it.

    Attributes:
        number: from 0, in the order in which trials were asked for.
        state: "died" is a trial that was running and gave no sign of life any more.
        value: validation NDCG@10, of a pruned trial that of its last look.
        point: hyperparameters by name.
        cost: seconds, flops and tokens; None while it runs and if it died.
        charge: on the total budget, in its unit.
        reason: why it failed or was pruned.
    """

    number: int
    state: Literal["running", "complete", "pruned", "failed", "died", "refused"]
    value: float | None
    point: Mapping[str, Value]
    cost: Mapping[str, float] | None
    charge: float
    reason: str


def verdict(
    trials: Sequence[Trial], total: Budget, trial_budget: float, most: int | None = None
) -> Verdict:
    """Say whether another trial may start after these.

    Args:
        trials: all that come before it.
        total: budget of the study.
        trial_budget: what the trial may cost, in the same unit.
        most: how many trials may start in all; None for any number.

    Returns:
        "wait" if it may not, but a running trial's end could change that.
    """
    counted = [trial for trial in trials if trial.state != "refused"]
    spent = math.fsum(trial.charge for trial in counted)
    pays = spent + trial_budget <= total.amount * (1 + SLACK)
    if pays and (most is None or len(counted) < most):
        return "start"
    return "wait" if any(trial.state == "running" for trial in trials) else "stop"


class Study:
    """The trials of one sweep, shared by all who work on it.

    Args:
        url: of the database.
        name: of the study; workers that give the same one share it.
        space: to choose from.
        sampler: how to choose.
        pruner: whether to give trials up early.
        seed: of the choices.
        total: budget of the study.
        trial: budget of a trial; of the same kind.
        most: how many trials may start; None for any number.

    Raises:
        UserError: the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: Sequence[Dimension],
        *,
        sampler: SamplerName,
        pruner: PrunerName,
        seed: int,
        total: Budget,
        trial: Budget,
        most: int | None = None,
    ) -> None:
        self.name = name
        self._space = tuple(space)
        self._prunes = pruner == "halving"
        self._total, self._trial, self._most = total, trial, most
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = _open_storage(url)
        halving = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=FIRST_RUNG, reduction_factor=REDUCTION
        )
        self._study = _patiently(
            lambda: optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=Sampler(sampler, seed, space),
                pruner=halving if self._prunes else optuna.pruners.NopPruner(),
            )
        )
        self._id = self._storage.get_study_id_from_name(name)

    def trials(self) -> list[Trial]:
        """Return all trials as they are now, in order of number."""
        found = _patiently(lambda: self._study.get_trials(deepcopy=False))
        return [self._seen(trial) for trial in sorted(found, key=lambda trial: trial.number)]

    def verdict(self, before: int | None = None) -> Verdict:
        """Say whether a trial may start: that of a number, or the next one."""
        trials = self.trials()
        return verdict(trials[:before], self._total, self._trial.amount, self._most)

    def ask(self) -> int:
        """Begin a trial and return its number. It may start only if ``start`` says so."""
        with quiet():
            return _patiently(lambda: self._study.ask()).number

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
                _patiently(partial(_choose, trial, dimension))
            return dict(trial.params)

    def report(self, number: int, share: float, value: float) -> bool:
        """Note what a look at validation data found; return whether to give the trial up.

        Args:
            number: of the trial.
            share: of its budget that is spent.
            value: validation NDCG@10.
        """
        step = int(100 * share)
        with quiet():
            trial = self._open(number)
            frozen = _patiently(lambda: self._storage.get_trial(self._trial_id(number)))
            if PRUNED in frozen.user_attrs:
                return True
            # A trial that was cut short looks again at what it has seen.
            if step in frozen.intermediate_values or not math.isfinite(value):
                return False
            _patiently(lambda: trial.report(value, step))
            pruned = self._prunes and step < LAST_RUNG and _patiently(trial.should_prune)
            if pruned:
                _patiently(lambda: trial.set_user_attr(PRUNED, step))
        return pruned

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
        trial_id = self._trial_id(number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.record_heartbeat(trial_id)
            self._storage.set_trial_user_attr(trial_id, SIGNS, True)

    @contextlib.contextmanager
    def beating(self, numbers: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Give signs of life while the body of a ``with`` statement runs.

        Args:
            numbers: says of which trials, at any time.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                # The next sign may get through; the grace period is made for that.
                with contextlib.suppress(Exception):
                    for number in numbers():
                        self.beat(number)
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
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            # A worker may die before its first sign; from ours on, the grace period runs.
            if trial.number in ours or SIGNS not in trial.user_attrs:
                self.beat(trial.number)
        with quiet():
            _patiently(lambda: optuna.storages.fail_stale_trials(self._study))

    def noted(self, key: str) -> Any:
        """Return what a worker noted under a key for all of them; None if nobody did."""
        return _patiently(lambda: self._study.user_attrs).get(key)

    def note(self, key: str, content: Any) -> None:
        """Note something for all workers, in plain JSON types."""
        _patiently(lambda: self._study.set_user_attr(key, content))

    def _open(self, number: int) -> optuna.Trial:
        return _patiently(lambda: optuna.Trial(self._study, self._trial_id(number)))

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
                    _patiently(partial(trial.set_user_attr, key, content))
                told = _patiently(
                    lambda: self._study.tell(number, value, state, skip_if_finished=True)
                )
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return told.state == state

    def _seen(self, trial: FrozenTrial) -> Trial:
        cost, told = trial.user_attrs.get(COST), trial.state.is_finished()
        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        state: Any = states.get(trial.state, "running")
        charge, reason = self._trial.amount, str(trial.user_attrs.get(REASON, ""))
        if told and trial.user_attrs.get(REFUSED):
            state, charge = "refused", 0.0
        elif trial.state == TrialState.FAIL:
            state = "failed" if cost is not None else "died"
            reason = reason or "gave no sign of life; charged with all it may have spent"
        if told and cost is not None:
            charge = float(cost[self._trial.kind])
        return Trial(trial.number, state, trial.value, trial.params, cost, charge, reason)


def shown_url(url: str) -> str:
    """Return a database's address without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the address"


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


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open a database; make its tables if there are none."""
    # A file is locked for as long as somebody writes; the default gives up after five seconds.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for attempt in range(TRIES):
        try:
            with quiet():
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
        # What a driver raises is known to the driver alone. Two workers that make the tables at
        # one moment trip over each other, once.
        except Exception as error:
            if attempt == TRIES - 1 or isinstance(error, ImportError):
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"--storage {shown_url(url)}: cannot be opened: {reason}; give the address of "
                    "a database such as sqlite:///FILE or postgresql://USER@HOST/NAME"
                ) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("not reached")


def _patiently(action: Callable[[], T]) -> T:
    """Do something with the database, and again if it does not answer."""
    for attempt in range(TRIES):
        try:
            return action()
        except optuna.exceptions.StorageInternalError as error:
            if attempt == TRIES - 1:
                reason = " ".join(str(error.__cause__ or error).split())[:200]
                raise StorageError(
                    f"the study's database does not answer: {reason}; the command given again goes "
                    "on"
                ) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("not reached")
