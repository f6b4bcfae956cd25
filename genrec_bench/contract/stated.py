"""What every algorithm promises, as checks that anyone can run on a file of their own.

``genrec-bench algorithms ./mine.py --check`` runs them, and so does the test suite, on all that is
found. A check is a function whose docstring is the promise; it is given an algorithm on a stage, a
world of a few SIDs and prompts, and raises ``Violation`` if the promise is not kept.

Here are the promises that can be checked without a rollout, the one about switches, and the way to
run them all; ``played.py`` has those about rollouts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genrec_bench.contract.gradients import (
    GRADIENTS,
    check_gradients_of_each_prompt_alone,
    check_repeated_calls,
    check_shown_things_stay,
    check_target_loss,
)
from genrec_bench.contract.played import (
    NUMERIC,
    PLAYED,
    Check,
    Stage,
    Violation,
    check_advantages,
    check_determinism,
    check_empty_places,
    check_global_randomness,
    check_loss,
    check_loss_of_each_prompt_alone,
    check_order_and_padding,
    check_rewards,
    check_rollout,
    check_rollout_leaves_the_policy_alone,
    check_steps_of_heads,
    no_global_randomness,
    require_candidates,
    require_shape,
    require_that,
)
from genrec_bench.contract.tiny_world import (
    EMBEDDING_SIZE,
    HIDDEN_SIZE,
    roll_out,
    tiny_catalog,
    tiny_trie,
)
from genrec_bench.contract.trained import TRAINED, check_bill, check_chunks, check_memory
from genrec_bench.errors import UserError
from genrec_bench.policy.scoring import score
from genrec_bench.storage.python_files import raised_line
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.hyperparameters import Hyperparameters, field_types, from_words
from genrec_bench.training.search_space import search_problem


def name_of(check: Check) -> str:
    """Return a check's name as it is printed."""
    return check.__name__.removeprefix("check_").replace("_", " ")


def checks_for(algorithm: type[Algorithm]) -> tuple[Check, ...]:
    """Return the checks that apply: one that never rolls out promises less."""
    if not _learns_by_rollouts(algorithm):
        return (*STATED, check_switches)
    return (*STATED, *PLAYED, *GRADIENTS, *TRAINED, check_switches)


def _learns_by_rollouts(algorithm: type[Algorithm]) -> bool:
    return algorithm.on_policy and algorithm.trains


def run_check(check: Check, algorithm: type[Algorithm]) -> str | None:
    """Run a check of ``checks_for`` with default hyperparameters; say in a line what is wrong."""
    return _failure(lambda: check(Stage(algorithm(algorithm.hyperparameters_class()))), algorithm)


@dataclass(frozen=True)
class CheckResult:
    """A failure in one line, or none; ``after`` names the check that has to hold first."""

    check: str
    failure: str | None = None
    after: str = ""


def run_checks(algorithm: type[Algorithm]) -> Iterator[CheckResult]:
    """Run all checks that apply, in their order; one fault is told by one of them.

    Where rollout, reward, credit or loss fail by themselves, nothing that is built on them is
    looked at; what fails for the same reason as another check is not told again.
    """
    failed: dict[str, str] = {}
    for check in checks_for(algorithm):
        name = name_of(check)
        before = [name_of(other) for other in _needed_by(check)]
        if first := next((other for other in before if other in failed), ""):
            yield CheckResult(name, after=first)
            continue
        reason = run_check(check, algorithm)
        same = next((other for other, told in failed.items() if told == reason), "")
        if reason is not None and not same:
            failed[name] = reason
        yield CheckResult(name, None if same else reason, same)


def _needed_by(check: Check) -> tuple[Check, ...]:
    """Return what has to hold before a check says anything of its own."""
    played = (*PLAYED, *GRADIENTS, *TRAINED)
    if check is check_switches:
        return (*STATED, *played)
    if check not in played:
        return ()
    basis = BASIS[: BASIS.index(check)] if check in BASIS else BASIS
    return (check_declarations, *basis, *FOLLOWS.get(check, ()))


BASIS: tuple[Check, ...] = (check_rollout, check_rewards, check_advantages, check_loss)

_ALONE = (check_loss_of_each_prompt_alone, check_gradients_of_each_prompt_alone)
_CALLS = (check_shown_things_stay, check_repeated_calls)

FOLLOWS: dict[Check, tuple[Check, ...]] = {
    check_gradients_of_each_prompt_alone: _ALONE[:1],
    check_order_and_padding: (check_rollout_leaves_the_policy_alone, *_ALONE[:1]),
    check_determinism: (check_global_randomness,),
    check_memory: (check_rollout_leaves_the_policy_alone, check_steps_of_heads, *_CALLS),
    check_chunks: (*_ALONE, *_CALLS, check_empty_places),
    check_bill: _CALLS[:1],
}
"""Checks whose failure may be another's; those before it have spoken then."""


