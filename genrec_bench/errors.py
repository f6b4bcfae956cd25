"""Errors that are told in one line: mistakes of the user, refusals of the disk; without secrets."""

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

DISK_TROUBLE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS) + (
    errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
)  # fmt: skip
"""Errors that the user has to mend: of the disk (full, read-only, no permission), and of paths that
can name no file (too long, through a file, a circle of links)."""

DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What is raised where content is taken apart that is not as it was written. Say with it which file
that is: around anything else than reading one, these are mistakes of ours."""

LONGEST_MESSAGE = 2000
"""Characters of what is told of a mistake."""

LONGEST_REASON = 300
"""Characters of a failure's reason in a record or in a message."""


class UserError(Exception):
    """A mistake in what the user asked for or handed in.

    The message is one line: what is wrong, where (file, line, key), and what would be right. The
    command line prints it without a traceback and exits with code 2. It is `told`.
    """

    def __str__(self) -> str:
        return told(super().__str__())


class StorageError(UserError):
    """The disk refuses, or a file on it is damaged; once that is mended, the run can go on."""


def is_disk_trouble(error: OSError) -> bool:
    """Return whether disk or path refuse; all other errors are mistakes in the program."""
    return error.errno in DISK_TROUBLE


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Raise StorageError for an ``OSError`` of the disk within; other errors pass as they are."""
    try:
        yield
    except OSError as error:
        if not is_disk_trouble(error):
            raise
        where = error.filename or "the disk"
        raise StorageError(f"cannot use {where}: {error.strerror}") from error


def one_line(text: object) -> str:
    """Return the beginning of a failure's reason, which may be a page long, in one line, `told`."""
    # A page is read, and not a book.
    return shorten(told(str(text)[: 20 * LONGEST_REASON]), LONGEST_REASON, placeholder=" ...")


def cut_off(message: str) -> str:
    """Return a message in one line, cut off where it repeats pages of what was handed in."""
    message = " ".join(message.splitlines())
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]} ..."


def no_file(path: Path) -> str:
    """Return what is wrong with a path that is no file."""
    return "is a folder, and a file is needed" if path.is_dir() else "there is no such file"


def no_folder(path: Path) -> str:
    """Return what is wrong with a path that is no folder."""
    return "is a file, and a folder is needed" if path.is_file() else "there is no such folder"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'ugr'?``, or nothing if no choice is near."""
    # Dashes are common to all options, and would make any two alike.
    bare = {choice.lstrip("-"): choice for choice in choices}
    matches = difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=0.5)
    return f"; did you mean {bare[matches[0]]!r}?" if matches else ""


HIDDEN = "***"

SECRET = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|credentials?)"
    r"|(?:[\w.-]*[_.-])?(?:token|auth|signature|sig|(?:api|access|private)[_-]?key))"
)
"""Names of what nobody tells; ``tokens_per_forward`` and ``token_learning_rate`` are none."""

_NAME = re.compile(SECRET, re.IGNORECASE)
_NAMED = re.compile(rf"((?:^|[?&;\s,\"'({{-]){SECRET}=[\"']?)[^&;\s\"'<>]+", re.IGNORECASE)
_QUOTED = re.compile(rf"(([\"']){SECRET}\2\s*:\s*([\"']))[^\"']+(?=\3)", re.IGNORECASE)
_SCHEME = re.compile(r"\b((?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/\s\"'<>]+@")
_TOKEN = re.compile(r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abpr]-|AKIA|eyJ)[\w.-]{12,}")
"""Tokens that are known by how they begin: of Hugging Face, GitHub, GitLab, others, and JWT."""

_ADDRESS = re.compile(r"(?:\w+://)?(?:[^/@\s:]*):([^/\s]+)@")
"""A variable's address with a password, with or without a scheme, as of a proxy."""

LEAST = 6
"""Characters of a variable's secret; what is shorter may stand anywhere."""

_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
"""What moves a cursor, sets a title, or turns the order of letters round."""

_HALF = re.compile("[\ud800-\udfff]")


def redacted(text: str) -> str:
    """Return a text with ``***`` for secrets.

    They are passwords in addresses, what is called a secret by its name, tokens of known makers,
    and what variables of the environment hold of these.
    """
    for secret in _of_environment():
        text = text.replace(secret, HIDDEN)
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _NAMED.sub(rf"\g<1>{HIDDEN}", text)
    text = _QUOTED.sub(rf"\g<1>{HIDDEN}", text)
    text = _SCHEME.sub(rf"\g<1>{HIDDEN}", text)
    return _TOKEN.sub(HIDDEN, text)


def plain(text: str) -> str:
    """Return a text with blanks for control characters and a mark for halves of characters."""
    return _HALF.sub("\ufffd", _CONTROL.sub(" ", text))


def told(text: str) -> str:
    """Return a text as anybody may see it."""
    return redacted(plain(text))


def told_values(value: object, name: str = "") -> Any:
    """Return plain values, within lists and mappings too, with all their texts `told`.

    Args:
        name: what the value is called; a text that is called a secret is one, whatever it says.
    """
    if isinstance(value, Mapping):
        return {told(str(key)): told_values(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [told_values(one, name) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return HIDDEN if _NAME.fullmatch(name) and str(value) else told(str(value))


def _of_environment() -> list[str]:
    """Secrets that variables hold; the longest come first, as one may hold another."""
    found = set()
    for name, value in os.environ.items():
        # PWD is the current folder, and other such names may lead to a file.
        if _NAME.fullmatch(name) and not os.path.isabs(value):
            found.add(value)
        elif "@" in value and (password := _ADDRESS.match(value)):
            found.add(password[1])
    return sorted((one for one in found if len(one) >= LEAST), key=len, reverse=True)
