"""Content of files checked against dataclasses by pydantic: every mistake is named with its key.

A field's annotation says what is allowed in it, such as ``Annotated[int, at_least(1)]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from genrec_bench.errors import UserError, nearest, one_line

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, ErrorDetails

T = TypeVar("T")

_WANTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
}
"""What pydantic's errors ask for, in the words of YAML."""

MOST_MISTAKES = 20
"""That are named of one file."""

LONGEST_NAME = 200
"""Bytes of a name: file systems have 255, and endings and marks are added."""

_OF_KEY = ".[key]"
"""Ends the place of an error if a key itself is wrong, and not what it holds."""


@dataclasses.dataclass(frozen=True)
class Must:
    """A condition on a value; stands in an annotation beside the type.

    Attributes:
        holds: whether it is met by a value of that type.
        what: completes "must be".
        choices: texts that are right, of which a mistake may be near to one.
    """

    holds: Callable[[Any], bool]
    what: str
    choices: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], CoreSchema]
    ) -> CoreSchema:
        """Tell pydantic to check the condition after the type."""
        from pydantic_core import PydanticCustomError, core_schema

        def check(value: Any) -> Any:
            if not self.holds(value):
                told = {"what": self.what, "choices": self.choices}
                raise PydanticCustomError("must", "{what}", told)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


def one_of(choices: Collection[str]) -> Must:
    """Return the condition to be one of some texts; the empty one is not told of."""
    told = tuple(filter(None, choices))
    return Must(lambda value: value in choices, f"one of {', '.join(told)}", told)


def at_least(least: float) -> Must:
    """Return the condition to be a number that is not smaller."""
    return Must(lambda value: value >= least, f"at least {least}")


def between(least: float, most: float) -> Must:
    """Return the condition to be a number that is neither smaller nor larger."""
    return Must(lambda value: least <= value <= most, f"from {least:g} to {most:g}")


def is_plain_name(text: str) -> bool:
    """Return whether a text can name a file or folder, in one line, and leads nowhere else."""
    plain = text.isprintable() and not set(text) & set("/\\")
    return plain and text not in ("", ".", "..") and len(text.encode()) <= LONGEST_NAME


PlainName = Annotated[str, Must(is_plain_name, "a plain name, without a folder")]
Text = Annotated[str, Must(bool, "text that is not empty")]


def checked(
    kind: type[T], content: object, *, extra: str = "forbid", place: str = ""
) -> tuple[T | None, list[str]]:
    """Build a dataclass from plain JSON values; lists become tuples.

    Its fields may be text, numbers, truth values, tuples, mappings and dataclasses; ``extra`` says
    what becomes of keys that are no fields, "forbid" or "ignore"; ``place`` is the key under which
    the content stands, "" for a whole file.

    Returns:
        The dataclass or None, and all that is wrong: keys unknown or missing, and values that are
        not as the annotations say.
    """
    from pydantic import ValidationError
    from pydantic_core import to_json

    # As JSON: among Python's own values, strict would ask for a dataclass where a mapping is.
    text = to_json({"content": content}, inf_nan_mode="constants", fallback=repr)
    try:
        return _model(kind, extra).model_validate_json(text).content, []  # type: ignore[arg-type]
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        return None, [_named(kind, found, place) for found in mistakes[:MOST_MISTAKES]]


def validated(kind: type[T], content: object, where: str) -> T:
    """Build a dataclass from a mapping with exactly its keys; see `checked`.

    Raises:
        UserError: names `where`, the file, and all that is wrong.
    """
    built, mistakes = checked(kind, content)
    if built is None:
        raise UserError(f"{where}: {'; '.join(mistakes)}")
    return built


def require(condition: object, where: str, key: str, what: str) -> None:
    """Raise UserError unless the condition holds: `key` of the file `where` must be `what`."""
    if not condition:
        raise UserError(f"{where}: key {key!r} must be {what}")


@lru_cache
def _model(kind: Any, extra: str) -> Any:
    """Return a model whose one field is of that type: its configuration reaches all within."""
    # Imported late, like all of pydantic: most commands read no such file.
    from pydantic import ConfigDict, create_model

    config = ConfigDict(strict=True, extra=extra, allow_inf_nan=False)  # type: ignore[typeddict-item]
    return create_model("File", __config__=config, content=(kind, ...))


def _named(kind: Any, error: ErrorDetails, above: str) -> str:
    """Return one mistake as people write keys: nested ones with dots, places counted from 1."""
    _, *place = error["loc"]
    steps = [str(step + 1 if isinstance(step, int) else step) for step in place]
    key = one_line(".".join(filter(None, [above, *steps])))
    if error["type"] == "missing":
        return f"missing key {key!r}"
    if error["type"] == "unexpected_keyword_argument":
        owner = reduce(_inside, place[:-1], kind)
        return f"unknown key {key!r}{nearest(str(place[-1]), get_type_hints(_some(owner)))}"
    wanted = _WANTED.get(error["type"]) or error["msg"].removeprefix("Input should be ")
    named = f"key {key.removesuffix(_OF_KEY)!r}" if key else "the file"
    be = "be called" if key.endswith(_OF_KEY) else "be"
    hint = nearest(str(error["input"]), error.get("ctx", {}).get("choices", ()))
    return one_line(f"{named} must {be} {wanted}, not {error['input']!r}{hint}")


def _inside(kind: Any, step: int | str) -> Any:
    """Return the annotation of what a key, or a place in a list, of an annotated value holds."""
    kind = _some(kind)
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind)[str(step)]
    return get_args(kind)[0 if isinstance(step, int) else 1]


def _some(kind: Any) -> Any:
    """Return the annotation without None."""
    some = [argument for argument in get_args(kind) if argument is not type(None)]
    return some[0] if type(None) in get_args(kind) else kind
