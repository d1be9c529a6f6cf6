"""Unusual parameters and paths of gradients: equal to autograd of the definition, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlbench import Balancer, UserError
from tests.helpers.joined import TASKS, Definition, Joined
from tests.helpers.loops import NAMES


class Spectral(nn.Module):
    """A layer with complex weights between two Fourier transforms, as in neural operators."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) @ self.weight, n=6)


class WithSpectral(Joined):
    def stem_and_trunk(self) -> tuple[nn.Module, nn.Module]:
        return nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 5), Spectral(), nn.ReLU())


class WithSparse(Joined):
    """Embeddings with sparse gradients, in the shared part and in a head."""

    def __init__(self) -> None:
        super().__init__()
        self.heads.append(nn.Embedding(9, 6, sparse=True, dtype=torch.float64))

    def stem_and_trunk(self) -> tuple[nn.Module, nn.Module]:
        return nn.Identity(), nn.ModuleDict({"table": nn.Embedding(8, 6, sparse=True), "layer": nn.Linear(4, 6)})

    def features(self, x: Tensor) -> Tensor:
        trunk = cast("nn.ModuleDict", self.trunk)
        return (trunk["layer"](x) + trunk["table"](torch.arange(7) // 2)).relu()

    def losses(self, features: Tensor) -> list[Tensor]:
        *heads, table = self.heads
        losses = [(head(features) - t).square().mean() for t, head in enumerate(heads)]
        return [losses[0] + (features * table(torch.arange(7))).mean().square(), *losses[1:]]


class Beside(Joined):
    """A head also uses the shared layer's output before its ReLU."""

    def losses(self, features: Tensor) -> list[Tensor]:
        first, *others = super().losses(features)
        return [first + cast("nn.Sequential", self.trunk)[0](self.stem(self.x).tanh()).square().mean(), *others]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [WithSpectral, WithSparse, Beside])
def test_gradients_are_those_of_the_definition(name: str, kind: type[Joined]) -> None:
    net = kind()
    balance, definition = (Balancer(name, tasks=TASKS, shared=net.trunk) for _ in range(2))
    weights, expected = Definition(net).gradients(definition.strategy)
    features = net.features(net.x)
    balance(net.losses(features), features, further=lambda: net.losses(net.features(net.x.flip(1)))).backward()
    torch.testing.assert_close(balance.weights, weights, rtol=1e-10, atol=1e-10)
    for key, gradient in net.gradients().items():
        assert gradient is not None
        torch.testing.assert_close(gradient.to_dense(), expected[key].to_dense(), rtol=1e-10, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", ["fixed:heads=own", "gradnorm", "mgda", "nashmtl", "db-mtl", "graddrop"])
def test_hooks_on_parameters_run_once_on_the_gradient_that_backward_adds(name: str) -> None:
    hooked, net = Joined(), Joined()
    runs = list[Tensor]()

    def changed(gradient: Tensor) -> Tensor:
        runs.append(gradient)
        return (3 * gradient).clamp(-0.01, 0.02)

    for parameter in hooked.parameters():
        parameter.register_hook(changed)
    for one in (hooked, net):
        features = one.features(one.x)
        Balancer(name, tasks=TASKS, shared=one.trunk)(one.losses(features), features).backward()
    assert len(runs) == len(list(net.parameters()))
    for one, other in zip(hooked.parameters(), net.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, (3 * other.grad).clamp(-0.01, 0.02))


def copied(net: Joined) -> list[Tensor]:
    return Joined().losses(Joined().features(net.x))


def detached(net: Joined) -> list[Tensor]:
    return net.losses(net.features(net.x).detach())


def checkpointed(net: Joined) -> list[Tensor]:
    stem = net.stem(net.x).tanh()
    return net.losses(cast("Tensor", checkpoint(net.trunk, stem, use_reentrant=True)))


def partly_checkpointed(net: Joined) -> list[Tensor]:
    features = net.features(net.x)
    outputs = [cast("Tensor", checkpoint(head, features, use_reentrant=True)) for head in net.heads]
    return [output.square().mean() for output in outputs]


@pytest.mark.parametrize("name", ["mgda", "gradnorm", "nashmtl", "modo"])
@pytest.mark.parametrize(
    ("losses_of", "parts"),
    [
        (copied, "shared \\(0.weight, 0.bias\\).*not a copy"),
        (detached, "shared \\(0.weight, 0.bias\\).*detached"),
        (checkpointed, "use_reentrant=False"),
        (partly_checkpointed, "use_reentrant=False"),
    ],
)
def test_why_gradients_are_missing_is_said(name: str, losses_of: Callable[[Joined], list[Tensor]], parts: str) -> None:
    net = Joined()
    with pytest.raises(UserError, match=parts):
        Balancer(name, tasks=TASKS, shared=net.trunk)(losses_of(net), further=lambda: losses_of(net))


def test_what_cannot_be_used_is_refused_by_name() -> None:
    net = Joined()
    with pytest.raises(UserError, match="shared has lazy layers"):
        Balancer("mgda", tasks=2, shared=nn.Sequential(nn.LazyLinear(3)))
    features = net.features(net.x)
    losses = net.losses(features)
    balance = Balancer("graddrop", tasks=TASKS, shared=net.trunk)
    with pytest.raises(UserError, match=r"features must be one real tensor.*list"):
        balance(losses, [features])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="real scalar"):
        balance([loss.to(torch.complex128) for loss in losses], features)
    balance = Balancer("gradnorm", tasks=TASKS, shared=net.trunk)
    cast("nn.Sequential", net.trunk)[0] = nn.Linear(5, 6).double()
    with pytest.raises(UserError, match="make a new Balancer"):
        balance(net.losses(net.features(net.x)))