# What an algorithm says of itself


def check_documentation(stage: Stage) -> None:
    """The module and the class say in docstrings what they are and where it comes from."""
    cls = type(stage.algorithm)
    require_that(sys.modules[cls.__module__].__doc__, "the module has no docstring")
    require_that(cls.__doc__, f"class {cls.__name__} has no docstring")


def check_hyperparameters(stage: Stage) -> None:
    """Every hyperparameter has a valid default, a meaning, and a range if a sweep may change it."""
    cls = stage.algorithm.hyperparameters_class
    kept = isinstance(stage.algorithm.hyperparameters, cls)
    require_that(kept, f"it does not keep its {cls.__name__}")
    accepted = field_types(cls)
    for field in dataclasses.fields(cls):
        name, default, kinds = field.name, field.default, set(accepted[field.name])
        require_that(field.metadata.get("help"), f"{name} has no help text")
        known = {bool, int, float, str, type(None)}
        require_that(kinds <= known, f"{name}: the command line cannot read its type")
        fits = type(default) in kinds or (type(default) is int and float in kinds)
        require_that(fits, f"{name}: the default {default!r} is not of its type")
        written = from_words(cls, {name: str(default)})
        require_that(
            getattr(written, name) == default, f"{name}={default} does not read as {default!r}"
        )
        low, high = field.metadata.get("low"), field.metadata.get("high")
        wrong = search_problem(field, kinds)
        require_that(wrong is None, str(wrong))
        outside = [bound + step for bound, step in ((low, -1), (high, 1)) if bound is not None]
        for value in outside:
            require_that(_refuses(cls, name, value), f"{name}={value} is accepted")


def check_declarations(stage: Stage) -> None:
    """Tokens are words by name, heads are modules by name, and updates are counted from one."""
    algorithm = stage.algorithm
    size = EMBEDDING_SIZE if algorithm.uses_embeddings else 0
    tokens, heads = algorithm.tokens, algorithm.heads(HIDDEN_SIZE, size, tiny_trie(tiny_catalog()))
    by_name = isinstance(tokens, Mapping) and all(isinstance(w, str) for w in tokens.values())
    require_that(by_name, f"tokens are no words by name, such as {{'[YES]': ' yes'}}: {tokens!r}")
    require_that(all(isinstance(head, nn.Module) for head in heads.values()), "a head is no module")
    for name, least in (("updates_per_rollout", 1), ("minibatches", 1), ("most_refills", 0)):
        value = getattr(algorithm, name)
        enough = isinstance(value, int) and value >= least
        require_that(enough, f"{name} is {value!r}, not {least} or more")
    at = algorithm.loss_temperature
    require_that(at > 0 and math.isfinite(at), f"loss_temperature is {at!r}, not above 0")


def check_rerank(stage: Stage) -> None:
    """An algorithm that reranks gives every real candidate a finite score, [B, G]."""
    algorithm = stage.algorithm
    if not algorithm.reranks:
        return
    world = stage.world
    with torch.no_grad():
        tree = roll_out(Algorithm(Hyperparameters()), world)
        scores = score(world.policy, world.prompts, tree, leaves=True)
        ranked = algorithm.rerank(tree, scores)
    if ranked is None:
        raise Violation("it reranks, but rerank returns None")
    require_shape("the scores", ranked, tree.valid.shape)
    require_that(ranked[tree.valid].isfinite().all(), "a real candidate's score is not finite")


def check_decoding(stage: Stage) -> None:
    """Evaluation's own way of finding candidates has a name, and finds each SID once, as always."""
    algorithm, world = stage.algorithm, stage.world
    named = isinstance(algorithm.decoding, str) and algorithm.decoding
    require_that(named, f"decoding is {algorithm.decoding!r}, not a name")
    if algorithm.decoding == "beam":
        return
    for width in (1, world.policy.trie.num_leaves + 3):
        with torch.no_grad(), no_global_randomness():
            tree, again = (algorithm.decode(world.policy, world.prompts, width) for _ in range(2))
        require_candidates(world, tree, width)
        require_that(
            torch.equal(tree.leaves, again.leaves), "decoding twice gives different candidates"
        )
        # Every place that is not real has a number of its own here.
        places = torch.where(tree.valid, tree.leaves, -1 - torch.arange(width))
        ordered = places.sort(dim=1).values
        require_that((ordered[:, 1:] != ordered[:, :-1]).all(), "a SID is recommended twice")


def check_values(stage: Stage) -> None:
    """An algorithm that estimates values gives every node a finite one, [B, N]; 0 to padding."""
    if not stage.algorithm.estimates_values:
        return
    world = stage.world
    for group, (tree, _) in stage.groups.items():
        with torch.no_grad():
            scores = score(world.policy, world.prompts, tree, leaves=True)
            values = stage.algorithm.values(scores)
        require_shape(f"{group}: the values", values, tree.states.shape)
        require_that(values.isfinite().all(), f"{group}: a value is not finite")
        require_that((values[~tree.is_node] == 0).all(), f"{group}: padding has a value")


