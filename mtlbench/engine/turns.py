"""Replicas in several stacks that take turns: on CPU, what a stack works on then stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mtlbench.contracts.setup import Setup, Split
from mtlbench.contracts.strategy import Strategy
from mtlbench.engine.products import Products
from mtlbench.engine.trainer import Trainer


class Turns:
    """Trains replicas as several trainers, which take a stretch of steps in a row each; otherwise as a `Trainer`."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self._trainers = trainers
        self.replicas = sum(trainer.replicas for trainer in trainers)
        self.tasks, self.steps_per_epoch = trainers[0].tasks, trainers[0].steps_per_epoch

    @property
    def traces(self) -> dict[str, Tensor]:
        """What the steps of the current epoch recorded, `[S, K, ...]` each."""
        return {
            name: torch.cat([trainer.traces[name] for trainer in self._trainers], 1)
            for name in self._trainers[0].traces
        }

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors, not copied, that training continues from."""
        return {
            f"{number}.{name}": tensor
            for number, trainer in enumerate(self._trainers)
            for name, tensor in trainer.state.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of the same setup, strategy and seeds; a ValueError if it does not fit."""
        for number, trainer in enumerate(self._trainers):
            prefix = f"{number}."
            trainer.restore({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of the epoch's samples."""
        for trainer in self._trainers:
            trainer.start_epoch(epoch)

    def train(self, steps: int) -> None:
        """Train all replicas on the next batches of the epoch, one stack after the other."""
        for trainer in self._trainers:
            trainer.train(steps)

    def end_epoch(self) -> None:
        """Call each strategy's `epoch_end`."""
        for trainer in self._trainers:
            trainer.end_epoch()

    def evaluate(self, split: Split) -> tuple[Tensor, Tensor]:
        """Losses and scores of every replica on a split, `[K, T]` each, as tensors on the host."""
        losses, scores = zip(*(trainer.evaluate(split) for trainer in self._trainers), strict=True)
        return torch.cat(losses), torch.cat(scores)


def trainer_of(
    setup: Setup,
    build: Callable[[tuple[int, int]], Strategy],
    seeds: Sequence[int],
    samples: Split,
    *,
    batch_size: int,
    lr: float,
    device: torch.device,
    products: Products,
) -> Trainer | Turns:
    """A trainer of all seeds, see `Trainer`; or trainers that take turns, where the products are faster so."""
    most = products.replicas(setup.dense_weights, len(seeds))
    count = -(-len(seeds) // most)
    ends = [len(seeds) * number // count for number in range(count + 1)]
    trainers = [
        Trainer(
            setup, build, seeds[first:last], samples, batch_size=batch_size, lr=lr, device=device, products=products
        )
        for first, last in pairwise(ends)
    ]
    return trainers[0] if count == 1 else Turns(trainers)
