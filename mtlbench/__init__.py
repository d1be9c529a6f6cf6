"""A loss-weighting benchmark for multi-task learning in PyTorch.

Public names are imported on first use: `mtlbench --help` must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlbench.balancer.balancer import Balancer
    from mtlbench.contracts.convolutions import Conv, Convolutions
    from mtlbench.contracts.registration import register_setup
    from mtlbench.contracts.setup import Setup, Split, Task, binary, classification, regression, scaled
    from mtlbench.contracts.space import Choice, Integers, LogUniform, PerTask, TaskWeights, Uniform
    from mtlbench.contracts.strategy import Step, Strategy, register, require
    from mtlbench.errors import UserError

__version__ = "0.1.0"
_HOMES = {
    "mtlbench.balancer.balancer": ("Balancer",),
    "mtlbench.contracts.registration": ("register_setup",),
    "mtlbench.errors": ("UserError",),
    "mtlbench.contracts.convolutions": ("Conv", "Convolutions"),
    "mtlbench.contracts.space": ("Choice", "Integers", "LogUniform", "PerTask", "TaskWeights", "Uniform"),
    "mtlbench.contracts.strategy": ("Step", "Strategy", "register", "require"),
    "mtlbench.contracts.setup": ("Setup", "Split", "Task", "binary", "classification", "regression", "scaled"),
}
__all__ = [
    "Balancer",
    "Choice",
    "Conv",
    "Convolutions",
    "Integers",
    "LogUniform",
    "PerTask",
    "Setup",
    "Split",
    "Step",
    "Strategy",
    "Task",
    "TaskWeights",
    "Uniform",
    "UserError",
    "__version__",
    "binary",
    "classification",
    "register",
    "register_setup",
    "regression",
    "require",
    "scaled",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
