"""Baselines that cornac hosts, small: tuned, trained on seeds, ranked, found again."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import Called, call, only_error, tiny_dataset

from genrec_bench.boards.evidence import read_evidence
from genrec_bench.boards.verify import verify
from genrec_bench.runs.hosted_models import HOSTED, arguments_of
from genrec_bench.runs.records import read_record

pytest.importorskip("cornac", reason="takes cornac: pip install genrec-bench[baselines]")

from genrec_bench.runs import cornac_models  # noqa: E402
from genrec_bench.runs.cornac_models import cornac_data, fit, judge, ranked  # noqa: E402
from genrec_bench.training.candidate_lists import places_of  # noqa: E402

Capture = pytest.CaptureFixture[str]

GENERATIVE = {
    "rqvae_n_epochs": 5,
    "rqvae_codebook_size": 8,
    "n_beams": 10,
    "d_model": 16,
    "d_ff": 32,
    "num_heads": 1,
    "d_kv": 16,
    "num_enc_layers": 1,
    "num_dec_layers": 1,
}

SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"n_epochs": 4},
    "gru4rec": {"n_epochs": 5, "n_sample": 10},
    "bert4rec": {"n_epochs": 15, "n_sample": 20, "batch_size": 16, "learning_rate": 3e-3},
    "fpmc": {"n_epochs": 5, "n_sample": 10},
    "tiger": {"n_epochs": 5} | GENERATIVE,
    "letter": {
        "n_epochs": 3,
        "batch_size": 32,
        "letter_base_vocab_size": 10,
        "n_clusters": 2,
        "rqvae_kmeans_jobs": 1,
    }
    | GENERATIVE,
}


def baseline(capsys: Capture, name: str, data: Path, output: Path, *more: str) -> Called:
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    return call(capsys, ["baseline", name, *words, *more])


@pytest.mark.parametrize("name", HOSTED)
def test_models_have_the_arguments_that_are_tuned(name: str) -> None:
    """A later cornac may call them otherwise."""
    hosted = HOSTED[name]
    words = [f"{key}=1" for key in {**hosted.fixed, **hosted.searched} if key in own(name)]
    assert set(arguments_of(name, words)) == own(name)


def own(name: str) -> set[str]:
    """Without those that LETTER hands on to TIGER, whose names are not in its signature."""
    hosted = HOSTED[name]
    keys = {*hosted.fixed, *hosted.searched}
    return keys & {"cf_weight", "early_stopping_patience"} if name == "letter" else keys


@pytest.mark.parametrize("name", SMALL)
def test_each_model_learns_and_repeats_itself(name: str) -> None:
    """RPG and DiffGRM take 256 items or more, and so are not among them."""
    for module in HOSTED[name].needs:
        pytest.importorskip(module, reason="pip install genrec-bench[baselines]")
    dataset = tiny_dataset()
    vectors = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    data = cornac_data(dataset, dataset.valid, vectors)
    assert data.train.num_items == 24 and len(data.valid.sessions) == len(dataset.valid)
    model = fit(HOSTED[name], SMALL[name], data, 0)
    lists = ranked(model, dataset.test, 10)
    assert lists.shape == (30, 10) and lists.max() < 24
    for row in lists:
        real = row[row >= 0]
        assert len(set(real.tolist())) == len(real)
    # Popular items alone find three in ten.
    assert (places_of(dataset.test.targets, lists) >= 0).mean() > 0.5
    assert 0 < judge(model, data) <= 1
    if name in ("gru4rec", "fpmc"):
        again = ranked(fit(HOSTED[name], SMALL[name], data, 0), dataset.test, 10)
        assert np.array_equal(again, lists)


def test_sasrec_learns_by_the_softmax_over_all_items() -> None:
    """The loss of a batch is what its definition says, and falls."""
    import torch

    dataset = tiny_dataset()
    data = cornac_data(dataset, dataset.valid)
    losses = []
    for epochs in (0, 4):
        model = fit(HOSTED["sasrec"], {"n_epochs": epochs, "dropout": 0.0}, data, 0)
        network = model.model.eval()
        history = dataset.train.history(0).tolist()
        padded = [model.pad_idx] * (model.max_len - len(history)) + history
        with torch.no_grad():
            scores = network(None, torch.tensor([padded]), torch.arange(24))[0]
        assert np.allclose(scores.numpy(), model.score(0, history), atol=1e-5)
        target = int(dataset.train.targets[0])
        losses.append(float(scores.logsumexp(0) - scores[target]))
    assert losses[0] == pytest.approx(np.log(24), abs=0.5) and losses[1] < losses[0] - 0.5


def test_sasrec_is_scored_in_batches_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny_dataset()
    data = cornac_data(dataset, dataset.valid)
    model = fit(HOSTED["sasrec"], {"n_epochs": 1}, data, 0)
    monkeypatch.setattr(cornac_models, "SCORED_AT_ONCE", 7)
    lists = ranked(model, dataset.test, 5)
    for row, user in enumerate(dataset.test.users.tolist()):
        scores = model.score(user, dataset.test.history(row).tolist())
        assert np.allclose(scores[lists[row]], np.sort(scores)[::-1][:5], atol=1e-5)


def test_the_command_tunes_trains_on_seeds_and_finds_again(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    words = ["--seeds", "0,1", "--trials", "2", "--tuning-seconds", "100", "--set", "n_epochs=2"]
    called = baseline(capsys, "sasrec", data, tmp_path, *words)
    assert called.code == 0, called.err
    assert called.err.count("trial ") == 2
    paths = sorted(tmp_path.rglob("record.json"))
    assert len(paths) == 2
    records = [read_record(path) for path in paths]
    assert sorted(record["seed"] for record in records) == [0, 1]
    first, second = (record["configuration"] for record in records)
    assert first == second and first["hyperparameters"]["n_epochs"] == 2
    for path, record in zip(paths, records, strict=True):
        told = record["external"]
        assert told["source"] == "genrec-bench baseline" and told["backbone"] == "SASRec"
        assert told["training_seconds"] > 0 and told["tuning_seconds"] > 0
        assert "at most 2 trials and 100 s" in told["notes"] and '"n_epochs": 2' in told["notes"]
        assert verify(read_evidence(path)).findings == ()
    again = baseline(capsys, "sasrec", data, tmp_path, *words)
    assert again.code == 0 and again.err.count("found: ") == 2 and "trial " not in again.err
    shutil.rmtree(paths[0].parent)
    rest = baseline(capsys, "sasrec", data, tmp_path, *words)
    assert rest.code == 0 and rest.err.count("found: ") == 1 and "trial " not in rest.err
    made = [read_record(path) for path in tmp_path.rglob("record.json")]
    assert sorted(record["seed"] for record in made) == [0, 1]
    (other,) = (record for record in made if record["seed"] == records[0]["seed"])
    assert other["configuration"] == first, "what the trials found is used again"
    # The same seed finds the same lists.
    assert other["metrics"] == records[0]["metrics"]


def test_tuning_stops_before_a_trial_that_exceeds_its_seconds(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    words = ["--seed", "0", "--trials", "5", "--tuning-seconds", "0", "--set", "n_epochs=1"]
    called = baseline(capsys, "fpmc", data, tmp_path, *words)
    assert called.code == 0 and "1 of 5 trials fit into its seconds" in called.err


def test_arguments_are_checked_before_any_work(capsys: Capture, data: Path, tmp_path: Path) -> None:
    told = only_error(baseline(capsys, "sasrec", data, tmp_path, "--set", "n_epoch=3"))
    assert "sasrec has no such argument; did you mean 'n_epochs'" in told
    told = only_error(baseline(capsys, "sasrec", data, tmp_path, "--set", "n_epochs"))
    assert "must be key=value" in told
