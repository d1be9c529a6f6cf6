"""A strategy in a loop of one's own: equal to the engine, whole in its state, and clear about what it lacks."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from mtlbench.registry import Registry
from mtlbench.strategy import uniform
from mtlbench.tasks import Setup, binary, classification, regression
from mtlbench.trainer import FURTHER_BATCHES, Trainer
from tests.plain import PlainNetwork
from tests.plain_methods import PLAIN
from tests.test_trainer import replica_flat, start_like
from tests.toy import toy_setup

SEED, BATCH, LR = 3, 12, 1e-2
PEERS = ["torchjd:UPGrad", "torchjd:GradDrop", "torchjd:UW", "torchjd:FAMO"]
NAMES = sorted({label.partition(":")[0] for label in PLAIN} - {"single"})


def make_trainer(registry: Registry, label: str, setup: Setup) -> Trainer:
    build = partial(registry.build, registry.parse(label, setup))
    cpu, samples = torch.device("cpu"), setup.samples()[0]
    return Trainer(setup, build, (SEED,), samples, batch_size=BATCH, lr=LR, device=cpu, dtype=torch.float64)


class Loop:
    """One network trained by a Balancer, on the batches that the engine draws."""

    def __init__(self, strategy: str | Callable[[tuple[int, int]], Strategy], setup: Setup) -> None:
        self.setup, self.samples = setup, setup.samples()[0]
        torch.manual_seed(SEED)
        self.network = PlainNetwork(setup)
        self.balance = Balancer(strategy, tasks=setup.task_names, shared=self.network.trunk, lr=LR, seed=SEED)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LR)

    def losses_of(self, rows: Tensor, features: Tensor | None = None) -> dict[str, Tensor]:
        features = self.network.represent(self.samples.inputs[rows]) if features is None else features
        targets = self.samples.targets[rows]
        return {
            task.name: task.loss(head(features).unsqueeze(0), targets[:, t].unsqueeze(0)).squeeze(0)
            for t, (task, head) in enumerate(zip(self.setup.tasks, self.network.heads, strict=True))
        }

    def further(self, index: int) -> Callable[[], dict[str, Tensor]]:
        draws = count(FURTHER_BATCHES)

        def losses() -> dict[str, Tensor]:
            shares = uniform(torch.tensor([SEED]), torch.tensor(index), next(draws), BATCH)[0]
            return self.losses_of((shares * len(self.samples)).long())

        return losses

    def step(self, index: int) -> None:
        epoch, position = divmod(index, len(self.samples) // BATCH)
        if index and not position:
            self.balance.epoch_end()
        order = np.random.default_rng((SEED, 1 + epoch)).permutation(len(self.samples))
        rows = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
        features = self.network.represent(self.samples.inputs[rows])
        self.optimizer.zero_grad()
        self.balance(self.losses_of(rows, features), features, further=self.further(index)).backward()
        self.optimizer.step()
        self.balance.after_update(lambda: self.losses_of(rows))

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict() | {
            key: value for key, value in self.balance.state_dict().items() if isinstance(value, Tensor)
        }


@pytest.mark.parametrize(
    ("label", "tasks"), [*((label, 2) for label in [*PLAIN, *PEERS]), *((name, 3) for name in NAMES)]
)
def test_a_loop_of_ones_own_equals_the_engine(registry: Registry, label: str, tasks: int) -> None:
    """20 steps are four epochs."""
    setup = toy_setup(tasks=[classification("digit", 3), binary("above_five"), regression("size")][:tasks])
    trainer, loop = make_trainer(registry, label, setup), Loop(label, setup)
    start_like(loop.network, trainer, 0)
    start = loop.network.flat()
    for index in range(20):
        epoch, position = divmod(index, trainer.steps_per_epoch)
        if not position:
            if index:
                trainer.end_epoch()
            trainer.start_epoch(epoch)
        trainer.step()
        loop.step(index)
        assert (loop.balance.weights - trainer.traces["weights"][position, 0]).abs().max() < 1e-8
    expected = replica_flat(trainer, 0, setup)
    assert (loop.network.flat() - expected).abs().max() < 1e-8
    assert (start - expected).abs().max() > 1e-2
    found = loop.balance.strategy.state_dict()
    for key, kept in trainer.strategy.state_dict().items():
        torch.testing.assert_close(found[key], kept, rtol=1e-8, atol=1e-8)


def scalar() -> Tensor:
    return torch.ones((), requires_grad=True)


@pytest.mark.parametrize("name", NAMES)
def test_training_that_is_resumed_is_training_that_went_on(name: str) -> None:
    loop = Loop(name, toy_setup())
    for index in range(7):
        loop.step(index)
    file = io.BytesIO()
    states = [part.state_dict() for part in (loop.network, loop.optimizer, loop.balance)]
    torch.save(states, file)
    file.seek(0)
    resumed = Loop(name, toy_setup())
    for part, state in zip((resumed.network, resumed.optimizer, resumed.balance), torch.load(file), strict=True):
        part.load_state_dict(state)
    for index in range(7, 15):
        loop.step(index)
        resumed.step(index)
    expected = loop.state()
    assert resumed.state().keys() == expected.keys()
    for key, value in resumed.state().items():
        assert torch.equal(value, expected[key]), key


def test_a_state_from_between_call_and_hook_still_takes_the_hook() -> None:
    one, other = Balancer("famo", tasks=2), Balancer("famo", tasks=2)
    one([scalar(), 2 * scalar()])
    other.load_state_dict(one.state_dict())
    for balance in (one, other):
        balance.after_update([torch.tensor(0.5), torch.tensor(1.9)])
    logits = one.state_dict()["strategy.logits"]
    assert bool(logits.any())
    assert torch.equal(other.state_dict()["strategy.logits"], logits)


def test_the_seed_of_the_random_numbers_is_part_of_the_state() -> None:
    one, other = (Balancer("rlw", tasks=2, seed=seed) for seed in (1, 2))
    losses = [scalar(), scalar()]
    other.load_state_dict(one.state_dict())
    one(losses)
    other(losses)
    assert torch.equal(one.weights, other.weights)


def test_an_optimizer_that_is_given_everything_leaves_the_strategys_parameters_alone() -> None:
    alone, greedy = Loop("uncertainty", toy_setup()), Loop("uncertainty", toy_setup())
    greedy.optimizer = torch.optim.AdamW([*greedy.network.parameters(), *greedy.balance.parameters()], lr=LR)
    alone.optimizer = torch.optim.AdamW(alone.network.parameters(), lr=LR)
    for index in range(6):
        alone.step(index)
        greedy.step(index)
    expected = alone.state()
    for key, value in greedy.state().items():
        assert torch.equal(value, expected[key]), key


def test_what_is_shared_is_no_part_of_the_balancer() -> None:
    trunk = nn.Linear(3, 2)
    balance = Balancer("gradnorm", tasks=2, shared=trunk)
    assert [name for name, _ in balance.named_parameters()] == ["strategy.weights"]
    assert not any("shared" in key or "last" in key for key in balance.state_dict())


def test_it_follows_the_shared_parameters_and_its_moments_follow_it() -> None:
    balance = Balancer("uncertainty", tasks=2, shared=nn.Linear(3, 2, dtype=torch.bfloat16))
    assert balance.weights.dtype == torch.float32  # never less, whatever the network is made of
    x = scalar()
    balance([x, 2 * x])
    balance.double()([x, 2 * x])
    moments = balance.get_extra_state()["optimizer"]["state"][0]
    assert moments["exp_avg"].dtype == balance.weights.dtype == torch.float64


def test_weights_that_are_kept_stay_as_they_were() -> None:
    balance = Balancer("rlw", tasks=3)
    kept: list[Tensor] = []
    for _ in range(2):
        balance([scalar()] * 3)
        kept.append(balance.weights)
    assert not torch.equal(*kept)
    assert torch.equal(balance.state_dict()["weights"], kept[-1])


def test_no_extra_losses_are_made_for_a_strategy_that_does_not_look() -> None:
    def fail() -> list[Tensor]:
        raise AssertionError("not needed")

    balance = Balancer("uncertainty", tasks=2)
    x = scalar()
    balance([x, x], further=fail)
    balance.after_update(fail)


class Mine(Strategy):
    def forward(self, step: Step) -> Tensor:
        return (step.losses * torch.tensor([1.0, 3.0])).sum(-1)


def test_a_strategy_of_ones_own_is_given_as_its_class_or_in_a_plugin_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom mtlbench import Strategy, register\n\n@register('mine')\nclass Mine(Strategy):\n"
        "    def forward(self, step):\n        return (step.losses * torch.tensor([1.0, 3.0])).sum(-1)\n"
    )
    for balance in (Balancer(Mine, tasks=2), Balancer("mine", tasks=2, plugins=[file])):
        x = scalar()
        balance([x, x]).backward()
        assert x.grad == 4


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
        ([scalar(), torch.ones((), device="meta")], r"is on meta, the Balancer on cpu: move it, balance.to\('meta'\)"),
    ],
)
def test_losses_that_cannot_be_weighed_get_one_line(losses: object, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Balancer("fixed", tasks=["a", "b"])(losses)  # pyright: ignore[reportArgumentType]


def test_losses_by_name_need_the_tasks_names() -> None:
    with pytest.raises(UserError, match="losses by name are of a, b, but tasks is a number"):
        Balancer("fixed", tasks=2)({"a": scalar(), "b": scalar()})


FROZEN = nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("strategy", "arguments", "line"),
    [
        ("gradnrom", {}, "no strategy is called 'gradnrom'; there is gradnorm"),
        ("gradnorm:beta=1", {}, "gradnorm has no hyper-parameter 'beta'"),
        ("gradnorm:alpha=-1", {}, "alpha must be finite and >= 0"),
        ("single:c", {}, "there is no task 'c'; there is single:0, single:1"),
        ("fixed", {"tasks": 0}, "tasks is their number, 1 or more"),
        ("fixed", {"tasks": ["a", "a"]}, "or their names, each once"),
        ("fixed", {"plugins": ["nowhere.py"]}, "there is no plugin file nowhere.py"),
        ("mgda", {"shared": FROZEN}, "shared has no parameter that requires grad"),
        ("gradnorm", {"shared": nn.Linear(2, 2), "last": nn.Linear(2, 2)}, "last is no part of shared"),
    ],
)
def test_a_balancer_that_cannot_be_made_gets_one_line(
    strategy: str, arguments: Mapping[str, object], line: str
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
