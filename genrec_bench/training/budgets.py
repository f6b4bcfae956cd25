"""How much an algorithm may spend: ``2xsft``, ``90s``, ``3e13flop`` or ``20Mtok``."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import ClassVar, Literal

from genrec_bench.errors import UserError

BudgetKind = Literal["seconds", "flops", "tokens"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}
# Powers of ten, and SI's own letter case: "m" is a minute here and a thousandth in SI.
_PREFIXES = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_KINDS: dict[str, BudgetKind] = {"flop": "flops", "tok": "tokens"}
# At most three digits of exponent: all that a float can hold, and no number too long to expand.
_NUMBER = r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)"
_TIME = re.compile(rf"{_NUMBER}(?P<unit>[smh])", re.ASCII)
_MULTIPLE = re.compile(rf"{_NUMBER}xsft", re.ASCII)
_COUNT = re.compile(rf"{_NUMBER}(?P<prefix>[kMGTP]?)(?P<unit>flop|tok)", re.ASCII)

_ANY = re.compile(rf"{_NUMBER}(?P<unit>s|xsft|[kMGTP]?(?:flop|tok))", re.ASCII)
_SHOWN = 4
"""Digits of an amount that people read."""

# What else is written for the same, in small letters and without spaces.
_LIKE_MULTIPLE = re.compile(
    rf"(?P<x>x?){_NUMBER}(?P<how>%|x|times)?(?:of)?(?:the)?(?P<sft>sft)?(?:start)?(?:'?s)?(?:cost)?"
)
_LIKE_TIME = re.compile(rf"{_NUMBER}(?P<unit>s|m|h|d)(?:ecs?|econds?|ins?|inutes?|rs?|ours?|ays?)?")
_LIKE_COUNT = re.compile(rf"{_NUMBER}(?P<prefix>[kmgbtp]?)(?P<unit>flop|tok)(?:en)?s?")

_RIGHT = (
    "write a number more than zero with its unit: multiples of what the SFT start cost (2xsft), "
    "seconds, minutes or hours (90s, 5m, 1.5h), FLOPs (3e13flop, 2Tflop) or tokens (20Mtok); "
    "prefixes are k, M, G, T, P"
)


OPTION = "--budget"
"""What gives most budgets."""


@dataclass(frozen=True)
class Budget:
    """A limit on what the training phases of one run may spend.

    Attributes:
        kind: what is limited.
        amount: the limit in seconds, FLOPs or tokens; finite and more than zero.
        text: the canonical spelling, the same for all spellings of one budget; part of a track.
            It is itself a budget that `parse_budget` reads.
        option: that it was given by, for messages alone.
    """

    kind: BudgetKind
    amount: float
    text: str
    option: str = field(default=OPTION, compare=False)

    @property
    def shown(self) -> str:
        """The budget in four digits, for people."""
        return shown_budget(self.text)


@dataclass(frozen=True)
class SFTMultiple:
    """A budget that is known once the SFT start is trained: a multiple of its FLOPs.

    Attributes:
        text: the canonical spelling.
        option: that it was given by, for messages alone.
    """

    times: float
    text: str
    option: str = field(default=OPTION, compare=False)
    kind: ClassVar[BudgetKind] = "flops"

    @property
    def shown(self) -> str:
        """The budget in four digits, for people."""
        return shown_budget(self.text)

    def exact(self, sft_flops: float) -> Budget:
        """Return the budget in FLOPs.

        Raises:
            UserError: the SFT start cost nothing, as with ``sft_epochs=0``.
        """
        if sft_flops <= 0:
            raise UserError(
                f"{self.option} {self.text}: the SFT start cost nothing; give it in FLOPs"
            )
        return parse_exact(f"{self.times * sft_flops!r}flop", self.option)


AnyBudget = Budget | SFTMultiple
"""A budget as it may be given."""


def parse_budget(text: str, option: str = OPTION) -> AnyBudget:
    """Read a budget as a user writes it, such as ``2xsft``, ``90s``, ``2Tflop`` or ``800ktok``.

    Args:
        option: that it was given by.

    Raises:
        UserError: `text` is not a budget, or its amount is not finite and more than zero.
    """
    if match := _MULTIPLE.fullmatch(text.strip()):
        number = Decimal(match["number"])
        if number == 0 or not isfinite(float(number)):
            raise UserError(f"{option} {text!r} comes to {float(number):g} times SFT: {_RIGHT}")
        return SFTMultiple(float(number), f"{_digits(Decimal(repr(float(number))))}xsft", option)
    return parse_exact(text, option)


def meant_budget(text: str) -> str:
    """Return a budget, or the one that another spelling stands for; "" for any other text."""
    try:
        parse_budget(text)
    except UserError:
        return _meant(text)
    return text


def parse_exact(text: str, option: str = OPTION) -> Budget:
    """Read a budget that says its amount itself, as records hold them; else as `parse_budget`."""
    kind: BudgetKind
    # Decimal, since 1.1 * 3600 in binary is not the same budget as 66 minutes.
    if match := _TIME.fullmatch(text.strip()):
        kind = "seconds"
        exact = Decimal(match["number"]) * _SECONDS[match["unit"]]
    elif match := _COUNT.fullmatch(text.strip()):
        kind = _KINDS[match["unit"]]
        exact = Decimal(match["number"]).scaleb(_PREFIXES[match["prefix"]])
    else:
        meant = _meant(text)
        hint = f"; did you mean {meant!r}? Otherwise" if meant else ":"
        raise UserError(f"{option} {text!r} is not understood{hint} {_RIGHT}")
    amount = float(exact)
    if amount == 0 or not isfinite(amount):
        raise UserError(f"{option} {text!r} comes to {amount:g} {kind}: {_RIGHT}")
    return Budget(kind=kind, amount=amount, text=_canonical(kind, amount), option=option)


def shown_budget(text: str) -> str:
    """Return a budget of a record in four digits, for people; what is none passes as it is."""
    if (match := _ANY.fullmatch(text)) is None:
        return text
    number = Decimal(match["number"])
    rounded = round(number) if number.adjusted() >= _SHOWN else Decimal(f"{number:.{_SHOWN}g}")
    return f"{_digits(Decimal(rounded))}{match['unit']}"


def _meant(text: str) -> str:
    """Return the budget that a spelling of another program's or of one's own stands for, or ""."""
    word = re.sub(r"[\s_]", "", text.lower()).replace("×", "x").replace("*", "x")
    word = re.sub(r"^(\d+),(\d{1,2})(?!\d)", r"\1.\2", word)
    like = _LIKE_MULTIPLE.fullmatch(word)
    if like and (like["x"] or like["how"] or like["sft"]):
        number = Decimal(like["number"]) / (100 if like["how"] == "%" else 1)
        found = f"{_digits(number)}xsft"
    elif match := _LIKE_TIME.fullmatch(word):
        days = match["unit"] == "d"
        number = Decimal(match["number"]) * (24 if days else 1)
        found = f"{_digits(number)}{'h' if days else match['unit']}"
    elif match := _LIKE_COUNT.fullmatch(word):
        prefix = match["prefix"] if match["prefix"] in ("", "k") else match["prefix"].upper()
        found = f"{match['number']}{prefix.replace('B', 'G')}{match['unit']}"
    else:
        return ""
    # A number that is none, such as 0, is no better in another spelling.
    return found if re.search("[1-9]", found) else ""


def _canonical(kind: BudgetKind, amount: float) -> str:
    number = Decimal(repr(amount))
    if kind == "seconds":
        return f"{_digits(number)}s"
    prefix, power = "", 0
    for letter, candidate in _PREFIXES.items():
        if number >= Decimal(1).scaleb(candidate):
            prefix, power = letter, candidate
    return f"{_digits(number.scaleb(-power))}{prefix}{'flop' if kind == 'flops' else 'tok'}"


def _digits(number: Decimal) -> str:
    number = number.normalize()
    return f"{number:f}" if -7 < number.adjusted() < 16 else f"{number:e}"
