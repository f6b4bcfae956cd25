"""Hashes made right after a change, so that `fuzz.py` comes past the first check of a file."""

from __future__ import annotations

import json
import random
from pathlib import Path


def seal_record(rng: random.Random, case: Path, file: Path) -> None:
    """Give a record, in four of five cases, the hashes of what it and the files beside it are."""
    if rng.random() < 0.2:
        return
    from genrec_bench.runs.record_schema import digest, track_id
    from genrec_bench.storage.digests import file_sha256

    path = file.parent / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
        if isinstance(record.get("track"), dict) and rng.random() < 0.9:
            record["track_id"] = track_id(record["track"])
        if file != path:
            for one in ("outcomes", "curves", "lists"):
                record[one]["sha256"] = file_sha256(path.parent / record[one]["file"])
        record["sha256"] = digest(record)
        text = json.dumps(record, ensure_ascii=rng.random() < 0.5)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, OSError):
        return  # It is past that.


def seal_checkpoint(rng: random.Random, case: Path, file: Path) -> None:
    """Give the state of a checkpoint the hashes of what is there."""
    from genrec_bench.storage.digests import file_sha256, json_digest

    path = file.parent / "state.json"
    try:
        whole = json.loads(path.read_text())
        for name in whole["content"]["files"]:
            whole["content"]["files"][name] = file_sha256(path.parent / name)
        whole["sha256"] = json_digest(whole["content"])
        path.write_text(json.dumps(whole))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, OSError):
        return


def seal_dataset(rng: random.Random, case: Path, file: Path) -> None:
    """Give a manifest the hashes of the tables beside it, and its own."""
    from genrec_bench.storage.cached import sealed
    from genrec_bench.storage.digests import file_sha256

    path = file.parent / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        if "sha256" in manifest:
            manifest["sha256"] = file_sha256(file.parent / "sids.parquet")
        for name in manifest.get("files", {}):
            manifest["files"][name] = file_sha256(path.parent / name)
        path.write_text(json.dumps(sealed(manifest)))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, OSError):
        return


def seal_cache(rng: random.Random, case: Path, file: Path) -> None:
    """Give a file in JSON the hash of what it says now."""
    from genrec_bench.storage.cached import sealed

    try:
        file.write_text(json.dumps(sealed(json.loads(file.read_text()))))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, OSError):
        return
