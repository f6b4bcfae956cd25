"""What `fuzz.py` does to a good file: changes of its bytes, and of what they say.

Every change is drawn from one generator of random numbers, and so can be made again.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterable
from typing import Any

import yaml

Change = Callable[[random.Random, bytes], bytes]

OUTSIDE = "@OUTSIDE@"
"""In a nasty text: a folder that nobody may write to; `fuzz.py` puts its path there."""

TEXTS = (
    "", " ", "\t", ".", "..", "../../x", "../" * 12 + "x", f"{OUTSIDE}/x", "/", "a/b", "a\\b",
    "\0", "a\0b", "\ud800", "x\udfff", "\x1b[31mred\x1b[0m", "a\nb", "a\rb", "\u2028", "\u202e",
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "<script>alert(1)</script>", "javascript:alert(1)",
    "](javascript:alert(1))", "|", "`", "$(x)", "%s", "{0}", "{{x}}", "NaN", "nan", "Infinity",
    "-inf", "null", "true", "1e400", "9" * 400, "9" * 5000, "1" + "0" * 40, "-1", "0", "1.5", "²",
    "٣", "x" * 300, "x" * 100_000, "é" * 200, "a,b", "a;b", "'", '"', '""', "[1]", "{}", "[", "]]>",
    "2018-13-45", "0000-00-00", "9999-12-31", "<a_1><b_2><c_3>", "<a_99999999999999999999>",
    "--help", "-", "~", "~nobody-here/x", "0x10", "1_000", "\ufeff", "۱۲", "NDCG@10", "own/x",
)  # fmt: skip

RAW = (
    "9" * 400, "9" * 5000, "-" + "9" * 5000, "1" + "0" * 400, "1e400", "-1e400", "NaN", "Infinity",
    "-Infinity", "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, '"\\ud800"',
    '"\\u0000"', "1e-400", "0.1e309", "18446744073709551616", "-9223372036854775809", "1.0", "-0",
    "[" * 900 + "]" * 900, '{"__proto__": 1}', "tru", "",
)  # fmt: skip
"""What JSON may hold and Python's writer does not write, or what is no JSON."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.5, 1e308,
    1e-308, [], [1], [None], ["x"], [[]], {}, {"x": 1}, {"": 1}, [1, "x", None, {}],
    {"a": {"b": []}},
)  # fmt: skip

PIECES = (
    b"\n", b'"', b"'", b"\r", b",", b"\t", b"\0", b"\xff", b"{", b"[", b"\\", b"\x1b[2J", b"::",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"9" * 400, b"[" * 3000, b"\x1f\x8b", b"PK\x03\x04", b"NaN",
    b"1e999", b"- ", b"&a [*a]", b"*a", b"!!python/object:os.system x", b"<<: *x", b"../../x",
)  # fmt: skip

LARGEST = 4_000_000
"""Bytes of a changed file at most."""


def nasty_text(rng: random.Random) -> str:
    """Return a text that a careless reader stumbles over."""
    return rng.choice(TEXTS)


# ------------------------------------------------------------------------------------ of bytes


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, repeat, insert or overwrite bytes, up to six times."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(found) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1000))
        match rng.randrange(9):
            case 0:
                del found[at:]
            case 1:
                del found[at : at + length]
            case 2 | 3:
                if at < len(found):
                    found[at] ^= 1 << rng.randrange(8)
            case 4:
                found[at:at] = rng.choice(PIECES)
            case 5:
                piece = rng.choice(PIECES)
                found[at : at + len(piece)] = piece
            case 6:
                found[at:at] = found[at : at + length] * rng.choice((1, 2, 50))
            case 7:
                found[at : at + length] = rng.randbytes(length)
            case _:
                if at < len(found):
                    found[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        del found[LARGEST:]
    return bytes(found)


def replace_all(rng: random.Random, content: bytes) -> bytes:
    """Return a file of nothing, of noise, or of something short that is no such file."""
    return rng.choice(
        (
            b"",
            b"\n",
            b"\0",
            b"\0" * 4096,
            b"{}",
            b"[]",
            b"null",
            b"0",
            b'""',
            b"x",
            b"---\n",
            b"\xff",
        )
        + (b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"PAR1PAR1", b"\x93NUMPY", b"\n" * 100_000)
        + (rng.randbytes(300), b"[" * 200_000, b'{"a":' * 100_000, b"a: " * 2000, b"- " * 30_000)
    )


def compressed(change: Change) -> Change:
    """Return a change of what a `.gz` holds."""

    def changed(rng: random.Random, content: bytes) -> bytes:
        return gzip.compress(change(rng, gzip.decompress(content)), mtime=0)

    return changed


# ------------------------------------------------------------------------- of JSON and of YAML


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:40]) if isinstance(value, list) else items
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


class _Marks:
    """Stands in for what a library's writer would not write."""

    def __init__(self) -> None:
        self.raw: dict[str, str] = {}

    def of(self, raw: str) -> str:
        mark = f"@@{len(self.raw)}@@"
        self.raw[mark] = raw
        return mark

    def put(self, text: str) -> str:
        for mark, raw in self.raw.items():
            for quoted in (f'"{mark}"', f"'{mark}'", mark):
                text = text.replace(quoted, raw)
        return text


