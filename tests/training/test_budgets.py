import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.errors import UserError
from genrec_bench.training.budgets import (
    Budget,
    SFTMultiple,
    parse_budget,
    parse_exact,
    shown_budget,
)


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("90s", "seconds", 90),
        ("5m", "seconds", 300),
        ("2h", "seconds", 7200),
        ("1.5h", "seconds", 5400),
        ("1.1h", "seconds", 3960),
        (".5s", "seconds", 0.5),
        ("3e13flop", "flops", 3e13),
        ("700flop", "flops", 700),
        ("2Tflop", "flops", 2e12),
        ("1Pflop", "flops", 1e15),
        ("5Gflop", "flops", 5e9),
        ("20Mtok", "tokens", 20e6),
        ("5e6tok", "tokens", 5e6),
        ("800ktok", "tokens", 800e3),
        (" 800ktok ", "tokens", 800e3),
    ],
)
def test_reads_each_unit(text: str, kind: str, amount: float) -> None:
    budget = parse_exact(text)
    assert (budget.kind, budget.amount) == (kind, amount)
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        ("90s", "1.5m", "90s"),
        ("66m", "1.1h", "3960s"),
        ("3e13flop", "30Tflop", "30Tflop"),
        ("1000Tflop", "1Pflop", "1Pflop"),
        ("5e6tok", "5000ktok", "5Mtok"),
        ("1500tok", "1.50ktok", "1.5ktok"),
        ("100s", "1e2s", "100s"),
        ("999tok", "999.0tok", "999tok"),
    ],
)
def test_equal_budgets_are_equal_however_they_are_written(one: str, other: str, text: str) -> None:
    assert parse_budget(one) == parse_budget(other)
    assert parse_budget(one).text == text


def test_seconds_flops_and_tokens_of_one_amount_differ() -> None:
    assert len({parse_budget(text) for text in ("90s", "90flop", "90tok")}) == 3


@given(
    st.floats(min_value=1e-290, max_value=1e290),
    st.sampled_from(["s", "m", "h", "flop", "Tflop", "tok", "ktok", "Mtok"]),
)
def test_canonical_text_means_the_same_budget(number: float, unit: str) -> None:
    budget = parse_budget(f"{number!r}{unit}")
    assert parse_budget(budget.text) == budget


NO_NUMBER = "90 s flop nan nans infs -90s +90s 0x10tok ٣s 1_000tok 1,5h".split()
OUT_OF_RANGE = "0s 0.0Tflop 1e400flop 1e-400s 1e999999999s".split()
NO_UNIT = "90sec 1m30s 20mtok 20Ktok 20MTOK 20Ms".split()


@pytest.mark.parametrize("text", ["", "90 s", "90s\n5m", *NO_NUMBER, *OUT_OF_RANGE, *NO_UNIT])
def test_anything_else_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_budget(text)
    message = str(error.value)
    assert message.startswith(f"--budget {text!r} ")
    assert "90s" in message and "2Tflop" in message and "20Mtok" in message
    assert "\n" not in message


@pytest.mark.parametrize(("text", "times"), [("2xsft", 2), (" 0.50xsft ", 0.5), ("1e1xsft", 10)])
def test_a_multiple_of_what_sft_cost_is_known_when_sft_is(text: str, times: float) -> None:
    budget = parse_budget(text)
    assert isinstance(budget, SFTMultiple) and budget.times == times
    assert parse_budget(budget.text) == budget
    assert budget.exact(3e12) == Budget(
        "flops", times * 3e12, parse_exact(f"{3 * times}Tflop").text
    )


@pytest.mark.parametrize(
    "text", ["0xsft", "xsft", "2sft", "-1xsft", "1e999xsft", "2xSFT", "2 xsft"]
)
def test_refuses_multiples_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="2xsft"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2x", "2xsft"),
        ("2sft", "2xsft"),
        ("2*sft", "2xsft"),
        ("x0.5", "0.5xsft"),
        ("2 × SFT", "2xsft"),
        ("200%", "2xsft"),
        ("150% of SFT", "1.5xsft"),
        ("2 times the SFT start's cost", "2xsft"),
        ("90 seconds", "90s"),
        ("5min", "5m"),
        ("1,5h", "1.5h"),
        ("2 days", "48h"),
        ("2tflop", "2Tflop"),
        ("3e13 FLOPs", "3e13flop"),
        ("20M tokens", "20Mtok"),
        ("2b tok", "2Gtok"),
    ],
)
def test_the_budget_that_was_meant_is_suggested(typed: str, meant: str) -> None:
    with pytest.raises(UserError) as error:
        parse_budget(typed)
    message = f"--budget {typed!r} is not understood; did you mean {meant!r}? Otherwise write "
    assert str(error.value).startswith(message)
    parse_budget(meant)


@pytest.mark.parametrize("option", ["--budget", "--trial-budget", "--total-budget"])
def test_a_budget_knows_its_option_for_messages_alone(option: str) -> None:
    for text in ("2xsft", "90s", "3Gflop"):
        budget = parse_budget(text, option)
        assert budget.option == option and budget == parse_budget(text)
        exact = budget.exact(1e9) if isinstance(budget, SFTMultiple) else budget
        assert exact.option == option
    for text in ("2", "0xsft", "0s"):
        with pytest.raises(UserError, match=f"^{option} {text!r} "):
            parse_budget(text, option)
    with pytest.raises(UserError, match=f"^{option} 2xsft: the SFT start cost nothing"):
        SFTMultiple(2.0, "2xsft", option).exact(0.0)


@pytest.mark.parametrize("typed", ["90", "fast", "", "0x", "x", "2s3", "-2x"])
def test_nothing_is_suggested_for_what_is_no_budget(typed: str) -> None:
    with pytest.raises(UserError, match="is not understood: write "):
        parse_budget(typed)


@pytest.mark.parametrize(
    ("exact", "shown"),
    [
        ("6.578411194368Tflop", "6.578Tflop"),
        ("999.96Gflop", "1000Gflop"),
        ("12345.678s", "12346s"),
        ("0.123456xsft", "0.1235xsft"),
        ("20Mtok", "20Mtok"),
        ("90s", "90s"),
        ("160 steps of 64 prompts", "160 steps of 64 prompts"),
        ("51e2abc", "51e2abc"),
    ],
)
def test_people_see_four_digits(exact: str, shown: str) -> None:
    assert shown_budget(exact) == shown


def test_a_budget_keeps_what_it_does_not_show() -> None:
    budget = parse_exact("6.578411194368Tflop")
    assert (budget.shown, budget.amount) == ("6.578Tflop", 6.578411194368e12)
    assert budget.text == "6.578411194368Tflop"


def test_a_multiple_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="2xsft: the SFT start cost nothing"):
        SFTMultiple(2, "2xsft").exact(0.0)
