"""Training loops that can take turns, and ours among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch

from mtlbench import setups
from mtlbench.contracts.setup import Split
from mtlbench.engine.speed import endless
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry

BATCH, LR = 64, 1e-3


@dataclass(frozen=True)
class Loop:
    """A training loop that can go on for ever: a call of `run` trains on `batches` batches, over all models."""

    run: Callable[[], None]
    batches: int = 1

    def turn(self, batches: int) -> Callable[[], None]:
        """As many calls as train on so many batches."""
        calls, rest = divmod(batches, self.batches)
        assert calls and not rest

        def repeated() -> None:
            for _ in range(calls):
                self.run()

        return repeated


@cache
def training_split(setup: str = "mnist") -> Split:
    """The samples that a setup trains on, read once."""
    return setups.SETUPS[setup].samples()[0]


def stack(registry: Registry, label: str, replicas: int, setup_name: str = "mnist") -> Loop:
    """Training steps of a stack, as in a bench."""
    setup = setups.SETUPS[setup_name]
    build = partial(registry.build, registry.parse(label, setup))
    trainer = Trainer(
        setup,
        build,
        range(replicas),
        training_split(setup_name),
        batch_size=BATCH,
        lr=LR,
        device=torch.device("cpu"),
    )
    return Loop(endless(trainer), replicas)
