"""Thoughts before an item: words as transformers writes them, whatever the batch, then the trie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Bench
from transformers import AutoModelForCausalLM, PreTrainedModel
from worded_world import save_llama, trace_lines, worded_dataset, worded_policy

from genrec_bench.data.dataset_store import save_contents
from genrec_bench.decoding import thoughts
from genrec_bench.decoding.sampling import sample
from genrec_bench.decoding.thoughts import reason
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_tasks import check_words

DATASET = worded_dataset()
ROWS = np.array([0, 1, 5, 9])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), places=512)


@pytest.fixture
def policy(llama: Path) -> Policy:
    found = worded_policy(llama, DATASET, "prompt=gream")
    found.eval()
    return found


def plain(policy: Policy, folder: Path) -> PreTrainedModel:
    """The same model as transformers has it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(policy.vocabulary_size)
    model.load_state_dict(policy.backbone.state_dict())
    found: PreTrainedModel = model
    return found


def words_of(policy: Policy) -> TextPrompt:
    assert isinstance(policy.prompt_format, TextPrompt)
    return policy.prompt_format


def test_the_likeliest_thoughts_and_items_are_those_of_transformers(
    policy: Policy, llama: Path
) -> None:
    prompts = policy.prompt_format.encode(DATASET.train, ROWS)
    # So small a share is the likeliest token's.
    found = reason(policy, prompts, 2, most=9, top_p=1e-6, key=1)
    model, words = plain(policy, llama), words_of(policy)
    asked = words.thinking_prompts(prompts.histories)
    for row in range(len(ROWS)):
        tokens = asked.tokens[row][asked.mask[row]].unsqueeze(0)
        rest = words.vocabulary_size
        for _ in range(9):
            best = model(tokens).logits[0, -1, :rest].argmax()
            tokens = torch.cat([tokens, best.view(1, 1)], dim=1)
        text = str(words.tokenizer.decode(tokens[0, int(asked.lengths[row]) :]))
        assert found.texts[row] == [text.strip()] * 2
        closing = np.concatenate(words.answer_tokens(["\n</think>", "\n<answer>"]))
        whole = np.append(tokens[0].numpy(), closing)
        alone = sample(policy, Prompts.from_rows([whole]), 1, top_p=1e-6, key=2).leaves[0, 0]
        assert found.leaves[row].tolist() == [int(alone)] * 2


def test_what_is_thought_depends_on_prompt_and_key_alone(policy: Policy) -> None:
    prompts = policy.prompt_format.encode(DATASET.train, ROWS)
    policy.tokens_per_forward = 10_000
    together = reason(policy, prompts, 3, most=6, key=5)
    policy.tokens_per_forward = 16
    order = torch.tensor([2, 0, 3, 1])
    apart = reason(policy, prompts.select(order), 3, most=6, key=5)
    assert [together.texts[row] for row in order.tolist()] == apart.texts
    assert torch.equal(together.leaves[order], apart.leaves)
    other = reason(policy, prompts, 3, most=6, key=6)
    assert other.texts != together.texts
    drawn = {text for row in together.texts for text in row}
    assert len(drawn) > 6, "draws of a prompt think for themselves"
    trie = policy.trie
    assert (trie.sid_index(together.leaves) >= 0).all() and (together.leaves != trie.dead).all()


