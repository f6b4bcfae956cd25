"""YAML files that people write, read into dataclasses: every mistake is named with file and key."""

import dataclasses
import types
from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from genrec_bench.errors import UserError, nearest

T = TypeVar("T")

MERGE = "tag:yaml.org,2002:merge"


def parse_yaml(text: str, where: str) -> object:
    """Parse a file's text.

    Args:
        text: of the file.
        where: the file's name, for the message.

    Raises:
        UserError: it is no YAML, or says a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    # YAML makes dates of what looks like days, and these need not exist.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: of which YAML takes the last, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"line {line}: the key {key.value!r} is there twice")
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_fields(cls: type[T], content: object, where: str, prefix: str = "") -> T:
    """Build a dataclass from a mapping with exactly its keys.

    Args:
        cls: its fields may be text, numbers, truth values, tuples, mappings and dataclasses.
        content: as parsed.
        where: the file's name, for the message.
        prefix: of the keys, ending in a dot where it is not empty.

    Raises:
        UserError: a key is unknown or missing, or its value is of another type.
    """
    if not isinstance(content, Mapping):
        place = f"key {prefix.rstrip('.')!r}" if prefix else "the file"
        raise UserError(f"{where}: {place} must be a mapping")
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            hint = nearest(str(key), fields)
            raise UserError(f"{where}: unknown key {prefix + str(key)!r}{hint}")
    hints = get_type_hints(cls)
    values = {}
    for key, item in fields.items():
        if key in content:
            values[key] = _convert(hints[key], content[key], where, prefix + key)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: missing key {prefix + key!r}")
    return cls(**values)


def _convert(kind: Any, value: object, where: str, key: str) -> Any:
    """Check `value` against the annotation `kind`; lists become tuples."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        if value is None:
            return None
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _convert(kind, value, where, key)
    if origin is tuple and isinstance(value, list):
        # Of plain values the message shows the one that is meant; of mappings, which it is.
        numbered = dataclasses.is_dataclass(arguments[0])
        return tuple(
            _convert(arguments[0], item, where, f"{key}.{place}" if numbered else key)
            for place, item in enumerate(value, start=1)
        )
    if origin is Mapping and isinstance(value, Mapping):
        return {str(k): _convert(arguments[1], v, where, f"{key}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return read_fields(kind, value, where, f"{key}.")  # type: ignore[arg-type]
    if kind is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    if kind in (int, str, bool) and type(value) is kind:
        # Of blanks alone, such as a tab between columns, they are what is meant.
        return value.strip() or value if isinstance(value, str) else value
    expected = {
        int: "an integer",
        float: "a number",
        str: "text",
        bool: "true or false",
        tuple: "a list",
    }
    wanted = expected.get(origin or kind, "a mapping")
    if kind is str and isinstance(value, date):
        # YAML takes what looks like a day for one.
        wanted = "text in quotes"
    raise UserError(f"{where}: key {key!r} must be {wanted}, not {value!r}")
