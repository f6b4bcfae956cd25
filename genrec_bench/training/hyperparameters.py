"""Hyperparameters: written once, as fields of a frozen dataclass with their range and meaning."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from genrec_bench.errors import UserError, nearest

T = TypeVar("T")
Value = bool | int | float | str | None
Rate = Literal["learning_rate", "sft_learning_rate"]


@dataclass(frozen=True)
class Times:
    """A search range of so many times a learning rate of the backbone.

    For a field whose default None stands for that rate: a policy from scratch needs larger rates
    than a language model, so that no range in absolute numbers suits both.

    Attributes:
        of: which rate: an attribute of ``Backbone``.
        default: the rate that None stands for, if it is another one.
    """

    low: float
    high: float
    of: Rate = "learning_rate"
    default: Rate | None = None


Search = bool | tuple[float, float] | tuple[float, float, float] | Times
"""What a sweep may choose from, see ``hyperparameter``."""


def hyperparameter(
    default: Value,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    log: bool = False,
    search: Search = True,
    needs: Mapping[str, Value] | None = None,
    below: str | None = None,
    most: float | None = None,
) -> Any:
    """Declare a field of a hyperparameter dataclass.

    Args:
        default: the paper's value.
        help: what it does, with the paper's symbol.
        low: the least value that makes sense at all; what is less is refused.
        high: the greatest one.
        choices: the allowed words.
        log: whether a search moves on a logarithmic scale.
        search: the range in which a sweep looks for better values, usually much narrower than what
            is allowed: its least and greatest value and, if only every so many are to be tried, the
            step; or ``Times`` the backbone's own rate. True for all that is allowed, as suits
            choices and booleans. False for what a sweep leaves alone.
        needs: what others of the algorithm must be if this one is not at its default: without it
            this choice would be made and not heard.
        below: a setting of the harness, such as ``group_size``, that must be larger.
        most: for what has no greatest value, one that only a slip exceeds.
    """
    if not isinstance(help, str) or not all(isinstance(one, str) for one in choices or ()):
        raise UserError("hyperparameter(...): help and choices must be text")
    if not all(isinstance(bound, int | float | None) for bound in (low, high, most)):
        raise UserError("hyperparameter(...): low, high and most must be numbers")
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "log": log,
        "search": search,
        "needs": needs or {},
        "below": below,
        "most": most,
    }
    return dataclasses.field(default=default, metadata=metadata)


fixed = functools.partial(hyperparameter, search=False)
"""Declares a hyperparameter that sweeps leave alone."""

weight = functools.partial(hyperparameter, low=0)
"""Declares a factor that is never negative."""

rate = functools.partial(hyperparameter, None, low=1e-8, high=1.0, log=True)
"""Declares a learning rate; None stands for one of the backbone's."""


@dataclass(frozen=True)
class Hyperparameters:
    """What every algorithm has."""

    # Published rates for one backbone lie within this distance of each other.
    learning_rate: float | None = rate(
        search=Times(0.1, 10),
        help="peak learning rate; by default the backbone's: scratch policies need larger ones",
    )

    def __post_init__(self) -> None:
        """Check every value; a ``UserError`` names it, and what would be right."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            check_value(field, value)
            for name, wanted in field.metadata.get("needs", {}).items():
                if value != field.default and getattr(self, name) != wanted:
                    raise UserError(
                        f"{field.name}={written(value)}: needs {name}={written(wanted)}"
                    )


def check_against(hyperparameters: Hyperparameters, settings: object) -> None:
    """Make sure that hyperparameters are below the settings that they declare.

    Raises:
        UserError: naming both.
    """
    for field in dataclasses.fields(hyperparameters):
        value, limit = getattr(hyperparameters, field.name), field.metadata.get("below")
        if limit is not None and value is not None and not value < getattr(settings, limit):
            most = getattr(settings, limit)
            raise UserError(f"{field.name}={value}: must be less than {limit}={most}")


def written(value: object) -> str:
    """Return a value as it is written after ``--set``."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def field_types(cls: type) -> dict[str, tuple[type, ...]]:
    """Return the types that each field of a dataclass accepts, ``NoneType`` among them."""
    hints = typing.get_type_hints(cls)
    result = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        members = (
            typing.get_args(hint)
            if typing.get_origin(hint) in (types.UnionType, typing.Union)
            else (hint,)
        )
        result[field.name] = tuple(
            str if typing.get_origin(member) is typing.Literal else member for member in members
        )
    return result


