"""Hyperparameters: read from text, held to their ranges, described for listings."""

import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.errors import UserError
from genrec_bench.training.hyperparameters import (
    Hyperparameters,
    describe_fields,
    field_types,
    from_words,
    hyperparameter,
    per_level,
)


@dataclass(frozen=True)
class Sample(Hyperparameters):
    """One field of each kind."""

    clip: float = hyperparameter(0.2, low=0, high=1, help="c")
    count: int = hyperparameter(1, low=1, help="how many")
    most: float = hyperparameter(0.5, high=1.5, help="open below")
    normalize: bool = hyperparameter(True, help="whether to divide")
    reward: str = hyperparameter("rule", choices=("rule", "rank"), help="which")
    limit: int | None = hyperparameter(None, low=0, high=9, help="none is no limit")


def message(cls: type[Any], **texts: str) -> str:
    with pytest.raises(UserError) as raised:
        from_words(cls, texts)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_defaults_are_those_of_the_class() -> None:
    assert from_words(Sample, {}) == Sample()
    assert Sample().learning_rate is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("clip", "0.3", 0.3),
        ("clip", "1", 1.0),
        ("clip", "1e-3", 0.001),
        ("count", " 7 ", 7),
        ("most", "-1e9", -1e9),
        ("normalize", "false", False),
        ("normalize", "Off", False),
        ("normalize", "1", True),
        ("reward", "rank", "rank"),
        ("limit", "none", None),
        ("limit", "3", 3),
        ("learning_rate", "2e-6", 2e-6),
    ],
)
def test_texts_become_values_of_the_fields_type(name: str, text: str, value: object) -> None:
    read = getattr(from_words(Sample, {name: text}), name)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("clip", "1.5", "clip=1.5: must be between 0 and 1"),
        ("clip", "-0.1", "clip=-0.1: must be between 0 and 1"),
        ("clip", "nan", "clip=nan: must be between 0 and 1"),
        ("clip", "inf", "clip=inf: must be between 0 and 1"),
        ("clip", "a lot", "clip=a lot: must be a float"),
        ("most", "2", "most=2.0: must be at most 1.5"),
        ("count", "0", "count=0: must be at least 1"),
        ("count", "2.5", "count=2.5: must be an int"),
        ("normalize", "maybe", "normalize=maybe: must be true or false"),
        ("reward", "rang", "reward=rang: must be one of rule, rank; did you mean 'rank'?"),
        ("limit", "10", "limit=10: must be between 0 and 9"),
        ("learning_rate", "0", "learning_rate=0.0: must be between 1e-08 and 1.0"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(name: str, text: str, said: str) -> None:
    assert message(Sample, **{name: text}) == said


def test_values_given_in_python_are_checked_too() -> None:
    with pytest.raises(UserError, match="clip=2"):
        Sample(clip=2)
    with pytest.raises(UserError, match="reward=none"):
        Sample(reward="none")
    with pytest.raises(UserError, match="count=nan"):
        Sample(count=math.nan)  # type: ignore[arg-type]


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        Sample().clip = 0.5  # type: ignore[misc]


@given(st.floats(0, 1), st.integers(1), st.booleans(), st.none() | st.integers(0, 9))
def test_what_is_written_is_read_back(
    clip: float, count: int, normalize: bool, limit: int | None
) -> None:
    sample = Sample(clip=clip, count=count, normalize=normalize, limit=limit)
    texts = {name: str(getattr(sample, name)) for name in ("clip", "count", "normalize", "limit")}
    assert from_words(Sample, texts) == sample


@given(st.floats(allow_nan=True))
def test_a_float_is_accepted_exactly_within_its_range(value: float) -> None:
    if 0 <= value <= 1:
        assert Sample(clip=value).clip == value
    else:
        with pytest.raises(UserError):
            Sample(clip=value)


def test_field_types_see_through_unions() -> None:
    types = field_types(Sample)
    assert set(types["limit"]) == {int, type(None)}
    assert set(types["learning_rate"]) == {float, type(None)}
    assert types["normalize"] == (bool,)


def test_a_literal_is_a_word() -> None:
    @dataclass(frozen=True)
    class Worded(Hyperparameters):
        mode: Literal["a", "b"] = hyperparameter("a", choices=("a", "b"), help="which")

    assert from_words(Worded, {"mode": "b"}).mode == "b"


def test_a_description_gives_default_range_and_meaning() -> None:
    rows = {row["name"]: row for row in describe_fields(Sample)}
    assert " ".join(rows) == "learning_rate clip count most normalize reward limit"
    assert rows["clip"] == {"name": "clip", "default": 0.2, "allowed": "0 .. 1", "meaning": "c"}
    assert rows["count"]["allowed"] == "1 .."
    assert rows["most"]["allowed"] == ".. 1.5"
    assert rows["normalize"]["allowed"] == "true, false"
    assert rows["reward"]["allowed"] == "rule, rank"
    assert rows["limit"]["default"] is None


@pytest.mark.parametrize(
    ("text", "levels", "weights"),
    [
        ("0.3,0.5,1", 3, [0.3, 0.5, 1.0]),
        ("1,1,1", 3, [1.0, 1.0, 1.0]),
        # A third and two thirds of the way down.
        ("0.3,0.5,1", 4, [0.3, 0.3 + 0.2 * 2 / 3, 0.5 + 0.5 / 3, 1.0]),
        # Four levels stand at 0, 2/3, 4/3 and 2 of three numbers.
        ("1,4,10", 4, [1.0, 3.0, 6.0, 10.0]),
        ("1,4", 4, [1.0, 2.0, 3.0, 4.0]),
        ("0.3,0.5,1", 2, [0.3, 1.0]),
        ("0.3,0.5,1", 1, [1.0]),
        ("0.3, 0.5, 1", 5, [0.3, 0.4, 0.5, 0.75, 1.0]),
        ("2", 3, [2.0, 2.0, 2.0]),
    ],
)
def test_weights_are_stretched_over_the_levels(
    text: str, levels: int, weights: list[float]
) -> None:
    found = per_level("w", text, levels)
    assert found == pytest.approx(weights)
    assert len(text.split(",")) != levels or found == weights, "the numbers themselves"


@pytest.mark.parametrize("num_levels", [1, 3])
@pytest.mark.parametrize(
    "text",
    ["", "a", "0.3;0.5", "0.3,,1", "0,1", "-1", "nan", "inf", "1,0.5", "0.3,1,0.5", "0.5,0.3,1"],
)
def test_weights_that_are_none_or_fall_are_refused(text: str, num_levels: int) -> None:
    with pytest.raises(UserError, match=f"^w={text}: must be positive numbers that do not fall"):
        per_level("w", text, num_levels)
