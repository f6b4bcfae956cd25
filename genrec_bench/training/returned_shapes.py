"""What an algorithm's methods return, held against the shapes of the contract, while it trains.

Torch makes do with other shapes: a loss that is one number is averaged once more, a reward for each
prompt is spread over its candidates, and what cannot be spread fails far from where it was made.
"""

from __future__ import annotations

from torch import Tensor

from genrec_bench.errors import UserError
from genrec_bench.training.base_algorithm import Algorithm


def shaped(
    algorithm: Algorithm, method: str, value: object, wanted: str, *shapes: tuple[int, ...]
) -> Tensor:
    """Return what a method returned, if it is a tensor of one of some shapes.

    Args:
        wanted: the shapes in the words of the contract, such as "[B, G]".

    Raises:
        UserError: naming the method, what it returned, and what is right.
    """
    if isinstance(value, Tensor) and tuple(value.shape) in shapes:
        return value
    found = list(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
    right = " or ".join(str(list(shape)) for shape in shapes)
    raise UserError(
        f"{type(algorithm).__name__}.{method} returned {found}, and must return {wanted}, here "
        f"{right}; `genrec-bench algorithms FILE --check` says what else a file has to keep"
    )


def loss_of(algorithm: Algorithm, said: object, prompts: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what ``loss`` returned: a loss for each of B prompts, and figures by name.

    Raises:
        UserError: it is something else.
    """
    if not (isinstance(said, tuple) and len(said) == 2 and isinstance(said[1], dict)):
        raise UserError(
            f"{type(algorithm).__name__}.loss returned a {type(said).__name__}, and must return "
            "losses [B] and a dict of figures, which may be empty: `return losses, {}`"
        )
    return shaped(algorithm, "loss", said[0], "a loss for each prompt, [B]", (prompts,)), said[1]