def check_value(field: dataclasses.Field[Any], value: object) -> None:
    """Check one value against the range that its field declares.

    Raises:
        UserError: if the value is out of range, not finite, or not one of the choices.
    """
    choices, low, high = (field.metadata.get(key) for key in ("choices", "low", "high"))
    if value is None:
        return
    if choices is not None and value not in choices:
        hint = nearest(str(value), choices)
        raise UserError(f"{field.name}={value}: must be one of {', '.join(choices)}{hint}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    # Written so that nan fails too.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        if low is None:
            bounds = f"at most {high}"
        else:
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise UserError(f"{field.name}={value}: must be {bounds}")
    # What a record cannot hold is refused before the run, not after it.
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{field.name}={value}: must be a finite number")
    most = field.metadata.get("most")
    if most is not None and value > most:
        raise UserError(f"{field.name}={value}: must be at most {most}")


def parse_value(name: str, text: str, accepted: tuple[type, ...]) -> Value:
    """Read the value of a field as it is written on the command line.

    Raises:
        UserError: if the text is of none of the types that the field accepts.
    """
    word = text.strip()
    if types.NoneType in accepted and word.lower() in ("none", "null"):
        return None
    if bool in accepted:
        if word.lower() in ("true", "yes", "on", "1"):
            return True
        if word.lower() in ("false", "no", "off", "0"):
            return False
        raise UserError(f"{name}={text}: must be true or false")
    for kind in (int, float):
        if kind in accepted:
            try:
                return kind(word)
            except ValueError:
                continue
    if str in accepted:
        return word
    wanted = " or ".join(kind.__name__ for kind in accepted if kind is not types.NoneType)
    raise UserError(f"{name}={text}: must be {'an' if wanted[0] in 'aeiou' else 'a'} {wanted}")


def per_level(name: str, text: str, num_levels: int) -> list[float]:
    """Read a weight for each level from a text such as ``0.3,0.5,1``.

    Where there are as many levels as numbers, these are the weights. Otherwise the numbers are
    spread evenly from the first level to the last, and levels in between are interpolated linearly.

    The only level of L = 1 has the last weight.

    Raises:
        UserError: naming the hyperparameter, if these are no positive numbers or if they fall.
    """
    try:
        given = [float(word) for word in text.split(",")]
    except ValueError:
        given = []
    if not given or given != sorted(given) or not all(0 < weight < math.inf for weight in given):
        raise UserError(
            f"{name}={text}: must be positive numbers that do not fall, separated by commas, "
            "such as 0.3,0.5,1"
        )
    last = len(given) - 1
    places = [last * (level / (num_levels - 1)) for level in range(num_levels - 1)] + [last]
    return [(1 - p % 1) * given[int(p)] + p % 1 * given[min(int(p) + 1, last)] for p in places]


def from_words(cls: type[T], texts: Mapping[str, str]) -> T:
    """Make a dataclass of hyperparameters from texts by field, as written on the command line."""
    accepted = field_types(cls)
    return cls(**{name: parse_value(name, text, accepted[name]) for name, text in texts.items()})


def describe_fields(cls: type) -> list[dict[str, Any]]:
    """Return name, type, default, range and meaning of each field, for listings."""
    rows = []
    for field in dataclasses.fields(cls):
        low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
        high = field.metadata.get("most") if high is None else high
        if choices is not None:
            allowed = ", ".join(choices)
        elif low is not None or high is not None:
            allowed = f"{_bound(low)} .. {_bound(high)}"
        else:
            allowed = "true, false" if isinstance(field.default, bool) else ""
        if below := field.metadata.get("below"):
            allowed = f"{allowed}, below {below}"
        rows.append(
            {
                "name": field.name,
                "default": field.default,
                "allowed": allowed.strip(),
                "meaning": field.metadata.get("help", ""),
            }
        )
    return rows


def _bound(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:g}"
