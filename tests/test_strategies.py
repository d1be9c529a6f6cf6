"""The contract that every registered strategy keeps, and what is special to each."""

from __future__ import annotations

import itertools
import math
import typing
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mtlbench.registry import Registry
from mtlbench.strategy import Step, Strategy
from mtlbench.tasks import Setup, Split, regression
from mtlbench.trainer import Trainer
from tests.toy import GivenGradients, build, given_step, problem, weigh

shapes = st.tuples(st.integers(1, 4), st.integers(2, 5))


NAMES = tuple(Registry.load().strategies)
RANDOM = {"rlw", "pcgrad", "gradvac"}  # they draw a number for each task, so tasks are alike in distribution only


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_replicas_are_independent(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    losses, jacobian = problem(shape, seed)
    together, grads = weigh(build(registry, name, shape), given_step(losses, jacobian))
    for k in range(shape[0]):
        step = Step(
            losses[k : k + 1].clone().requires_grad_(),
            GivenGradients(jacobian[k : k + 1]),
            index=torch.tensor(0),
            epoch=torch.tensor(0),
            seeds=torch.tensor([k]),
        )
        alone, alone_grads = weigh(build(registry, name, (1, shape[1])), step)
        torch.testing.assert_close(together[k : k + 1], alone)
        torch.testing.assert_close([grad[k : k + 1] for grad in grads], alone_grads)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RANDOM])
@given(shape=shapes, seed=st.integers(0, 1000), data=st.data())
def test_permuting_tasks_permutes_weights(
    registry: Registry, name: str, shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape[1])))
    losses, jacobian = problem(shape, seed)
    weights, grads = weigh(build(registry, name, shape), given_step(losses, jacobian))
    permuted, permuted_grads = weigh(build(registry, name, shape), given_step(losses[:, order], jacobian[:, order]))
    torch.testing.assert_close(permuted, weights[:, order])
    torch.testing.assert_close(permuted_grads, [grad[:, order] for grad in grads])


