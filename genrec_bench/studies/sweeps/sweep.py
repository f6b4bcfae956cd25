"""A sweep: trials of an algorithm's hyperparameters until a total budget is spent.

A trial is a run from the SFT start on its own, smaller budget, evaluated on validation examples
alone: the dataset that it is given has no test examples. A sweep that was cut short goes on with
the trial that was running; `study.py` says how several workers share one budget.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.engine import URL

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.runs.environment import hardware
from genrec_bench.runs.jobs import Context, Job, configure, request_of, split_words
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.run_tracker import Tracked
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.locks import locked, read_mark
from genrec_bench.studies.parallel import carry_out
from genrec_bench.studies.sweeps.admission import FREE_TRIALS, Trial, first_of, is_stuck, pays
from genrec_bench.studies.sweeps.result import OBJECTIVE, SweepResult, write_result
from genrec_bench.studies.sweeps.study import Study
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.studies.sweeps.trial import Ending, blind, run_trial, tidy
from genrec_bench.studies.worker import Task
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.training.hyperparameters import Value
from genrec_bench.training.search_space import describe_space, space_of, words_of
from genrec_bench.training.sft_start import sft_start

FOLDER, STUDY_FILE, TRIALS, LOCK_FILE = "sweeps", "study.db", "trials", "lock"

WAIT_SECONDS = 2.0
"""How long a worker waits before it looks again whether another's trial has ended."""

FIRST_FAILURES = 3
"""A sweep whose first trials all failed ends after so many: the next one would fail too."""

LEAST_BEAM = 10
"""Narrower beams leave NDCG@10 unknown."""


class AllFailed(UserError):
    """The first trials of a sweep all failed; a comparison reads from ``result`` what they cost."""

    def __init__(self, message: str, result: SweepResult) -> None:
        super().__init__(message)
        self.result = result


def sweep(request: SweepRequest, context: Context) -> SweepResult:
    """Carry a sweep out, or the rest of it; other workers may be at it too.

    Args:
        context: what the trials share; its budget is not asked.

    Returns:
        What the study came to. It is finished, whoever finished it. With ``most`` it is that of
        so many trials, whoever has made more.

    Raises:
        UserError: on bad input, or if the first trials all failed.
        StorageError: the disk or the database refuses; the same sweep again goes on.
    """
    work = SweepWorker(request, context)
    if request.retry_failed:
        work.excuse()
    finished = work.result().finished
    if not finished:
        work.begin()
    # A sweep may have been killed between its last trial's end and its own.
    if not finished or work.is_untold():
        with work.parent(), work.study.beating(work.ours):
            work.loop()
    result = work.result()
    write_result(work.result(whole=True))
    work.stop_if_all_fail()
    return result


def sweep_together(request: SweepRequest, context: Context) -> None:
    """Have the context's crew share a study until nothing is left to be done.

    On a cluster with room for more jobs than the budget pays for, as many begin as it may pay for.

    Raises:
        UserError: on bad input. What else there is to say of the study, ``sweep`` will.
    """
    work = SweepWorker(request, context)
    if work.result().finished:
        return
    # Once, with all that this machine has.
    work.begin()
    paid = math.ceil(request.total.amount / request.trial.amount)
    count = min(context.crew.count or paid, paid)
    tasks = [
        Task(f"trials ({n} of {count})", partial(_share, request)) for n in range(1, count + 1)
    ]
    carry_out(tasks, context)


def _share(request: SweepRequest, context: Context) -> None:
    try:
        sweep(request, context)
    except AllFailed:
        # The others see it too, and end their trials first.
        return


