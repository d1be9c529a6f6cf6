"""MNIST-like data sets: downloaded, checksummed, cached and read."""

from mtlbench.data.datasets import FASHION_MNIST, MNIST, Dataset, Labelled, cache_folder, fetch, test, training

__all__ = ["FASHION_MNIST", "MNIST", "Dataset", "Labelled", "cache_folder", "fetch", "test", "training"]
