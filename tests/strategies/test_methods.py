"""What the papers say of weights made from inner products of gradients, on random problems in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.toy import GivenGradients, build, direction, given_step, uneven_problem, weigh

Array = NDArray[np.float64]
task_counts = st.integers(2, 5)
numbers = st.integers(0, 2**20)
few = settings(max_examples=40)  # each example is a stack of problems


def solve(
    registry: Registry, label: str, losses: Tensor, jacobian: Tensor, *, hyper: dict[str, object] | None = None
) -> tuple[Tensor, Tensor]:
    """Weights `[K, T]` and direction `[K, P]` of a strategy's first step."""
    name = label.partition(":")[0]
    strategy = build(registry, name, (losses.shape[0], losses.shape[1]), jacobian.shape[-1], hyper=hyper)
    weights, _ = weigh(strategy, given_step(losses, jacobian))
    return weights, (weights.unsqueeze(1) @ jacobian).squeeze(1)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


class OrderedStep(Step):
    """A step whose random numbers are given."""

    drawn: Tensor

    def rand(self, *size: int) -> Tensor:
        assert self.drawn.shape[1:] == size
        return self.drawn


def ordered_step(losses: Tensor, jacobian: Tensor, drawn: Tensor) -> Step:
    step = OrderedStep(
        losses.clone().requires_grad_(),
        GivenGradients(jacobian),
        index=torch.tensor(0),
        epoch=torch.tensor(0),
        seeds=torch.arange(len(losses)),
    )
    step.drawn = drawn
    return step


@few
@given(tasks=task_counts, seed=numbers)
def test_imtl_g_projects_equally_onto_all_gradients(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "imtl-g", losses, jacobian)
    projections = times(unit(jacobian), unit(d))
    torch.testing.assert_close(projections, projections[:, :1].expand_as(projections), rtol=0, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(losses), dtype=torch.float64))


@few
@given(tasks=task_counts, seed=numbers)
def test_config_has_equal_angles_and_the_length_of_all_projections(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "config", losses, jacobian)
    cosines = times(unit(jacobian), unit(d))
    assert bool((cosines > 0).all())
    torch.testing.assert_close(cosines, cosines[:, :1].expand_as(cosines), rtol=0, atol=1e-9)
    torch.testing.assert_close(d.norm(dim=-1), times(jacobian, unit(d)).sum(-1))


@few
@given(tasks=task_counts, seed=numbers)
def test_nashmtl_solves_its_equation(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "nashmtl", losses, jacobian)
    assert bool((weights > 0).all())
    gains = weights * times(jacobian, d)
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=1e-8, atol=0)


