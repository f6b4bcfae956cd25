"""What files in JSON say has its schema: other types are one line, whoever reads them."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genrec_bench.data.sids import sid_store
from genrec_bench.errors import UserError
from genrec_bench.storage.cached import sealed
from genrec_bench.tracking import exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE, checked_about
from genrec_bench.training import evaluation_cache
from genrec_bench.training.sft_training import start_content
from genrec_bench.training.training_state import check_training_state

HASH = "0123456789abcdef" * 4
COST = {"seconds": 1.5, "tokens": 3, "flops": 1e9, "peak_memory_bytes": 2**30}
ROW = {"step": 1, "share": 0.5, "seconds": 1.0, "tokens": 3.0, "flops": 1e9, "loss": float("nan")}

GOOD: dict[str, Any] = {
    "SFT start": {
        "key": {
            "backbone": HASH,
            "benchmark": "0.4",
            "dataset": HASH,
            "prompt": "compact",
            "settings": {"sft_epochs": 2.0, "sft_learning_rate": None, "dtype": "float32"},
            "sids": HASH,
        },
        "spent": {"sft": COST, "evaluation": COST},
        "curve": [{"step": 4, "loss": 2.5, "NDCG@10": 0.1}],
        "weights": HASH,
    },
    "evaluation": {"metrics": {"HR@10": 0.25, "own/mine": -1.0}, "cost": COST},
    "training": {
        "step": 1,
        "curves": [ROW],
        "spent": {"update": COST},
        "random": {"cpu": [0, 255]},
        "stepper": {"refilled": -4},
    },
    "SIDs": {
        "contents": HASH,
        "codes_per_level": [4, 4],
        "recipe": {"method": "rq-kmeans", "seed": 0, "codes_per_level": [4, 4]},
        "quality": {"items": 24, "levels": []},
        "sha256": HASH,
    },
    "tracking": {
        "to": "local",
        "experiment": "genrec-bench/small",
        "name": "grpo, seed 0",
        "params": {"settings": {"steps": 2}, "track": {"ks": [1, 2]}},
        "tags": {"seed": "0"},
        "token": "abc",
        "parent": ["..", "above"],
        "began": 1,
        "end": ["complete", 2],
    },
    "sent": {"figures": 3, "files": {"record.json": HASH[:16]}, "ended": 5, "is_over": True},
}


def sids(content: Any, folder: Path) -> None:
    (folder / sid_store.MANIFEST).write_text(json.dumps(sealed(content)))
    sid_store._read(folder)


def tracking(content: Any, folder: Path) -> None:
    (folder / TRACKING_FILE).write_text(json.dumps(content))
    checked_about(folder)


def sent(content: Any, folder: Path) -> None:
    if exporter._sent_before(json.dumps(content)) != content:
        raise UserError("all is sent again")


READ: dict[str, Callable[[Any, Path], object]] = {
    "SFT start": lambda content, folder: start_content(content, "sft.json"),
    "evaluation": lambda content, folder: evaluation_cache._read(content, folder),
    "training": lambda content, folder: check_training_state(content, "state.json"),
    "SIDs": sids,
    "tracking": tracking,
    "sent": sent,
}

ODD: tuple[Any, ...] = (None, True, -1, 2**62, 1.5, "x", "x" * 10_000, [], [1], {}, {"x": [None]})


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The same content with another value at a place, or without it where there is none."""
    content = copy.deepcopy(content)
    holder = content
    for step in path[:-1]:
        holder = holder[step]
    if value is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return content


GONE = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else inner:
        yield (*path, key)
        yield from places(one, (*path, key))


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_written_is_read_and_odd_values_are_one_line(tmp_path: Path, kind: str) -> None:
    def read(content: Any) -> object:
        return READ[kind](content, tmp_path)

    read(GOOD[kind])
    refused = 0
    for path in places(GOOD[kind]):
        for value in (GONE, *ODD):
            try:
                read(put(GOOD[kind], path, value))
            except UserError as error:
                refused += 1
                assert str(error).isprintable() and len(str(error)) < 1000
    for whole in (value for value in ODD if value not in ([], {}) and kind != "SIDs"):
        with pytest.raises(UserError):
            read(whole)
    assert refused > 4 * len(GOOD[kind])


WRONG = [
    ("SFT start", ("spent", "sft", "flops"), "many", "'spent.sft.flops' must be a number"),
    ("SFT start", ("spent", "sft", "tokens"), -1, "'spent.sft.tokens' must be from 0"),
    ("SFT start", ("spent",), [COST], "'spent' must be a mapping"),
    ("SFT start", ("curve", 0, "step"), "last", "'curve.1.step' must be an integer"),
    ("SFT start", ("curve", 0), 3, "'curve.1' must be a mapping"),
    ("SFT start", ("curve",), GONE, "missing key 'curve'"),
    ("SFT start", ("weights",), "../x", "'weights' must be 64 hexadecimal digits"),
    ("evaluation", ("metrics", "HR@10"), "high", "'metrics.HR@10' must be a number"),
    ("evaluation", ("metrics",), ["HR@10"], "'metrics' must be a mapping"),
    ("evaluation", ("cost", "seconds"), None, "'cost.seconds' must be a number"),
    ("training", ("curves", 0), {"step": 1}, "'curves.1' must be a row with step, share"),
    ("training", ("curves", 0, "loss"), "low", "'curves.1.loss' must be a number"),
    ("training", ("spent", "update"), 5, "'spent.update' must be a mapping"),
    ("training", ("random", "cpu", 0), 256, "'random.cpu.1' must be from 0 to 255"),
    ("SIDs", ("codes_per_level", 0), 0, "'codes_per_level.1' must be from 1"),
    ("SIDs", ("codes_per_level",), 4, "'codes_per_level' must be a list"),
    ("SIDs", ("recipe",), "by hand", "'recipe' must be a mapping"),
    ("SIDs", ("recipe", "codes_per_level", 0), [4], "'recipe.codes_per_level' must be a number"),
    ("tracking", ("name",), 3, "'name' must be text"),
    ("tracking", ("tags", "seed"), 0, "'tags.seed' must be text"),
    ("tracking", ("end",), ["done", 2], "'end.1' must be one of complete, failed"),
    ("tracking", ("params",), {"x": [0] * 20_000}, "'params' must be at most 10000 parameters"),
    ("tracking", ("began",), 1.5, "'began' must be an integer"),
]


@pytest.mark.parametrize(("kind", "path", "value", "said"), WRONG)
def test_what_is_wrong_is_named_by_its_key(
    tmp_path: Path, kind: str, path: tuple[Any, ...], value: Any, said: str
) -> None:
    with pytest.raises(UserError) as error:
        READ[kind](put(GOOD[kind], path, value), tmp_path)
    assert said in str(error.value)
