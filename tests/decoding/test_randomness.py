"""Random numbers by counter: uniform, and the same wherever and whenever they are asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from genrec_bench.decoding.randomness import draw_key, mix, prompt_keys, uniform
from genrec_bench.policy.prompts import Prompts

UNLIKELY = 1e-4
"""A chi-square test that right numbers fail this seldom; the keys are fixed, so it fails or not."""

ROWS = [[5, 6, 7], [5, 6, 7, 8], [7, 6, 5], [6], [5, 6, 7], [0, 5, 6, 7]]


def prompts(rows: list[list[int]] = ROWS, side: str = "right", fill: int = 0) -> Prompts:
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), fill)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        tokens[index, place] = torch.tensor(row)
        mask[index, place] = True
    return Prompts(tokens, mask)


def test_mix_is_the_finalizer_of_murmurhash3() -> None:
    # Values of the C reference, fmix32.
    assert mix(torch.tensor([0, 1, 2])).tolist() == [0, 0x514E28B7, 0x30F4C306]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=50, unique=True))
def test_mix_never_maps_two_numbers_of_32_bits_to_one(values: list[int]) -> None:
    mixed = mix(torch.tensor(values)).tolist()
    assert len(set(mixed)) == len(values)
    assert all(0 <= value < 2**32 for value in mixed)


@given(st.integers(-(2**62), 2**62))
def test_mix_reads_the_low_32_bits(value: int) -> None:
    assert mix(torch.tensor(value)) == mix(torch.tensor(value % 2**32))


def test_a_prompts_key_is_that_of_its_tokens() -> None:
    keys = prompt_keys(prompts(), 3).tolist()
    assert keys[0] == keys[4], "equal prompts"
    assert len(set(keys)) == 5, "a longer one, another order, a token in front: other prompts"
    assert all(0 <= key < 2**32 for key in keys)
    other = prompt_keys(prompts(), 4).tolist()
    assert not set(keys) & set(other), "another key, other numbers for all"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("fill", [0, 9])
def test_padding_is_not_part_of_a_prompt(side: str, fill: int) -> None:
    keys = prompt_keys(prompts(), 3)
    assert torch.equal(prompt_keys(prompts(side=side, fill=fill), 3), keys)
    for index, row in enumerate(ROWS):
        assert prompt_keys(prompts([row]), 3) == keys[index]


def test_uniform_numbers_are_uniform_over_keys_and_over_counters() -> None:
    codes = [[int(digit) for digit in f"{number:05d}"] for number in range(5000)]
    keys = prompt_keys(prompts(codes), 0)
    of_keys = uniform(keys, 0)
    of_counters = uniform(torch.tensor(1), torch.arange(5000))
    of_two = uniform(keys[:50].unsqueeze(1), torch.arange(100), 7).flatten()
    for numbers in (of_keys, of_counters, of_two):
        assert numbers.dtype == torch.double and 0 <= numbers.min() and numbers.max() < 1
        bins = np.histogram(numbers.numpy(), bins=20, range=(0, 1))[0]
        assert chisquare(bins).pvalue > UNLIKELY
        # The standard error of a correlation of 5000 pairs is .014.
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.05
    for other in (
        uniform(keys, 1),
        uniform(keys, 0, 0),
        uniform(prompt_keys(prompts(codes), 1), 0),
    ):
        assert abs(np.corrcoef(of_keys, other)[0, 1]) < 0.05


def test_a_number_belongs_to_its_key_and_each_of_its_counters() -> None:
    keys = torch.tensor([4, 5])
    assert torch.equal(uniform(keys, 2, 3), uniform(keys, 2, 3))
    assert uniform(keys, 2, torch.arange(4)[:, None]).shape == (4, 2)
    assert torch.equal(uniform(keys, 2, torch.arange(4)[:, None])[3], uniform(keys, 2, 3))
    one = float(uniform(torch.tensor(4), 2, 3))
    others = [
        uniform(torch.tensor(5), 2, 3),
        uniform(torch.tensor(4), 3, 2),
        uniform(torch.tensor(4), 2),
        uniform(torch.tensor(4), 2, 3, 0),
        uniform(torch.tensor(4), 2, 4),
    ]
    assert all(float(other) != one for other in others)


def test_torchs_seed_decides_the_key() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first, second = draw_key(), draw_key()
        torch.manual_seed(7)
        assert draw_key() == first
    assert first != second and 0 <= first < 2**31
