"""The optimizer: heads and added rows have a peak learning rate of their own."""

from typing import Any

import pytest
import torch
from torch import nn

from genrec_bench.training.optimization import NotFiniteError, Optimization
from genrec_bench.training.workers import Workers


class Model(nn.Module):
    """A weight in the backbone, and a head with a bias."""

    def __init__(self, *, with_head: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False)
        self.heads = nn.ModuleDict({"value": nn.Linear(1, 1)} if with_head else {})
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


def optimization(model: Model, **rates: float) -> Optimization:
    options: dict[str, Any] = {"weight_decay": 0.0, "warmup": 0.0, "max_grad_norm": 1e9, **rates}
    return Optimization(model, Workers(), learning_rate=0.01, **options)


def step(model: Model, optimizer: Optimization, share: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(share, 0.0, "a step")


@pytest.mark.parametrize(("share", "scale"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_heads_have_their_own_peak_on_the_same_schedule(share: float, scale: float) -> None:
    model = Model()
    step(model, optimization(model, head_learning_rate=0.2), share)
    # The first step of Adam is the learning rate, whatever the gradient.
    assert float(model.backbone.weight.detach()) == pytest.approx(-0.01 * scale, rel=1e-4)
    for parameter in model.heads.parameters():
        assert float(parameter.detach()) == pytest.approx(-0.2 * scale, rel=1e-4)


def test_heads_follow_the_backbone_unless_told_otherwise() -> None:
    model = Model()
    step(model, optimization(model), 0.0)
    values = [float(parameter.detach()) for parameter in model.parameters()]
    assert values == pytest.approx([-0.01] * 3, rel=1e-4)


def test_a_bias_of_a_head_does_not_decay() -> None:
    model = Model()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    optimizer = optimization(model, head_learning_rate=0.2, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.0, 0.0, "a step")
    head = model.heads["value"]
    assert isinstance(head, nn.Linear)
    # AdamW takes away rate times decay of the weight: 0.2 * 0.5 and 0.01 * 0.5.
    assert float(head.weight.detach()) == pytest.approx(0.9)
    assert float(head.bias.detach()) == 1.0
    assert float(model.backbone.weight.detach()) == pytest.approx(0.995)


def test_heads_are_clipped_apart_from_the_backbone() -> None:
    model = Model()
    optimizer = optimization(model, max_grad_norm=1.0)
    for parameter, gradient in zip(model.parameters(), (0.5, 3.0, 4.0), strict=True):
        parameter.grad = torch.full_like(parameter, gradient)
    # The norms are 0.5, which may stay, and 5, which becomes 1; of both, sqrt(0.25 + 25).
    assert optimizer.step(0.0, 0.0, "a step") == pytest.approx(25.25**0.5)
    # Adam's first moment is a tenth of the gradient.
    moments = [float(v) for name, v in optimizer.state().items() if name.endswith("exp_avg")]
    assert moments == pytest.approx([0.05, 0.06, 0.08])


def test_a_state_comes_back_to_the_parameters_it_belongs_to() -> None:
    model = Model()
    first = optimization(model, head_learning_rate=0.2)
    step(model, first, 0.0)
    copy = Model()
    copy.load_state_dict(model.state_dict())
    second = optimization(copy, head_learning_rate=0.2)
    second.load({name: value.clone() for name, value in first.state().items()})
    step(model, first, 0.3)
    step(copy, second, 0.3)
    for one, other in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_policy_without_heads_takes_their_rate_and_needs_none() -> None:
    model = Model(with_head=False)
    step(model, optimization(model, head_learning_rate=0.2), 0.0)
    assert float(model.backbone.weight.detach()) == pytest.approx(-0.01, rel=1e-4)


def test_rows_of_a_weight_learn_as_if_they_were_a_head() -> None:
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    rows, others = [1, 4], [0, 2, 3]
    whole: Any = nn.Module()
    apart: Any = nn.Module()
    whole.backbone = nn.Embedding.from_pretrained(start.clone(), freeze=False)
    apart.backbone = nn.Embedding.from_pretrained(start[others].clone(), freeze=False)
    apart.heads = nn.Embedding.from_pretrained(start[rows].clone(), freeze=False)
    options: dict[str, Any] = {"learning_rate": 0.01, "head_learning_rate": 0.2}
    options |= {"weight_decay": 0.5, "warmup": 0.0, "max_grad_norm": 1.0}
    weight = whole.backbone.weight
    taken = Optimization(whole, Workers(), **options, added_rows=[(weight, rows)])
    expected = Optimization(apart, Workers(), **options)
    generator = torch.Generator().manual_seed(1)
    for share in (0.0, 0.3, 0.6):
        # Gradients that are clipped, each part by its own norm.
        gradient = 3.0 * torch.randn(5, 3, generator=generator)
        weight.grad = gradient.clone()
        apart.backbone.weight.grad = gradient[others].clone()
        apart.heads.weight.grad = gradient[rows].clone()
        norms = [one.step(share, 0.0, "a step") for one in (taken, expected)]
        assert norms[0] == pytest.approx(norms[1])
        assert torch.allclose(weight[others], apart.backbone.weight)
        assert torch.allclose(weight[rows], apart.heads.weight)

        # Another process goes on where this one was, with the weight and the state alone.
        resumed: Any = nn.Module()
        resumed.backbone = nn.Embedding.from_pretrained(weight.detach().clone(), freeze=False)
        again = Optimization(
            resumed, Workers(), **options, added_rows=[(resumed.backbone.weight, rows)]
        )
        again.load({name: value.clone() for name, value in taken.state().items()})
        whole, taken, weight = resumed, again, resumed.backbone.weight


def test_rows_whose_loss_is_not_finite_stay() -> None:
    model: Any = nn.Module()
    model.backbone = nn.Embedding(3, 2)
    weight = model.backbone.weight
    before = weight.detach().clone()
    options: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.5}
    options |= {"warmup": 0.0, "max_grad_norm": 1.0}
    optimizer = Optimization(model, Workers(), **options, added_rows=[(weight, [2])])
    weight.grad = torch.full_like(weight, float("nan"))
    with pytest.raises(NotFiniteError):
        optimizer.step(0.0, 0.0, "a step")
    assert torch.equal(weight, before)