def live(strategy: Strategy, step: Step) -> Tensor:
    """One step with all its hooks and an update of the strategy's own parameters; the effective weights."""
    weights, grads = weigh(strategy, step)
    with torch.no_grad():
        for parameter, grad in zip(strategy.parameters(), grads, strict=True):
            parameter.sub_(0.1 * grad.clamp(-1, 1))
        strategy.project()
        strategy.after_update(0.9 * step.losses)
        strategy.epoch_end(step.losses)
    return weights


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_state_dict_is_the_whole_state(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    def steps(first: int) -> list[Step]:
        return [given_step(*problem(shape, seed + i), index=i, epoch=i) for i in range(first, first + 3)]

    one, other = build(registry, name, shape), build(registry, name, shape)
    for step in steps(0):
        live(one, step)
    other.load_state_dict(one.state_dict())
    for mine, theirs in zip(steps(3), steps(3), strict=True):
        torch.testing.assert_close(live(one, mine), live(other, theirs), rtol=0, atol=0)
        torch.testing.assert_close(mine.direction, theirs.direction, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_names_source_and_arguments(registry: Registry, name: str) -> None:
    text = registry.get(name).__doc__ or ""
    assert "Source:" in text
    for key in registry.parameters(name):
        assert key == "heads" or f"{key}:" in text


def degenerate_problems(tasks: int) -> tuple[Tensor, Tensor]:
    """Every pairing of odd losses, odd Jacobians and lengths of gradients, one a replica: `[K, T]`, `[K, T, 6]`."""
    row = torch.ones(6, dtype=torch.float64)
    basis = torch.eye(6, dtype=torch.float64)
    jacobians = {
        "zero": torch.zeros(tasks, 6, dtype=torch.float64),
        "one zero": torch.cat([torch.zeros(1, 6, dtype=torch.float64), basis[1:tasks]]),
        "parallel": torch.stack([(t + 1) * row for t in range(tasks)]),
        "opposite": torch.stack([(-1.0) ** t * row for t in range(tasks)]),
        "rank deficient": torch.stack([*basis[1:tasks], -basis[1:tasks].sum(0)]),
        "far apart": torch.stack([1e4 ** (-t) * basis[t] for t in range(tasks)]),
    }
    small, large = torch.full((tasks,), 1e-8), torch.full((tasks,), 1e8)
    mixed = torch.where(torch.arange(tasks) % 2 == 0, small, large)
    losses = [torch.arange(tasks) + 1.0, torch.zeros(tasks), small, large, mixed, (torch.arange(tasks) > 0).float()]
    lengths = [1e-8, 1.0, 1e8]
    cases = list(itertools.product(losses, jacobians.values(), lengths))
    return torch.stack([loss.double() for loss, _, _ in cases]), torch.stack([j * scale for _, j, scale in cases])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tasks", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_steps_leave_everything_finite(
    registry: Registry, name: str, tasks: int, dtype: torch.dtype
) -> None:
    losses, jacobian = (tensor.to(dtype) for tensor in degenerate_problems(tasks))
    strategy = build(registry, name, (len(losses), tasks), 6).to(dtype)
    for index in range(4):
        step = given_step(losses, jacobian, index=index, epoch=index)
        weights = live(strategy, step)
        chosen = [each for each in (step.direction, step.representation_direction) if each is not None]
        for tensor in (weights, *chosen, *strategy.state_dict().values()):
            finite = tensor.isfinite()
            assert bool(finite.all()), f"step {index}, replicas {finite.logical_not().nonzero()[:, 0].unique()}"


POSITIVE, NOT_NEGATIVE, SHARE = (0, -1), (-1e-9, -1), (-0.1, 1.1)
REFUSED: dict[tuple[str, str], tuple[float | list[float], ...]] = {
    ("cagrad", "c"): NOT_NEGATIVE,
    ("db-mtl", "beta"): (-0.1, 1.0),
    ("db-mtl", "decay"): NOT_NEGATIVE,
    ("dwa", "tau"): POSITIVE,
    ("excessmtl", "eta"): POSITIVE,
    ("fairgrad", "alpha"): POSITIVE,
    ("famo", "least"): (),
    ("famo", "lr"): POSITIVE,
    ("famo", "weight_decay"): NOT_NEGATIVE,
    ("fixed", "weights"): ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]),
    ("go4align", "beta"): NOT_NEGATIVE,
    ("go4align", "groups"): POSITIVE,
    ("graddrop", "leak"): SHARE,
    ("gradnorm", "alpha"): NOT_NEGATIVE,
    ("gradnorm", "floor"): (*POSITIVE, 1),
    ("gradnorm", "lr"): POSITIVE,
    ("gradvac", "beta"): SHARE,
    ("moco", "beta"): (0, 1.1),
    ("moco", "decay"): NOT_NEGATIVE,
    ("moco", "gamma"): POSITIVE,
    ("moco", "rho"): NOT_NEGATIVE,
    ("modo", "gamma"): POSITIVE,
    ("modo", "rho"): NOT_NEGATIVE,
    ("sdmgrad", "momentum"): (-0.1, 1.0),
    ("sdmgrad", "rate"): POSITIVE,
    ("sdmgrad", "steps"): POSITIVE,
    ("sdmgrad", "strength"): NOT_NEGATIVE,
    ("stch", "ideal"): (),
    ("stch", "mu"): POSITIVE,
    ("stch", "warm_up"): (-1,),
    ("uncertainty", "c"): POSITIVE,
    ("uncertainty", "s"): (),
    ("uncertainty-softmax", "tau"): POSITIVE,
}


def test_every_hyper_parameter_has_values_that_are_refused(registry: Registry) -> None:
    """Those that are one word of a list are checked where the command line is read."""
    parameters = {(name, key): found for name in NAMES for key, found in registry.parameters(name).items()}
    free = {key for key, found in parameters.items() if typing.get_origin(found.annotation) is not typing.Literal}
    assert free == set(REFUSED)


@pytest.mark.parametrize(("name", "key"), REFUSED)
def test_bad_hyper_parameters_are_refused_with_rule_and_value(registry: Registry, name: str, key: str) -> None:
    values = list(REFUSED[name, key])
    annotation = registry.parameters(name)[key].annotation
    if float in (annotation, *typing.get_args(annotation)):
        values += [math.nan, math.inf, -math.inf]
    assert values
    for value in values:
        with pytest.raises(ValueError, match=rf"^{key} must .*, not ") as refused:
            build(registry, name, (1, 2), hyper={key: value})
        said = str(refused.value).rpartition("not ")[2]
        found = {str(value), str(len(value))} if isinstance(value, list) else {str(value), str(float(value))}
        assert said in found


