"""Arguments of a Balancer that are refused, each in one line."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mtlbench.contracts.strategy import Heads
from mtlbench.errors import UserError


def trained(modules: Sequence[nn.Module]) -> list[Tensor]:
    """The parameters of these modules that require grad."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def check(lr: float, modules: dict[str, object]) -> None:
    """Raise a UserError unless the learning rate is positive and the modules are trained ones, or None."""
    if not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"lr must be finite and > 0; found {lr}")
    for name, module in modules.items():
        if not isinstance(module, nn.Module | None):
            raise UserError(f"{name} must be a module; found {type(module).__name__} (several: nn.ModuleList([A, B]))")
        if isinstance(module, nn.Module) and any(map(is_lazy, module.parameters())):
            raise UserError(
                f"{name} has lazy layers without a shape: run a batch through it before making the Balancer"
            )
        if module is not None and not trained((module,)):
            raise UserError(f"{name} must have a parameter that requires grad; found none")


def check_heads(heads: object) -> None:
    """Raise a UserError unless a strategy's `heads` are among those that exist."""
    if heads not in typing.get_args(Heads):
        raise UserError(f"a strategy's heads must be {' or '.join(typing.get_args(Heads))}; found {heads!r}")


def check_features(features: object) -> None:
    """Raise a UserError unless features are one real tensor, or None."""
    if features is None or (isinstance(features, Tensor) and not features.is_complex()):
        return
    found = features.dtype if isinstance(features, Tensor) else type(features).__name__
    raise UserError(
        f"features must be one real tensor [B, ...]; found {found}. Join several, for example "
        "torch.cat([part.flatten(1) for part in parts], 1), and compute the heads from the joint tensor"
    )
