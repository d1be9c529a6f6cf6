"""Losses and task gradients that strategies are tried on, from the simplest to degenerate ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.check.strategy.steps import given_step
from mtlbench.contracts.strategy import Step

FEATURES = 7  # P; differs from all numbers of tasks tried, so that dimensions can be distinguished by size


@dataclass(frozen=True)
class Case:
    """Losses `[S, K, T]` and task gradients `[S, K, T, P]` of S steps, each of which ends an epoch.

    `about` describes what is degenerate about each replica.
    """

    losses: Tensor
    jacobians: Tensor
    about: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(K, T)."""
        return self.losses.shape[1], self.losses.shape[2]

    def replica(self, k: int) -> Case:
        """The same steps for replica k alone."""
        return Case(self.losses[:, k : k + 1], self.jacobians[:, k : k + 1], self.about[k : k + 1])

    def steps(
        self, *, first: int = 0, seed: int = 0, order: Sequence[int] | None = None, move_draws: bool = True
    ) -> Iterator[Step]:
        """The steps from `first` on, for consecutive seeds from `seed` on.

        `order` permutes the tasks and, with `move_draws`, the random numbers that are drawn for them.
        """
        tasks = list(range(self.shape[1]) if order is None else order)
        seeds = range(seed, seed + self.shape[0])
        for i in range(first, len(self.losses)):
            losses, jacobian = self.losses[i][:, tasks], self.jacobians[i][:, tasks]
            yield given_step(losses, jacobian, index=i, epoch=i, seeds=seeds, order=order if move_draws else None)

    def with_labels(self, present: Sequence[Sequence[int]]) -> Iterator[Step]:
        """The steps with only those tasks that are present in each."""
        counts = torch.zeros(self.shape, dtype=torch.int64)
        for i, tasks in enumerate(present):
            own = counts[:, list(tasks)]
            losses, jacobian = self.losses[i][:, list(tasks)], self.jacobians[i][:, list(tasks)]
            yield given_step(losses, jacobian, index=i, epoch=i, counts=own)
            counts[:, list(tasks)] += 1

    def without(self, task: int) -> Case:
        """The same without a task."""
        others = [t for t in range(self.shape[1]) if t != task]
        return Case(self.losses[:, :, others], self.jacobians[:, :, others], self.about)

    def to(self, dtype: torch.dtype) -> Case:
        """The same case in another dtype."""
        return Case(self.losses.to(dtype), self.jacobians.to(dtype), self.about)

    def described(self, step: int, k: int) -> str:
        """A short description of what replica k sees in a step."""
        gramian = self.jacobians[step, k] @ self.jacobians[step, k].mT
        about = f" ({self.about[k]})" if self.about else ""
        return f"losses {shown(self.losses[step, k])}, Gramian {shown(gramian)}{about}"


def shown(tensor: Tensor) -> str:
    """The tensor as text, with three significant digits."""
    if tensor.dim():
        return f"[{', '.join(shown(each) for each in tensor)}]"
    return f"{float(tensor):.3g}"


def random_case(shape: tuple[int, int], seed: int, *, steps: int = 1) -> Case:
    """Positive losses over several orders of magnitude and normal gradients, different in each step, in float64."""
    generators = [torch.Generator().manual_seed(seed + 1000 * i) for i in range(steps)]
    losses = [torch.exp(2 * torch.randn(shape, generator=each, dtype=torch.float64)) for each in generators]
    jacobians = [torch.randn(*shape, FEATURES, generator=each, dtype=torch.float64) for each in generators]
    return Case(torch.stack(losses), torch.stack(jacobians))


def degenerate_case(tasks: int, *, steps: int = 4) -> Case:
    """All combinations of degenerate losses, gradients and gradient lengths, one per replica, regular ones first."""
    small, large = torch.full((tasks,), 1e-8), torch.full((tasks,), 1e8)
    mixed = torch.where(torch.arange(tasks) % 2 == 0, small, large)
    losses = [torch.arange(tasks) + 1.0, torch.zeros(tasks), small, large, mixed, (torch.arange(tasks) > 0).float()]
    return _combinations(losses, (1.0, 1e-8, 1e8), steps)


def negative_case(tasks: int, *, steps: int = 4) -> Case:
    """As `degenerate_case`, for losses that are negative or of both signs, and gradients of one length."""
    counts, signs = torch.arange(tasks) + 1.0, (-1.0) ** torch.arange(tasks)
    return _combinations([-counts, signs * counts, -1e8 * counts, torch.arange(tasks) - 1.0], (1.0,), steps)


def _combinations(losses: Sequence[Tensor], lengths: Sequence[float], steps: int) -> Case:
    tasks = len(losses[0])
    basis = torch.eye(FEATURES, dtype=torch.float64)
    row = torch.ones(FEATURES, dtype=torch.float64)
    jacobians = {
        "orthogonal gradients": basis[:tasks],
        "zero gradients": torch.zeros(tasks, FEATURES, dtype=torch.float64),
        "one gradient zero": torch.cat([torch.zeros(1, FEATURES, dtype=torch.float64), basis[1:tasks]]),
        "parallel gradients": torch.stack([(t + 1) * row for t in range(tasks)]),
        "opposite gradients": torch.stack([(-1.0) ** t * row for t in range(tasks)]),
        "rank-deficient gradients": torch.stack([*basis[1:tasks], -basis[1:tasks].sum(0)]),
        "gradients of very different lengths": torch.stack([1e4 ** (-t) * basis[t] for t in range(tasks)]),
    }
    cases = list(itertools.product(losses, jacobians.items(), lengths))
    return Case(
        torch.stack([loss.double() for loss, _, _ in cases]).expand(steps, -1, -1),
        torch.stack([jacobian * length for _, (_, jacobian), length in cases]).expand(steps, -1, -1, -1),
        tuple(f"{name}, scaled by {length:g}" for _, (name, _), length in cases),
    )
