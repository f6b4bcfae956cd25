"""Where a backbone's weights come from: a GGUF file, or a commit of the hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from genrec_bench.errors import UserError
from genrec_bench.policy import backbone_files
from genrec_bench.policy.backbone_files import check_backbone, source_of
from genrec_bench.policy.backbones import backbone_name, find_backbone
from genrec_bench.storage import hub


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of a model in the hub's cache, which is empty otherwise."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_REVISIONS", {})
    yield tmp_path / "cache" / "models--some--model"


def put_commit(folder: Path, commit: str) -> None:
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")


def test_another_commit_is_another_backbone(cache: Path) -> None:
    unknown = find_backbone("some/model").fingerprint
    assert source_of("some/model") == {"pretrained_model_name_or_path": "some/model"}
    found = []
    for commit in ("a" * 40, "b" * 40):
        put_commit(cache, commit)
        found.append(find_backbone("some/model").fingerprint)
        assert source_of("some/model")["revision"] == commit, "what the fingerprint was made of"
    assert len({unknown, *found}) == 3


def test_what_the_hub_said_before_the_download_is_the_same_backbone(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hub._REVISIONS, "some/model", "a" * 40)
    before = find_backbone("some/model").fingerprint
    put_commit(cache, "a" * 40)
    assert find_backbone("some/model").fingerprint == before


def test_a_file_is_known_by_its_content_and_told_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    file, other = tmp_path / "model.gguf", tmp_path / "elsewhere.gguf"
    file.write_bytes(b"GGUF one")
    other.write_bytes(b"GGUF one")
    check_backbone(str(file), "text")
    first = find_backbone(str(file))
    assert find_backbone(str(other)).fingerprint == first.fingerprint and not first.from_scratch
    file.write_bytes(b"GGUF two")
    assert find_backbone(str(file)).fingerprint != first.fingerprint
    assert backbone_name(str(file)) == "model.gguf"
    expected = {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": "model.gguf"}
    assert source_of(str(file)) == expected


@pytest.mark.parametrize(
    ("content", "package", "said"),
    [
        (None, True, "there is no such file"),
        (b"PK\x03\x04", True, "is no GGUF file"),
        (b"", True, "is no GGUF file"),
        (b"GGUF", False, "reading it takes a package: pip install 'genrec-bench[gguf]'"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    package: bool,
    said: str,
) -> None:
    monkeypatch.setattr(backbone_files, "find_spec", lambda _: package or None)
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    for refuse in (lambda: check_backbone(str(file), "auto"), lambda: find_backbone(str(file))):
        with pytest.raises(UserError) as caught:
            refuse()
        assert str(caught.value) == f"--backbone {file}: {said}"
