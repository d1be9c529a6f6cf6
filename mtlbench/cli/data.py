"""The data that commands need, and the command `data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.contracts.setup import Setup


def fetch(setups: Sequence[Setup], console: Console) -> None:
    """Have the data of these setups in the cache."""
    from mtlbench.data import datasets

    for dataset in {setup.dataset.title: setup.dataset for setup in setups if setup.dataset}.values():
        datasets.fetch(dataset, lambda text: console.print(text, highlight=False))
