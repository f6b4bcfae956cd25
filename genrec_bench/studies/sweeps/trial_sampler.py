"""How a sweep chooses a trial's point: from seed, number and history alone."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from genrec_bench.studies.sweeps.sweep_request import SamplerName
from genrec_bench.training.search_space import Dimension, defaults_of, point_at

EXCUSED = "excused"
"""User attribute of a study: how many of its first trials a further attempt has made up for."""

RANDOM_TRIALS = 5
"""Trials before TPE has a say; budgets for tuning pay for few trials, so that it begins early."""


class SweepSampler(optuna.samplers.BaseSampler):
    """Chooses each trial's point from seed, number and history alone.

    A worker that starts anew therefore goes on as if it had never stopped. The first point is that
    of the defaults: unless its trial fails, a study ends with no less than no tuning would have
    given. If the first trials all failed and a further attempt is made, it begins with the defaults
    too.
    """

    def __init__(self, name: SamplerName, seed: int, space: Sequence[Dimension]) -> None:
        self._name = name
        self._seed = seed
        self._space = space
        self._distributions = {dimension.name: dimension.distribution() for dimension in space}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is chosen together: everything."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the trial's point."""
        if trial.number in (0, study.user_attrs.get(EXCUSED)):
            return defaults_of(self._space)
        if self._name == "qmc":
            sequence = qmc.Sobol(len(self._space), scramble=True, seed=self._seed)
            # The sequence's own numbers: two workers never get one point.
            if trial.number > 1:
                sequence.fast_forward(trial.number - 1)
            return point_at(self._space, sequence.random(1)[0].tolist())
        found: dict[str, Any] = {}
        if self._name == "tpe":
            digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
            with quiet():
                tpe = optuna.samplers.TPESampler(
                    n_startup_trials=RANDOM_TRIALS,
                    constant_liar=True,
                    seed=int.from_bytes(digest[4:8], "big"),
                )
                found = tpe.sample_relative(study, trial, search_space)
        if not found:
            generator = np.random.default_rng((self._seed, trial.number))
            return point_at(self._space, generator.random(len(self._space)).tolist())
        return found

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never asked: all of the space is chosen together."""
        raise AssertionError(f"{param_name} is not part of the search space")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from warning that what is used here may change; versions are pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
