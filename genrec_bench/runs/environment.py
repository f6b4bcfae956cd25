"""What a run ran on: versions, commit, hardware. No name of a machine, a user or a folder."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from genrec_bench import __version__

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")

ROOT = Path(__file__).resolve().parent.parent.parent
"""Folder that the package lies in: the checkout's root, where it is run from a checkout."""

_CODE = ("genrec_bench", "algorithms", "datasets")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that bear on a result."""
    found = {"python": platform.python_version(), "genrec_bench": __version__}
    return found | {name: version(name) for name in LIBRARIES}


def commit(root: Path = ROOT) -> str | None:
    """Return the hash of the commit that the code comes from, or None outside of a checkout.

    It ends in `-dirty` where the code differs from the commit, a file not yet added included. A
    checkout that merely surrounds the package (someone's project with a virtual environment in it)
    does not count.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    head = _git(root, "rev-parse", "HEAD")
    if not top or not head or Path(top).resolve() != root.resolve():
        return None
    changed = _git(root, "status", "--porcelain", "--", *_CODE)
    return head if changed == "" else f"{head}-dirty"


def hardware(device: str) -> dict[str, str | int]:
    """Return CPU, cores that this process may use, memory in bytes, and the device's name."""
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores or 1,
        "memory_bytes": int(psutil.virtual_memory().total),
        "device": _device_name(device),
    }


def _git(root: Path, *arguments: str) -> str | None:
    # A git hook sets variables that point at the repository it runs for, which need not be ours.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=clean,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    # Imported here, since the boards need records but not torch.
    import torch

    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return device
