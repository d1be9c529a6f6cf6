"""What `mtlbench list` shows, and the README's table of strategies."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.discovery import contained
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import written

TASKS, FEATURES = 2, 3
UNKNOWN = "?"
HOOKS = {"epoch_end": "epoch means of losses", "after_update": "losses after the update"}
NEEDS = ("losses", *HOOKS.values(), "Gramian (last layer)", "Gramian", "Gramian of two more batches", "Jacobian")


def hyper_of(registry: Registry, name: str) -> list[str]:
    """Hyper-parameters with their defaults, as they are written on the command line."""
    found = registry.parameters(name).items()
    return [f"{key}={written(parameter.default)}" for key, parameter in found if key != "heads"]


def needs_of(cls: type[Strategy]) -> str:
    """What a strategy looks at besides the losses of the step: seen by giving it one, and by the hooks it has."""
    signals = _Asked()
    try:
        with contained():
            strategy = cls((1, TASKS))
            strategy.allocate(FEATURES)
            losses = torch.ones(1, TASKS, requires_grad=True)
            now = torch.zeros((), dtype=torch.int64)
            strategy(Step(losses, signals, index=now, epoch=now, seeds=torch.zeros(1, dtype=torch.int64)))
    except (Exception, SystemExit):  # a plugin may fail in any way; what it asked for until then is known
        signals.needs.append(UNKNOWN)
    hooks = [what for hook, what in HOOKS.items() if cls.overrides(hook)]
    return ", ".join(dict.fromkeys([*signals.needs, *hooks])) or "losses"


class _Asked:
    """Signals of a step with orthogonal gradients that remember what was asked for."""

    def __init__(self) -> None:
        self.needs: list[str] = []

    def gramian(self, *, last: bool = False) -> Tensor:
        self.needs.append("Gramian (last layer)" if last else "Gramian")
        return torch.eye(TASKS).unsqueeze(0)

    def jacobian(self) -> Tensor:
        self.needs.append("Jacobian")
        return torch.eye(TASKS, FEATURES).unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        self.needs.append("Gramian of two more batches")
        return torch.eye(TASKS).unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        self.needs.append("representation gradients")
        return torch.eye(TASKS, FEATURES).view(1, TASKS, 1, FEATURES)
