"""Changes of files that are not text: tables, arrays, databases, archives; and of Python.

`fuzz_mutations.py` has the others, and says what they have in common.
"""

from __future__ import annotations

import io
import math
import random
import sqlite3
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_mutations import OUTSIDE, TEXTS, VALUES, change_bytes, change_json, nasty_text

from genrec_bench.storage.parquet import read_table


def _array(rng: random.Random, length: int) -> pa.Array:
    """Return a column of some length, of a type that nobody expects."""
    texts = [text for text in TEXTS if not any(0xD800 <= ord(c) < 0xE000 for c in text)]
    choice = rng.randrange(14)
    if choice == 0:
        return pa.array([rng.choice(texts)[:2000] for _ in range(length)], pa.string())
    if choice == 1:
        return pa.nulls(length)
    if choice == 2:
        return pa.array([math.nan] * length)
    if choice == 3:
        return pa.array([rng.choice((math.inf, -math.inf, 1e308, 0.5)) for _ in range(length)])
    if choice == 4:
        return pa.array([rng.choice((-1, -(2**63), 2**63 - 1, 2**40)) for _ in range(length)])
    if choice == 5:
        return pa.array([2**64 - 1] * length, pa.uint64())
    if choice == 6:
        return pa.array(
            [[rng.randrange(-2, 30) for _ in range(rng.randrange(5))] for _ in range(length)]
        )
    if choice == 7:
        return pa.array([rng.randbytes(3) for _ in range(length)], pa.binary())
    if choice == 8:
        return pa.array([{"a": 1}] * length)
    if choice == 9:
        return pa.array([True] * length)
    if choice == 10:
        return pa.array(["a"] * length).dictionary_encode()
    if choice == 11:
        return pa.array([2**62] * length, pa.timestamp("us"))
    if choice == 12:
        return pa.array([None if rng.random() < 0.5 else 1 for _ in range(length)], pa.int64())
    return pa.array([[None, ["x"]]] * length)


