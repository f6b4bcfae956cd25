"""A policy that was asked in words, used by transformers alone: model, tokenizer, SIDs to items."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tiny_runs import Bench, call
from transformers import AutoModelForCausalLM, AutoTokenizer
from worded_world import save_llama, worded_dataset

from genrec_bench.data.dataset_store import save_contents
from genrec_bench.runs.opened_policy import open_policy

HISTORY = ["item 3", "item 4", "item 9"]


@pytest.mark.parametrize(
    ("prompt", "more"), [("text", ()), ("gream", ("lora_rank=2",))], ids=["whole", "adapters"]
)
def test_a_language_model_needs_its_folder_alone(
    prompt: str,
    more: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    save_contents(worded_dataset().contents, data, {})
    bench = Bench(capsys, data, tmp_path / "out")
    llama = str(save_llama(tmp_path / "llama"))
    words = ("--backbone", llama, f"prompt={prompt}", "sft_epochs=0.3", "steps=1", *more)
    run = bench.run("grpo", *words, "validations=0", "pass_samples=0")
    folder = run / "policy"
    recommended = open_policy(run, data_dir=str(data)).recommend(HISTORY, k=5)
    if more:
        folder = tmp_path / "merged"
        merge = ["policy", "merge", str(run), "--to", str(folder), "--data-dir", str(data)]
        assert call(capsys, merge).code == 0

    # From here on nothing but transformers and pandas.
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    items = pd.read_parquet(folder / "items.parquet")
    about = json.loads((folder / "policy.json").read_text())
    sids = items.set_index("item")["sid"]
    text = about["question"].replace("{history}", ", ".join(sids[HISTORY]))
    question = tokenizer(text, return_tensors="pt")["input_ids"]
    answers = {sid: tokenizer(sid, add_special_tokens=False)["input_ids"] for sid in sids.unique()}
    assert {len(answer) for answer in answers.values()} == {3}
    tokens = {tuple(answer) for answer in answers.values()}

    def allowed(_: int, written: torch.Tensor) -> list[int]:
        done = tuple(written[question.shape[1] :].tolist())
        return sorted({sid[len(done)] for sid in tokens if sid[: len(done)] == done})

    found = model.generate(
        question,
        attention_mask=torch.ones_like(question),
        max_new_tokens=3,
        num_beams=10,
        num_return_sequences=5,
        length_penalty=0.0,
        prefix_allowed_tokens_fn=allowed,
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=0,
    )
    written = ["".join(tokenizer.convert_ids_to_tokens(row[-3:])) for row in found.sequences]
    # Items that share a SID follow each other.
    assert list(dict.fromkeys(recommended["sid"])) == written[: recommended["sid"].nunique()]
    with torch.no_grad():
        whole = torch.cat([question, torch.tensor([answers[written[0]]])], dim=1)
        log_probs = model(input_ids=whole).logits[0, :-1].log_softmax(-1)
    first = log_probs.gather(1, whole[0, 1:, None])[-3:].sum()
    assert float(first) == pytest.approx(recommended["log_prob"][0], abs=1e-3)
    assert set(items[items["sid"] == written[0]]["item"]) >= {recommended["item"][0]}
    assert ("thinking_question" in about) == (prompt == "gream")
    card = (folder / "README.md").read_text() if (folder / "README.md").is_file() else ""
    assert more or "`question` of `policy.json`" in card
