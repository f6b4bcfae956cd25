"""SFT starts on their way to other machines: the same runs there, and nothing believed."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import SETTINGS, call, only_error, save_tiny, shrink_backbone

from genrec_bench.data.dataset_store import load_dataset
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import sealed
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_sharing import shared_starts
from genrec_bench.training.sft_start import SFTStart, sft_start
from genrec_bench.training.workers import Workers

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start of the tiny dataset in one file."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        data = save_tiny(tmp_path_factory.mktemp("there"))
        trained(data)
    file = data / "start.tar"
    assert main("export", "industrial", "--to", str(file), "--data-dir", str(data)) == 0
    return file


def main(*words: str) -> int:
    from genrec_bench.commands.cli import main as command

    return command(["sft", *words])


def trained(data: Path, *words: str) -> SFTStart:
    settings = from_words(Settings, dict(word.split("=") for word in (*SETTINGS, *words)))
    dataset = load_dataset("industrial", data)
    progress = Progress(quiet=True)
    return sft_start(find_backbone("tiny"), dataset, settings, data, Workers(), progress)


def test_a_run_elsewhere_begins_at_the_start_that_was_imported(
    sent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shrink_backbone(monkeypatch)
    data = save_tiny(tmp_path / "here")
    where = ["--data-dir", str(data)]
    called = call(capsys, ["sft", "import", str(sent), *where])
    assert called.code == 0 and "note" not in called.out, called.err
    monkeypatch.setattr("genrec_bench.training.sft_start.train_start", pytest.fail)
    start = trained(data)
    ((other,), wrong) = shared_starts(sent.parent)
    assert start.fingerprint == other.weights and start.cost.flops == other.flops and not wrong
    again = call(capsys, ["sft", "import", str(sent), *where])
    assert again.code == 0 and again.out.startswith("was here already")
    listed = call(capsys, ["sft", "list", *where])
    assert other.weights[:8] in listed.out and "industrial" in listed.out


def test_another_start_of_the_configuration_is_replaced_only_when_told(
    sent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shrink_backbone(monkeypatch)
    data = save_tiny(tmp_path)
    start = trained(data)
    said = json.loads((start.folder / "sft.json").read_text())
    (start.folder / "sft.json").write_text(json.dumps(said | {"weights": "f" * 64}))
    (start.folder / "evaluation-test-beam-20-pass-0.json").write_text("{}")
    words = ["sft", "import", str(sent), "--data-dir", str(data)]
    refused = call(capsys, words)
    assert refused.code == 2 and "another start of the same configuration" in refused.err
    assert json.loads((start.folder / "sft.json").read_text())["weights"] == "f" * 64
    assert call(capsys, [*words, "--replace"]).code == 0
    assert {path.name for path in start.folder.iterdir()} == {"policy", "sft.json"}
    assert trained(data).fingerprint == start.fingerprint


def test_other_data_of_one_name_are_told_of(
    sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, ["data", "list", "--data-dir", str(tmp_path)])
    save_tiny(tmp_path)
    content = rewritten(sent, tmp_path / "other.tar", other_data)
    called = call(capsys, ["sft", "import", str(content), "--data-dir", str(tmp_path)])
    assert called.code == 0 and "data of industrial differ here" in called.out


def test_starts_of_equal_weights_are_told_apart_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink_backbone(monkeypatch)
    data = save_tiny(tmp_path)
    # Nothing is trained, so that the two differ in a setting alone.
    first = trained(data, "sft_epochs=0", "sft_patience=9")
    same = trained(data, "sft_epochs=0", "sft_patience=7")
    assert same.fingerprint == first.fingerprint and same.folder != first.folder
    other = trained(data, "sft_epochs=0.1")
    where = ["--to", str(tmp_path / "x.tar"), "--data-dir", str(data)]
    folders = sorted(one.folder.name for one in (first, same))
    for name in ("industrial", first.fingerprint[:8]):
        said = only_error(call(capsys, ["sft", "export", name, *where]))
        assert all(folder in said for folder in folders)
        assert (other.fingerprint[:8] in said) == (name == "industrial")
    assert call(capsys, ["sft", "export", folders[0], *where]).code == 0
    assert (tmp_path / "x.tar").is_file()


def test_an_export_replaces_no_file_and_says_what_there_is(
    sent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data-dir", str(sent.parent)]
    for words, reason in (
        (["industrial", "--to", str(sent)], "is there already"),
        (["industral", "--to", "x"], "did you mean 'industrial'"),
        (
            ["office", "--to", "x"],
            f"no SFT start of 'office'; {sent.parent} has those of industrial",
        ),
    ):
        called = call(capsys, ["sft", "export", *words, *where])
        assert called.code == 2 and reason in called.err
    ((one,), _) = shared_starts(sent.parent)
    copy = sent.with_name("copy.tar")
    assert call(capsys, ["sft", "export", one.weights[:8], "--to", str(copy), *where]).code == 0
    assert copy.read_bytes() == sent.read_bytes()
    damaged = sent.parent / "sft" / "other-0" / "sft.json"
    damaged.parent.mkdir()
    damaged.write_text("[")
    listed = call(capsys, ["sft", "list", *where])
    assert listed.code == 0 and one.weights[:8] in listed.out and "damaged: " in listed.out
    damaged.unlink()


def rewritten(sent: Path, file: Path, change: Change) -> Path:
    """The same file with other members."""
    with tarfile.open(sent) as archive:
        members = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            members[member.name] = stream.read()
    change(members)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if content.startswith(b"link:"):
                member.type, member.linkname = tarfile.SYMTYPE, content[5:].decode()
                member.size = 0
            archive.addfile(member, io.BytesIO(content))
    return file


def top(members: dict[str, bytes]) -> str:
    return next(iter(members)).partition("/")[0]


def said(members: dict[str, bytes], **changes: object) -> None:
    name = f"{top(members)}/sft.json"
    content = json.loads(members[name])
    content["key"] |= changes.pop("key", {})
    seal = {"seal": changes.pop("seal")} if "seal" in changes else {}
    # Whoever forges a start seals it too, unless the seal is what is forged.
    members[name] = json.dumps({**sealed(content | changes), **seal}).encode()


def renamed(members: dict[str, bytes]) -> None:
    from genrec_bench.storage.digests import json_digest

    old = top(members)
    key = json.loads(members[f"{old}/sft.json"])["key"]
    new = f"industrial-{json_digest(key)[:16]}"
    for name in list(members):
        members[name.replace(old, new)] = members.pop(name)


def other_data(members: dict[str, bytes]) -> None:
    said(members, key={"dataset": "0" * 64})
    renamed(members)


def other_version(members: dict[str, bytes]) -> None:
    said(members, key={"benchmark": "0.1"})
    renamed(members)


def all_into(folder: str) -> Change:
    def change(members: dict[str, bytes]) -> None:
        old = top(members)
        for name in list(members):
            members[name.replace(old, folder, 1)] = members.pop(name)

    return change


def weights_changed(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith(".safetensors"))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (all_into(".."), "has no place in an SFT start"),
        (all_into("../../outside"), "has no place in an SFT start"),
        (all_into("/outside"), "has no place in an SFT start"),
        (lambda m: m.update({f"{top(m)}/policy/x.json": b"link:../../../x"}), "has no place"),
        (lambda m: m.update({f"{top(m)}/policy/x.py": b"import os"}), "has no place"),
        (lambda m: m.update({f"{top(m)}/policy/pytorch_model.bin": b"x"}), "has no place"),
        (lambda m: m.update({f"{top(m)}/policy/sft.json": b"{}"}), "has no place"),
        (lambda m: m.update({"industrial-0/policy/x.json": b"{}"}), "holds no SFT start"),
        (lambda m: m.pop(f"{top(m)}/sft.json"), "holds no SFT start"),
        (weights_changed, "the weights are not those that sft.json names"),
        (lambda m: said(m, weights="0" * 64), "the weights are not those that sft.json names"),
        (lambda m: said(m, key={"dataset": "0" * 64}), "is not named after what it was made from"),
        (lambda m: said(m, weights=3), "'weights' must be text"),
        (lambda m: said(m, spent={"sft": {"flops": -1.0}}), "'spent.sft.flops' must be from 0"),
        (lambda m: said(m, spent={"sft": {"flops": "many"}}), "'spent.sft.flops' must be a number"),
        (lambda m: m.update({f"{top(m)}/sft.json": b"[" * 100_000}), "sft.json: cannot be read"),
        (lambda m: m.update({f"{top(m)}/sft.json": b"\xff"}), "sft.json: cannot be read"),
        (other_version, "made by genrec-bench 0.1"),
        (lambda m: said(m, seal="0" * 64, curve=[]), "was changed since it was written"),
        (lambda m: m.pop(f"{top(m)}/policy/config.json"), "was changed since it was written"),
    ],
)
def test_what_is_no_start_is_refused_and_nothing_is_written(
    sent: Path, change: Change, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rewritten(sent, tmp_path / "sent.tar", change)
    data = tmp_path / "data"
    called = call(capsys, ["sft", "import", str(file), "--data-dir", str(data)])
    assert called.code == 2 and reason in called.err and "Traceback" not in called.err
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert all(path.name.endswith(".lock") for path in left)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 10240, b"PK\3\4"])
def test_what_is_no_archive_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(content)
    called = call(capsys, ["sft", "import", str(file), "--data-dir", str(tmp_path)])
    assert called.code == 2 and str(file) in called.err and len(called.err.splitlines()) == 1
    missing = call(capsys, ["sft", "import", "missing.tar", "--data-dir", str(tmp_path)])
    assert missing.code == 2 and "there is no such file" in missing.err


def test_a_file_that_was_cut_is_refused(
    sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.tar"
    whole = sent.read_bytes()
    for share in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        called = call(capsys, ["sft", "import", str(file), "--data-dir", str(tmp_path)])
        assert called.code == 2 and len(called.err.splitlines()) == 1, called.err
        assert "is cut short" in called.err or "is no whole file" in called.err
