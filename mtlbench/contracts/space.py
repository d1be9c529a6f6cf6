"""The space that a hyper-parameter is tuned in, declared beside it: `alpha: Annotated[float, Uniform(0, 3)] = 1.5`."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable


@runtime_checkable
class Space(Protocol):
    """Values of one hyper-parameter, reached from points of a unit cube."""

    def dimensions(self, tasks: int) -> int:
        """Of the cube, for T tasks."""
        ...

    def at(self, point: Sequence[float]) -> object:
        """The value at a point of the cube; a uniform point gives the distribution that is tuned over."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Real numbers between two bounds."""

    low: float
    high: float

    def dimensions(self, tasks: int) -> int:
        """One."""
        return 1

    def at(self, point: Sequence[float]) -> float:
        """Linear between the bounds, four significant digits."""
        return _rounded(self.low + (self.high - self.low) * point[0])


@dataclass(frozen=True)
class LogUniform:
    """Real numbers > 0 between two bounds, uniform in their logarithm."""

    low: float
    high: float

    def dimensions(self, tasks: int) -> int:
        """One."""
        return 1

    def at(self, point: Sequence[float]) -> float:
        """Geometric between the bounds, four significant digits."""
        return _rounded(self.low * (self.high / self.low) ** point[0])


@dataclass(frozen=True)
class Integers:
    """Whole numbers between two bounds, both included."""

    low: int
    high: int

    def dimensions(self, tasks: int) -> int:
        """One."""
        return 1

    def at(self, point: Sequence[float]) -> int:
        """Each of them in an equal part of the unit interval."""
        return min(self.high, self.low + int((self.high - self.low + 1) * point[0]))


@dataclass(frozen=True)
class Choice:
    """One of some values; what a `Literal` declares by itself."""

    values: tuple[object, ...]

    def dimensions(self, tasks: int) -> int:
        """One."""
        return 1

    def at(self, point: Sequence[float]) -> object:
        """Each of them in an equal part of the unit interval."""
        return self.values[min(len(self.values) - 1, int(len(self.values) * point[0]))]


@dataclass(frozen=True)
class TaskWeights:
    """T weights >= 0 with sum T, uniform over the simplex (order statistics of T - 1 uniform cuts)."""

    def dimensions(self, tasks: int) -> int:
        """T - 1."""
        return tasks - 1

    def at(self, point: Sequence[float]) -> list[float]:
        """The lengths between neighbouring cuts, times T."""
        cuts = [0.0, *sorted(point), 1.0]
        return [_rounded((len(point) + 1) * (high - low)) for low, high in pairwise(cuts)]


def declared(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Space]:
    """The spaces of those hyper-parameters that have one, in the order of the signature."""
    found: dict[str, Space] = {}
    for name, parameter in parameters.items():
        extras = [extra for extra in getattr(parameter.annotation, "__metadata__", ()) if isinstance(extra, Space)]
        if extras:
            found[name] = extras[0]
        elif typing.get_origin(parameter.annotation) is typing.Literal:
            found[name] = Choice(typing.get_args(parameter.annotation))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if math.isfinite(value) else value
