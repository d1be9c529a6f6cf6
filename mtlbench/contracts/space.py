"""Spaces to tune hyper-parameters in, declared in annotations: `alpha: Annotated[float, Uniform(0, 3)] = 1.5`."""

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
    """Values of one hyper-parameter as a function of points in a unit cube."""

    def dimensions(self, tasks: int) -> int:
        """Number of dimensions of the cube, for T tasks; 1 in a subclass that does not define it."""
        return 1

    def at(self, point: Sequence[float]) -> object:
        """The value at a point; points drawn uniformly give the distribution that is tuned over."""
        ...


@dataclass(frozen=True)
class Uniform(Space):
    """Real numbers between two bounds."""

    low: float
    high: float

    def at(self, point: Sequence[float]) -> float:
        """Linear between the bounds, rounded to four significant digits."""
        return _rounded(self.low + (self.high - self.low) * point[0])


@dataclass(frozen=True)
class LogUniform(Space):
    """Real numbers > 0 between two bounds, uniform in their logarithm."""

    low: float
    high: float

    def at(self, point: Sequence[float]) -> float:
        """Geometric between the bounds, rounded to four significant digits."""
        return _rounded(self.low * (self.high / self.low) ** point[0])


@dataclass(frozen=True)
class Integers(Space):
    """Whole numbers between two bounds, both included."""

    low: int
    high: int

    def at(self, point: Sequence[float]) -> int:
        """Each number for an equal part of the unit interval."""
        return min(self.high, self.low + int((self.high - self.low + 1) * point[0]))


@dataclass(frozen=True)
class Choice(Space):
    """One of several values; a hyper-parameter annotated as a `Literal` has this space by itself."""

    values: tuple[object, ...]

    def at(self, point: Sequence[float]) -> object:
        """Each value for an equal part of the unit interval."""
        return self.values[min(len(self.values) - 1, int(len(self.values) * point[0]))]


@dataclass(frozen=True)
class PerTask:
    """Marks a hyper-parameter that may have one number per task: it is permuted with the tasks."""


@dataclass(frozen=True)
class TaskWeights(PerTask, Space):
    """T weights >= 0 with sum T, uniform over the simplex (order statistics of T - 1 uniform cuts)."""

    def dimensions(self, tasks: int) -> int:
        """T - 1."""
        return tasks - 1

    def at(self, point: Sequence[float]) -> list[float]:
        """The distances between neighbouring cuts, times T."""
        cuts = [0.0, *sorted(point), 1.0]
        return [_rounded((len(point) + 1) * (high - low)) for low, high in pairwise(cuts)]


def declared(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Space]:
    """The spaces of the hyper-parameters that declare one, in the order of the signature."""
    spaces: dict[str, Space] = {}
    for name, parameter in parameters.items():
        extras = [extra for extra in getattr(parameter.annotation, "__metadata__", ()) if isinstance(extra, Space)]
        if extras:
            spaces[name] = extras[0]
        elif typing.get_origin(parameter.annotation) is typing.Literal:
            spaces[name] = Choice(typing.get_args(parameter.annotation))
    return spaces


def per_task(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The hyper-parameters that may have one number per task."""
    extras = {name: getattr(parameter.annotation, "__metadata__", ()) for name, parameter in parameters.items()}
    return [name for name, found in extras.items() if any(isinstance(extra, PerTask) for extra in found)]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if math.isfinite(value) else value
