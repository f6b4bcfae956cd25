"""Histories become the tokens that they should, and training visits them as it should."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import save_tokenizer
from transformers import AutoTokenizer

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.policy.prompts import Chains, CompactPrompt, Prompts, longest_prompt
from genrec_bench.policy.text_prompt import TextPrompt

SIDS = ((0, 1, 0), (1, 0, 2), (1, 2, 2), (0, 1, 1))


def catalog() -> Catalog:
    """Four items; two codes on the first level, three on the others."""
    return Catalog(
        sids=np.array(SIDS, dtype=np.int32),
        codes_per_level=(2, 3, 3),
        item_names=("a", "b", "c", "d"),
        titles=("",) * 4,
        popularity=np.ones(4, dtype=np.int64),
        rank_shared="popularity",
    )


def examples(*rows: tuple[int, list[int], int]) -> Examples:
    """Examples of (user, history, target)."""
    users, histories, targets = zip(*rows, strict=True)
    return Examples.from_lists(users, histories, targets)


TWO = examples((0, [1], 0), (1, [0, 2, 1], 3))


def rows_of(prompts: Prompts) -> list[list[int]]:
    return [
        tokens[mask].tolist() for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True)
    ]


def test_a_compact_prompt_is_a_start_token_and_the_sids() -> None:
    prompt = CompactPrompt(catalog())
    # 0 is padding, 1 the start; codes from 2 on, from 4 on, and from 7 on.
    assert prompt.vocabulary_size == 10
    assert prompt.code_tokens.tolist() == [[2, 3, 0], [4, 5, 6], [7, 8, 9]]
    prompts = prompt.encode(TWO, np.array([1, 0]))
    assert rows_of(prompts) == [[1, 2, 5, 7, 3, 6, 9, 3, 4, 9], [1, 3, 4, 9]]
    assert prompts.lengths.tolist() == [10, 4]


def test_select_drops_columns_that_are_padding_in_all_chosen_prompts() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], dtype=torch.bool)
    prompts = Prompts(torch.arange(15).view(3, 5), mask)
    assert len(prompts) == 3
    chosen = prompts.select(torch.tensor([2, 1]))
    assert chosen.tokens.tolist() == [[11, 12, 13], [6, 7, 8]]
    assert rows_of(chosen) == [[11, 12], [7, 8]]


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=6), min_size=1, max_size=5))
def test_rows_come_back_from_their_grid(rows: list[list[int]]) -> None:
    prompts = Prompts.from_rows([np.array(row) for row in rows])
    assert rows_of(prompts) == rows
    assert prompts.tokens.shape[1] == max(map(len, rows))


def test_examples_that_continue_each_other_become_one_chain() -> None:
    split = examples(
        (7, [0], 1),
        (8, [2, 3], 0),
        (7, [0, 1], 2),
        (7, [1, 2], 3),  # the history was cut at two items: it does not continue [0, 1, 2]
        (8, [2, 3, 0], 0),
    )
    chains = Chains.nested(split)
    # User 7: 0 1 2, all learned, and then 3 after 1 2. User 8: 2 3 0 0, all learned.
    assert chains.last.tolist() == [2, 3, 4]
    assert chains.num_targets.tolist() == [3, 1, 4]
    assert len(Chains.single(split)) == 5
    assert Chains.single(split).num_targets.tolist() == [1] * 5


@settings(max_examples=50)
@given(st.data())
def test_every_target_is_learned_under_its_own_history(data: st.DataObject) -> None:
    rows: list[tuple[int, list[int], int]] = []
    for user in range(data.draw(st.integers(1, 3))):
        items = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=6))
        window = data.draw(st.integers(1, 6))
        for place in range(1, len(items)):
            rows.append((user, items[max(0, place - window) : place], items[place]))
    split = examples(*data.draw(st.permutations(rows)) if window == 6 else rows)
    chains = Chains.nested(split)
    learned: list[tuple[int, list[int], int]] = []
    for last, count in zip(chains.last.tolist(), chains.num_targets.tolist(), strict=True):
        whole = [*split.history(last).tolist(), int(split.targets[last])]
        # The first item has no history: it is no example's target.
        places = range(max(1, len(whole) - count), len(whole))
        learned += [(int(split.users[last]), whole[:place], whole[place]) for place in places]
    for row in rows:
        assert row in learned


@settings(max_examples=80)
@given(st.data())
def test_windows_share_sequences_and_every_target_keeps_the_nearest_items(
    data: st.DataObject,
) -> None:
    rows: list[tuple[int, list[int], int]] = []
    window, most = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 7))
    for user in range(data.draw(st.integers(1, 3))):
        # Every item once, so that it is its place.
        for place in range(1, data.draw(st.integers(2, 14))):
            rows.append((user, list(range(max(0, place - window), place)), place))
    split = examples(*rows)
    chains = Chains.nested(split, most)
    learned: dict[tuple[int, int], int] = {}
    for last, count in zip(chains.last.tolist(), chains.num_targets.tolist(), strict=True):
        shown = [*split.history(last).tolist(), int(split.targets[last])]
        begins = shown[0] == 0
        assert begins or 1 <= count <= min(most, window)
        for place in range(len(shown) - count, len(shown)):
            found = learned.setdefault((int(split.users[last]), shown[place]), place)
            assert found == place, "no target is learned twice"
            assert place or begins, "only a user's first item has nothing before it"
    wanted = {(user, target): len(history) for user, history, target in rows}
    assert learned.keys() == wanted.keys() | {(user, 0) for user, _, _ in rows}
    cut = [wanted[key] - learned[key] for key in wanted]
    assert min(cut) == 0 and max(cut) < min(most, window)
    if most == 1:
        assert not any(cut), "each under its own history"
    # As few sequences as can be: what is full is followed by the next.
    for user in {user for user, _, _ in rows}:
        windows = sum(row[0] == user and row[1][0] > 0 for row in rows)
        sequences = int((split.users[chains.last] == user).sum())
        assert sequences == 1 + -(-windows // min(most, window))


def test_windows_with_a_gap_between_them_share_nothing() -> None:
    split = examples(
        (0, [0, 1], 2),
        (0, [2, 3], 0),  # what came between is missing
        (0, [3, 0], 1),  # continues it
        (1, [0, 1], 2),  # another user, who begins there
    )
    chains = Chains.nested(split, 10)
    assert chains.last.tolist() == [0, 2, 3]
    assert chains.num_targets.tolist() == [3, 2, 3]


def text_prompt(folder: Path, *, wrap: bool = False) -> tuple[TextPrompt, int]:
    size = save_tokenizer(folder, wrap=wrap)
    return TextPrompt(catalog(), AutoTokenizer.from_pretrained(folder)), size


def test_the_text_prompt_is_the_instruction_of_the_paper(tmp_path: Path) -> None:
    prompt, size = text_prompt(tmp_path)
    history = TWO.history(1)
    assert prompt.text(history) == (
        "The user has interacted with items <a_0><b_1><c_0>, <a_1><b_2><c_2>, <a_1><b_0><c_2> in "
        "chronological order. Can you predict the next possible item that the user may expect?"
        "\n\nResponse:\n"
    )
    (row,) = rows_of(prompt.encode(TWO, np.array([1])))
    # The tokens say the text, whole, and each code is one token of its own.
    assert prompt.tokenizer.decode(row, clean_up_tokenization_spaces=False) == prompt.text(history)
    assert prompt.vocabulary_size == size + 8
    new = [token for token in row if token >= size]
    table = prompt.code_tokens
    assert new == [
        int(table[level, code]) for item in (0, 2, 1) for level, code in enumerate(SIDS[item])
    ]
    real = [
        int(table[level, code]) for level, count in enumerate((2, 3, 3)) for code in range(count)
    ]
    assert sorted(real) == list(range(size, size + 8))
    assert prompt.chains(TWO, 10).num_targets.tolist() == [1, 1], (
        "what users begin with is no target"
    )


def test_codes_keep_their_tokens_when_the_tokenizer_is_saved(tmp_path: Path) -> None:
    prompt, _ = text_prompt(tmp_path / "first")
    prompt.tokenizer.save_pretrained(tmp_path / "second")
    again = TextPrompt(catalog(), AutoTokenizer.from_pretrained(tmp_path / "second"))
    assert torch.equal(again.code_tokens, prompt.code_tokens)
    assert again.vocabulary_size == prompt.vocabulary_size
    both = np.arange(2)
    assert rows_of(again.encode(TWO, both)) == rows_of(prompt.encode(TWO, both))


def test_a_tokenizer_may_begin_a_prompt_but_not_end_it(tmp_path: Path) -> None:
    plain, _ = text_prompt(tmp_path / "plain")
    wrapped, _ = text_prompt(tmp_path / "wrapped", wrap=True)
    both = np.arange(2)
    expected = [[0, *row] for row in rows_of(plain.encode(TWO, both))]
    assert rows_of(wrapped.encode(TWO, both)) == expected


def test_tokens_of_codes_lie_inside_the_vocabulary_of_a_tokenizer_with_gaps(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    # The last merged token moves up, and leaves a gap.
    last = len(tokenizer) - 1
    word = tokenizer.convert_ids_to_tokens(last)
    text = file.read_text()
    assert text.count(f": {last}\n") == 1, word
    file.write_text(text.replace(f": {last}\n", f": {last + 50}\n"))
    prompt = TextPrompt(catalog(), AutoTokenizer.from_pretrained(tmp_path))
    assert int(prompt.code_tokens.max()) < prompt.vocabulary_size
    assert last + 50 < prompt.vocabulary_size


def test_the_longest_prompt_is_found_in_any_batch() -> None:
    prompt = CompactPrompt(catalog())
    split = examples((0, [1], 0), (1, [0, 2, 1], 3), (2, [2], 3), (3, [0, 2, 3], 3))
    for batch in (1, 2, 4096):
        assert longest_prompt(prompt, split, batch) == (10, 1)
