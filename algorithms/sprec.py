"""SPRec: self-play against what the model would recommend (Gao et al. 2025, arXiv 2412.09243).

Training goes in iterations, each of two halves: SFT on targets, then DPO with the target preferred
to what the model of before the iteration recommends.

Differences from DPO:

1. ``half_steps`` steps learn by SFT's loss, at its price, and as many by DPO. In the code both are
   an epoch of the same 2048 users; here each goes on where it was among its own: SFT visits users
   with all their targets, DPO examples. The budget says how many iterations there are; the code has
   five.
2. The rejected one is the opponent's: the policy as it was when the iteration began, and at first
   the SFT start. It is a draw, by which DPO's loss is weighted by the model's own probabilities, as
   the paper has it; the code decodes greedily, which is ``rejected=beam``. Where it is the target
   there is no pair; the code keeps it.
3. The reference is the policy that the iteration's SFT half came to, as in the code.

``beta`` is 0.1, the code's. Adapters cannot be followed by opponent and reference: ``lora_rank=0``.
"""

from dataclasses import dataclass

from genrec_bench.algorithm import fixed
from genrec_bench.algorithms.dpo import DPO, DPOHyperparameters


@dataclass(frozen=True)
class SPRecHyperparameters(DPOHyperparameters):
    """DPO's, and how long a half of an iteration is."""

    rejected: str = fixed("draws", choices=("draws", "beam"), help="of the opponent; code: beam")
    half_steps: int = fixed(32, low=1, high=100_000, help="steps of SFT, then of DPO, in turn")


class SPRec(DPO):
    """SFT and DPO in turn, against the policy of before."""

    hyperparameters_class = SPRecHyperparameters
    hyperparameters: SPRecHyperparameters
    uses_opponent = True
    _supervised = True

    def begin_step(self, step: int, share: float) -> None:
        """Tell which half of an iteration it belongs to."""
        half = self.hyperparameters.half_steps
        self._supervised = step % (2 * half) < half

    @property
    def rolls_out(self) -> bool:
        """In the second half of an iteration."""
        return not self._supervised

    def reference_mix(self, step: int) -> float:
        """Return 1 at the end of SFT's half: what it came to is the reference."""
        half = self.hyperparameters.half_steps
        return float(step % (2 * half) == half)

    def opponent_mix(self, step: int) -> float:
        """Return 1 at the end of an iteration: what it came to is the next one's opponent."""
        return float(step % (2 * self.hyperparameters.half_steps) == 0)