@few
@given(tasks=task_counts, seed=numbers, alpha=st.floats(0.3, 4))
def test_fairgrad_solves_its_equation(registry: Registry, tasks: int, seed: int, alpha: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": alpha})
    assert bool((weights > 0).all())
    error = times(jacobian, d) - weights ** (-1 / alpha)
    # Products of conflicting gradients cancel: the error is relative to what is summed, the solver's ridge 2e-12 of it.
    assert bool((error.abs() < 1e-11 * times((jacobian @ jacobian.mT).abs(), weights)).all())


@few
@given(tasks=task_counts, seed=numbers)
def test_fairgrad_with_alpha_1_is_nashmtl(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    fair, _ = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": 1.0})
    nash, _ = solve(registry, "nashmtl", losses, jacobian)
    torch.testing.assert_close(fair, nash, rtol=1e-12, atol=0)


def project_by_enumeration(gramian: Array, start: Array) -> Array:
    """argmin v'Gv over v >= start: the set of tasks that are raised, among all sets, that meets the conditions."""
    norms = np.sqrt(np.diag(gramian))
    cosines, u = gramian / np.outer(norms, norms), start * norms
    best, least = u, np.inf
    for size in range(len(u) + 1):
        for raised in map(list, itertools.combinations(range(len(u)), size)):
            v = u.copy()
            v[raised] += np.linalg.solve(cosines[np.ix_(raised, raised)], -(cosines @ u)[raised])
            violation = max(0.0, *(u - v), *(-cosines @ v))
            if violation < least:
                best, least = v, violation
    return best / norms


@few
@given(tasks=st.integers(2, 4), seed=numbers)
def test_upgrad_and_dualproj_project_as_by_enumeration(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed, replicas=3)
    gramian = (jacobian @ jacobian.mT).numpy()
    each = np.array([[project_by_enumeration(g, one) for one in np.eye(tasks)] for g in gramian])
    whole = np.array([project_by_enumeration(g, np.full(tasks, 1 / tasks)) for g in gramian])
    for name, expected in (("upgrad", each.mean(1)), ("dualproj", whole)):
        weights, d = solve(registry, name, losses, jacobian)
        scaled = weights * jacobian.norm(dim=-1)
        torch.testing.assert_close(scaled, torch.from_numpy(expected) * jacobian.norm(dim=-1), rtol=1e-8, atol=1e-9)
        assert bool((times(unit(jacobian), unit(d)) > -1e-9).all())


@few
@given(tasks=task_counts, seed=numbers)
def test_without_conflict_projections_leave_sum_or_mean(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    for name, weight in (("upgrad", 1 / tasks), ("dualproj", 1 / tasks), ("pcgrad", 1.0), ("gradvac", 1.0)):
        weights, _ = solve(registry, name, losses, jacobian.abs(), hyper={"beta": 0.0} if name == "gradvac" else None)
        torch.testing.assert_close(weights, torch.full_like(weights, weight), rtol=1e-9, atol=0)


@few
@given(seed=numbers)
def test_upgrad_is_half_of_pcgrad_for_two_tasks(registry: Registry, seed: int) -> None:
    losses, jacobian = uneven_problem(2, seed)
    half, _ = solve(registry, "upgrad", losses, jacobian)
    torch.testing.assert_close(2 * half, solve(registry, "pcgrad", losses, jacobian)[0])


@few
@given(tasks=task_counts, seed=numbers, scale=st.sampled_from(["min", "median", "mean"]), rank=st.integers(1, 5))
def test_aligned_mtl_makes_the_condition_number_1(
    registry: Registry, tasks: int, seed: int, scale: str, rank: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(4, tasks, rank, generator=generator, dtype=torch.float64)
    losses = torch.ones(4, tasks, dtype=torch.float64)
    weights, _ = solve(registry, "aligned-mtl", losses, jacobian, hyper={"scale": scale})
    kept = min(tasks, rank)
    left, values, _ = torch.linalg.svd(jacobian, full_matrices=False)
    left, squares = left[..., :kept], values[:, :kept] ** 2
    chosen = {"min": squares.amin(-1), "median": squares.median(-1).values, "mean": squares.mean(-1)}[scale]
    balance = left @ torch.diag_embed((chosen[:, None] / squares).sqrt()) @ left.mT  # B
    turned = balance @ jacobian @ jacobian.mT @ balance
    torch.testing.assert_close(turned, chosen[:, None, None] * left @ left.mT)
    torch.testing.assert_close(weights, balance.mean(-1), rtol=1e-6, atol=1e-8)


@few
@given(tasks=task_counts, seed=numbers, normalise=st.sampled_from(["none", "l2", "loss", "loss+"]))
def test_mgda_finds_the_shortest_vector(registry: Registry, tasks: int, seed: int, normalise: str) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "mgda", losses, jacobian, hyper={"normalise": normalise})
    norms = jacobian.norm(dim=-1)
    units = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss+": losses * norms}[normalise]
    shares = weights * units
    assert bool((shares >= 0).all())
    torch.testing.assert_close(shares.sum(-1), torch.ones(len(losses), dtype=torch.float64))
    length = d.norm(dim=-1, keepdim=True)
    rises = times(jacobian, d) / units - length**2  # 0 where a task holds the vector, else positive
    size = length * norms / units
    assert bool((rises > -1e-9 * size).all())
    assert bool((rises < 1e-9 * size)[shares > 1e-4].all())


@few
@given(tasks=task_counts, seed=numbers, c=st.floats(0.05, 0.95))
def test_cagrad_is_the_best_direction_for_the_worst_served_task(
    registry: Registry, tasks: int, seed: int, c: float
) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "cagrad", losses, jacobian, hyper={"c": c})
    mean = jacobian.mean(1)
    radius = c * mean.norm(dim=-1)
    torch.testing.assert_close((d - mean).norm(dim=-1), radius)
    generator = torch.Generator().manual_seed(seed)
    ball = unit(torch.randn(200, *d.shape, generator=generator, dtype=torch.float64)) * radius.unsqueeze(-1)
    near = unit(d - mean + 0.01 * ball) * radius.unsqueeze(-1)
    worst = times(jacobian, d).amin(-1)
    slack = 1e-9 * radius * jacobian.norm(dim=-1).amax(-1)
    for others in (ball, near):
        assert bool((times(jacobian, mean + others).amin(-1) <= worst + slack).all())


@few
@given(tasks=task_counts, seed=numbers)
def test_cagrad_with_c_0_is_the_mean(registry: Registry, tasks: int, seed: int) -> None:
    weights, _ = solve(registry, "cagrad", *uneven_problem(tasks, seed), hyper={"c": 0.0})
    assert torch.equal(weights, torch.full_like(weights, 1 / tasks))


def surgery(gradients: Array, orders: Array) -> Array:
    """Algorithm 1 of PCGrad on gradients `[T, P]`, row i against the others as `orders[i]` has them."""
    total = np.zeros(gradients.shape[1])
    for i, gradient in enumerate(gradients):
        changed = gradient.copy()
        for j in orders[i]:
            if j != i and changed @ gradients[j] < 0:
                changed -= changed @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        total += changed
    return total


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_is_its_loop_in_every_order(registry: Registry, seed: int) -> None:
    """All 216 ways in which three rows can order three tasks, one in each replica."""
    orders = np.array(list(itertools.product(itertools.permutations(range(3)), repeat=3)))  # [216, 3, 3]
    losses, jacobian = (tensor.expand(len(orders), *tensor.shape[1:]) for tensor in uneven_problem(3, seed, replicas=1))
    jacobian = jacobian - 0.9 * jacobian.mean(1, keepdim=True)  # mostly in conflict
    step = ordered_step(losses, jacobian, torch.from_numpy(orders.argsort(-1)).double())
    found = direction(build(registry, "pcgrad", (len(orders), 3)), step, jacobian)
    expected = np.array([surgery(g, order) for g, order in zip(jacobian.numpy(), orders, strict=True)])
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


@few
@given(tasks=task_counts, seed=numbers)
def test_pcgrad_is_its_loop_in_the_order_drawn(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed, features=4)
    orders = given_step(losses).rand(tasks, tasks).argsort(-1).numpy()
    _, found = solve(registry, "pcgrad", losses, jacobian)
    expected = np.array([surgery(g, order) for g, order in zip(jacobian.numpy(), orders, strict=True)])
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-9 * float(found.abs().max()))


@few
@given(tasks=task_counts, seed=numbers, name=st.sampled_from(["pcgrad", "gradvac"]), data=st.data())
def test_permuting_tasks_and_their_order_permutes_weights(
    registry: Registry, tasks: int, seed: int, name: str, data: st.DataObject
) -> None:
    permuted = data.draw(st.permutations(range(tasks)))
    losses, jacobian = uneven_problem(tasks, seed, features=4)
    drawn = given_step(losses).rand(tasks, tasks)
    one, other = (build(registry, name, (len(losses), tasks), 4) for _ in range(2))
    for _ in range(3):  # GradVac's targets are state
        weights, _ = weigh(one, ordered_step(losses, jacobian, drawn))
        step = ordered_step(losses[:, permuted], jacobian[:, permuted], drawn[:, permuted][..., permuted])
        torch.testing.assert_close(weigh(other, step)[0], weights[:, permuted], rtol=1e-8, atol=1e-8)


INVARIANT = [
    ("imtl-g", {}),
    ("nashmtl", {}),
    ("config", {}),
    ("mgda", {"normalise": "l2"}),
    ("geometric", {}),
    ("db-mtl", {"beta": 0.0}),
    ("uncertainty", {}),
    ("imtl-l", {}),
]


def scaled_direction(
    registry: Registry, name: str, hyper: dict[str, object], losses: Tensor, jacobian: Tensor, factor: float
) -> Tensor:
    """The unit direction once the first loss is scaled, with trained parameters at their optimum."""
    factors = torch.ones(losses.shape[1], dtype=torch.float64)
    factors[0] = factor
    losses, jacobian = losses * factors, jacobian * factors[:, None]
    strategy = build(registry, name, (losses.shape[0], losses.shape[1]), jacobian.shape[-1], hyper=hyper)
    optimum = {"log_variances": (2 * losses).log(), "scales": -losses.log()}
    for key, parameter in strategy.named_parameters():
        parameter.data.copy_(optimum[key])
    step = given_step(losses, jacobian)
    weights, grads = weigh(strategy, step)
    assert all(float(grad.abs().max()) < 1e-12 for grad in grads)
    return unit((weights.unsqueeze(1) @ jacobian).squeeze(1))


@few
@given(tasks=task_counts, seed=numbers, case=st.sampled_from(INVARIANT), factor=st.sampled_from([1e-3, 1e3]))
def test_scaling_a_loss_leaves_the_direction(
    registry: Registry, tasks: int, seed: int, case: tuple[str, dict[str, object]], factor: float
) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    before = scaled_direction(registry, *case, losses, jacobian, 1.0)
    after = scaled_direction(registry, *case, losses, jacobian, factor)
    if case[0] == "imtl-g":  # its weights sum to 1: with a negative sum before that, the direction is turned round
        after = after * (after * before).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-8)


@few
@given(tasks=task_counts, seed=numbers, name=st.sampled_from(["fixed", "mgda", "pcgrad", "cagrad", "aligned-mtl"]))
def test_scaling_a_loss_turns_the_direction_of_the_others(registry: Registry, tasks: int, seed: int, name: str) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    small = scaled_direction(registry, name, {}, losses, jacobian, 1e-3)
    large = scaled_direction(registry, name, {}, losses, jacobian, 1e3)
    assert float((small - large).norm(dim=-1).median()) > 1e-2
