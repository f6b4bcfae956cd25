"""The search space of an algorithm: what a sweep may choose, from the fields' own declarations.

A hyperparameter says beside its default where better values may lie (``hyperparameter``'s
``search``). Here that becomes dimensions with bounds in numbers, points in the unit cube become
values, and values become words of ``--set``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from genrec_bench.training.hyperparameters import Hyperparameters, Rate, Times, Value, field_types

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from genrec_bench.policy.backbones import Backbone

ROUNDING = 1e-9
"""Relative; how far a whole number of steps may be from one."""


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter of a search space.

    Attributes:
        default: where the search begins.
        step: distance between the values that may be tried; None for all of them.
        log: whether the values are spread evenly on a logarithmic scale.
        whole: whether it is an int.
        choices: the values of what is no number; ``low`` and ``high`` mean nothing then.
    """

    name: str
    default: Value
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def at(self, place: float) -> Value:
        """Return the value at a place between 0 and 1 (itself left out), evenly spread."""
        if self.choices:
            return self.choices[int(place * len(self.choices))]
        low, high, step = self.low, self.high, self.step or float(self.whole)
        if self.log:
            # A whole number stands for all that is rounded to it.
            ends = math.log(low - step / 2), math.log(high + step / 2)
            value = math.exp(ends[0] + place * (ends[1] - ends[0]))
        elif step:
            value = low + step * int(place * (round((high - low) / step) + 1))
            # Written as a person would: 0.03 and not 0.030000000000000002.
            value = float(f"{value:.12g}")
        else:
            value = low + place * (high - low)
        value = min(max(value, low), high)
        return round(value) if self.whole else value

    def holds(self, value: Value) -> bool:
        """Return whether a search may try a value."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        on_grid = abs(steps - round(steps)) <= ROUNDING * max(1.0, abs(steps))
        return self.low <= value <= self.high and on_grid

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna knows it."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.whole:
            low, high, step = round(self.low), round(self.high), round(self.step or 1)
            return distributions.IntDistribution(low, high, log=self.log, step=step)
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)


def space_of(
    cls: type[Hyperparameters],
    backbone: Backbone,
    fixed: Collection[str] = (),
    begun: Mapping[str, Value] | None = None,
) -> tuple[Dimension, ...]:
    """Return the search space of an algorithm, in the order of its fields.

    Args:
        cls: its hyperparameters, none of which has a ``search_problem``.
        backbone: whose rates some ranges are relative to.
        fixed: names of those that are not searched, as somebody has set them.
        begun: values at which the search begins in place of defaults; one that its range does not
            hold is not searched.
    """
    accepted, begun = field_types(cls), begun or {}
    space = (
        _dimension(field, accepted[field.name], backbone)
        for field in dataclasses.fields(cls)
        if field.metadata.get("search") is not False and field.name not in fixed
    )
    return tuple(
        dataclasses.replace(dimension, default=begun.get(dimension.name, dimension.default))
        for dimension in space
        if dimension.name not in begun or dimension.holds(begun[dimension.name])
    )


def defaults_of(space: Sequence[Dimension]) -> dict[str, Value]:
    """Return the point at which a search begins."""
    return {dimension.name: dimension.default for dimension in space}


def point_at(space: Sequence[Dimension], places: Sequence[float]) -> dict[str, Value]:
    """Turn coordinates between 0 and 1, one for each dimension, into a point of the space."""
    return {
        dimension.name: dimension.at(place) for dimension, place in zip(space, places, strict=True)
    }


def words_of(point: Mapping[str, Value]) -> tuple[str, ...]:
    """Return a point as words of ``--set``, which read back as the same values."""
    return tuple(f"{name}={_written(value)}" for name, value in point.items())


def describe_space(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Return a search space in plain JSON types: part of what makes two studies equal."""
    return [dataclasses.asdict(dimension) for dimension in space]


def describe_search(field: dataclasses.Field[Any]) -> str:
    """Say in a few words where a sweep looks for a hyperparameter's value; empty if nowhere."""
    search = field.metadata.get("search")
    if search is False:
        return ""
    scale = ", log" if field.metadata.get("log") else ""
    if isinstance(search, Times):
        whose = "backbone's" if search.of == "learning_rate" else "backbone's of SFT"
        return f"{search.low:g} .. {search.high:g} times the {whose}{scale}"
    if isinstance(search, tuple):
        steps = f", by {search[2]:g}" if len(search) == 3 else ""
        return f"{search[0]:g} .. {search[1]:g}{steps}{scale}"
    return f"all{scale}"


