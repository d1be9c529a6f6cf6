"""The subjects of checks: a strategy with its hyper-parameters, and a setup with its splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from mtlbench.check.strategy.cases import FEATURES
from mtlbench.contracts.collection import Kind
from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.contracts.space import per_task
from mtlbench.contracts.strategy import Strategy
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import split_specs
from mtlbench.records.records import Spec
from mtlbench.records.roles import REFERENCE
from mtlbench.setups import splits
from mtlbench.setups.mnist import MNIST

SUFFIX = ".py"
REGISTRATION: dict[Kind, str] = {"strategy": "@register on a class", "setup": "register_setup(Setup(...))"}
EXAMPLES = 2_000
"""A setup is trained and evaluated on this many of its first training samples."""
BATCH, LR = 64, 1e-3


@dataclass(frozen=True)
class Subject:
    """A strategy with its hyper-parameters, constructed anew for each trial."""

    registry: Registry
    spec: Spec

    @property
    def cls(self) -> type[Strategy]:
        """The strategy's class."""
        return self.registry.get(self.spec.name)

    @property
    def file(self) -> Path:
        """The file that defines it."""
        return self.registry.source(self.spec.name)

    @property
    def per_task(self) -> list[str]:
        """Hyper-parameters that were given one number per task."""
        allowed = per_task(self.registry.hyper_parameters(self.spec.name))
        return [key for key in allowed if isinstance(self.spec.hyper.get(key), list)]

    def counts(self, *wanted: int) -> list[int]:
        """The numbers of tasks to try: `wanted`, or only 2, as in MNIST, if a hyper-parameter has a number per task."""
        return [2] if self.per_task else list(wanted)

    def build(self, shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> Strategy:
        """The strategy for (K, T), with buffers allocated for the gradients of a `Case`."""
        strategy = self.registry.build(self.spec, shape)
        strategy.allocate(FEATURES)
        return strategy.to(dtype)

    def permuted(self, order: Sequence[int]) -> Subject:
        """The same for permuted tasks: hyper-parameters with one number per task are permuted, too."""
        values = {key: self.spec.hyper[key] for key in self.per_task}
        moved = {key: [value[t] for t in order] for key, value in values.items() if isinstance(value, list)}
        return replace(self, spec=self.spec.model_copy(update={"hyper": {**self.spec.hyper, **moved}}))


@dataclass(frozen=True)
class SetupSubject:
    """A setup, and the file that registers it with its docstring; the splits are read once."""

    registry: Registry
    setup: Setup
    file: Path
    docstring: str

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Training, validation and test split by name, as first read."""
        return splits.read(self.setup)

    @cached_property
    def examples(self) -> Split:
        """The first training samples."""
        training = self.splits["training"]
        return Split(training.inputs[:EXAMPLES], training.targets[:EXAMPLES])

    def trainer(self, replicas: int, *, device: str = "cpu", batch: int = BATCH) -> Trainer:
        """A stack of replicas under fixed weights on the examples, at the bench's precision and learning rate."""
        build = partial(self.registry.build, self.registry.parse(REFERENCE, self.setup))
        size, where = min(batch, len(self.examples)), torch.device(device)
        return Trainer(self.setup, build, range(replicas), self.examples, batch_size=size, lr=LR, device=where)

    def first_outputs(self, replicas: int, batch: int) -> list[tuple[Task, Tensor, Tensor]]:
        """Each task with outputs `[K, B, columns]` at the initial weights, and targets `[K, B]`."""
        order = torch.arange(replicas * batch) % len(self.examples)
        inputs = self.examples.inputs[order].view(replicas, batch, -1).float() * self.setup.scale + self.setup.shift
        targets = self.examples.targets[order].view(replicas, batch, -1)
        network = self.trainer(replicas).network
        outputs = network.split_outputs(network.forward(inputs).outputs)
        return list(zip(self.setup.tasks, outputs, targets.unbind(-1), strict=True))


def subjects(targets: Sequence[str], plugins: Sequence[Path] = ()) -> list[Subject]:
    """The strategies that the targets name: each is a file, or a strategy as `name:hyper=value`.

    Raises:
        UserError: a file or strategy does not exist, a file cannot be loaded or registers no strategy, or a
            hyper-parameter is refused.
    """
    registry, labels = _load("strategy", targets, plugins)
    return [Subject(registry, registry.parse(label, MNIST)) for label in labels]


def setup_subjects(targets: Sequence[str], plugins: Sequence[Path] = ()) -> list[SetupSubject]:
    """The setups that the targets name: each is a file, or a setup's name; raises as `subjects`."""
    registry, names = _load("setup", targets, plugins)
    declared = [registry.setups[registry.setup(name).name] for name in names]
    return [SetupSubject(registry, each.value, each.file, sys.modules[each.module].__doc__ or "") for each in declared]


def _load(kind: Kind, targets: Sequence[str], plugins: Sequence[Path]) -> tuple[Registry, list[str]]:
    """A registry that includes the targets' files, and what the targets name, without repetitions."""
    files = {target: Path(target) for target in targets if target.endswith(SUFFIX)}
    registry = Registry.load([*plugins, *files.values()])
    names: list[str] = []
    for target in targets:
        if target in files:
            names += _registered_by(registry, kind, files[target])
        else:
            names += split_specs([target]) if kind == "strategy" else [target]
    if not names:
        raise UserError(f"name a {kind}, or the file of one")
    return registry, list(dict.fromkeys(names))


def _registered_by(registry: Registry, kind: Kind, path: Path) -> list[str]:
    """The names that a file registers; a UserError if it registers none or could not be loaded."""
    entries = registry.strategies if kind == "strategy" else registry.setups
    names = [name for name, entry in entries.items() if Path(entry.origin).resolve() == path.resolve()]
    if not names:
        places = (f"{path} ", f"{path.resolve()} ")
        problem = next((problem for problem in registry.problems if problem.startswith(places)), None)
        raise UserError(problem or f"{path} registers no {kind}: it needs {REGISTRATION[kind]}")
    return names
