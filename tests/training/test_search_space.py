"""Search spaces: declared beside the default, checked by the contract, turned into words."""

from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.stated import check_hyperparameters, run_check
from genrec_bench.policy.backbones import Backbone, find_backbone
from genrec_bench.runs.jobs import split_words
from genrec_bench.runs.registry import discover
from genrec_bench.training.hyperparameters import (
    Hyperparameters,
    Times,
    field_types,
    from_words,
    hyperparameter,
)
from genrec_bench.training.search_space import (
    defaults_of,
    describe_search,
    point_at,
    search_problem,
    space_of,
    words_of,
)

TINY = find_backbone("tiny")


@dataclass(frozen=True)
class Sample(Hyperparameters):
    """One field of each kind, and two that no sweep touches."""

    clip: float = hyperparameter(0.2, low=0, high=1, search=(0.1, 0.5), help="c")
    beta: float = hyperparameter(0, low=0, high=1, search=(0, 0.03, 0.01), help="b")
    weight: float = hyperparameter(1.0, low=0, high=9, log=True, search=(0.25, 4), help="w")
    count: int = hyperparameter(2, low=1, high=4, help="how many")
    width: int = hyperparameter(8, low=1, high=99, log=True, search=(1, 64), help="how wide")
    divide: bool = hyperparameter(True, help="whether")
    reward: str = hyperparameter("rule", choices=("rule", "rank", "both"), help="which")
    head: float | None = hyperparameter(
        None, low=1e-8, high=1, log=True, search=Times(0.5, 2, of="sft_learning_rate"), help="h"
    )
    name: str = hyperparameter("x", search=False, help="a word")
    steps: int = hyperparameter(0, low=0, search=False, help="open above")


SPACE = space_of(Sample, TINY)
BY_NAME = {dimension.name: dimension for dimension in SPACE}


def test_a_space_holds_what_may_be_searched_in_the_order_of_the_fields() -> None:
    names = ["learning_rate", "clip", "beta", "weight", "count", "width", "divide", "reward"]
    assert list(BY_NAME) == [*names, "head"]
    assert [d.name for d in space_of(Sample, TINY, {"clip", "head", "name"})] == [
        name for name in names if name != "clip"
    ]


def test_the_search_begins_at_the_defaults_with_the_backbones_rates() -> None:
    numbers = {"clip": 0.2, "beta": 0.0, "weight": 1.0, "count": 2, "width": 8}
    rates = {"learning_rate": 1e-5, "head": 2e-3}
    assert defaults_of(SPACE) == {**rates, **numbers, "divide": True, "reward": "rule"}


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("clip", 0.0, 0.1),
        ("clip", 0.25, 0.2),
        # 0, 0.01, 0.02 and 0.03: a quarter of the places each, and written as a person would.
        ("beta", 0.24, 0.0),
        ("beta", 0.26, 0.01),
        ("beta", 0.99, 0.03),
        # Half way from 1/4 to 4 on a logarithmic scale.
        ("weight", 0.5, 1.0),
        ("weight", 0.75, 2.0),
        ("count", 0.0, 1),
        ("count", 0.74, 3),
        ("count", 0.99, 4),
        ("divide", 0.4, True),
        ("divide", 0.6, False),
        ("reward", 0.5, "rank"),
        # From a tenth of the tiny backbone's 1e-5 to ten times as much.
        ("learning_rate", 0.5, 1e-5),
        ("learning_rate", 0.0, 1e-6),
        ("head", 0.0, 1e-3),
    ],
)
def test_places_become_values(name: str, place: float, value: Any) -> None:
    found = BY_NAME[name].at(place)
    assert type(found) is type(value)
    assert found == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


def test_whole_numbers_on_a_logarithmic_scale_stand_for_what_is_rounded_to_them() -> None:
    # From 0.5 to 64.5: ln(1.5 / 0.5) / ln(64.5 / 0.5) = 0.226 of the places are 1.
    assert [BY_NAME["width"].at(place) for place in (0.0, 0.22, 0.23, 0.999)] == [1, 1, 2, 64]


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(SPACE), max_size=len(SPACE)))
def test_every_point_is_one_that_the_study_and_the_command_line_take(places: list[float]) -> None:
    point = point_at(SPACE, places)
    for dimension in SPACE:
        distribution = dimension.distribution()
        value: Any = point[dimension.name]
        assert distribution._contains(distribution.to_internal_repr(value)), dimension.name
    read = from_words(Sample, split_words(words_of(point)))
    assert {name: getattr(read, name) for name in point} == point


def test_what_is_allowed_wins_over_a_backbones_rate() -> None:
    fast = Backbone("x", "", True, sft_learning_rate=0.8, learning_rate=0.5)
    rate = space_of(Sample, fast)[0]
    assert (rate.low, rate.high) == (0.05, 1.0)


def problem(**declared: Any) -> str | None:
    """What is wrong with one field."""
    kind = declared.pop("kind", float)
    default = declared.pop("default", 0.5)
    field = hyperparameter(default, help="x", **declared)
    Some = type("Some", (Hyperparameters,), {"__annotations__": {"some": kind}, "some": field})
    cls: type[Hyperparameters] = dataclass(frozen=True)(Some)
    (found,) = (each for each in fields(cls) if each.name == "some")
    return search_problem(found, field_types(cls)["some"])


