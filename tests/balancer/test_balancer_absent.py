"""Batches without labels of some tasks: the others are weighed as if they were all; states of the absent are kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, UserError
from mtlbench.balancer.keeping import unpacked
from tests.helpers.loops import NAMES, scalar

STEPS = int(os.environ.get("MTLBENCH_CASES", "400")) // 25
"""Steps of each strategy with random masks; `make soak` takes 800."""
DTYPE = torch.float64
Given = list[Tensor | None]


class Loop:
    """Losses of a network, of which the tasks are some, in this order; None is a task that never has labels."""

    def __init__(self, strategy: str, columns: Sequence[int | None]) -> None:
        torch.manual_seed(0)
        self.columns = columns
        self.trunk, self.heads = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).to(DTYPE), nn.ModuleList()
        for _ in range(3):
            self.heads.append(nn.Linear(4, 1, dtype=DTYPE))
        self.x = torch.randn(5, 3, dtype=DTYPE)
        self.balance = Balancer(strategy, tasks=len(columns), shared=self.trunk)
        self.optimizer = torch.optim.SGD([*self.trunk.parameters(), *self.heads.parameters()], 0.01)

    def losses(self, mask: Sequence[bool], x: Tensor | None = None, features: Tensor | None = None) -> Given:
        features = self.trunk(self.x if x is None else x) if features is None else features
        return [
            (c + 1) * (self.heads[c](features) - 2).square().mean() if c is not None and mask[c] else None
            for c in self.columns
        ]

    def step(self, mask: Sequence[bool]) -> None:
        features = self.trunk(self.x)
        self.optimizer.zero_grad()
        losses = self.losses(mask, features=features)
        self.balance(losses, features, further=lambda: self.losses(mask, self.x.flip(0))).backward()
        self.optimizer.step()
        self.balance.after_update(lambda: self.losses(mask))

    def state(self) -> dict[str, Tensor]:
        moments = (unpacked(self.balance.get_extra_state())["optimizer"] or {"state": {}})["state"]
        return {
            **{key: value.clone() for key, value in self.balance.strategy.state_dict().items()},
            **{f"{number}.{key}": value for number, each in moments.items() for key, value in each.items()},
            "weights": self.balance.weights.unsqueeze(0),
        }


def masks(steps: int) -> list[list[bool]]:
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.rand(4 * steps + 40, 3, generator=generator) < 0.5).tolist()
    return [mask for mask in drawn if any(mask)][:steps]


@pytest.mark.parametrize("name", NAMES)
def test_absent_tasks_stand_still_and_leave_the_others_as_if_they_were_not_there(name: str) -> None:
    """With random masks; tasks 1 and 4 of five never have labels, and the state of each task is finite and its own."""
    loop, smaller = Loop(name, [0, None, 1, 2, None]), Loop(name, [0, 1, 2])
    for number, mask in enumerate(masks(STEPS)):
        before, absent = loop.state(), [t for t, c in enumerate(loop.columns) if c is None or not mask[c]]
        loop.step(mask)
        for key, value in loop.state().items():
            assert bool(value.isfinite().all()), key
            if key in before and number and value.dim() > 1 and value.shape[1] == 5:
                assert torch.equal(value[:, absent], before[key][:, absent]), key
        smaller.step(mask)
        assert torch.equal(loop.balance.weights[[0, 2, 3]], smaller.balance.weights)
        if number % 5 == 4:
            loop.balance.epoch_end()
            smaller.balance.epoch_end()
    for parameter, expected in zip(loop.trunk.parameters(), smaller.trunk.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    assert bool((loop.balance.weights[[1, 4]] == 0).all())


def given(form: str, losses: list[Tensor]) -> tuple[object, object]:
    """Losses of tasks a and c, b being absent, and the mask."""
    nan = losses[1] * torch.nan
    return {
        "list": ([losses[0], None, losses[2]], None),
        "dict": ({"c": losses[2], "b": None, "a": losses[0]}, None),
        "mask of a list": ([losses[0], nan, losses[2]], [True, False, True]),
        "mask of a tensor": (torch.stack(losses), torch.tensor([True, False, True])),
        "mask by name": ({"c": losses[2], "b": nan, "a": losses[0]}, {"a": True, "c": True, "b": False}),
    }[form]


@pytest.mark.parametrize("form", ["list", "dict", "mask of a list", "mask of a tensor", "mask by name"])
@pytest.mark.parametrize("name", ["fixed:weights=[1,2,3]", "mgda", "fixed:heads=own"])
def test_every_form_gives_the_gradients_of_the_losses_that_are_there(name: str, form: str) -> None:
    loop = Loop(name, [0, 1, 2])
    balance = Balancer(name, tasks=["a", "b", "c"], shared=loop.trunk)
    for _ in range(2):
        loop.optimizer.zero_grad()
        losses, present = given(form, [loss for loss in loop.losses([True] * 3) if loss is not None])
        balance(losses, present=present).backward()  # pyright: ignore[reportArgumentType]
    first, _, third = loop.losses([True] * 3)
    assert first is not None
    assert third is not None
    weighted = balance.weights[0] * first + balance.weights[2] * third
    of_heads = first + third if balance.strategy.heads == "own" else weighted
    for parameters, total in ((loop.trunk.parameters(), weighted), (loop.heads[::2].parameters(), of_heads)):
        found = list(parameters)
        for parameter, expected in zip(found, torch.autograd.grad(total, found, retain_graph=True), strict=True):
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-12, atol=1e-12)
    assert not any(p.grad is not None and bool(p.grad.any()) for p in loop.heads[1].parameters())
    assert balance.weights[1] == 0


def test_whose_a_parameter_is_does_not_depend_on_who_is_absent() -> None:
    """Heads learn from their own loss, and losses are elements of one vector, whose graph does not tell them apart."""
    loop, separate = Loop("mgda", [0, 1, 2]), Loop("mgda", [0, 1, 2])
    for mask in ([True] * 3, [False, True, True], [True, False, True], [False, False, True], [True] * 3):
        for each in (loop, separate):
            each.optimizer.zero_grad()
            losses = [loss for loss in each.losses([True] * 3) if loss is not None]
            losses = torch.cat([loss.view(1) for loss in losses]) if each is loop else losses
            each.balance(losses, present=mask).backward()
        for one, other in zip(loop.heads.parameters(), separate.heads.parameters(), strict=True):
            expected = torch.zeros_like(other) if other.grad is None else other.grad
            torch.testing.assert_close(torch.zeros_like(one) if one.grad is None else one.grad, expected)


X, NAN = scalar(), scalar() * torch.nan


@pytest.mark.parametrize(
    ("losses", "present", "line"),
    [
        ([None, None], None, "no task has labels"),
        ([X, X], [False, False], "no task has labels"),
        ([X, X], [True], "present must have one entry per task, 2; found 1"),
        ([X, X], {"a": True}, "present by name .*a, b.*found a"),
        ([X, X], True, "present must be a list of truth values.*found bool"),
        ([X, None], [True, True], "task b must be a real scalar.*NoneType"),
        ([torch.ones(()), X], [True, False], "no loss depends on a parameter"),
        (torch.stack([X, NAN]), [True, False], "task b, which is absent.*in a list"),
        ([torch.stack([X, NAN])[0], NAN], [True, False], None),
        ([(both := torch.stack([X, NAN]))[0], both[1]], [True, False], "task b, which is absent.*in a list"),
        ([X, NAN], None, "task b must be finite.*pass None"),
    ],
)
def test_mistakes_are_refused(losses: Any, present: Any, line: str | None) -> None:
    with pytest.raises(UserError, match=line) if line else nullcontext():
        Balancer("fixed", tasks=["a", "b"])(losses, present=present)


def test_strategies_whose_state_cannot_be_divided_refuse_absent_tasks() -> None:
    with pytest.raises(UserError, match="torchjd:UW does not keep its state by task"):
        Balancer("torchjd:UW", tasks=2)([scalar(), None])
    trunk = nn.Linear(1, 2, bias=False)
    losses = trunk(torch.ones(1, 1)).square().mean(0)
    with pytest.raises(UserError, match="moco needs more than 2 shared parameters"):
        Balancer("moco", tasks=2, shared=trunk)([losses[0], None])


def test_a_further_batch_needs_the_labels_of_the_step() -> None:
    loop = Loop("modo", [0, 1, 2])
    with pytest.raises(UserError, match="task 1 must be"):
        loop.balance(loop.losses([True] * 3), further=lambda: loop.losses([True, False, True]))


def test_an_epoch_has_the_mean_of_each_tasks_own_batches() -> None:
    balance = Balancer("dwa", tasks=3)
    for losses in ([1, 2, None], [3, None, None]):
        balance([None if loss is None else loss * scalar() for loss in losses])
    balance.epoch_end()
    assert balance.strategy.get_buffer("last_means").tolist() == [[2, 2, 0]]
    assert balance.strategy.get_buffer("weights").tolist() == [[1, 1, 1]]


def test_a_pending_hook_and_eval_mode_know_who_was_absent() -> None:
    one, other = Balancer("famo", tasks=2), Balancer("famo", tasks=2)
    one([scalar(), None])
    other.load_state_dict(one.state_dict())
    other.after_update([0.5 * scalar(), None])
    assert other.strategy.get_buffer("updates").tolist() == [[1, 0]]
    assert float(other.eval()([2 * scalar(), None])) == pytest.approx(2 * float(other.weights[0]))


def test_a_scaler_skips_a_step_with_absent_tasks() -> None:
    loop = Loop("mgda", [0, 1, 2])
    balance = Balancer("mgda", tasks=3, shared=loop.trunk, scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    first, second, _ = loop.losses([True] * 3)
    assert first is not None
    assert second is not None
    balance([first * torch.inf, second, None]).backward()
    assert not any(p.grad is None or bool(p.grad.isfinite().any()) for p in loop.heads[:2].parameters())
    assert balance.index == 0
