"""Gradients equal autograd of the definition, in whatever form the losses are passed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config

from mtlbench import Balancer, UserError
from tests.helpers.joined import TASKS, Definition, Joined
from tests.helpers.loops import NAMES


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


@pytest.fixture(autouse=True)
def buffers_are_kept() -> Iterator[None]:
    """What docs/balancer.md says to set before losses are compiled that are differentiated once per task."""
    with functorch_config.patch(donated_buffer=False):
        yield


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
@pytest.mark.parametrize("known", [False, True])
def test_a_task_without_gradients_does_not_change_whose_parameters_are_whose(form: str, *, known: bool) -> None:
    """As in a batch without labels for it: the stem is of several tasks, though the gradient of one alone is not 0."""
    joined = Joined()
    balance = Balancer("fixed:weights=[3,4,5],heads=own", tasks=["a", "b", "c"], shared=joined.trunk)
    losses_of = FORMS[form]
    if known:
        balance(losses_of(joined, joined.features(joined.x)))
    for head in joined.heads[1:]:
        cast("nn.Linear", head).weight.data.zero_()
        cast("nn.Linear", head).bias.data.fill_(float(joined.heads[1] is not head) + 1)  # the minimum
    losses = losses_of(joined, joined.features(joined.x))
    if not known and form not in ("list", "dict", "stacked", "elements"):
        with pytest.raises(UserError, match=r"task b has no gradient.*heads=weighted"):
            balance(losses)
        assert balance.index == 0
        return
    balance(losses).backward()
    loss = joined.losses(joined.features(joined.x))[0]
    for factor, name in ((3, "stem.weight"), (1, "heads.0.weight")):
        parameter = joined.get_parameter(name)
        (expected,) = torch.autograd.grad(factor * loss, parameter, retain_graph=True)
        torch.testing.assert_close(parameter.grad, expected)


def test_parameters_are_found_to_be_of_several_tasks_once() -> None:
    """The stem's output is cut out of a tensor, which proves nothing; later steps take one pass through it."""
    joined, passes = Joined(), list[int]()
    balance = Balancer("mgda", tasks=TASKS, shared=joined.trunk)
    for _ in range(3):
        stem = joined.stem(joined.x)
        passes.append(0)

        def count(_: Tensor) -> None:
            passes[-1] += 1

        stem.register_hook(count)
        balance(joined.losses(joined.trunk(torch.cat([stem, stem])[:7].tanh()))).backward()
    assert passes == [TASKS + 1, 1, 1]
