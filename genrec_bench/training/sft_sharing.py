"""SFT starts on their way from one machine to others, as one file.

Two machines that train a start of the same configuration get weights that differ by rounding, and
runs of both never meet on a board. So one machine trains it, and the others take it. The file is a
tar archive with the folder of a start: weights, what they were made from, and what they cost. It is
read member by member, and nothing in it is believed that can be recomputed.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from genrec_bench import benchmark_version
from genrec_bench.errors import StorageError, UserError, no_file
from genrec_bench.storage.bounded_json import parse_json
from genrec_bench.storage.cached import FILES, Unsound, check_files, check_seal, read_sealed
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import inside, read_json
from genrec_bench.storage.folders import written_whole
from genrec_bench.storage.locks import locked
from genrec_bench.storage.validation import is_plain_name
from genrec_bench.training.sft_training import (
    START_FILE,
    StartContent,
    start_content,
    weights_hash,
)

FOLDER, POLICY_FOLDER = "sft", "policy"
"""Of all starts, in the data directory; and of a start's weights, in its own."""

ENDINGS = (".jinja", ".json", ".md", ".model", ".parquet", ".safetensors", ".txt")
"""Of the files of a policy: weights, settings and tokenizers, none of which is code."""

MOST_FILES = 200

_PIECE = 2**20
"""Bytes that are copied at once, and more than what is said of a start takes."""


@dataclass(frozen=True)
class Shared:
    """A start that is trained and can be shared.

    Attributes:
        dataset: its name, with the label of its SIDs.
        content: what its file says: `key`, all that it depends on; `spent`; hash of `weights`.
    """

    folder: Path
    dataset: str
    content: Mapping[str, Any]

    @property
    def weights(self) -> str:
        """The fingerprint by which tracks know the start."""
        return self._read.weights

    @property
    def flops(self) -> float:
        """What training it took."""
        return self._read.cost.flops

    @property
    def _read(self) -> StartContent:
        return start_content(self.content, self.folder)


def shared_starts(data_dir: Path) -> tuple[list[Shared], list[str]]:
    """All finished starts of a data directory in order of name, and a line for each damaged one."""
    found, wrong = [], []
    for file in sorted((data_dir / FOLDER).glob(f"*/{START_FILE}")):
        try:
            content = read_sealed(file)[0]
            start_content(content, file)
            found.append(Shared(file.parent, _dataset(file.parent.name), content))
        except UserError as error:
            wrong.append(str(error))
    return found, wrong


def export_start(start: Shared, file: Path) -> None:
    """Write a start into one file.

    Raises:
        UserError: the file is there already.
        StorageError: the weights are not what they were, or the disk refuses.
    """
    if file.exists():
        raise UserError(f"{file}: is there already; name another file")
    policy = start.folder / POLICY_FOLDER
    if weights_hash(policy) != start.weights:
        raise StorageError(f"{start.folder}: the SFT start was changed; it cannot be shared")
    names = sorted(path.name for path in policy.iterdir() if path.suffix in ENDINGS)
    new = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(new, mode="x:", format=tarfile.PAX_FORMAT) as archive:
            for path in (start.folder / START_FILE, *(policy / name for name in names)):
                place = Path(start.folder.name) / path.relative_to(start.folder)
                # With neither owner nor time, so that one start makes one file.
                member = tarfile.TarInfo(place.as_posix())
                member.size = path.stat().st_size
                with path.open("rb") as content:
                    archive.addfile(member, content)
        os.replace(new, file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}") from None
    finally:
        new.unlink(missing_ok=True)