@given(seed=st.integers(0, 1000), s=st.floats(-3, 3), c=st.sampled_from([0.5, 1.0]))
def test_uncertainty_weights_by_precision(registry: Registry, seed: int, s: float, c: float) -> None:
    losses, _ = problem((2, 3), seed)
    strategy = registry.strategies["uncertainty"]((2, 3), c=c, s=s).double()  # pyright: ignore[reportCallIssue]
    weights, (grad,) = weigh(strategy, given_step(losses))
    torch.testing.assert_close(weights, torch.full_like(weights, c * math.exp(-s)), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, 0.5 - weights * losses)


def test_uncertainty_recovers_known_noise(registry: Registry) -> None:
    """Gal's toy problem: y1 = 2x + 8 + 10 e, y2 = 3x + 3 + e; enough data that fitting it shrinks no sigma."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator)
    noise = torch.randn(4000, 2, generator=generator) * torch.tensor([10.0, 1.0])
    y = x * torch.tensor([2.0, 3.0]) + torch.tensor([8.0, 3.0]) + noise
    samples = Split(x, y)
    setup = Setup(
        name="toy-regression",
        about="two lines with known noise",
        tasks=(regression("wide"), regression("narrow")),
        widths=(1, 1024),
        samples=lambda: (samples, samples),
        test=lambda: samples,
        training_size=4000,
    )
    spec = registry.parse("uncertainty:c=0.5", setup)
    trainer = Trainer(
        setup,
        partial(registry.build, spec),
        (0, 1),
        samples,
        batch_size=20,
        lr=3e-3,
        device=torch.device("cpu"),
    )
    for epoch in range(45):
        trainer.start_epoch(epoch)
        for _ in range(trainer.steps_per_epoch):
            trainer.step()
    sigmas = torch.exp(trainer.strategy.state_dict()["log_variances"] / 2)
    torch.testing.assert_close(sigmas, torch.tensor([10.0, 1.0]).expand(2, 2), rtol=0.1, atol=0)


@given(seed=st.integers(0, 1000))
def test_gradnorm_pulls_weighted_norms_to_their_target(registry: Registry, seed: int) -> None:
    losses, jacobian = problem((3, 2), seed)
    strategy = build(registry, "gradnorm", (3, 2))
    _, (grad,) = weigh(strategy, given_step(losses, jacobian))
    norms = jacobian.norm(dim=-1)
    # At the first step all rates are 1, so the target is the mean norm.
    torch.testing.assert_close(grad, torch.sign(norms - norms.mean(-1, keepdim=True)) * norms)


def test_gradnorm_keeps_weights_positive_with_sum_t(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (2, 3))
    with torch.no_grad():
        strategy.get_parameter("weights").copy_(torch.tensor([[-1.0, 0.5, 1.0], [3.0, 3.0, 3.0]]))
        strategy.project()
    weights = strategy.get_parameter("weights")
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.full((2,), 3.0, dtype=torch.float64))


def test_gradnorm_remembers_the_first_losses(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (1, 2))
    first, jacobian = problem((1, 2), 0)
    weigh(strategy, given_step(first, jacobian))
    weigh(strategy, given_step(3 * first, jacobian, index=1))
    torch.testing.assert_close(strategy.get_buffer("first_losses"), first)


def draws(seeds: list[int], index: int = 0, count: int = 1) -> list[Tensor]:
    step = Step(
        torch.ones(len(seeds), 2, dtype=torch.float64),
        GivenGradients(torch.zeros(len(seeds), 2, 1)),
        index=torch.tensor(index),
        epoch=torch.tensor(0),
        seeds=torch.tensor(seeds),
    )
    return [step.rand(500, 2) for _ in range(count)]


def test_random_numbers_are_uniform_and_streams_differ() -> None:
    numbers = torch.cat([draw.flatten() for i in range(20) for draw in draws([0, 1, 2], i, 2)])
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3
    streams = [
        draws([0])[0],
        draws([1])[0],
        draws([0], index=1)[0],
        draws([0], count=2)[1],
    ]
    correlations = torch.corrcoef(torch.stack([stream.flatten() for stream in streams]))
    assert float((correlations - torch.eye(4)).abs().max()) < 0.12


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=4, unique=True))
def test_a_seeds_random_numbers_do_not_depend_on_its_stack(seeds: list[int]) -> None:
    assert torch.equal(draws(seeds)[0][-1], draws(seeds[-1:])[0][0])
