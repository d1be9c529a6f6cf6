"""What a strategy needs to see of a step besides the losses, determined by running one."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Family, Step, Strategy
from mtlbench.plugins.discovery import contained

TASKS, FEATURES = 2, 3
UNKNOWN = "?"
HOOKS = {"epoch_end": "epoch means of losses", "after_update": "losses after the update"}
FAMILY_BY_NEED: dict[str, Family] = {
    "Jacobian": "Jacobian",
    "representation gradients": "representation",
    "Gramian": "Gramian",
}
NEEDS = ("losses", *HOOKS.values(), "Gramian (last layer)", "Gramian", "Gramian of two more batches", "Jacobian")


def needs_of(cls: type[Strategy]) -> str:
    """What a strategy looks at besides the losses: recorded in one step on made-up signals, and read from its hooks.

    Runs the strategy's code. `losses` if it looks at nothing else; ends with `UNKNOWN` if the step fails.
    """
    signals = _Asked()
    try:
        with contained():
            strategy = cls((1, TASKS))
            strategy.allocate(FEATURES)
            losses = torch.ones(1, TASKS, requires_grad=True)
            now = torch.zeros((), dtype=torch.int64)
            strategy(Step(losses, signals, index=now, epoch=now, seeds=torch.zeros(1, dtype=torch.int64)))
    except (Exception, SystemExit):  # a plug-in may fail in any way; what it asked for before is known
        signals.needs.append(UNKNOWN)
    hooks = [what for hook, what in HOOKS.items() if cls.overrides(hook)]
    return ", ".join(dict.fromkeys([*signals.needs, *hooks])) or "losses"


def family_of(cls: type[Strategy], needs: str) -> str:
    """The family that a strategy declares, or the one that follows from its needs; `UNKNOWN` if these are not known."""
    if cls.family is not None:
        return cls.family
    if needs.endswith(UNKNOWN):
        return UNKNOWN
    return next((family for need, family in FAMILY_BY_NEED.items() if need in needs), "loss-only")


class _Asked:
    """Signals of a step with orthogonal gradients, which record what is asked for."""

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
