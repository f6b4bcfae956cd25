"""Runs, caches and records of today must be found by what was computed with earlier versions."""

import time
from pathlib import Path

import pytest

from genrec_bench.storage import digests
from genrec_bench.storage.digests import canonical_digest, file_sha256, files_digest, json_digest

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""The example of FIPS 180-4."""


def test_values_are_those_of_earlier_versions(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ö"}
    assert json_digest(value) == json_digest(dict(reversed(value.items())))
    assert json_digest(value)[:16] == "18956c252dded5a8"
    assert canonical_digest(value)[:16] == "053c896be2e76e0d"
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == OF_ABC
    assert files_digest([tmp_path / "a"])[:16] == "dfe7a23fefeea519"


def test_a_file_is_read_again_only_if_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(digests, "file_sha256", counted)
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"abc")
    before = files_digest(files)
    assert files_digest(files) == before and read == [*files, *files], "they are too new"
    time.sleep(0.15)
    read.clear()
    for _ in range(3):
        assert files_digest(files) == before and read == files
    files[0].write_bytes(b"abcd")
    assert files_digest(files) != before and read == [*files, files[0]]


def test_canonical_json_has_no_word_for_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_digest({"x": float("inf")})
