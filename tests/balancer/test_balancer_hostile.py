"""Losses that a strategy cannot take, or hardly: refused before anything changes, or finite results."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, UserError
from mtlbench.balancer.keeping import unpacked
from tests.helpers.loops import NAMES, Net, make

every_strategy = pytest.mark.parametrize("name", NAMES)


def step(net: Net, balance: Balancer, factors: tuple[float, ...]) -> Tensor:
    """Take a step in which the losses are multiplied by these, and return the gradients as one tensor."""

    def losses(features: Tensor) -> list[Tensor]:
        # In float64 throughout: a weight of go4align is as large as the ratio of two losses.
        heads = [head(features.flatten(1)) for head in net.heads]
        return [factor * (out - t).square().mean() for t, (factor, out) in enumerate(zip(factors, heads, strict=True))]

    net.zero_grad()
    features = net.trunk(net.x)
    balance(losses(features), features, further=lambda: losses(net.trunk(net.x.flip(-1)))).backward()
    balance.after_update(lambda: losses(net.trunk(net.x)))
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def assert_refused(net: Net, balance: Balancer, factors: tuple[float, ...], line: str) -> None:
    before = {name: tensor.clone() for name, tensor in balance.state_dict().items()}
    with pytest.raises(UserError, match=line) as raised:
        step(net, balance, factors)
    assert "\n" not in str(raised.value)
    after = balance.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) or bool(tensor.isnan().any()) for name, tensor in before.items())


@every_strategy
def test_losses_that_are_not_finite_are_refused_and_change_nothing(name: str) -> None:
    net = Net(3, dtype=torch.float64)
    balance = make(name, net)
    for bad in (math.nan, math.inf):
        assert_refused(net, balance, (1, 1, bad), "task 2 must be finite")
    assert bool(step(net, balance, (1, 1, 1)).isfinite().all())
    assert_refused(net, balance, (-math.inf, 1, 1), "task 0 must be finite")


@every_strategy
def test_gradients_that_are_not_finite_are_refused_where_they_are_used(name: str) -> None:
    """A loss of 0 by a square root of 0, whose derivative is infinite; other strategies do not look at it."""
    net = Net(2, dtype=torch.float64)
    balance = make(name, net)
    bad = [net.losses(net.trunk(net.x))[0], 1 + (0 * net.trunk(net.x).sum()).square().sqrt()]
    before = {key: tensor.clone() for key, tensor in balance.strategy.state_dict().items()}
    try:
        features = net.trunk(net.x)
        balance(bad, features, further=lambda: bad)
    except UserError as error:
        unused = "features" in str(error)
        assert unused or "the gradient of task 1 is not finite" in str(error)
        after = balance.strategy.state_dict()
        assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert all(bool(t.isfinite().all()) for t in balance.strategy.state_dict().values() if t.is_floating_point())


@every_strategy
def test_negative_losses_are_refused_where_they_have_no_meaning(name: str) -> None:
    net = Net(3, dtype=torch.float64)
    balance = make(name, net)
    for _ in range(2):  # in the first step and a later one
        if balance.strategy.losses == "positive":
            assert_refused(net, balance, (1, -1, 1), f"task 1 must not be negative for {re.escape(name)}")
        else:
            assert bool(step(net, balance, (1, -1, 1)).isfinite().all())
        assert bool(step(net, balance, (1, 1, 1)).isfinite().all())


@every_strategy
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_extreme_losses_leave_everything_finite(name: str, factor: float) -> None:
    """In the first step, in a later one and in all."""
    for hostile in ({0}, {1}, {0, 1, 2}):
        net = Net(3, dtype=torch.float64)
        balance = make(name, net)
        for number in range(3):
            gradients = step(net, balance, (1, factor if number in hostile else 1, 1))
            assert bool(gradients.isfinite().all())
            assert bool(balance.weights.isfinite().all())
        assert all(bool(t.isfinite().all()) for t in balance.strategy.state_dict().values() if t.is_floating_point())


@every_strategy
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_extreme_losses_leave_states_in_float32_finite(name: str, factor: float) -> None:
    """States may hold squares of losses or gradients, which are out of the range of float32."""
    torch.manual_seed(0)
    trunk, heads, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 3), torch.randn(5, 3)
    for hostile, tasks in (({0}, (1,)), ({1}, (0, 1, 2)), ({0, 1, 2}, (1,))):
        balance = Balancer(name, tasks=3, shared=trunk)
        for number in range(3):
            features = trunk(x)
            factors = torch.tensor([factor if number in hostile and t in tasks else 1.0 for t in range(3)])
            losses = list(factors * (heads(features) - 2).square().mean(0))
            balance(losses, features, further=lambda: list((heads(trunk(x.flip(0))) - 2).square().mean(0)))
            balance.after_update([0.9 * loss for loss in losses])
            balance.epoch_end()
            assert bool(balance.weights.isfinite().all())
        moments = unpacked(balance.get_extra_state())["optimizer"] or {"state": {}}
        of_optimizer = [value for each in moments["state"].values() for value in each.values()]
        assert all(bool(t.isfinite().all()) for t in [*balance.strategy.state_dict().values(), *of_optimizer])


@pytest.mark.parametrize("name", ["dwa", "excessmtl", "gradnorm", "igb", "relobralo", "rotograd-scale", "stch"])
def test_weights_recover_from_first_losses_of_0(name: str) -> None:
    """Losses and gradients of both tasks are equal and constant; so are their weights, once both have references."""
    trunk = nn.Linear(1, 1)
    balance = Balancer(name + (":warm_up=1" if name in ("igb", "stch") else ""), tasks=2, shared=trunk)
    for number in range(40):
        features = trunk(torch.ones(2, 1)).relu() + 1
        loss = (features / features.detach()).mean()
        balance([loss, loss * 0 if number < 2 else 1 * loss], features)
        balance.epoch_end()
    one, other = balance.weights.tolist()
    assert one == pytest.approx(other, rel=0.1)


@pytest.mark.parametrize("name", ["gradnorm", "relobralo"])
def test_a_first_loss_of_0_is_no_reference(name: str) -> None:
    net = Net(3, dtype=torch.float64)
    balance = make(name, net)
    step(net, balance, (1, 0, 1))
    loss = float((net.heads[1](net.trunk(net.x).flatten(1)) - 1).square().mean().detach())
    step(net, balance, (1, 1, 1))
    assert balance.strategy.get_buffer("first_losses")[0, 1] == pytest.approx(loss, rel=1e-12)
