"""Missing or invalid arguments of a Balancer are refused in one line that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from mtlbench.errors import ContractError
from tests.helpers.loops import NAMES, Net, make, scalar


@pytest.mark.parametrize(
    ("losses", "parts"),
    [
        ([scalar()], ["2", "1"]),
        (torch.ones(3, requires_grad=True), ["2", "3"]),
        (scalar(), ["[T]", "[]"]),
        ([scalar(), torch.ones(64)], ["task b", "scalar", "[64]"]),
        ([scalar(), 1.0], ["task b", "scalar", "float"]),
        ({"a": scalar(), "c": scalar()}, ["a, b", "a, c"]),
        ([torch.ones(()), torch.ones(())], ["no loss", "no_grad"]),
        (None, ["losses", "NoneType"]),
        ({0: scalar(), 1: scalar()}, ["a, b", "0, 1"]),
        ([scalar(), torch.ones((), device="meta")], ["task b", "cpu", "balance.to('meta')"]),
    ],
)
def test_losses_that_do_not_fit_the_tasks_are_refused(losses: object, parts: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        Balancer("fixed", tasks=["a", "b"])(losses)  # pyright: ignore[reportArgumentType]
    assert all(part in str(refused.value) for part in parts)


def test_losses_by_name_need_the_tasks_names() -> None:
    with pytest.raises(UserError, match=r"tasks.*a, b"):
        Balancer("fixed", tasks=2)({"a": scalar(), "b": scalar()})


class HeadsMisspelt(Strategy):
    heads = "weighed"  # pyright: ignore

    def forward(self, step: Step) -> Tensor:
        return step.losses.sum(-1)


FROZEN = nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("strategy", "arguments", "parts"),
    [
        ("gradnrom", {}, ["gradnrom", "gradnorm"]),
        ("gradnorm:beta=1", {}, ["gradnorm", "beta"]),
        ("gradnorm:alpha=-1", {}, ["alpha", ">= 0"]),
        ("single:c", {}, ["c", "single:0", "single:1"]),
        ("fixed", {"tasks": 0}, ["tasks", "0"]),
        ("fixed", {"tasks": ["a", "a"]}, ["tasks", "['a', 'a']"]),
        ("fixed", {"tasks": "ab"}, ["tasks", "'ab'"]),
        ("fixed", {"tasks": True}, ["tasks", "True"]),
        ("fixed", {"tasks": 2.0}, ["tasks", "2.0"]),
        ("fixed", {"tasks": -1}, ["tasks", "-1"]),
        ("fixed", {"tasks": ["a", 1]}, ["tasks", "1"]),
        ("uncertainty", {"lr": -1.0}, ["lr", "> 0", "-1"]),
        ("mgda", {"shared": [nn.Linear(2, 2)]}, ["shared", "list", "nn.ModuleList"]),
        ("gradnorm", {"shared": nn.Linear(2, 2), "last": nn.ReLU()}, ["last", "requires grad"]),
        (HeadsMisspelt, {}, ["heads", "weighted", "own", "'weighed'"]),
        ("fixed", {"plugins": ["nowhere.py"]}, ["nowhere.py"]),
        ("mgda", {"shared": FROZEN}, ["shared", "requires grad"]),
        ("gradnorm", {"shared": nn.Linear(2, 2), "last": nn.Linear(2, 2)}, ["last", "shared"]),
    ],
)
def test_invalid_arguments_are_refused(
    strategy: str | type[Strategy], arguments: Mapping[str, object], parts: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        Balancer(strategy, **{"tasks": 2, **arguments})  # pyright: ignore[reportArgumentType]
    assert all(part in str(refused.value) for part in parts)


@pytest.mark.parametrize("name", [*NAMES, "rlw:heads=own"])
def test_messages_say_how_to_give_what_a_strategy_needs(name: str) -> None:
    """Each strategy is first called with the losses alone; every message ends with the argument to add."""
    trunk, heads = nn.Linear(3, 2), nn.Linear(2, 2)
    features = trunk(torch.ones(5, 3)).relu()
    losses = heads(features).square().mean(0)
    given: dict[str, nn.Module] = {}
    call: dict[str, object] = {}
    for _ in range(3):
        balance = Balancer(name, tasks=2, **given)  # pyright: ignore[reportArgumentType]
        try:
            balance(losses, **call).backward(retain_graph=True)  # pyright: ignore[reportArgumentType]
            break
        except UserError as error:
            line = str(error)
        if line.endswith("Balancer(..., shared=model.trunk)"):
            given["shared"] = trunk
        elif line.endswith("balance(losses, features)"):
            call["features"] = features
        else:
            assert line.endswith("balance(losses, further=FUNCTION)")
            call["further"] = lambda: heads(trunk(torch.ones(5, 3)).relu()).square().mean(0)
    assert heads.weight.grad is not None
    assert bool(heads.weight.grad.isfinite().all())


def test_a_forgotten_hook_is_reported() -> None:
    balance = Balancer("famo", tasks=2)
    balance([scalar(), scalar()])
    with pytest.raises(UserError, match=r"famo.*balance\.after_update"):
        balance([scalar(), scalar()])
    with pytest.raises(UserError, match="epoch_end"):
        Balancer("dwa", tasks=2).epoch_end()


def test_a_state_of_the_trunks_size_requires_a_trunk_of_that_size() -> None:
    trunk, head = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Linear(2, 2)
    balance = Balancer("moco", tasks=2, shared=trunk)
    trunk[0].requires_grad_(False)
    with pytest.raises(UserError, match=r"26.*10"):
        balance(head(trunk(torch.ones(5, 3))).square().mean(0))


@pytest.mark.parametrize("name", ["mgda", "gradnorm", "modo"])
def test_shared_parameters_that_no_loss_depends_on_are_refused(name: str) -> None:
    net, other = Net(2), Net(2)
    balance = make(name, other)
    with pytest.raises(UserError, match=r"no loss.*shared"):
        net.balanced(balance)


@pytest.mark.parametrize("again", [Tensor.detach, Tensor.clone])
def test_features_that_no_loss_depends_on_are_refused(again: Callable[[Tensor], Tensor]) -> None:
    net = Net(2)
    features = net.trunk(net.x)
    with pytest.raises(UserError, match=r"no loss.*features"):
        make("graddrop", net)(net.losses(features), again(features))


def test_a_last_layer_that_was_frozen_later_is_reported() -> None:
    net = Net(2)
    balance = make("gradnorm", net)
    net.trunk[2].requires_grad_(requires_grad=False)
    with pytest.raises(UserError, match="last=MODULE"):
        net.balanced(balance)


def test_a_strategy_that_changes_the_losses_is_refused() -> None:
    class InPlace(Strategy):
        def forward(self, step: Step) -> Tensor:
            step.losses.detach().mul_(2)
            return step.losses.sum(-1)

    with pytest.raises(ContractError, match=r"step\.losses"):
        Balancer(InPlace, tasks=2)([scalar(), scalar()])
