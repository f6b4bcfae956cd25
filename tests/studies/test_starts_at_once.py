"""What several programs make that start at once in empty folders: each thing once, and whole."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_world import raw_world, use_cards
from tiny_runs import shrink_backbone, tiny_dataset

from genrec_bench.data.obtain import obtain
from genrec_bench.data.sids.build import build_sids, load_built
from genrec_bench.data.sids.sid_recipe import SIDRecipe
from genrec_bench.data.vectors import item_vectors as item_vectors_module
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import content_digest
from genrec_bench.studies.sweeps.database import open_storage
from genrec_bench.training import sft_start as sft_start_module
from genrec_bench.training.settings import Settings
from genrec_bench.training.workers import Workers

STARTS = 4
PATIENCE = 300.0
QUIET = Progress(quiet=True)


def counted(patch: pytest.MonkeyPatch, module: Any, name: str, folder: Path) -> None:
    """Leave a file for each time that some work is done, in whichever process."""
    done = getattr(module, name)

    def watched(*words: Any, **options: Any) -> Any:
        (folder / f"made-{time.monotonic_ns()}").touch()
        return done(*words, **options)

    patch.setattr(module, name, watched)


def study(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """In a database that the user names: no folder of a sweep has its lock."""
    import optuna

    storage = open_storage(f"sqlite:///{folder / 'study.db'}", 60, 120)
    made = optuna.create_study(storage=storage, study_name="one", load_if_exists=True)
    return [made.study_name, made._study_id, len(storage.get_all_studies())]


def start(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    counted(patch, sft_start_module, "train_start", folder)
    settings = Settings(sft_epochs=1, sft_valid_examples=8, sft_batch=32)
    what = (find_backbone("tiny"), tiny_dataset(), settings, folder / "data")
    return sft_start_module.sft_start(*what, Workers(), QUIET).fingerprint


def vectors(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    counted(patch, item_vectors_module, "collaborative_vectors", folder)
    contents = tiny_dataset().contents
    what = (contents.titles, contents.descriptions, contents.splits["train"], folder / "cache")
    found = item_vectors_module.item_vectors("collaborative", *what, QUIET)
    return content_digest(found.tobytes().hex())


def sids(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    from genrec_bench.data.sids import build

    counted(patch, build, "quantize", folder)
    contents, recipe = tiny_dataset().contents, SIDRecipe("rq-kmeans", "collaborative", "move", 0)
    made = build_sids(contents, recipe, (4, 4, 4), "mine", folder, QUIET)[0]
    kept = load_built(contents, recipe, (4, 4, 4), "mine", folder)
    assert kept is not None and (kept.codes == made.codes).all()
    return made.codes.tolist()


def preparation(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    from genrec_bench.data.preparation import prepare

    counted(patch, prepare, "prepare", folder)
    use_cards(patch, folder)
    dataset = obtain("sports", folder / "data", QUIET)
    return [dataset.fingerprint, dataset.sid_fingerprint]


MAKERS: tuple[Callable[[Path, pytest.MonkeyPatch], Any], ...] = (
    *(study, start, vectors, sids, preparation),
)


def together(folder: Path, what: str, process: int) -> None:
    """Wait until all processes have come here."""
    (folder / f"{what}-{process}").touch()
    until = time.monotonic() + PATIENCE
    while len(list(folder.glob(f"{what}-*"))) < STARTS:
        assert time.monotonic() < until, "a process did not come"
        time.sleep(0.001)


def work(folder: Path, process: int) -> None:
    """What each process does; it prints what it got."""
    found = {}
    for make in MAKERS:
        with pytest.MonkeyPatch.context() as patch:
            shrink_backbone(patch)
            together(folder / "gate", make.__name__, process)
            found[make.__name__] = make(folder / make.__name__, patch)
    print(json.dumps(found))


SCRIPT = """
import sys
from pathlib import Path
support, here, folder, process = sys.argv[1:]
sys.path[:0] = [support, here]
from test_starts_at_once import work
work(Path(folder), int(process))
"""


@pytest.mark.slow
def test_programs_that_start_at_once_make_each_thing_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for name in ("gate", *(make.__name__ for make in MAKERS)):
        if name != "preparation":
            (tmp_path / name).mkdir()
    here = Path(__file__).parent
    words = [sys.executable, "-c", SCRIPT, str(here.parent / "support"), str(here), str(tmp_path)]
    with raw_world("sports", tmp_path / "preparation") as world:
        processes = [
            subprocess.Popen(
                [*words, str(number)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for number in range(STARTS)
        ]
        try:
            said = [process.communicate(timeout=PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * STARTS, [
            err[-1500:] for _, err in said
        ]
        assert world.requests == len(world.servers)
    first, *others = (json.loads(out.splitlines()[-1]) for out, _ in said)
    assert all(other == first for other in others)
    assert first["study"] == ["one", 1, 1]
    # All but the study, which is made in the database itself, was made once.
    made = {make.__name__: len(list((tmp_path / make.__name__).glob("made-*"))) for make in MAKERS}
    assert made == {"study": 0, "start": 1, "vectors": 1, "sids": 1, "preparation": 1}
    left = [path for path in tmp_path.rglob(".*") if not path.name.endswith(".lock")]
    assert not left
