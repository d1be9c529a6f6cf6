"""Losses that a strategy cannot take are refused before any state moves; all others give finite weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, UserError
from tests.helpers.loops import NAMES

TASKS = ["a", "b", "c"]
Change = Callable[[list[Tensor]], object]


class Small:
    """Three quadratic losses of a trunk of two layers, trained by a Balancer without an optimizer of the network."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).to(dtype)
        self.heads = nn.Linear(4, len(TASKS)).to(dtype)
        self.x = torch.randn(5, 3, dtype=dtype)
        self.balance = Balancer(name, tasks=TASKS, shared=self.trunk)

    def losses(self, features: Tensor) -> list[Tensor]:
        return list((self.heads(features) - 2).square().mean(0))

    def step(self, change: Change = len) -> Tensor:
        """Weights of a step and its hooks, in which `change` may replace losses."""
        features = self.trunk(self.x)
        losses = self.losses(features)
        change(losses)
        self.balance(losses, features, further=lambda: self.losses(self.trunk(self.x.flip(0))))
        self.balance.after_update([0.9 * loss for loss in losses])
        self.balance.epoch_end()
        return self.balance.weights

    def state(self) -> dict[str, Tensor]:
        moments = self.balance.get_extra_state()["optimizer"] or {"state": {}}
        state = {key: value for key, value in self.balance.state_dict().items() if isinstance(value, Tensor)}
        for number, each in moments["state"].items():
            state |= {f"{number}.{key}": value for key, value in each.items()}
        return {key: value.clone() for key, value in state.items()}

    def takes_all(self) -> bool:
        return self.balance.strategy.losses == "any"


def times(factor: float, tasks: Sequence[int]) -> Change:
    def change(losses: list[Tensor]) -> None:
        for task in tasks:
            losses[task] = losses[task] * factor

    return change


def without_slope(losses: list[Tensor]) -> None:
    losses[1] = (losses[1] * 0).sqrt()  # 0, with an infinite derivative


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_as_if_refused_batches_had_not_been_there(name: str) -> None:
    """Before the first step and between others, without a scaler."""
    with_bad, without = Small(name), Small(name)
    for _ in range(2):
        for bad in (math.nan, math.inf, -math.inf):
            with pytest.raises(UserError, match="task b is not finite"):
                with_bad.step(times(bad, [1]))
        if not with_bad.takes_all():
            with pytest.raises(UserError, match=rf"{name} .*>= 0.*task b is -"):
                with_bad.step(times(-1.0, [1]))
        with_bad.step()
        without.step()
        assert same(with_bad.state(), without.state())


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_is_refused_if_the_strategy_uses_it(name: str) -> None:
    with_bad, without = Small(name), Small(name)
    for _ in range(2):
        try:
            with_bad.step(without_slope)
        except UserError as refused:
            assert "gradient of task b is not finite" in str(refused)
        else:
            return
        with_bad.step()
        without.step()
        assert same(with_bad.state(), without.state())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30, -1.0])
def test_extreme_losses_in_any_step_leave_weights_and_state_finite(name: str, factor: float) -> None:
    for when, tasks in (([0], [1]), ([1], [0, 1, 2]), (range(3), [1])):
        small = Small(name)
        if factor < 0 and not small.takes_all():
            return
        for step in range(3):
            weights = small.step(times(factor if step in when else 1.0, tasks))
            assert bool(weights.isfinite().all())
        assert all(bool(value.isfinite().all()) for value in small.state().values())


@pytest.mark.parametrize("name", ["dwa", "excessmtl", "gradnorm", "igb", "relobralo", "rotograd-scale", "stch"])
def test_a_first_loss_of_zero_is_no_reference(name: str) -> None:
    """Losses and gradients of both tasks are equal and constant; so are their weights, once both have references."""
    trunk = nn.Linear(1, 1)
    balance = Balancer(name + (":warm_up=1" if name in ("igb", "stch") else ""), tasks=2, shared=trunk)
    for step in range(40):
        features = trunk(torch.ones(2, 1)).relu() + 1
        loss = (features / features.detach()).mean()
        balance([loss, loss * 0 if step < 2 else 1 * loss], features)
        balance.epoch_end()
    one, other = balance.weights.tolist()
    assert one == pytest.approx(other, rel=0.1)


def test_losses_after_an_update_are_checked_too() -> None:
    for bad, problem in ((math.nan, "task b after the update is not finite"), (-1.0, "task b is -1")):
        balance = Balancer("famo", tasks=TASKS)
        losses = [torch.ones((), requires_grad=True) for _ in TASKS]
        balance(losses)
        before = {key: value.clone() for key, value in balance.strategy.state_dict().items()}
        with pytest.raises(UserError, match=problem):
            balance.after_update([torch.tensor(value) for value in (1.0, bad, 1.0)])
        assert same(dict(balance.strategy.state_dict()), before)
        balance(losses)
