"""The Balancer trains as the engine does, and computes no more than a strategy needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtlbench import Balancer, Step, Strategy
from mtlbench.contracts.setup import Setup, binary, classification, regression
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from tests.helpers.definitions import PLAIN
from tests.helpers.loops import BATCH, LR, NAMES, PEERS, SEED, Loop, scalar
from tests.helpers.plain import replica_flat, start_like
from tests.helpers.toy import toy_setup


def make_trainer(registry: Registry, label: str, setup: Setup) -> Trainer:
    build = partial(registry.build, registry.parse(label, setup))
    cpu, samples = torch.device("cpu"), setup.samples()[0]
    return Trainer(setup, build, (SEED,), samples, batch_size=BATCH, lr=LR, device=cpu, dtype=torch.float64)


@pytest.mark.parametrize(
    ("label", "tasks"), [*((label, 2) for label in [*PLAIN, *PEERS]), *((name, 3) for name in NAMES)]
)
def test_a_loop_with_a_balancer_equals_the_engine(registry: Registry, label: str, tasks: int) -> None:
    """12 steps are more than two epochs."""
    setup = toy_setup(tasks=[classification("digit", 3), binary("above_five"), regression("size")][:tasks])
    trainer, loop = make_trainer(registry, label, setup), Loop(label, setup)
    start_like(loop.network, trainer, 0)
    start = loop.network.flat()
    for index in range(12):
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


def test_extra_losses_are_computed_only_if_the_strategy_needs_them() -> None:
    def fail() -> list[Tensor]:
        raise AssertionError("not needed")

    balance = Balancer("uncertainty", tasks=2)
    x = scalar()
    balance([x, x], further=fail)
    balance.after_update(fail)


class Mine(Strategy):
    def forward(self, step: Step) -> Tensor:
        return (step.losses * torch.tensor([1.0, 3.0])).sum(-1)


def test_a_custom_strategy_is_given_as_a_class_or_in_a_plugin_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom mtlbench import Strategy, register\n\n@register('mine')\nclass Mine(Strategy):\n"
        "    def forward(self, step):\n        return (step.losses * torch.tensor([1.0, 3.0])).sum(-1)\n"
    )
    for balance in (Balancer(Mine, tasks=2), Balancer("mine", tasks=2, plugins=[file])):
        x = scalar()
        balance([x, x]).backward()
        assert x.grad == 4
