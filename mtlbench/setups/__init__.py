"""The MNIST family of setups, and reading the splits of any setup safely."""

from mtlbench.setups.mnist import DEVIATION, MEAN, MNIST, NOISE, PROPERTIES, SETUPS, VALIDATION_SIZE

__all__ = ["DEVIATION", "MEAN", "MNIST", "NOISE", "PROPERTIES", "SETUPS", "VALIDATION_SIZE"]
