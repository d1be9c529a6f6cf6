"""Gradients that backward leaves in any network's parameters, compared with autograd, and the passes they take."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from tests.helpers.loops import NAMES, Net, make


def plain_gradients(net: Net, weights: Tensor) -> dict[str, Tensor]:
    total = torch.stack(
        [weight * loss for weight, loss in zip(weights, net.losses(net.trunk(net.x)), strict=True)]
    ).sum()
    found = torch.autograd.grad(total, list(net.parameters()))
    return dict(zip([name for name, _ in net.named_parameters()], found, strict=True))


def close(found: dict[str, Tensor | None], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=4)


@given(tasks=st.integers(1, 4), seed=st.integers(0, 99), form=st.sampled_from(["list", "tensor", "names"]))
def test_fixed_is_the_sum_of_the_losses(tasks: int, seed: int, form: str) -> None:
    net = Net(tasks, seed)
    losses = net.losses(net.trunk(net.x))
    expected = plain_gradients(net, torch.ones(tasks))
    if form == "names":
        names = [f"task {t}" for t in range(tasks)]
        balance, given_losses = Balancer("fixed", tasks=names), dict(reversed([*zip(names, losses, strict=True)]))
    else:
        balance, given_losses = Balancer("fixed", tasks=tasks), losses if form == "list" else torch.stack(losses)
    total = balance(given_losses)
    total.backward()
    assert float(total.detach()) == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-6)
    assert torch.equal(balance.weights, torch.ones(tasks))
    close(net.gradients(), expected)


@given(weights=WEIGHTS, seed=st.integers(0, 99))
def test_own_heads_get_the_gradient_of_their_loss_and_the_trunk_that_of_the_sum(
    weights: list[float], seed: int
) -> None:
    net = Net(len(weights), seed)
    make(f"fixed:weights={weights},heads=own", net)
    expected = plain_gradients(net, torch.ones(len(weights)))
    of_sum = plain_gradients(net, torch.tensor(weights))
    expected |= {name: grad for name, grad in of_sum.items() if name.startswith("trunk")}
    net.balanced(make(f"fixed:weights={weights},heads=own", net)).backward()
    close(net.gradients(), expected)


class Directed(Strategy):
    """Gives a direction that is not a weighting, and has weights 1, 2, ..."""

    def forward(self, step: Step) -> Tensor:
        jacobian = step.jacobian()
        step.descend(torch.arange(jacobian.shape[-1]).to(jacobian).unsqueeze(0))
        return (step.losses * torch.arange(1, self.shape[1] + 1)).sum(-1)


def test_a_direction_is_split_over_the_shared_parameters_in_order() -> None:
    net = Net(3)
    expected = plain_gradients(net, torch.tensor([1.0, 2.0, 3.0]))
    sizes = [parameter.numel() for parameter in net.trunk.parameters()]
    parts = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
    for (name, parameter), part in zip(net.trunk.named_parameters(), parts, strict=True):
        expected[f"trunk.{name}"] = part.view_as(parameter)
    net.balanced(Balancer(Directed, tasks=3, shared=net.trunk)).backward()
    close(net.gradients(), expected)


@pytest.mark.parametrize("name", ["fixed", "gradnorm", "mgda", "pcgrad", "nashmtl", "sdmgrad", "graddrop"])
def test_backward_adds_to_existing_gradients_times_its_own(name: str) -> None:
    once, net = Net(3), Net(3)
    once.balanced(make(name, once)).backward()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    (4 * net.balanced(make(name, net)) + net.heads.get_parameter("0.bias").sum()).backward()
    expected = {key: 1 + 4 * grad for key, grad in once.gradients().items() if grad is not None}
    expected["heads.0.bias"] += 1
    close(net.gradients(), expected)


def test_a_call_without_backward_leaves_no_gradients() -> None:
    net = Net(2)
    net.balanced(make("mgda", net))
    assert all(grad is None for grad in net.gradients().values())


@pytest.mark.parametrize("name", NAMES)
def test_frozen_and_unused_parameters_and_losses_without_a_trunk(name: str) -> None:
    net = Net(3)
    unused = nn.Linear(2, 2, dtype=torch.float64)
    shared = nn.ModuleList([net.trunk, unused])
    net.trunk.get_submodule("0").requires_grad_(False)
    free = nn.Parameter(torch.ones(()))
    features = net.trunk(net.x)
    losses = [net.losses(features)[0], free.square(), torch.ones(())]
    balance = Balancer(name, tasks=3, shared=shared, last=net.trunk[2])
    balance(losses, features, further=lambda: [net.losses(net.trunk(net.x))[0], free.square(), losses[2]]).backward()
    trained = net.trunk.get_parameter("2.weight").grad
    assert net.trunk.get_parameter("0.weight").grad is None
    assert free.grad is not None
    assert trained is not None
    assert bool(trained.isfinite().all())
    if not balance.strategy.overrides("allocate"):  # a direction covers all shared parameters
        assert unused.weight.grad is None


def passes(name: str, net: Net) -> tuple[int, int]:
    """How often a step differentiates through the trunk's first and last convolution."""
    counted = [0, 0]

    def at(place: int, gradient: Tensor) -> None:
        counted[place] += 1

    x = net.trunk[0](net.x)
    x.register_hook(partial(at, 0))
    features = net.trunk[2](net.trunk[1](x))
    features.register_hook(partial(at, 1))
    features = net.trunk[4](net.trunk[3](features))
    make(name, net)(net.losses(features), features).backward()
    return counted[0], counted[1]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("fixed", 1, 1), ("uncertainty", 1, 1), ("gradnorm", 1, 4), ("mgda", 3, 3), ("nashmtl", 3, 3), ("moco", 3, 3)],
)
def test_the_trunk_is_differentiated_no_more_than_once_per_task(name: str, first: int, last: int) -> None:
    """GradNorm differentiates the last layer before the one backward pass; a Jacobian needs no further pass."""
    assert passes(name, Net(3)) == (first, last)


