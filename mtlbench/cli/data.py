"""The command `data`, and fetching the data that other commands need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtlbench.cli.console import open_console, plain

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.contracts.setup import Setup


def run_data() -> None:
    """Fetch MNIST and Fashion-MNIST into the cache, verify them, and print where they are.

    The cache is $MTLBENCH_DATA, by default `mtlbench` in the user's cache folder.
    """
    from mtlbench.data import datasets

    console = open_console()
    for dataset in (datasets.MNIST, datasets.FASHION_MNIST):
        folder = datasets.fetch(dataset, lambda text: console.print(text, highlight=False))
        plain(console, f"{dataset.title} is verified in {folder}")


def fetch(setups: Sequence[Setup], console: Console) -> None:
    """Fetch the data of setups into the cache."""
    from mtlbench.data import datasets

    for dataset in {setup.dataset.title: setup.dataset for setup in setups if setup.dataset}.values():
        datasets.fetch(dataset, lambda text: console.print(text, highlight=False))