class SweepWorker:
    """One worker's part in a sweep."""

    def __init__(self, request: SweepRequest, context: Context) -> None:
        self._asked = request
        self._context = replace(context, budget=request.trial, dataset=blind(context.dataset))
        job = self._job({})
        entry, algorithm, settings = configure(job, self._context)
        if settings.beam_width < LEAST_BEAM:
            raise UserError(
                f"beam_width={settings.beam_width}: a sweep looks at {OBJECTIVE}, which needs at "
                f"least {LEAST_BEAM}"
            )
        if not algorithm.trains:
            raise UserError(
                f"{entry.name}: is not trained, so that trials would cost nothing; run it, or give "
                "it to compare among --controls"
            )
        self._backbone = find_backbone(context.backbone)
        given = split_words(context.assignments) | split_words(request.assignments)
        hyperparameters = dataclasses.asdict(algorithm.hyperparameters)
        preset = {} if context.preset is None else context.preset.words(entry.name, given)
        begun = {name: hyperparameters[name] for name in preset if name in hyperparameters}
        space = space_of(type(algorithm.hyperparameters), self._backbone, given, begun)
        # What a preset says and the space does not search is held, as what is typed.
        held = {*given, *begun} - {dimension.name for dimension in space}
        fixed = {name: value for name, value in hyperparameters.items() if name in held}
        if not space:
            raise UserError(f"{entry.name}: has nothing to search; take a word off --set")
        self._settings, self._space = settings, space
        identity = self._identity(source_hash(entry), fixed)
        self._name = f"{entry.name}-{identity[:12]}"
        self._folder = context.output / context.dataset.name / FOLDER / self._name
        self._parent = Tracked()
        # Checks the rest of what was asked, before anything is in a database.
        request_of(job, self._context)
        file = str((self._folder / STUDY_FILE).resolve())
        url = request.storage or URL.create("sqlite", database=file).render_as_string()
        # Two workers that make the tables at one moment would trip over each other.
        with locked(self._folder / LOCK_FILE, wait=True):
            self.study = Study(url, self._name, space, request)

    def begin(self) -> None:
        """Do what is the same for all trials."""
        context, asked = self._context, self._asked
        context.progress.say(
            f"study {self._name}: {len(self._space)} hyperparameters, {asked.total.shown} in "
            f"trials of {asked.trial.shown}"
        )
        what = (self._backbone, context.dataset, self._settings)
        sft_start(*what, context.data_dir, context.workers, context.progress)

    def ours(self) -> list[int]:
        """Return the running trials that are this folder's to carry out."""
        running = [trial.number for trial in self.study.trials() if trial.state == "running"]
        # Nobody else can see a database in our folder; of another, what we began is ours.
        if self._asked.storage is None:
            return running
        files = {number: self._trial_folder(number) / LOCK_FILE for number in running}
        return [n for n, file in files.items() if read_mark(file) == self.study.mark]

    def loop(self) -> None:
        """Carry out trials until none is left to be done by anyone."""
        while True:
            ours = self.ours()
            if any(self._take(number) for number in ours):
                continue
            self.study.bury(ours)
            trials, verdict = self.study.trials(), self.study.verdict()
            if self._failed(trials):
                running = any(trial.state == "running" for trial in trials)
                verdict = "wait" if running else "stop"
            if verdict == "start":
                self._take(self.study.ask())
            elif verdict == "wait":
                time.sleep(WAIT_SECONDS)
            else:
                if is_stuck(trials, self.study.excused):
                    self._context.progress.say(
                        f"study {self._name}: ends, as {FREE_TRIALS} trials in a row could not "
                        f"begin; the last one's reason was: {trials[-1].reason}"
                    )
                return

    def excuse(self) -> None:
        """Have a study that came to nothing make a further attempt, if its budget pays for one."""
        result, asked = self.result(), self._asked
        left = pays(self.study.trials(), asked.total, asked.trial.amount)
        if result.finished and result.best is None and left:
            self.study.excuse()

    def result(self, *, whole: bool = False) -> SweepResult:
        """Return what has become of the study so far, of all trials or of those asked for."""
        trials = tuple(self.study.trials())
        if not whole:
            trials = first_of(trials, self._asked.most, self.study.excused)
        complete = [trial for trial in trials if trial.state == "complete"]
        best = max(complete, key=lambda t: (t.value or 0.0, -t.number), default=None)
        running = any(trial.state == "running" for trial in trials)
        return SweepResult(
            study=self._name,
            folder=self._folder,
            limit=self._asked.total.text,
            trials=trials,
            best=best,
            words=() if best is None else (*self._asked.assignments, *words_of(best.point)),
            finished=not running and (self._failed(trials) or self.study.verdict() == "stop"),
        )

    def is_untold(self) -> bool:
        """Return whether nobody told MLflow of the study's end."""
        return self._context.tracker.is_untold(self._folder)

    @contextlib.contextmanager
    def parent(self) -> Iterator[None]:
        """Have MLflow keep the study's trials under one run."""
        asked = self._asked
        params = {name: getattr(asked, name) for name in ("algorithm", "sampler", "pruner", "seed")}
        params |= {"total_budget": asked.total.text, "trial_budget": asked.trial.text}
        params["space"] = describe_space(self._space)
        tags = {"dataset": self._context.dataset.name, "study": self._name}
        tracker = self._context.tracker
        with tracker.track(self._folder, self._name, params, tags, shared=True) as parent:
            self._parent = parent
            yield
            trials = self.study.trials()
            for number in [trial.number for trial in trials if trial.state == "died"]:
                folder, name = self._trial_folder(number), f"trial {number}"
                # Its process could not tell its end; once is enough.
                if not (folder / TRACKING_FILE).exists():
                    with parent.child(str(number)).track(folder, name, {}, tags) as dead:
                        dead.failed = True
            parent.failed = self._failed(trials)

    def _take(self, number: int) -> bool:
        """Carry a running trial out unless someone else is at it; return whether it was free."""
        folder = self._trial_folder(number)
        with locked(folder / LOCK_FILE, mark=self.study.mark) as free:
            if not free or self.study.trials()[number].state != "running":
                return False
            point = self.study.start(number)
            if point is None:
                return True
            ending = run_trial(
                self._job(point),
                replace(self._context, output=folder),
                self._parent.child(str(number), f"trial {number}"),
                lambda share, value: self.study.report(number, share, value),
            )
            # Before the end is written down: nobody comes back to a trial that has ended.
            tidy(folder)
            told = self._close(number, ending)
        self._tell(number, told)
        return True

    def _job(self, point: Mapping[str, Value]) -> Job:
        words = (*self._asked.assignments, *words_of(point))
        return Job("trial", self._asked.algorithm, words, self._asked.seed)

    def _close(self, number: int, ending: Ending) -> bool:
        """Write the end of a trial down; False if the study had taken it for dead."""
        if ending.state == "complete":
            return self.study.complete(number, ending.value, ending.cost)
        if ending.state == "pruned":
            return self.study.prune(number, ending.cost, ending.reason)
        return self.study.fail(number, ending.cost, ending.reason)

    def _trial_folder(self, number: int) -> Path:
        return self._folder / TRIALS / f"{number:04d}"

    def stop_if_all_fail(self) -> None:
        """Raise ``AllFailed`` if the first trials all failed: the next would too."""
        trials = self.study.trials()
        if self._failed(trials):
            failed = [trial for trial in self.result().trials if trial.state == "failed"]
            first = "trial" if len(failed) == 1 else f"{len(failed)} trials"
            raise AllFailed(
                f"study {self._name}: its first {first} failed; the reason was: "
                f"{failed[-1].reason}",
                self.result(),
            )

    def _failed(self, trials: Sequence[Trial]) -> bool:
        """Return whether no trial succeeded, and no further one would."""
        trials = first_of(trials, self._asked.most, self.study.excused)[self.study.excused :]
        ended = [trial for trial in trials if trial.state in ("complete", "pruned", "failed")]
        if not ended or {trial.state for trial in ended} != {"failed"}:
            return False
        # Where a step costs more than a trial may, each further trial would too.
        most = max(trial.charge for trial in ended)
        return len(ended) >= FIRST_FAILURES or most > self._asked.trial.amount

    def _tell(self, number: int, told: bool) -> None:
        """Say in one line what became of a trial."""
        trials = self.study.trials()
        trial, total = trials[number], self._asked.total.amount
        spent = sum(each.charge for each in trials if each.state != "running") / total
        end = trial.state if trial.value is None else f"{OBJECTIVE} {trial.value:.4f}"
        if trial.state != "complete":
            end += f" ({trial.reason})"
        if not told:
            end += "; the study had taken it for dead"
        words = " ".join(words_of({k: _short(v) for k, v in trial.point.items()}))
        cost = f"{trial.charge / total:.1%} of the total budget, {spent:.1%} spent"
        self._context.progress.say(f"trial {number}: {end}; {words}; {cost}")

    def _identity(self, source: str, fixed: Mapping[str, Any]) -> str:
        """Hash all that makes two studies equal."""
        context, asked = self._context, self._asked
        what = {
            "algorithm": source,
            "backbone": self._backbone.fingerprint,
            "benchmark": benchmark_version(),
            "budgets": [asked.total.text, asked.trial.text],
            "dataset": context.dataset.fingerprint,
            "fixed": fixed,
            "pruner": asked.pruner,
            "sampler": asked.sampler,
            "seed": asked.seed,
            "settings": self._settings.resolved(),
            "sids": context.dataset.sid_fingerprint,
            "space": describe_space(self._space),
        }
        if asked.total.kind == "seconds":
            # Trials of one study are compared, and a second is worth what the machine makes of it.
            machine = hardware(str(context.workers.device))
            what["hardware"] = {k: v for k, v in machine.items() if k != "memory_bytes"}
            what["threads"] = torch.get_num_threads()
        return json_digest(what)


def _short(value: Value) -> Value:
    """Return a number with the digits that a person reads."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
