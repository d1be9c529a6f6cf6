"""Gradients equal autograd of the definition, in whatever form the losses are passed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from tests.helpers.loops import NAMES

TASKS = 3


class Joined(nn.Module):
    """A stem that all tasks use but is not declared as shared, a shared layer, and a head per task."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.trunk = nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(TASKS))
        self.double()
        self.x = torch.randn(7, 4, dtype=torch.float64)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(self.stem(x).tanh())

    def losses(self, features: Tensor) -> list[Tensor]:
        return [(head(features) - t).square().mean() + 0.1 for t, head in enumerate(self.heads)]

    def vector(self, features: Tensor) -> Tensor:
        outputs = torch.cat([head(features) for head in self.heads], 1)  # [B, T]
        return (outputs - torch.arange(TASKS)).square().mean(0) + 0.1

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.named_parameters()}


class MeanSquares(torch.autograd.Function):
    """T losses that come out of one node, which gives T gradients."""

    @staticmethod
    def forward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*outputs)
        return tuple((output - t).square().mean() + 0.1 for t, output in enumerate(outputs))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        pairs = zip(ctx.saved_tensors, grads, strict=True)
        return tuple(2 * grad * (output - t) / len(output) for t, (output, grad) in enumerate(pairs))


@cache
def compiled(net: Joined) -> Callable[[Tensor], list[Tensor]]:
    return torch.compile(net.losses, backend="aot_eager", dynamic=False)


FORMS: dict[str, Callable[[Joined, Tensor], Any]] = {
    "list": Joined.losses,
    "dict": lambda net, features: dict(zip("abc", net.losses(features), strict=True)),
    "stacked": lambda net, features: torch.stack(net.losses(features)),
    "elements": lambda net, features: [torch.stack(net.losses(features))[t] for t in range(TASKS)],
    "scaled": lambda net, features: 1.0 * torch.stack(net.losses(features)),
    "vector": Joined.vector,
    "unbound": lambda net, features: net.vector(features).unbind(),
    "compiled": lambda net, features: compiled(net)(features),
    "function": lambda net, features: MeanSquares.apply(*[head(features) for head in net.heads]),
}


class Definition:
    """The signals of a step, one backward pass from each of a list of losses."""

    def __init__(self, net: Joined) -> None:
        self.net = net
        self.features = net.features(net.x)
        self.losses = net.losses(self.features)

    def rows(self, losses: list[Tensor], wanted: list[Tensor]) -> Tensor:
        gradients = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in gradients])

    def jacobian(self) -> Tensor:
        return self.rows(self.losses, list(self.net.trunk.parameters())).unsqueeze(0)

    def gramian(self, *, last: bool = False) -> Tensor:
        return self.jacobian() @ self.jacobian().mT

    def independent_gramian(self) -> Tensor:
        further = self.net.losses(self.net.features(self.net.x.flip(1)))
        rows = self.rows(further, list(self.net.trunk.parameters())).unsqueeze(0)
        return rows @ rows.mT

    def representation_gradients(self) -> Tensor:
        return (self.rows(self.losses, [self.features]).view(TASKS, 7, 6) * (self.features > 0)).unsqueeze(0)

    def gradients(self, strategy: Strategy) -> tuple[Tensor, dict[str, Tensor]]:
        """The effective weights, and the gradient of each parameter."""
        zero, values = torch.zeros((), dtype=torch.int64), torch.stack(self.losses).detach().unsqueeze(0)
        step = Step(values.requires_grad_(), self, index=zero, epoch=zero, seeds=torch.zeros(1, dtype=torch.int64))
        (weights,) = torch.autograd.grad(strategy(step).sum(), step.losses)
        parameters, trunk = dict(self.net.named_parameters()), list(self.net.trunk.parameters())
        total = (weights[0] * torch.stack(self.losses)).sum()
        own = strategy.heads == "own"
        heads = torch.stack(self.losses).sum() if own else total
        expected = {
            name: torch.autograd.grad(heads if "head" in name else total, parameter, retain_graph=True)[0]
            for name, parameter in parameters.items()
        }
        if step.direction is not None:
            parts = step.direction[0].split([parameter.numel() for parameter in trunk])
            expected |= zip(["trunk.0.weight", "trunk.0.bias"], map(Tensor.view_as, parts, trunk), strict=True)
        elif step.representation_direction is not None:
            parts = torch.autograd.grad(self.features, trunk, step.representation_direction[0])
            expected |= zip(["trunk.0.weight", "trunk.0.bias"], parts, strict=True)
        return weights[0], expected


net = cache(Joined)


@pytest.mark.parametrize("heads", ["weighted", "own"])
@pytest.mark.parametrize("name", [*NAMES, "fixed:weights=[0.5,2,3]"])
def test_gradients_are_those_of_the_definition(name: str, heads: str) -> None:
    label, joined = f"{name}{',' if ':' in name else ':'}heads={heads}", net()
    balance, definition = (Balancer(label, tasks=["a", "b", "c"], shared=joined.trunk) for _ in range(2))
    weights, expected = Definition(joined).gradients(definition.strategy)
    start = copy.deepcopy(balance.state_dict())
    for form, losses_of in FORMS.items():
        balance.load_state_dict(start)
        joined.zero_grad()
        features = joined.features(joined.x)
        further = joined.losses(joined.features(joined.x.flip(1)))
        balance(losses_of(joined, features), features, further=lambda further=further: further).backward()
        torch.testing.assert_close(balance.weights, weights, rtol=1e-10, atol=1e-10)
        for key, gradient in joined.gradients().items():
            assert gradient is not None
            assert torch.allclose(gradient, expected[key], rtol=1e-10, atol=1e-10), (form, key)


@pytest.mark.parametrize("form", FORMS)
def test_a_task_without_gradients_does_not_change_whose_parameters_are_whose(form: str) -> None:
    """As in a batch without labels for it: the stem is of several tasks, though the gradient of one alone is not 0."""
    joined = Joined()
    for head in joined.heads[1:]:
        cast("nn.Linear", head).requires_grad_(requires_grad=False).weight.zero_()
    balance = Balancer("fixed:weights=[3,4,5],heads=own", tasks=["a", "b", "c"], shared=joined.trunk)
    losses = FORMS[form](joined, joined.features(joined.x))
    if form in ("list", "dict", "stacked", "elements"):
        balance(losses).backward()
        loss = 3 * joined.losses(joined.features(joined.x))[0]
        torch.testing.assert_close(joined.stem.weight.grad, torch.autograd.grad(loss, joined.stem.weight)[0])
    else:
        with pytest.raises(UserError, match=r"task b has no gradient.*heads=weighted"):
            balance(losses)
        assert balance.index == 0
