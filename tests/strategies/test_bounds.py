"""Each strategy that uses gradients stays within the bound of its own definition, whatever the gradients are."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.contracts.strategy import Strategy
from mtlbench.plugins.needs import needs_of
from mtlbench.plugins.registry import Registry
from tests.helpers.gramians import gradients
from tests.helpers.toy import given_step, toy_setup, weigh

CASES = int(os.environ.get("MTLBENCH_CASES", "400"))
"""Number of problems of all tests together; `make soak` tries 20,000."""
KINDS = ("full", "near", "conflicting", "opposite", "nearly opposite", "rank-1", "half-rank", "one-zero", "zero")
SIZES = {
    "1": (0, 0),
    "1e-2 to 1e2": (-2, 2),
    "1e-6 to 1e6": (-6, 6),
    "1e-30": (-30, -30),
    "1e-30 to 1e-25": (-30, -25),
    "1e-25 to 1": (-25, 0),
    "1e15 to 1e18": (15, 18),
}
"""Exponents that the lengths of the gradients are drawn from."""


@dataclass
class Outcome:
    """One step: losses `[T]`, gradients `[T, P]`, weights `[T]` and the trunk's direction `[P]`, in float64."""

    losses: Tensor
    jacobian: Tensor
    weights: Tensor
    direction: Tensor
    eps: float
    strategy: Strategy
    norms: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.norms = self.jacobian.norm(dim=-1)
        self.mean = self.jacobian.mean(0)
        self.tasks = len(self.norms)
        self.tolerance = 100 * self.tasks * self.eps
        # A Gramian resolves a sum of gradients down to the root of its rounding.
        self.resolution = 4 * float(self.norms.max()) * (self.tasks * self.eps) ** 0.5


def shorter(outcome: Outcome, vector: Tensor, limit: Tensor | float, slack: float = 0.0) -> None:
    """The vector is no longer than the limit, up to a rounding and the slack, which is a length."""
    assert float(vector.norm()) <= float(limit) * (1.001 + outcome.tolerance) + slack


def shares(outcome: Outcome, units: Tensor | float = 1.0, total: float = 1.0) -> None:
    """Weights times units are >= 0 and have this sum; a zero gradient may have the unit 0."""
    parts = outcome.weights * units
    assert bool((outcome.weights >= 0).all())
    if bool(torch.as_tensor(units > 0).all()):
        assert abs(float(parts.sum()) - total) < outcome.tolerance * total
    else:
        assert float(parts.sum()) < total * (1 + outcome.tolerance)


def in_ball(outcome: Outcome) -> None:
    """|d - g_0| <= c |g_0| for c = 0.4, with no weight below that of the mean."""
    assert bool((outcome.weights >= (1 - outcome.tolerance) / outcome.tasks).all())
    shorter(outcome, outcome.direction - outcome.mean, 0.4 * outcome.mean.norm(), outcome.resolution)


def bargained(outcome: Outcome) -> None:
    """|d|^2 = T at full rank, and less else; rounding may make it 1 / 8 more."""
    assert bool((outcome.weights >= 0).all())
    shorter(outcome, outcome.direction, 1.1 * outcome.tasks**0.5)


def clipped(outcome: Outcome) -> None:
    """|d| <= 1, with weights >= 0."""
    assert bool((outcome.weights >= 0).all())
    shorter(outcome, outcome.direction, 1.1)


def impartial(outcome: Outcome) -> None:
    """Weights sum to 1 and do not cancel, or are 0."""
    size = float(outcome.weights.abs().sum())
    assert size <= 1.1 * outcome.eps**-0.5
    assert size == 0 or abs(float(outcome.weights.sum()) - 1) < 10 * outcome.eps**0.5


def projected(outcome: Outcome) -> None:
    """A projection is no longer than what is projected, here the mean; no weight is below that of the mean."""
    assert bool((outcome.weights >= (1 - outcome.tolerance) / outcome.tasks).all())
    shorter(outcome, outcome.direction, outcome.mean.norm(), outcome.resolution)


def by_entries(outcome: Outcome) -> None:
    """Weighted gradients have at most the largest entry of the reference as their mean entry."""
    entries = outcome.jacobian.shape[1] * outcome.norms.max()
    shorter(outcome, outcome.direction, outcome.norms.sum() + outcome.tasks * entries)


def by_root_losses(outcome: Outcome) -> None:
    """With k_t the length of the gradient of sqrt(L_t), |w_t g_t| = 2 sqrt(L_t) sum k."""
    roots = outcome.losses.sqrt()
    shorter(outcome, outcome.direction, roots.sum() * (outcome.norms / roots).sum())


def sum_to_tasks(outcome: Outcome) -> None:
    shares(outcome, total=outcome.tasks)


def no_longer_than_the_sum(outcome: Outcome) -> None:
    shorter(outcome, outcome.direction, outcome.norms.sum())