def check_overrides(stage: Stage) -> None:
    """What is written is called: each method's property is on, by default or by a switch."""
    algorithm = stage.algorithm
    kinds = [algorithm]
    for name, value in switches(algorithm.hyperparameters):
        change: dict[str, Any] = {name: value}
        # What the algorithm refuses, it says to its users.
        with contextlib.suppress(UserError):
            changed = dataclasses.replace(algorithm.hyperparameters, **change)
            kinds.append(type(algorithm)(changed))
    for name, (called, needed) in CALLED.items():
        written = name in vars(type(algorithm))
        require_that(
            not written or any(called(one) for one in kinds),
            f"{name} is written and never called: {needed}",
        )


CALLED: dict[str, tuple[Callable[[Algorithm], bool], str]] = {
    "decode": (lambda one: one.decoding != "beam", "that takes `decoding`, the name of the way"),
    "rerank": (lambda one: one.reranks, "that takes `reranks = True`"),
    "values": (lambda one: one.estimates_values, "that takes `estimates_values = True`"),
    "reference_mix": (lambda one: one.uses_reference, "that takes `uses_reference = True`"),
    "opponent_mix": (lambda one: one.uses_opponent, "that takes `uses_opponent = True`"),
    "accepts": (lambda one: one.most_refills > 0, "that takes `most_refills` above 0"),
    "loss": (lambda one: one.on_policy and one.trains, "that takes `on_policy` and `trains`"),
    "reward": (lambda one: one.on_policy and one.trains, "that takes `on_policy` and `trains`"),
    "advantage": (lambda one: one.on_policy and one.trains, "that takes `on_policy` and `trains`"),
    "rollout": (lambda one: one.on_policy and one.trains, "that takes `on_policy` and `trains`"),
    "target_loss": (
        lambda one: (
            one.trains and (not one.on_policy or type(one).rolls_out is not Algorithm.rolls_out)
        ),
        "that takes `on_policy = False`, or `rolls_out` that is False in some steps",
    ),
    "load_state": (
        lambda one: type(one).state is not Algorithm.state,
        "that takes `state`, which says what is kept",
    ),
}
"""By method, when it is called, and what that takes in words."""


STATED: tuple[Check, ...] = (
    check_documentation,
    check_hyperparameters,
    check_declarations,
    check_overrides,
    check_target_loss,
    check_rerank,
    check_decoding,
    check_values,
)

SWITCHED = (check_declarations, check_target_loss, check_rerank, check_decoding, check_values)


def check_switches(stage: Stage) -> None:
    """All checks of numbers also hold after any single hyperparameter is changed."""
    algorithm = stage.algorithm
    numeric = NUMERIC if _learns_by_rollouts(type(algorithm)) else ()
    for name, value in switches(algorithm.hyperparameters):
        change: dict[str, Any] = {name: value}
        try:
            varied = dataclasses.replace(algorithm.hyperparameters, **change)
        except UserError:  # the algorithm refuses this combination, and says so to its users
            continue
        varied_stage = Stage(type(algorithm)(varied))
        for check in (*SWITCHED, *numeric):
            reason = _failure(partial(check, varied_stage), type(algorithm))
            require_that(reason is None, f"with {name}={value}, {name_of(check)}: {reason}")


def switches(hyperparameters: Hyperparameters) -> Iterator[tuple[str, bool | float | str]]:
    """Yield each single change of a boolean, of a word, or of a number that stands at its least.

    A weight of 0 is a switch too: what it multiplies is seen only when it is turned on.
    """
    for field in dataclasses.fields(hyperparameters):
        value = getattr(hyperparameters, field.name)
        low, high = field.metadata.get("low"), field.metadata.get("high")
        if isinstance(value, bool):
            yield field.name, not value
        elif value is not None and value == low:
            yield field.name, value + 1 if high is None else type(value)(min(value + 1, high))
        for choice in field.metadata.get("choices") or ():
            if choice != value:
                yield field.name, choice


def _failure(act: Callable[[], object], algorithm: type[Algorithm]) -> str | None:
    """Return in one line what keeps an algorithm from a promise; None if nothing does.

    Whatever its code raises breaks the promise, also what is no `Exception`, as `sys.exit` raises.
    """
    try:
        act()
    except KeyboardInterrupt:  # the user's own
        raise
    except Violation as broken:
        return str(broken)
    except BaseException as error:
        return raised_line(error, Path(inspect.getfile(algorithm)).resolve())
    return None


def _refuses(cls: type[Hyperparameters], name: str, value: float) -> bool:
    outside: dict[str, Any] = {name: value}
    try:
        cls(**outside)
    except UserError:
        return True
    return False