def forced(policy: Policy, text: str, patch: pytest.MonkeyPatch) -> list[int]:
    """Have the policy write a text, token by token, whatever it would; return the tokens."""
    tokens: list[int] = words_of(policy).answer_tokens([text])[0].tolist()
    told = iter(tokens)

    def draw(policy: Policy, hidden: torch.Tensor, chances: torch.Tensor, *_: float) -> Any:
        return torch.full_like(chances, next(told), dtype=torch.long)

    patch.setattr(thoughts, "_draw", draw)
    return tokens


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("a lamp\n</think> and more", "a lamp"),
        ("</think>", ""),
        ("a kettle</s> never", "a kettle"),
        ("no end at all ", "no end at all"),
    ],
)
def test_thoughts_end_where_they_say_so(
    text: str, thought: str, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = forced(policy, text, monkeypatch)
    policy.meter = count = WorkCount()
    prompts = policy.prompt_format.encode(DATASET.train, ROWS[:1])
    found = reason(policy, prompts, 1, most=len(tokens), key=0)
    assert found.texts == [[thought]]
    words = words_of(policy)
    asked = int(words.thinking_prompts(prompts.histories).lengths[0])
    end = words.tokenizer.eos_token_id
    written = len(tokens)
    for place in range(len(tokens)):
        if tokens[place] == end or "</think>" in str(words.tokenizer.decode(tokens[: place + 1])):
            written = place + (tokens[place] != end)
            break
    closing = ["\n<answer>"] if "</think>" in text else ["\n</think>", "\n<answer>"]
    after = sum(map(len, words.answer_tokens(closing)))
    # The last word of thoughts is read with the answer alone; codes but the last are read too.
    read = (
        asked
        + written
        - (tokens[written - 1] != end and written == len(tokens) or "</think>" in text)
    )
    assert count.tokens == read + asked + written + after + DATASET.catalog.num_levels - 1


def test_a_question_without_room_for_thoughts_is_refused(tmp_path: Path) -> None:
    policy = worded_policy(save_llama(tmp_path, places=330), DATASET, "prompt=gream")
    prompts = policy.prompt_format.encode(DATASET.train, ROWS)
    lengths = words_of(policy).thinking_prompts(prompts.histories).lengths
    if int(lengths.max()) + 40 < 330:
        pytest.fail(f"questions have become shorter: {lengths.tolist()}")
    with pytest.raises(UserError, match="mode=reason: a question of .* no room for thoughts"):
        reason(policy, prompts, 1, most=4, key=0)


def test_reasoning_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(UserError, match="mode=reason: is about samples; set pass_samples above 0"):
        Settings(mode="reason", pass_samples=0)
    for prompt in ("auto", "text", "compact"):
        with pytest.raises(UserError, match="mode=reason: thoughts have a place in prompt=gream"):
            check_words(DATASET, "some/model", Settings(mode="reason", prompt=prompt))
    check_words(DATASET, "some/model", Settings(mode="reason", prompt="gream"))


def test_a_run_is_judged_by_items_that_were_thought_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, llama: Path
) -> None:
    data, file = tmp_path / "data", tmp_path / "traces.jsonl"
    save_contents(DATASET.contents, data, {})
    file.write_text("".join(trace_lines(DATASET, 24)))
    bench = Bench(capsys, data, tmp_path / "out")
    words = ["--backbone", str(llama), "prompt=gream", "sft_epochs=0.3", "steps=1"]
    words += ["validations=0", "pass_samples=2", "test_examples=6", f"sft_traces={file}"]
    direct = bench.record("grpo", *words)
    reasoned = bench.record("grpo", *words, "mode=reason", "thought_tokens=8")
    assert reasoned["track"]["samples"] == (
        "2 at temperature 0.7, top-p 0.9, each after at most 8 tokens of thoughts"
    )
    assert direct["track"]["samples"] == "2 at temperature 0.7, top-p 0.9"
    assert direct["track"]["sft"] == reasoned["track"]["sft"]
    told = reasoned["configuration"]["settings"]
    assert (told["mode"], told["thought_tokens"]) == ("reason", 8)
    for name, value in direct["metrics"]["test"].items():
        if not name.startswith("Pass"):
            assert reasoned["metrics"]["test"][name] == pytest.approx(value), name
    assert 0 <= reasoned["metrics"]["test"]["Pass@1"] <= 1
    # Both were billed as evaluation, and thoughts cost more.
    spent = [record["budget"]["spent"]["evaluation"]["tokens"] for record in (direct, reasoned)]
    assert spent[1] > 2 * spent[0], json.dumps(spent)