BOUNDS: dict[str, Callable[[Outcome], None]] = {
    "aligned-mtl": lambda o: shorter(o, o.weights, o.tasks**-0.5),
    "cagrad": in_ball,
    "config": no_longer_than_the_sum,
    "db-mtl": lambda o: shorter(o, o.direction, o.tasks * (o.norms / o.losses).max()),
    "db-mtl:beta=0": lambda o: shorter(o, o.direction, o.tasks * (o.norms / o.losses).max()),
    "dualproj": projected,
    "excessmtl": sum_to_tasks,
    "fairgrad": clipped,
    "imgrad": lambda o: shorter(o, o.direction - o.mean, 0.8 * o.mean.norm(), o.resolution),
    "lr-annealing": by_entries,
    "m-config": lambda o: shorter(o, o.direction, 0.0),
    "metabalance": lambda o: shorter(o, o.direction, (0.7 * o.norms[0] + 0.3 * o.norms).sum()),
    "ntkmtl": clipped,
    "ntkmtl-sr": lambda o: shorter(o, o.direction, o.tasks * o.norms.norm()),
    "pcd": lambda o: shorter(o, o.direction, 1.1 * o.norms[0], o.resolution),
    "pinn-ntk": by_root_losses,
    "rotograd-scale": lambda o: shorter(o, o.direction, o.tasks * o.norms.max()),
    "graddrop": no_longer_than_the_sum,
    "gradnorm": sum_to_tasks,
    "gradvac": no_longer_than_the_sum,
    "imtl": impartial,
    "imtl-g": impartial,
    "mgda": shares,
    "mgda:l2": lambda o: shares(o, o.norms),
    "mgda:'loss+'": lambda o: shares(o, o.losses * o.norms),
    "mgda:'loss+',of=losses,gradients=representation,least=0.001": shares,
    "moco": shares,
    "modo": shares,
    "nashmtl": clipped,
    "nashmtl:max_norm=0": bargained,
    "pcgrad": no_longer_than_the_sum,
    "sdmgrad": clipped,
    "sdmgrad:max_norm=0": shares,
    "upgrad": lambda o: shorter(o, o.direction, o.norms.mean(), o.resolution),
}
"""What holds for the first step of each strategy, by its label."""


def problem(kind: str, size: str, tasks: int, seed: int) -> Tensor:
    """Gradients `[T, P]` of a kind, with lengths of a size."""
    rng = np.random.default_rng(seed + 1)
    rows = gradients("opposite" if kind == "nearly opposite" else kind, tasks, seed)
    if kind == "nearly opposite":
        rows[1] += 1e-7 * torch.from_numpy(rng.standard_normal(rows.shape[1]))
    return rows * torch.from_numpy(10 ** rng.uniform(*SIZES[size], tasks))[:, None]


def first_step(registry: Registry, label: str, jacobian: Tensor, seed: int, dtype: torch.dtype) -> Outcome:
    tasks = len(jacobian)
    generator = torch.Generator().manual_seed(seed)
    losses = torch.exp(2 * torch.randn(1, tasks, generator=generator, dtype=torch.float64)).to(dtype)
    given_jacobian = jacobian.unsqueeze(0).to(dtype)
    strategy = registry.build(registry.parse(label, toy_setup()), (1, tasks))
    strategy.allocate(jacobian.shape[1])
    strategy.to(dtype)
    step = given_step(losses, given_jacobian)
    weights, _ = weigh(strategy, step)
    rows, chosen = given_jacobian[0].double(), step.direction
    if step.representation_direction is not None:
        chosen = step.representation_direction.flatten(1)
    direction = weights[0].double() @ rows if chosen is None else chosen[0].double()
    return Outcome(losses[0].double(), rows, weights[0].double(), direction, torch.finfo(dtype).eps, strategy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", BOUNDS)
@given(
    kind=st.sampled_from(KINDS),
    size=st.sampled_from(list(SIZES)),
    tasks=st.sampled_from([2, 3, 8, 40]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=max(1, CASES // (2 * len(BOUNDS))))
def test_the_bound_of_its_definition_holds(
    registry: Registry, label: str, dtype: torch.dtype, kind: str, size: str, tasks: int, seed: int
) -> None:
    outcome = first_step(registry, label, problem(kind, size, tasks, seed), seed, dtype)
    assert bool(outcome.weights.isfinite().all())
    assert bool(outcome.direction.isfinite().all())
    BOUNDS[label](outcome)


def test_every_strategy_that_uses_gradients_has_a_bound(registry: Registry) -> None:
    needs = {name: needs_of(entry.value) for name, entry in registry.strategies.items()}
    use_gradients = {name for name, need in needs.items() if "Gramian" in need or "Jacobian" in need or "rep" in need}
    assert use_gradients == {label.partition(":")[0] for label in BOUNDS}