def search_problem(field: dataclasses.Field[Any], accepted: Collection[type]) -> str | None:
    """Say what is wrong with the search range of a field that accepts these types, or None."""
    name, search, log = field.name, field.metadata.get("search"), bool(field.metadata.get("log"))
    if search is False or (search is True and field.metadata.get("choices") is not None):
        return None
    if bool in accepted:
        return None if search is True else f"{name}: true and false have no range"
    if not set(accepted) & {int, float}:
        return f"{name}: words without choices have no range; declare search=False"
    if isinstance(search, Times):
        return _problem_of_times(field, search)
    low, high = _bounds(field)
    if low is None or high is None:
        return f"{name} needs low and high, a range to search, or search=False"
    allowed = field.metadata.get("low"), field.metadata.get("high")
    default: Any = field.default
    if default is None:
        return f"{name}: None lies in no range; search Times the backbone's rate, or search=False"
    checks = (
        (all(map(math.isfinite, (low, high))) and low < high, "is empty"),
        (allowed[0] is None or allowed[0] <= low, "goes below what is allowed"),
        (allowed[1] is None or high <= allowed[1], "goes above what is allowed"),
        (low <= default <= high, f"does not hold the default {default:g}"),
        (not log or low > 0, "begins at 0 or below, which no logarithmic scale does"),
        (float in accepted or low == int(low) and high == int(high), "is not of whole numbers"),
    )
    for holds, problem in checks:
        if not holds:
            return f"{name}: the range {low:g} .. {high:g} to search {problem}"
    return _problem_of_step(field, low, high, accepted)


def _problem_of_times(field: dataclasses.Field[Any], times: Times) -> str | None:
    if field.default is not None:
        return f"{field.name}: a range of Times the backbone's rate is for the default None"
    for rate in (times.of, times.default or times.of):
        if rate not in get_args(Rate):
            return f"{field.name}: the backbone has no rate {rate!r}"
    if not 0 < times.low <= 1 <= times.high < math.inf or times.low == times.high:
        return f"{field.name}: {times.low:g} .. {times.high:g} times a rate must hold the rate"
    return None


def _problem_of_step(
    field: dataclasses.Field[Any], low: float, high: float, accepted: Collection[type]
) -> str | None:
    search = field.metadata.get("search")
    if not isinstance(search, tuple) or len(search) == 2:
        return None
    step, default = search[2], cast(float, field.default)
    if field.metadata.get("log"):
        return f"{field.name}: steps and a logarithmic scale exclude each other"
    if not step > 0 or (float not in accepted and step != int(step)):
        return f"{field.name}: the step {step:g} is none"
    for what, distance in (("the range", high - low), ("the default", default - low)):
        count = distance / step
        if abs(count - round(count)) > ROUNDING * max(1.0, count):
            return f"{field.name}: {what} is no whole number of steps of {step:g} from {low:g}"
    return None


def _dimension(
    field: dataclasses.Field[Any], accepted: Collection[type], backbone: Backbone
) -> Dimension:
    choices, search = field.metadata.get("choices"), field.metadata.get("search")
    default: Any = field.default
    step = None
    if bool in accepted:
        return Dimension(field.name, default, choices=(True, False))
    if choices is not None:
        return Dimension(field.name, default, choices=tuple(choices))
    log, whole = bool(field.metadata.get("log")), float not in accepted
    low, high = _bounds(field)
    if not whole and default is not None:
        default = float(default)
    if isinstance(search, Times):
        rate, default = (
            getattr(backbone, name) for name in (search.of, search.default or search.of)
        )
        # What is allowed wins: a rate of the backbone's own may lie near its end. A range relative
        # to another rate than the default's holds the default all the same.
        low = max(min(search.low * rate, default), -math.inf if low is None else low)
        high = min(max(search.high * rate, default), math.inf if high is None else high)
    elif isinstance(search, tuple) and len(search) == 3:
        step = float(search[2])
    assert low is not None and high is not None
    return Dimension(
        field.name, default, low=float(low), high=float(high), step=step, log=log, whole=whole
    )


def _bounds(field: dataclasses.Field[Any]) -> tuple[float | None, float | None]:
    """Return the ends of a range in numbers: its own, or else what is allowed."""
    search = field.metadata.get("search")
    if isinstance(search, tuple):
        return search[0], search[1]
    return field.metadata.get("low"), field.metadata.get("high")


def _written(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
