"""What a strategy was compared with: the code of its authors, another library, or the formula written as a loop.

The file `tests/strategies/test_<name>.py` of each strategy declares `AUTHORS`. `tests/strategies/test_authors.py`
carries out the comparisons, and `tests/project/faithful.py` writes them into the table of `docs/faithful.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator
from torchjd.scalarization import DWA, FAMO, Scalarizer

from mtlbench.plugins.registry import Registry
from tests.helpers import official
from tests.helpers.toy import build

CLOSEST = 1e-12
"""The smallest difference that is shown: below it, rounding differs between processors."""
TORCHJD, FORMULA = "TorchJD", "the formula as a loop"


def code(repository: str, commit: str, *, others: bool = False) -> str:
    """A repository as the source of numbers; `others` if it is not that of the method's authors."""
    link = f"[{repository}](https://github.com/{repository}/tree/{commit}) {commit}"
    return f"{link} (not the authors')" if others else link


@dataclass(frozen=True)
class Comparison:
    """What a source gives in the last steps of the problem of `official.py`, and how near our numbers are to that."""

    source: str
    """In Markdown."""
    expected: Sequence[Sequence[float]] | Callable[[], Tensor]
    """`[S, T]` or `[S, P]`."""
    of: Literal["weights", "directions"] = "weights"
    within: float = CLOSEST
    """The power of ten above the largest difference, relative to the largest number."""
    hyper: Mapping[str, object] = field(default_factory=dict[str, object])
    """Hyper-parameters for which the strategy is the source's method."""
    factor: float = 1.0
    """What our numbers are multiplied by, where the source has another common factor."""
    tasks: int = 3
    """The first tasks of the problem, 2 or 3."""
    draws: Sequence[float] | None = None
    """The random numbers of both."""
    ours: Callable[[Registry], Tensor] | None = None
    """Our numbers for another problem than that of `official.py`."""


class Authors:
    """A strategy's row of `docs/faithful.md`: comparisons, where the defaults are from, and short deviations."""

    def __init__(self, *comparisons: Comparison, default: str, deviations: str = "") -> None:
        self.comparisons, self.default, self.deviations = comparisons, default, deviations


@contextmanager
def _replacing(functions: Mapping[str, Callable[..., Tensor]]) -> Generator[None]:
    with ExitStack() as replaced:
        for name, function in functions.items():
            replaced.enter_context(patch.object(torch, name, function))
        yield


def aggregated(
    make: Callable[[], Aggregator], *, tasks: int = 3, anew: bool = False, **replaced: Callable[..., Tensor]
) -> Callable[[], Tensor]:
    """The directions `[S, P]` of a TorchJD aggregator, with these functions of torch replaced.

    If `anew`, each step has its own aggregator.
    """

    def directions() -> Tensor:
        kept = make()
        with _replacing(replaced):
            return torch.stack([(make() if anew else kept)(jacobian[:tasks]) for jacobian in official.GRADIENTS])

    return directions


def weighted(make: Callable[[], nn.Module]) -> Callable[[], Tensor]:
    """The weights `[S, T]` of a TorchJD weighting, from products between the gradients of two batches."""

    def weights() -> Tensor:
        weighting = make()
        batches = zip(official.GRADIENTS, official.FURTHER, strict=True)
        return torch.stack([weighting(one @ other.mT) for one, other in batches])

    return weights


def scalarized(make: Callable[[], Scalarizer], **replaced: Callable[..., Tensor]) -> Callable[[], Tensor]:
    """The weights `[S, T]` of a TorchJD scalarizer, whose parameters are trained by Adam with a rate of 0.025."""

    def weights() -> Tensor:
        scalarizer = make()
        rows: list[Tensor] = []
        optimizer = torch.optim.Adam([*scalarizer.parameters(), torch.zeros(())], lr=0.025)
        for losses, after in zip(official.LOSSES, official.AFTER, strict=True):
            leaf = losses.clone().requires_grad_()
            optimizer.zero_grad()
            with _replacing(replaced):
                scalarizer(leaf).backward()
            assert leaf.grad is not None
            rows.append(leaf.grad)
            optimizer.step()
            if isinstance(scalarizer, DWA):
                scalarizer.step()
            if isinstance(scalarizer, FAMO):
                scalarizer.update(after)
        return torch.stack(rows)

    return weights


def difference(registry: Registry, name: str, comparison: Comparison) -> float:
    """The largest difference between our numbers and the source's, relative to the largest number."""
    rows = comparison.expected
    expected = rows() if callable(rows) else torch.tensor(rows, dtype=torch.float64)
    if comparison.ours is None:
        strategy = build(registry, name, (1, comparison.tasks), 4, hyper=dict(comparison.hyper))
        weights, directions = official.run(strategy, comparison.draws)
        found = weights if comparison.of == "weights" else directions
    else:
        found = comparison.ours(registry)
    found = comparison.factor * found[-len(expected) :]
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())
