"""What MLflow is told holds no secret: names, tags and parameters, of folders of any origin."""

import json
from pathlib import Path

import pytest
from fake_mlflow import FakeRun, FakeServer, install

from genrec_bench.errors import HIDDEN, told_values
from genrec_bench.tracking.exporter import Exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.tracking.store import Store
from genrec_bench.tracking.tracker import Tracker

SECRETS = [
    "postgresql://ann:hunter22@host/db",
    "https://host/file?X-Amz-Signature=hunter22&size=3",
    "Authorization: Bearer hunter22hunter22",
    '{"password": "hunter22"}',
    "hf_hunter22hunter22",
    "by the proxy of pr0xy-hunter22",
]


def all_of(run: FakeRun) -> str:
    return json.dumps([run.name, run.tags, run.params, run.files])


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_goes_to_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://ann:pr0xy-hunter22@proxy:3128")
    server = install(monkeypatch, FakeServer())
    params: dict[str, object] = {
        "storage": secret,
        "settings": {"steps": 2, "several": ["a", {"x": secret}], "file": Path("a") / "b"},
        "long": "x" * 7000 + " " + secret,
        "api_key": "hunter22",
    }
    folder = tmp_path / "synthetic" / "run"
    tags = {"note": secret, "seed": "0", "password": "hunter22"}
    with Tracker(tmp_path, "synthetic").track(folder, f"run of {secret}", params, tags):
        pass
    (run,) = server.runs.values()
    for text in (all_of(run), (folder / TRACKING_FILE).read_text()):
        assert "hunter22" not in text and HIDDEN in text
    assert run.params["settings.steps"] == "2" and run.params["settings.file"] == "a/b"
    assert run.params["api_key"] == HIDDEN == run.tags["password"] and run.tags["seed"] == "0"


@pytest.mark.parametrize("secret", SECRETS)
def test_nor_from_a_folder_that_an_earlier_version_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://ann:pr0xy-hunter22@proxy:3128")
    server = install(monkeypatch, FakeServer())
    folder = tmp_path / "synthetic" / "run"
    with Tracker(tmp_path, "synthetic").track(folder, "run", {"storage": 1}, {"note": "2"}):
        pass
    about = json.loads((folder / TRACKING_FILE).read_text())
    about |= {"name": secret, "params": {"storage": [secret]}, "tags": {"note": secret}}
    (folder / TRACKING_FILE).write_text(json.dumps(about))
    server.runs.clear()
    Exporter(Store(tmp_path)).export(folder)
    (run,) = server.runs.values()
    assert "hunter22" not in all_of(run) and all_of(run).count(HIDDEN) >= 3


def test_what_is_no_secret_stays() -> None:
    values = {"a": [1, 2.5, None, True, "x"], "token_learning_rate": "0.1", "b": {"c": "d"}}
    assert told_values(values) == values
    assert told_values({"token": "", "n": (1, Path("a"))}) == {"token": "", "n": [1, "a"]}