def test_the_last_layer_is_found_before_normalisations_or_named() -> None:
    class Watches(Strategy):
        def forward(self, step: Step) -> Tensor:
            self.seen: Tensor = step.gramian(last=True)
            return step.losses.sum(-1)

    for last, place in ((None, 2), (0, 0), (3, 3)):
        net, watches = Net(2), Watches((1, 2))
        last = None if last is None else net.trunk[last]  # noqa: PLW2901
        balance = Balancer(lambda _, made=watches: made, tasks=2, shared=net.trunk, last=last)
        parameters = list(net.trunk[place].parameters())
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in net.losses(net.trunk(net.x))]
        jacobian = torch.stack([torch.cat([grad.flatten() for grad in row]) for row in rows])
        net.balanced(balance)
        torch.testing.assert_close(watches.seen[0], jacobian @ jacobian.mT)


@given(widths=st.lists(st.integers(1, 6), min_size=2, max_size=4), tasks=st.integers(2, 5), seed=st.integers(0, 99))
def test_surgery_leaves_the_weighted_sum_of_the_task_gradients(widths: list[int], tasks: int, seed: int) -> None:
    """For any trunk: its gradient is that of the losses under the recorded weights."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(*(part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh()))).double()
    heads = nn.Linear(widths[-1], tasks).double()
    x = torch.randn(5, widths[0], dtype=torch.float64)
    balance = Balancer("cagrad", tasks=tasks, shared=trunk)
    balance(heads(trunk(x)).square().mean(0)).backward()
    expected = torch.autograd.grad((balance.weights * heads(trunk(x)).square().mean(0)).sum(), list(trunk.parameters()))
    for parameter, gradient in zip(trunk.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_waits_for_the_device(name: str) -> None:
    """Meta tensors have no values to wait for; `mtlbench check` tries three tasks, which take longer on meta."""
    net = Net(2).to("meta")
    net.x = net.x.to("meta")
    balance = make(name, net)
    for _ in range(2):
        net.balanced(balance).backward()
        balance.after_update(lambda: net.losses(net.trunk(net.x)))
    assert all(grad is not None and grad.is_meta for grad in net.gradients().values())


@pytest.mark.parametrize("name", ["mgda", "cagrad", "imtl-g", "nashmtl", "gradnorm", "mgda:heads=weighted"])
def test_shared_parameters_outside_the_named_module_get_the_weighted_sum(name: str) -> None:
    net = Net(2)
    balance = Balancer(name, tasks=2, shared=net.trunk[2])
    net.balanced(balance).backward()
    expected = plain_gradients(net, balance.weights.double())
    for key, found in net.gradients().items():
        if key.startswith("trunk."):
            torch.testing.assert_close(found, expected[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "gradnorm:heads=own"])
def test_second_derivatives_are_refused(name: str) -> None:
    net = Net(2)
    total = net.balanced(make(name, net))
    with pytest.raises(UserError, match="second derivatives"):
        torch.autograd.grad(total, net.trunk.get_parameter("0.weight"), create_graph=True)
