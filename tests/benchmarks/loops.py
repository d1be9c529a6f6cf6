"""Training loops that can take turns, and ours among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch

from mtlbench import setups
from mtlbench.contracts.setup import Split
from mtlbench.engine.products import Products, library
from mtlbench.engine.speed import endless
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry

BATCH, LR = 64, 1e-3
TURN = 60  # batches, of a tenth of a second or two


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


def stack(
    registry: Registry, label: str, replicas: int, setup_name: str = "mnist", products: Products | None = None
) -> Loop:
    """Training steps of a run of so many seeds, as in a bench: of its one stack, or one of those that take turns.

    `products` are by default those that a bench would choose.
    """
    setup = setups.SETUPS[setup_name]
    products = products or Products(library("auto", "cpu"))
    replicas = products.replicas(setup.dense_weights, replicas)
    while TURN % replicas:
        replicas -= 1
    build = partial(registry.build, registry.parse(label, setup))
    trainer = Trainer(
        setup,
        build,
        range(replicas),
        training_split(setup_name),
        batch_size=BATCH,
        lr=LR,
        device=torch.device("cpu"),
        products=products,
    )
    return Loop(endless(trainer), replicas)
