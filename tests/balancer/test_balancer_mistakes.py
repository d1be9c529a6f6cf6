"""What a Balancer is not given, or given wrongly, is said in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from mtlbench.errors import ContractError
from tests.helpers.loops import NAMES, Net, make, scalar


@pytest.mark.parametrize(
    ("losses", "line"),
    [
        ([scalar()], "there are 2 tasks, but 1 losses"),
        (torch.ones(3, requires_grad=True), "there are 2 tasks, but 3 losses"),
        (scalar(), r"losses in one tensor have one dimension, \[T\], not the shape \[\]"),
        ([scalar(), torch.ones(64)], r"the loss of task b must be a scalar tensor, .*, not a tensor of shape \[64\]"),
        ([scalar(), 1.0], "the loss of task b must be a scalar tensor, .*, not float"),
        ({"a": scalar(), "c": scalar()}, "losses by name are of a, c, but the tasks are a, b"),
        ([torch.ones(()), torch.ones(())], "no loss depends on a parameter"),
        (None, "losses are a list, a tensor .* or a dict by the tasks' names, not NoneType"),
        ({0: scalar(), 1: scalar()}, "losses by name are of 0, 1, but the tasks are a, b"),
        ([scalar(), torch.ones((), device="meta")], r"is on meta, the Balancer on cpu: move it, balance.to\('meta'\)"),
    ],
)
def test_losses_that_cannot_be_weighed_get_one_line(losses: object, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Balancer("fixed", tasks=["a", "b"])(losses)  # pyright: ignore[reportArgumentType]


def test_losses_by_name_need_the_tasks_names() -> None:
    with pytest.raises(UserError, match="losses by name are of a, b, but tasks is a number"):
        Balancer("fixed", tasks=2)({"a": scalar(), "b": scalar()})


class HeadsMisspelt(Strategy):
    heads = "weighed"  # pyright: ignore

    def forward(self, step: Step) -> Tensor:
        return step.losses.sum(-1)


FROZEN = nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("strategy", "arguments", "line"),
    [
        ("gradnrom", {}, "no strategy is called 'gradnrom'; there is gradnorm"),
        ("gradnorm:beta=1", {}, "gradnorm has no hyper-parameter 'beta'"),
        ("gradnorm:alpha=-1", {}, "alpha must be finite and >= 0"),
        ("single:c", {}, "there is no task 'c'; there is single:0, single:1"),
        ("fixed", {"tasks": 0}, "tasks is their number, 1 or more"),
        ("fixed", {"tasks": ["a", "a"]}, "or a list of their names, each once"),
        ("fixed", {"tasks": "ab"}, "or a list of their names, each once, not 'ab'"),
        ("fixed", {"tasks": True}, "tasks is their number"),
        ("fixed", {"tasks": 2.0}, "tasks is their number"),
        ("uncertainty", {"lr": -1.0}, "lr must be finite and > 0, not -1"),
        ("mgda", {"shared": [nn.Linear(2, 2)]}, r"shared is a module, not list: several go together, nn.ModuleList"),
        ("gradnorm", {"shared": nn.Linear(2, 2), "last": nn.ReLU()}, "last has no parameter that requires grad"),
        (HeadsMisspelt, {}, "the heads of a strategy are weighted or own, not 'weighed'"),
        ("fixed", {"plugins": ["nowhere.py"]}, "there is no plugin file nowhere.py"),
        ("mgda", {"shared": FROZEN}, "shared has no parameter that requires grad"),
        ("gradnorm", {"shared": nn.Linear(2, 2), "last": nn.Linear(2, 2)}, "last is no part of shared"),
    ],
)
def test_a_balancer_that_cannot_be_made_gets_one_line(
    strategy: str | type[Strategy], arguments: Mapping[str, object], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        Balancer(strategy, **{"tasks": 2, **arguments})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", [*NAMES, "rlw:heads=own"])
def test_what_a_strategy_lacks_is_named_and_said_how_to_give(name: str) -> None:
    """Each strategy is called with the losses alone; a line that it lacks something ends with the remedy."""
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


def test_a_forgotten_hook_is_named() -> None:
    balance = Balancer("famo", tasks=2)
    balance([scalar(), scalar()])
    with pytest.raises(UserError, match=r"famo looks at the losses after each update: call balance.after_update"):
        balance([scalar(), scalar()])
    with pytest.raises(UserError, match="there was no step in this epoch"):
        Balancer("dwa", tasks=2).epoch_end()


def test_a_state_as_large_as_the_trunk_asks_for_a_trunk_of_that_size() -> None:
    trunk, head = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Linear(2, 2)
    balance = Balancer("moco", tasks=2, shared=trunk)
    trunk[0].requires_grad_(False)
    with pytest.raises(UserError, match="26 parameters and now has 10: make a new Balancer"):
        balance(head(trunk(torch.ones(5, 3))).square().mean(0))


@pytest.mark.parametrize(("name", "what"), [("mgda", "shared"), ("gradnorm", "shared"), ("modo", "shared")])
def test_what_no_loss_depends_on_is_not_taken_for_what_is_shared(name: str, what: str) -> None:
    net, other = Net(2), Net(2)
    balance = make(name, other)
    with pytest.raises(UserError, match=rf"no loss depends on a parameter of {what}: name the module"):
        net.balanced(balance)


@pytest.mark.parametrize("again", [Tensor.detach, Tensor.clone])
def test_features_that_no_loss_depends_on_are_refused(again: Callable[[Tensor], Tensor]) -> None:
    net = Net(2)
    features = net.trunk(net.x)
    with pytest.raises(UserError, match="no loss depends on the features that were given: pass the very tensor"):
        make("graddrop", net)(net.losses(features), again(features))


def test_a_last_layer_that_has_been_frozen_since_is_named() -> None:
    net = Net(2)
    balance = make("gradnorm", net)
    net.trunk[2].requires_grad_(requires_grad=False)
    with pytest.raises(UserError, match="nothing in a last shared layer is trained"):
        net.balanced(balance)


def test_losses_that_a_strategy_changes_are_refused() -> None:
    class InPlace(Strategy):
        def forward(self, step: Step) -> Tensor:
            step.losses.detach().mul_(2)
            return step.losses.sum(-1)

    with pytest.raises(ContractError, match=r"must not change step\.losses"):
        Balancer(InPlace, tasks=2)([scalar(), scalar()])