def change_value(rng: random.Random, whole: Any, marks: _Marks) -> Any:
    """Return a plain value in which one thing is another one, gone, twice or called otherwise."""
    whole = json.loads(json.dumps(whole))
    path = rng.choice(_places(whole))
    if not path:
        return rng.choice((*VALUES, whole)) if rng.random() < 0.2 else _inner(rng, whole, marks)
    holder = whole
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    what = rng.randrange(12)
    if what < 4:
        holder[key] = rng.choice(VALUES)
    elif what < 6:
        holder[key] = nasty_text(rng)
    elif what < 8:
        holder[key] = marks.of(rng.choice(RAW))
    elif what == 8:
        del holder[key]
    elif what == 9 and isinstance(holder, dict):
        holder[nasty_text(rng)] = holder.pop(key)
    elif what == 10:
        other = rng.choice(_places(whole))
        holder[key] = json.loads(json.dumps(_at(whole, other)))
    elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 1e6, 1 / 3))
    elif isinstance(holder, list):
        holder[key:key] = [holder[key]] * rng.choice((1, 3, 1000))
    else:
        holder[key] = [holder[key]]
    return whole


def _inner(rng: random.Random, whole: Any, marks: _Marks) -> Any:
    if isinstance(whole, dict):
        whole[nasty_text(rng)] = marks.of(rng.choice(RAW))
    return whole


def _at(whole: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        whole = whole[key]
    return whole


def change_json(rng: random.Random, content: bytes) -> bytes:
    """Change a JSON file by what it says."""
    marks, whole = _Marks(), json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        whole = change_value(rng, whole, marks)
    text = marks.put(json.dumps(whole, ensure_ascii=rng.random() < 0.5))
    if rng.random() < 0.05 and text.startswith("{"):
        text = "{" + ", ".join([text[1:-1]] * 2) + "}"  # every key stands twice
    return text.encode("utf-8", "surrogatepass")


def change_json_lines(rng: random.Random, content: bytes) -> bytes:
    """Change one line of many that are JSON, or Python's way to write the same."""
    lines = content.split(b"\n")
    place = rng.randrange(max(1, len(lines) - 1))
    try:
        lines[place] = change_json(rng, lines[place])
    except ValueError:
        lines[place] = change_bytes(rng, lines[place])
    return b"\n".join(lines)


def change_yaml(rng: random.Random, content: bytes) -> bytes:
    """Change a YAML file by what it says."""
    marks, whole = (
        _Marks(),
        yaml.load(content, yaml.BaseLoader if rng.random() < 0.1 else _Loader),
    )
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        whole = change_value(rng, whole, marks)
    if rng.random() < 0.5:
        return marks.put(json.dumps(whole)).encode("utf-8", "surrogatepass")
    text = marks.put(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False))
    return text.encode("utf-8", "surrogatepass")


class _Loader(yaml.SafeLoader):
    """Leaves days as text, which JSON can hold."""


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)


# ----------------------------------------------------------------------------------- of tables


def change_table(rng: random.Random, content: bytes) -> bytes:
    """Change a field, a line or a column of a table that is text."""
    text = content.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    separator = max((",", "\t", "::", " ", ";"), key=lines[0].count)
    place = rng.randrange(len(lines))
    fields = lines[place].split(separator)
    match rng.randrange(8):
        case 0 | 1 | 2:
            fields[rng.randrange(len(fields))] = nasty_text(rng)
        case 3:
            fields.pop(rng.randrange(len(fields)))
        case 4:
            fields.insert(rng.randrange(len(fields) + 1), nasty_text(rng))
        case 5:
            one = rng.randrange(len(fields))
            return "\n".join(
                separator.join(nasty_text(rng) if n == one else f for n, f in enumerate(parts))
                for parts in (line.split(separator) for line in lines)
            ).encode("utf-8", "surrogatepass")[:LARGEST]
        case 6:
            lines[place:place] = [lines[place]] * rng.choice((1, 2, 500))
        case _:
            fields = [f'"{field}' for field in fields]
    lines[place] = separator.join(fields)
    return "\n".join(lines).encode("utf-8", "surrogatepass")[:LARGEST]


def change_words(rng: random.Random, words: list[str]) -> list[str]:
    """Change a command line by its words."""
    words = list(words)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(words) + 1)
        word = nasty_text(rng).replace("\0", "")[:5000]
        match rng.randrange(9):
            case 0 | 1 | 2:
                words[at : at + 1] = [word]
            case 3:
                words[at:at] = [word]
            case 4:
                del words[at : at + 1]
            case 5:
                words[at:at] = words[at : at + 2]
            case 6:
                if at < len(words):
                    key, mark, _ = words[at].partition("=")
                    words[at] = f"{key}{mark or '='}{word}"
            case 7:
                words[at:at] = [
                    rng.choice(
                        (
                            "--json",
                            "--set",
                            "--seed",
                            "--output",
                            "--k",
                            "--help",
                            "--",
                            "--dataset",
                            "--data-dir",
                            "--budget",
                            "--workers",
                            "--on",
                        )
                    )
                ]
            case _:
                if at < len(words):
                    words[at] = (
                        change_bytes(rng, words[at].encode("utf-8", "surrogatepass"))
                        .replace(b"\0", b"")
                        .decode("utf-8", "surrogateescape")[:5000]
                    )
    return words


def csv_of(rows: list[list[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
