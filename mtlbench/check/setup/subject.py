"""What is checked of setups: one with its splits, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from mtlbench.check.strategy.subject import SUFFIX, registered_by
from mtlbench.contracts.registration import Declared
from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.roles import REFERENCE
from mtlbench.setups import splits

EXAMPLES = 2_000
"""Training samples, the first ones, that are tried on where all would take long."""
BATCH, LR = 64, 1e-3


@dataclass(frozen=True)
class SetupSubject:
    """A setup, and the file that registers it."""

    registry: Registry
    declared: Declared

    @property
    def setup(self) -> Setup:
        """The setup itself."""
        return self.declared.setup

    @property
    def file(self) -> Path:
        """The file that it is declared in."""
        return self.declared.file

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Training, validation and test split by name, as they were read first."""
        return splits.read(self.setup)

    @cached_property
    def examples(self) -> Split:
        """The first training samples."""
        training = self.splits["training"]
        return Split(training.inputs[:EXAMPLES], training.targets[:EXAMPLES])

    def trainer(self, replicas: int, *, device: str = "cpu", batch: int = BATCH) -> Trainer:
        """That many replicas under fixed weights, at the bench's precision and learning rate, on the examples."""
        return Trainer(
            self.setup,
            partial(self.registry.build, self.registry.parse(REFERENCE, self.setup)),
            range(replicas),
            self.examples,
            batch_size=min(batch, len(self.examples)),
            lr=LR,
            device=torch.device(device),
        )

    def first_outputs(self, replicas: int, batch: int) -> list[tuple[Task, Tensor, Tensor]]:
        """Each task with outputs `[K, B, columns]` at the first weights, and targets `[K, B]`; a batch a replica."""
        order = torch.arange(replicas * batch) % len(self.examples)
        inputs = self.examples.inputs[order].view(replicas, batch, -1).float() * self.setup.scale + self.setup.shift
        targets = self.examples.targets[order].view(replicas, batch, -1)
        network = self.trainer(replicas).network
        outputs = network.split_outputs(network.forward(inputs).outputs)
        return list(zip(self.setup.tasks, outputs, targets.unbind(-1), strict=True))


def setup_subjects(targets: Sequence[str], plugins: Sequence[Path] = ()) -> list[SetupSubject]:
    """What each target names: a setup, or all that a file registers.

    Raises:
        UserError: there is no such file or setup, or a file cannot be loaded or registers none.
    """
    registry = Registry.load([*plugins, *(Path(target) for target in targets if target.endswith(SUFFIX))])
    names: list[str] = []
    for target in targets:
        names += registered_by(registry, "setup", Path(target)) if target.endswith(SUFFIX) else [target]
    if not names:
        raise UserError("name a setup, or the file of one")
    for name in names:
        registry.setup(name)
    return [SetupSubject(registry, registry.setups[name]) for name in dict.fromkeys(names)]