def import_start(file: Path, data_dir: Path, *, replace: bool = False) -> tuple[Shared, bool]:
    """Take a start from a file.

    Args:
        replace: whether another start of the same configuration may be replaced.

    Returns:
        The start, and whether it was not there before.

    Raises:
        UserError: the file is no start, is damaged, of another version, or would replace one.
        StorageError: the disk refuses.
    """
    with _opened(file) as archive:
        name, members = _members(archive, file)
        content = _json(archive, members[START_FILE], file)
        start_content(content, f"{file}: {START_FILE}")
        folder = inside(data_dir / FOLDER, name)
        if json_digest(content["key"])[:16] != name.rpartition("-")[2]:
            raise UserError(f"{file}: {name} is not named after what it was made from")
        if content["key"]["benchmark"] != benchmark_version():
            raise UserError(
                f"{file}: made by genrec-bench {content['key']['benchmark']}; runs of "
                f"{benchmark_version()} take starts of their own version alone"
            )
        found = Shared(folder, _dataset(name), content)
        with locked(folder.with_name(f"{name}.lock")) as free:
            if not free:
                raise UserError(f"{folder}: is in use; import again when nothing trains or runs")
            if (folder / START_FILE).is_file():
                there = read_json(folder / START_FILE).get("weights")
                if there == found.weights:
                    return found, False
                if not replace:
                    raise UserError(
                        f"{folder}: is another start of the same configuration (weights "
                        f"{str(there)[:8]}, in the file {found.weights[:8]}); --replace takes the "
                        "one of the file, and runs that are finished keep their track"
                    )
            with written_whole(folder) as new:
                for path, member in members.items():
                    target = inside(new, path)
                    if path != START_FILE:
                        (new / POLICY_FOLDER).mkdir(exist_ok=True)
                        target = inside(new / POLICY_FOLDER, path)
                    _copy(archive, member, target, file)
                if weights_hash(new / POLICY_FOLDER) != found.weights:
                    raise UserError(f"{file}: the weights are not those that {START_FILE} names")
                try:
                    if check_seal(found.content, file):
                        check_files(new, found.content.get(FILES))
                except Unsound:
                    raise UserError(f"{file}: was changed since it was written") from None
    return found, True


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    if not file.is_file():
        raise UserError(f"{file}: {no_file(file)}")
    try:
        # As it is: what was packed tightly could unpack to anything.
        with tarfile.open(file, mode="r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{file}: is no whole file of `sft export`: {error}") from None


def _members(archive: tarfile.TarFile, file: Path) -> tuple[str, dict[str, tarfile.TarInfo]]:
    """The folder's name, and by file name what is to be copied; anything else is refused."""
    tops: set[str] = set()
    found: dict[str, tarfile.TarInfo] = {}
    size = 0
    for member in archive:
        parts = PurePosixPath(member.name).parts
        own = len(parts) == 2 and parts[1] == START_FILE
        of_policy = len(parts) == 3 and parts[1] == POLICY_FOLDER and parts[2] != START_FILE
        plain = all(map(is_plain_name, parts)) and Path(member.name).suffix in ENDINGS
        size += member.size
        whole = member.isreg() and not member.issparse()
        if not (whole and plain and (own or of_policy)) or parts[-1] in found:
            raise UserError(f"{file}: {member.name!r} has no place in an SFT start")
        if size > file.stat().st_size:
            raise UserError(
                f"{file}: is cut short: it names {size:,} bytes and has {file.stat().st_size:,}; "
                "copy it again, or make it again by `sft export`"
            )
        if len(found) == MOST_FILES:
            raise UserError(f"{file}: holds more files than an SFT start can")
        tops.add(parts[0])
        found[parts[-1]] = member
    if START_FILE not in found or len(found) < 2 or len(tops) != 1:
        raise UserError(f"{file}: holds no SFT start of `sft export`")
    return tops.pop(), found


def _json(archive: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> Any:
    stream = archive.extractfile(member)
    if stream is None or member.size > _PIECE:
        raise UserError(f"{file}: {START_FILE} is no file of a start")
    return parse_json(stream.read(), f"{file}: {START_FILE}: cannot be read")


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, file: Path) -> None:
    stream = archive.extractfile(member)
    if stream is None:
        raise UserError(f"{file}: {member.name!r} cannot be read")
    with target.open("xb") as out:
        while piece := stream.read(_PIECE):
            out.write(piece)


def _dataset(folder: str) -> str:
    return folder.rpartition("-")[0]
