"""What is checked: a strategy with its hyper-parameters, for any number of replicas and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mtlbench.check.strategy.cases import FEATURES
from mtlbench.contracts.space import TaskWeights
from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError
from mtlbench.plugins.discovery import Kind
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import split_specs
from mtlbench.records.records import Spec
from mtlbench.setups.mnist import MNIST

SUFFIX = ".py"
REGISTERS: dict[Kind, str] = {"strategy": "@register on a class", "setup": "register_setup(Setup(...))"}


@dataclass(frozen=True)
class Subject:
    """A strategy under its label, made anew for each trial."""

    registry: Registry
    spec: Spec

    @property
    def cls(self) -> type[Strategy]:
        """Its class."""
        return self.registry.get(self.spec.name)

    @property
    def file(self) -> Path:
        """The file that it is defined in."""
        return self.registry.source(self.spec.name)

    @property
    def per_task(self) -> list[str]:
        """Hyper-parameters that were given one number for each task, as their space `TaskWeights` says."""
        spaces = self.registry.spaces(self.spec.name)
        return [key for key in self.spec.hyper if isinstance(spaces.get(key), TaskWeights)]

    def counts(self, *wanted: int) -> list[int]:
        """Those numbers of tasks that it can be made for: the setup's 2, where a hyper-parameter has one for each."""
        return [2] if self.per_task else list(wanted)

    def make(self, shape: tuple[int, int]) -> Strategy:
        """The strategy for (K, T), as a trainer asks for it."""
        return self.registry.build(self.spec, shape)

    def build(self, shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> Strategy:
        """The strategy for (K, T) with room for the gradients of `Case`."""
        strategy = self.make(shape)
        strategy.allocate(FEATURES)
        return strategy.to(dtype)

    def permuted(self, order: Sequence[int]) -> Subject:
        """The same with tasks in another order: hyper-parameters with one number for each task move with them."""
        values = {key: self.spec.hyper[key] for key in self.per_task}
        moved = {key: [value[t] for t in order] for key, value in values.items() if isinstance(value, list)}
        return replace(self, spec=self.spec.model_copy(update={"hyper": {**self.spec.hyper, **moved}}))


def subjects(targets: Sequence[str], plugins: Sequence[Path] = ()) -> list[Subject]:
    """What each target names: a file's strategies, or one with hyper-parameters as `name:hyper=value`.

    Raises:
        UserError: there is no such file or strategy, a file cannot be loaded or registers none, or a hyper-parameter
            is refused.
    """
    files = [Path(target) for target in targets if target.endswith(SUFFIX)]
    registry = Registry.load([*plugins, *files])
    chosen: list[str] = []
    for target in targets:
        if target.endswith(SUFFIX):
            chosen += registered_by(registry, "strategy", Path(target))
        else:
            chosen += split_specs([target])
    if not chosen:
        raise UserError("name a strategy, or the file of one")
    return [Subject(registry, registry.parse(text, MNIST)) for text in dict.fromkeys(chosen)]


def registered_by(registry: Registry, kind: Kind, path: Path) -> list[str]:
    """The names of what a file registers.

    Raises:
        UserError: nothing, or the file could not be loaded.
    """
    names = [name for name, origin in registry.origins[kind].items() if Path(origin).resolve() == path.resolve()]
    if not names:
        broken = [
            problem for problem in registry.problems if problem.startswith((f"{path} is", f"{path.resolve()} is"))
        ]
        raise UserError(broken[0] if broken else f"{path} registers no {kind}: it needs {REGISTERS[kind]}")
    return names
