"""The setups that are part of the package, and reading the splits of any setup safely."""

from mtlbench.setups.mnist import MNIST, NOISE, PROPERTIES, SETUPS
from mtlbench.setups.on_digits import DEVIATION, MEAN, VALIDATION_SIZE

__all__ = ["DEVIATION", "MEAN", "MNIST", "NOISE", "PROPERTIES", "SETUPS", "VALIDATION_SIZE"]