RATE: dict[str, Any] = {"kind": float | None, "default": None}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "some needs low and high, a range to search, or search=False"),
        ({"low": 0}, "some needs low and high, a range to search, or search=False"),
        ({"low": 0, "high": 1}, None),
        ({"search": (0, 1)}, None),
        ({"search": False}, None),
        ({"search": (1, 0)}, "some: the range 1 .. 0 to search is empty"),
        ({"search": (0, float("inf"))}, "some: the range 0 .. inf to search is empty"),
        ({"low": 0.2, "search": (0, 1)}, "some: the range 0 .. 1 to search goes below what is"),
        ({"high": 0.7, "search": (0, 1)}, "some: the range 0 .. 1 to search goes above what is"),
        ({"search": (0.6, 1)}, "some: the range 0.6 .. 1 to search does not hold the default 0.5"),
        ({"search": (0, 1), "log": True}, "some: the range 0 .. 1 to search begins at 0 or below"),
        ({"search": (0, 1, 0.25)}, None),
        ({"search": (0, 1, 0.3)}, "some: the range is no whole number of steps of 0.3 from 0"),
        ({"search": (0, 0.9, 0.3)}, "some: the default is no whole number of steps of 0.3 from 0"),
        ({"search": (0, 1, 0)}, "some: the step 0 is none"),
        ({"search": (0.25, 1, 0.25), "log": True}, "some: steps and a logarithmic scale exclude"),
        ({"search": Times(0.1, 10)}, "some: a range of Times the backbone's rate is for the def"),
        ({"kind": int, "default": 2, "search": (1, 3)}, None),
        ({"kind": int, "default": 2, "search": (1, 3.5)}, "some: the range 1 .. 3.5 to search is"),
        ({"kind": int, "default": 2, "search": (1, 3, 0.5)}, "some: the step 0.5 is none"),
        ({"kind": bool, "default": True}, None),
        ({"kind": bool, "default": True, "search": (0, 1)}, "some: true and false have no range"),
        ({"kind": str, "default": "a", "choices": ("a", "b")}, None),
        ({"kind": str, "default": "a"}, "some: words without choices have no range; declare"),
        ({**RATE, "search": (0, 1)}, "some: None lies in no range"),
        ({**RATE, "search": Times(0.1, 10)}, None),
        ({**RATE, "search": Times(2, 10)}, "some: 2 .. 10 times a rate must hold the rate"),
        ({**RATE, "search": Times(0, 10)}, "some: 0 .. 10 times a rate must hold the rate"),
        ({**RATE, "search": Times(0.1, 10, of="width")}, "some: the backbone has no rate 'width'"),  # type: ignore[arg-type]
        (
            {**RATE, "search": Times(0.1, 10, default="depth")},  # type: ignore[arg-type]
            "some: the backbone has no rate 'depth'",
        ),
    ],
)
def test_a_range_that_cannot_be_searched_is_named(
    declared: dict[str, Any], said: str | None
) -> None:
    found = problem(**declared)
    assert found is None if said is None else found is not None and found.startswith(said)


def test_the_contract_refuses_such_an_algorithm() -> None:
    @dataclass(frozen=True)
    class Choices(GRPOHyperparameters):
        """One more."""

        strength: float = hyperparameter(0.5, low=0, high=2, search=(1, 2), help="how much")

    class Mine(GRPO):
        """GRPO, told again."""

        hyperparameters_class = Choices

    reason = run_check(check_hyperparameters, Mine)
    assert reason == "strength: the range 1 .. 2 to search does not hold the default 0.5"
    assert run_check(check_hyperparameters, GRPO) is None


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("sft", ["learning_rate"]),
        ("grpo", ["learning_rate", "beta"]),
        ("ugr", ["learning_rate", "beta", "alpha_min", "gamma_partial", "gamma_wrong"]),
    ],
)
def test_what_is_searched(name: str, searched: list[str]) -> None:
    cls = discover().get(name).algorithm.hyperparameters_class
    assert [dimension.name for dimension in space_of(cls, TINY)] == searched


def test_continued_sft_may_learn_as_fast_as_its_own_stage() -> None:
    cls = discover().get("sft").algorithm.hyperparameters_class
    # From 1/200 of the stage's rate, begun at that of an RL run.
    for backbone, low, default, high in (
        (TINY, 1e-5, 1e-5, 2e-3),
        (Backbone("hub/model", "", False, 2e-4, 2e-6), 1e-6, 2e-6, 2e-4),
        # Rates of their own that are further apart: the default is never left out.
        (Backbone("mine", "", True, 1e-3, 1e-7), 1e-7, 1e-7, 1e-3),
    ):
        (rate,) = space_of(cls, backbone)
        assert (rate.low, rate.default, rate.high) == pytest.approx((low, default, high))
        assert rate.log


@pytest.mark.parametrize("entry", discover().entries, ids=lambda entry: entry.name)
def test_every_algorithm_can_be_built_at_both_ends_of_its_space_and_is_no_other(entry: Any) -> None:
    cls = entry.algorithm.hyperparameters_class
    for backbone in (TINY, Backbone("hub/model", "", False, 2e-4, 2e-6)):
        space = space_of(cls, backbone)
        for place in (0.0, 0.999999):
            from_words(cls, split_words(words_of(point_at(space, [place] * len(space)))))
        for dimension in space:
            default: Any = dimension.default
            # A switch would turn it into another algorithm.
            assert True not in dimension.choices, dimension.name
            if dimension.choices:
                assert default in dimension.choices, dimension.name
            else:
                assert dimension.low <= default <= dimension.high, dimension.name


def test_a_range_is_described_in_a_few_words() -> None:
    described = {field.name: describe_search(field) for field in fields(Sample)}
    assert described == {
        "learning_rate": "0.1 .. 10 times the backbone's, log",
        "clip": "0.1 .. 0.5",
        "beta": "0 .. 0.03, by 0.01",
        "weight": "0.25 .. 4, log",
        "count": "all",
        "width": "1 .. 64, log",
        "divide": "all",
        "reward": "all",
        "head": "0.5 .. 2 times the backbone's of SFT, log",
        "name": "",
        "steps": "",
    }