def change_parquet(rng: random.Random, content: bytes) -> bytes:
    """Change a column or the rows of a Parquet file."""
    table = read_table(content)
    names, length = table.column_names, table.num_rows
    at = rng.randrange(len(names)) if names else 0
    match rng.randrange(8) if names else 7:
        case 0:
            table = table.remove_column(at)
        case 1:
            renamed = list(names)
            renamed[at] = rng.choice(("", "x", "user", names[0], "NDCG@10", "x" * 1000, "\x1b[1m"))
            table = table.rename_columns(renamed)
        case 2 | 3 | 4:
            table = table.set_column(at, names[at], _array(rng, length))
        case 5:
            rows = (
                [rng.randrange(length) for _ in range(rng.choice((0, 1, length, 2 * length)))]
                if length
                else []
            )
            table = table.take(pa.array(rows, pa.int64()))
        case 6:
            table = table.append_column(
                nasty_text(rng).encode("utf-8", "replace").decode(), _array(rng, length)
            )
        case _:
            table = pa.table({"x": _array(rng, 5)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def change_npy(rng: random.Random, content: bytes) -> bytes:
    """Change an array of NumPy: its values, its type, its shape, or what its header says."""
    array = np.load(io.BytesIO(content))
    choice = rng.randrange(10)
    if choice < 3:
        head_length = struct.unpack("<H", content[8:10])[0]
        head = content[10 : 10 + head_length].decode("latin1")
        old, new = rng.choice(
            (
                ("(", f"({rng.choice(('-1', '10**9', '9' * 30, '999999999999', '1', ''))}, "),
                ("'descr'", "'descry'"),
                ("<f", rng.choice(("|O", "<U9999999", ">c", "|V3", "<M", "|S0", "zz"))),
                ("False", rng.choice(("True", "None", "1", "[" * 500, "__import__('os')"))),
                ("{", rng.choice(("[", "{{", "(" * 300, "'", '"""'))),
                ("}", rng.choice(("", "]", "\n", "\0", ")"))),
                (" ", "\t"),
            )
        )
        new_head = head.replace(old, new, 1).encode("latin1")[:60_000]
        return (
            content[:8] + struct.pack("<H", len(new_head)) + new_head + content[10 + head_length :]
        )
    if choice == 3:
        array = array.astype(
            rng.choice(("int8", "float16", "complex128", "bool", "U5", "S3", "uint64", "float64"))
        )
    elif choice == 4:
        array = array.reshape(rng.choice(((-1,), (1, *array.shape), array.shape[::-1])))
    elif choice == 5:
        array = array[: rng.choice((0, 1, len(array) - 1))]
    elif choice == 6:
        array = array[:, :0] if array.ndim == 2 else np.array(5)
    elif choice == 7:
        array = np.concatenate([array, array])
    elif choice == 8:
        array = np.asfortranarray(array)
    else:
        array = array.astype("float64")
        array.flat[rng.randrange(max(1, array.size))] = rng.choice(
            (math.nan, math.inf, -math.inf, 1e308, 2.0**70, -1.0, 0.5)
        )
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def change_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Change the header of a file of tensors, which is JSON behind its length."""
    (length,) = struct.unpack("<Q", content[:8])
    head = change_json(rng, content[8 : 8 + length])
    told = len(head) if rng.random() < 0.9 else rng.choice((0, 1, 2**63, 2**64 - 1, len(content)))
    return struct.pack("<Q", told) + head + content[8 + length :]


def change_sqlite(rng: random.Random, content: bytes, scratch: Path) -> bytes:
    """Set a random column of a database, to something else, or drop a table."""
    scratch.write_bytes(content)
    with sqlite3.connect(scratch) as database:
        tables = [
            row[0] for row in database.execute("select name from sqlite_master where type='table'")
        ]
        table = rng.choice(tables)
        columns = [row[1] for row in database.execute(f'pragma table_info("{table}")')]
        column, some = (rng.choice(columns), rng.choice(("1", "rowid % 2 = 0", "rowid = 1")))
        values = [
            v
            for v in (*VALUES, *TEXTS)
            if isinstance(v, str | int | float | None)
            and not (
                isinstance(v, int)
                and abs(v) >= 2**63
                or isinstance(v, str)
                and "\ud800" <= max(v, default="") <= "\udfff"
            )
        ]
        try:
            if rng.random() < 0.1:
                database.execute(rng.choice((f'drop table "{table}"', f'delete from "{table}"')))
            else:
                database.execute(
                    f'update or ignore "{table}" set "{column}" = ? where {some}',
                    (rng.choice(values),),
                )
        except (sqlite3.Error, OverflowError):
            pass
    database.close()
    return scratch.read_bytes()


def change_tar(rng: random.Random, content: bytes) -> bytes:
    """Change a name, a kind or the content of a member of a tar file."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=buffer, mode="w") as new,
    ):
        members = old.getmembers()
        chosen = rng.randrange(len(members))
        for number, member in enumerate(members):
            file = old.extractfile(member)
            inner = file.read() if file is not None else b""
            if number == chosen:
                match rng.randrange(6):
                    case 0:
                        member.name = (
                            nasty_text(rng).replace("\0", "").encode("utf-8", "replace").decode()
                            or "x"
                        )
                    case 1:
                        member.type = rng.choice(
                            (
                                tarfile.SYMTYPE,
                                tarfile.LNKTYPE,
                                tarfile.DIRTYPE,
                                tarfile.FIFOTYPE,
                                tarfile.CHRTYPE,
                            )
                        )
                        member.linkname = rng.choice(("/etc/passwd", "../../x", f"{OUTSIDE}/x"))
                    case 2:
                        continue
                    case 3:
                        member.name = f"../{member.name}"
                    case _:
                        change = change_json if member.name.endswith(".json") else change_bytes
                        inner = change(rng, inner)
            member.size = len(inner)
            new.addfile(member, io.BytesIO(inner))
    return buffer.getvalue()


STATEMENTS = (
    "raise BaseException('x')", "raise KeyboardInterrupt", "raise SystemExit(3)", "1 / 0", "x = [",
    "import sys; sys.exit(0)", "raise GeneratorExit", "raise Exception('\\x1b[\\ud800')", "return",
    "raise RecursionError", "def f(): f()\nf()", "import no_such_module", "assert False", "\tx",
    "raise ValueError('a' * 100000)", "raise MemoryError", "raise StopIteration", "raise EOFError",
    "class E(Exception):\n    def __str__(self): raise ValueError\nraise E()", "yield 1", "\0",
    "class E(BaseException):\n    __str__ = None\nraise E()", "raise OSError(28, 'No space')",
    "from genrec_bench.errors import UserError; raise UserError('a\\nb\\x1b')", "__doc__ = 5",
    "__name__ = None", "del __name__", "__all__ = 3", "raise ExceptionGroup('x', [ValueError()])",
    "print('said')", "# coding: no-such", "import warnings; warnings.warn('x\\x1b')", "pass",
    "raise BaseExceptionGroup('x', [KeyboardInterrupt()])", "raise PermissionError(13, 'No')",
)  # fmt: skip
"""Statements of which most raise."""

WORDS = (
    "None", "True", "-1", "''", "[]", "{}", "object()", "float('nan')", "10**400", "'\\ud800'",
    "lambda: 1", "print", "...", "type", "1j",
)  # fmt: skip


def change_python(rng: random.Random, content: bytes) -> bytes:
    """Put a statement into a file of Python that raises, or another value in the place of one."""
    lines = content.decode().split("\n")
    if rng.random() < 0.5:
        place = rng.randrange(len(lines) + 1)
        indent = " " * rng.choice((0, 0, 4, 8))
        if place < len(lines) and rng.random() < 0.8:
            indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
        lines[place:place] = [indent + line for line in rng.choice(STATEMENTS).split("\n")]
    else:
        marks = [
            (n, w)
            for n, line in enumerate(lines)
            for w in sorted(set(line.replace("(", " ").replace(")", " ").replace(",", " ").split()))
            if w[:1].isalnum()
        ]
        n, word = rng.choice(marks)
        lines[n] = lines[n].replace(word, rng.choice((*WORDS, rng.choice(marks)[1], "")), 1)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
