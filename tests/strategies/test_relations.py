"""Relations between strategies: special cases that coincide, and what scaling or permuting tasks does to several."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, ordered_step, solve, task_counts, unit
from tests.helpers.played_steps import REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.toy import build, given_step, uneven_problem, weigh


@few
@given(tasks=task_counts, seed=numbers)
def test_fairgrad_with_alpha_1_is_nashmtl(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    fair, _ = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": 1.0})
    nash, _ = solve(registry, "nashmtl", losses, jacobian)
    torch.testing.assert_close(fair, nash, rtol=1e-12, atol=0)


@few
@given(seed=numbers)
def test_upgrad_is_half_of_pcgrad_for_two_tasks(registry: Registry, seed: int) -> None:
    losses, jacobian = uneven_problem(2, seed)
    half, _ = solve(registry, "upgrad", losses, jacobian)
    torch.testing.assert_close(2 * half, solve(registry, "pcgrad", losses, jacobian)[0])


@few
@given(tasks=task_counts, seed=numbers)
def test_without_conflict_projections_leave_sum_or_mean(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    for name, weight in (("upgrad", 1 / tasks), ("dualproj", 1 / tasks), ("pcgrad", 1.0), ("gradvac", 1.0)):
        weights, _ = solve(registry, name, losses, jacobian.abs(), hyper={"beta": 0.0} if name == "gradvac" else None)
        torch.testing.assert_close(weights, torch.full_like(weights, weight), rtol=1e-9, atol=0)


@few_plays
@given(tasks=few_tasks, seed=numbers)
def test_gradvac_without_targets_is_pcgrad(registry: Registry, tasks: int, seed: int) -> None:
    shape = (REPLICAS, tasks)
    vaccine = play(build(registry, "gradvac", shape, hyper={"beta": 0.0}), tasks, seed)
    surgery = play(build(registry, "pcgrad", shape), tasks, seed)
    for one, other in zip(vaccine, surgery, strict=True):
        assert_close(one[2], other[2])


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
    ("ntkmtl", {}),
    ("metabalance", {"relax": 1.0}),
    ("rotograd-scale", {}),
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
    return unit((weights.unsqueeze(1) @ jacobian).squeeze(1) if step.direction is None else step.direction)


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
