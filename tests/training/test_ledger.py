import sys
from typing import Any

import pytest
import torch
from fake_training import Clock
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.ledger import PHASES, TRAINING_PHASES, Cost, Ledger

CPU = torch.device("cpu")


def make() -> tuple[Ledger, Clock]:
    clock = Clock()
    return Ledger(CPU, clock), clock


def seconds(ledger: Ledger) -> dict[str, float]:
    return {name: cost.seconds for name, cost in ledger.spent.items()}


def test_an_inner_phase_is_not_charged_to_the_outer_one() -> None:
    ledger, clock = make()
    with ledger.phase("update"):
        clock.now += 1
        with ledger.phase("reference"):
            clock.now += 2
            ledger.charge(tokens=20, flops=200.0)
        clock.now += 4
        ledger.charge(tokens=3, flops=30.0)
    clock.now += 8
    with ledger.phase("update"):
        clock.now += 16
        ledger.charge(tokens=4, flops=40.0)
    assert seconds(ledger) == {"reference": 2, "update": 21}
    update, reference = ledger.spent["update"], ledger.spent["reference"]
    assert (update.tokens, update.flops) == (7, 70.0)
    assert (reference.tokens, reference.flops) == (20, 200.0)


def test_an_exception_is_charged_and_closes_its_phases() -> None:
    ledger, clock = make()
    with pytest.raises(ZeroDivisionError), ledger.phase("tuning"):
        clock.now += 1
        with ledger.phase("rollout"):
            clock.now += 2
            raise ZeroDivisionError
    assert seconds(ledger) == {"rollout": 2, "tuning": 1}
    with pytest.raises(RuntimeError, match="outside of any phase"):
        ledger.charge(tokens=1, flops=1.0)


def test_work_outside_of_any_phase_is_refused() -> None:
    ledger, _ = make()
    with pytest.raises(RuntimeError, match="outside of any phase"):
        ledger.charge(tokens=1, flops=1.0)
    assert ledger.spent == {}


def test_unknown_phases_are_refused() -> None:
    ledger, _ = make()
    with pytest.raises(ValueError, match="'training'.*rollout"), ledger.phase("training"):
        pass
    with pytest.raises(ValueError, match="'training'"):
        ledger.add("training", Cost())


@pytest.mark.parametrize(
    ("tokens", "flops", "said"),
    [(-1, 0.0, "never negative"), (0, -1.0, "never negative"), (1, float("nan"), "flops=nan")],
)
def test_nothing_is_ever_paid_back(tokens: int, flops: float, said: str) -> None:
    ledger, _ = make()
    with ledger.phase("update"), pytest.raises(ValueError, match=said):
        ledger.charge(tokens=tokens, flops=flops)


def test_sft_and_evaluation_do_not_count_against_a_budget() -> None:
    ledger, _ = make()
    # Powers of two, so that each phase shows in the sum.
    for index, phase in enumerate(PHASES):
        ledger.add(phase, Cost(seconds=2.0**index, tokens=2**index, flops=2.0**index))
    counted = sum(2.0**index for index, name in enumerate(PHASES) if name in TRAINING_PHASES)
    assert counted == 2 + 4 + 8 + 16 + 32
    assert ledger.total("seconds") == ledger.total("tokens") == ledger.total("flops") == counted


def test_share_is_measured_in_the_unit_of_the_budget() -> None:
    ledger, _ = make()
    assert ledger.share(parse_exact("90s")) == 0
    ledger.add("rollout", Cost(seconds=30.0, tokens=500_000, flops=1e12))
    ledger.add("update", Cost(seconds=15.0, tokens=500_000, flops=2e12))
    ledger.add("evaluation", Cost(seconds=1000.0, tokens=10**9, flops=1e15))
    assert ledger.share(parse_exact("90s")) == 0.5
    assert ledger.share(parse_exact("4Mtok")) == 0.25
    assert ledger.share(parse_exact("2Tflop")) == 1.5


def test_costs_add_up_but_peaks_of_memory_do_not() -> None:
    ledger, _ = make()
    ledger.add("sft", Cost(seconds=1.0, tokens=2, flops=3.0, peak_memory_bytes=40))
    ledger.add("sft", Cost(seconds=1.0, tokens=2, flops=3.0, peak_memory_bytes=30))
    assert ledger.spent["sft"] == Cost(seconds=2.0, tokens=4, flops=6.0, peak_memory_bytes=40)


def test_what_was_spent_cannot_be_edited() -> None:
    ledger, _ = make()
    ledger.add("sft", Cost(seconds=1.5))
    with pytest.raises(TypeError):
        ledger.spent["sft"] = Cost()  # type: ignore[index]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident set from /proc")
def test_on_a_cpu_the_peak_is_the_resident_set_when_the_phase_ends() -> None:
    def resident() -> int:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    ledger = Ledger(CPU)
    with ledger.phase("rollout"):
        held = torch.ones(64 * 2**20, dtype=torch.uint8)
        expected = resident()
    assert held.sum() == 64 * 2**20
    assert ledger.spent["rollout"].peak_memory_bytes == pytest.approx(expected, abs=8 * 2**20)


# A phase and what happens in it: a step of the clock, or a phase again; perhaps an exception.
Nesting = st.recursive(
    st.integers(0, 10**6),
    lambda children: st.tuples(
        st.sampled_from(PHASES), st.lists(children, max_size=4), st.booleans()
    ),
    max_leaves=20,
)


@given(st.lists(Nesting, max_size=4))
def test_exclusive_seconds_add_up_to_the_time_in_which_a_phase_was_open(nestings: Any) -> None:
    ledger, clock = make()

    def play(node: Any) -> None:
        if isinstance(node, int):
            clock.now += node
            return
        phase, children, fails = node
        try:
            with ledger.phase(phase):
                for child in children:
                    play(child)
                if fails:
                    raise KeyError
        except KeyError:
            pass

    inside = 0.0
    for nesting in nestings:
        start = clock.now
        play(nesting)
        if not isinstance(nesting, int):
            inside += clock.now - start
    assert sum(seconds(ledger).values()) == inside


class Backend:
    """What the ledger asks of a device, and how much memory a make-believe one holds."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.allocated = self.peak = 0

    def hold(self, size: int) -> None:
        self.allocated = size
        self.peak = max(self.peak, size)

    def synchronize(self, device: torch.device) -> None:
        self.calls.append("synchronize")

    def max_memory_allocated(self, device: torch.device) -> int:
        return self.peak

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.peak = self.allocated


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Backend()
    monkeypatch.setattr(torch, "get_device_module", lambda device: backend)
    return backend


def test_an_accelerator_is_synchronised_before_each_reading(backend: Backend) -> None:
    def clock() -> float:
        backend.calls.append("clock")
        return 0.0

    ledger = Ledger(torch.device("cuda"), clock)
    with ledger.phase("update"), ledger.phase("reference"):
        pass
    assert backend.calls == ["synchronize", "clock"] * 4


def test_the_peak_of_an_accelerator_belongs_to_the_innermost_phase(backend: Backend) -> None:
    ledger = Ledger(torch.device("cuda"), Clock())
    backend.hold(900)
    backend.hold(10)
    with ledger.phase("update"):
        backend.hold(50)
        backend.hold(20)
        with ledger.phase("reference"):
            backend.hold(80)
            backend.hold(20)
        backend.hold(30)
    assert ledger.spent["update"].peak_memory_bytes == 50
    assert ledger.spent["reference"].peak_memory_bytes == 80
