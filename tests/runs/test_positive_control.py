"""The positive control: who learns from what users answer beats the log once more.

In a world whose log is full of promoted items, an algorithm is broken that does not gain over SFT
continued. It is measured by the exact utility of lists, which the luck of targets does not move.
"""

from pathlib import Path

import pytest
import yaml
from tiny_runs import shrink_backbone

from genrec_bench.commands.cli import main
from genrec_bench.data import cards
from genrec_bench.runs.records import read_record
from genrec_bench.runs.registry import discover

GAIN = 1.08
"""What is asked for: 8% more than SFT continued has."""

SETTINGS = (
    "learning_rate=0.001",
    "group_size=8",
    "beam_width=10",
    "pass_samples=0",
    "validations=0",
    "sft_epochs=6",
    "sft_learning_rate=0.003",
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the card of a small world, six of whose 24 items are promoted."""
    folder = tmp_path_factory.mktemp("answers")
    file = Path(cards.__file__).parents[1] / "datasets" / "synthetic-feedback.yaml"
    card = yaml.safe_load(file.read_text())
    card |= {"name": "answers", "expected": {"source": "nobody"}, "history_length": 3}
    card["synthetic"] |= {"users": 400, "longest": 8, "items_per_subcategory": 4}
    card["synthetic"] |= {"shared_sid_share": 0.0}
    nouns = {"garden": ["rake", "hose", "trowel"], "office": ["pen", "lamp", "binder"]}
    card["synthetic"]["categories"] = nouns
    card["synthetic"]["world"] |= {"promoted": 6, "promotion": 0.6}
    (folder / "answers.yaml").write_text(yaml.safe_dump(card))
    return folder


def utility(folder: Path, algorithm: str) -> float:
    """Train from the same SFT start for twice what it cost; return the utility@5 on test."""
    output = folder / "runs" / algorithm
    words = ["run", algorithm, "--dataset", "answers", "--budget", "2xsft", "--no-mlflow"]
    words += ["--data-dir", str(folder / "data"), "--output", str(output), "--set", *SETTINGS]
    assert main(words) == 0
    (record,) = output.glob("answers/*/record.json")
    return float(read_record(record)["metrics"]["test"]["utility@5"])


@pytest.fixture(scope="module")
def continued(answers: Path) -> float:
    """What SFT continued comes to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cards.CARDS, str(answers))
        shrink_backbone(patch)
        return utility(answers, "sft")


ON_POLICY = [
    entry.name
    for entry in discover().entries
    if entry.algorithm.on_policy and entry.algorithm.trains
]


@pytest.mark.parametrize("algorithm", ON_POLICY)
def test_every_algorithm_learns_from_what_users_answer(
    algorithm: str, answers: Path, continued: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cards.CARDS, str(answers))
    shrink_backbone(monkeypatch)
    assert utility(answers, algorithm) > GAIN * continued
