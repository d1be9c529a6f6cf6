"""A loss-weighting benchmark for multi-task learning in PyTorch.

The public names are loaded on first use, so that `mtlbench --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlbench.strategy import Step, Strategy, register, require

__version__ = "0.1.0"
__all__ = ["Step", "Strategy", "__version__", "register", "require"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("mtlbench.strategy"), name)
    raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
