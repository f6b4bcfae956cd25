"""Content checked against dataclasses: all mistakes at once, each with its key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from genrec_bench.errors import UserError
from genrec_bench.storage.strict_yaml import parse_yaml
from genrec_bench.storage.validation import PlainName, at_least, checked, is_plain_name, validated


@dataclass(frozen=True)
class Part:
    name: PlainName
    size: Annotated[float, at_least(0)] | None = None


@dataclass(frozen=True)
class Thing:
    count: Annotated[int, at_least(1)]
    title: str = ""
    parts: tuple[Part, ...] = ()
    more: Mapping[str, Part] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "missing key 'count'"),
        ("", "is empty"),
        ("count: 1.0", "key 'count' must be an integer, not 1.0"),
        ("count: true", "key 'count' must be an integer, not True"),
        ("count: 0", "key 'count' must be at least 1, not 0"),
        ("{count: 1, title: 3}", "key 'title' must be text, not 3"),
        ("{count: 1, titel: a}", "unknown key 'titel'; did you mean 'title'?"),
        ("{count: 1, parts: a}", "key 'parts' must be a list, not 'a'"),
        ("{count: 1, parts: [3]}", "key 'parts.1' must be a mapping, not 3"),
        (
            "{count: 1, parts: [{name: a}, {name: b, sise: 1}]}",
            "unknown key 'parts.2.sise'; did you mean 'size'?",
        ),
        ("{count: 1, parts: [{name: a, size: -1}]}", "'parts.1.size' must be at least 0, not -1"),
        ("{count: 1, parts: [{name: a, size: .inf}]}", "must be a finite number, not inf"),
        ("{count: 1, parts: [{name: ../a}]}", "must be a plain name, without a folder, not '../a'"),
        ("{count: 1, more: {a: {}}}", "missing key 'more.a.name'"),
        (
            "{count: x, more: {a: {nam: b}}}",
            "key 'count' must be an integer, not 'x'; missing key 'more.a.name'; "
            "unknown key 'more.a.nam'; did you mean 'name'?",
        ),
    ],
)
def test_every_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(Thing, parse_yaml(text, "f.yaml"), "f.yaml")
    said = str(caught.value)
    assert said.startswith("f.yaml: ") and said.endswith(message) and "\n" not in said


def test_what_is_right_becomes_a_dataclass() -> None:
    text = "{count: 2, title: 2016-02-30, parts: [{name: a, size: 1}], more: {1: {name: b}}}"
    assert validated(Thing, parse_yaml(text, ""), "") == Thing(
        2, "2016-02-30", (Part("a", 1.0),), {"1": Part("b")}
    )
    assert checked(Thing, {"count": 2, "titel": 1}, extra="ignore") == (Thing(2), [])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0"])
def test_names_that_lead_elsewhere_are_not_plain(name: str) -> None:
    assert not is_plain_name(name)
    assert is_plain_name("beauty@rq-kmeans-4x256 (mine)..x")
