"""Properties of a strategy in steps with given losses and gradients, in float64.

A property that does not hold is a ContractError that names the smallest example.
"""

from __future__ import annotations

import io
import itertools
import typing
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mtlbench.check.strategy.cases import FEATURES, Case, degenerate_case, negative_case, random_case, shown
from mtlbench.check.strategy.small_training import stack_trains_as_each_alone
from mtlbench.check.strategy.steps import live, permuted
from mtlbench.check.subjects import Subject
from mtlbench.contracts.absence import only, taken
from mtlbench.contracts.strategy import Losses, Strategy
from mtlbench.errors import ContractError

Life = list[dict[str, Tensor]]
"""The tensors of consecutive steps, by name, as `live` returns them."""


def one_weight_per_task(subject: Subject) -> None:
    """A step gives one objective per replica in the losses' dtype, and finite weights and directions of their shape."""
    for tasks in subject.counts(2, 3):
        for replicas, dtype in ((1, torch.float64), (3, torch.float32)):
            case = random_case((replicas, tasks), 0).to(dtype)
            strategy = subject.build(case.shape, dtype)
            for name, parameter in strategy.named_parameters():
                if parameter.dim() == 0 or parameter.shape[0] != replicas:
                    raise ContractError(f"parameter {name} must have shape (K, T); found {tuple(parameter.shape)}")
            shapes = {
                "the trunk's direction": (replicas, FEATURES),
                "the representation's direction": (replicas, 1, FEATURES),
            }
            for name, tensor in live(strategy, next(case.steps())).items():
                shape = tuple(tensor.shape)
                if shape != shapes.get(name, shape):
                    raise ContractError(f"{name} must have shape {shapes[name]}; found {shape}")
                if tensor.dtype != dtype:
                    raise ContractError(f"{name} must have the dtype of the losses, {dtype}; found {tensor.dtype}")
                if not tensor.isfinite().all():
                    raise ContractError(f"{name} {_first(tensor)}; {case.described(0, 0)}")


def batched_equals_one_by_one(subject: Subject) -> None:
    """Each replica of a stack gets what it gets alone, in given steps and in a training."""
    for case in _random_cases(subject, ((2, 2), (3, 2), (2, 3), (3, 5)), steps=3):  # the smallest first
        replicas_are_independent(subject, case)
    stack_trains_as_each_alone(subject)


def replicas_are_independent(subject: Subject, case: Case) -> None:
    """Each replica of this case gets what it gets alone."""
    stack = _lived(subject, case)
    for k in range(case.shape[0]):
        alone, where = _lived(subject, case.replica(k), seed=k), f"replica {k} of {case.shape[0]}"
        if problem := _difference(_of_replica(stack, k), alone, case, k, where, ("in the stack", "alone")):
            raise ContractError(problem)


def permuting_tasks_permutes_weights(subject: Subject) -> str | None:
    """A task is distinguished by its position only; random numbers drawn for a task are permuted with it."""
    if not subject.cls.symmetric:
        return "its tasks are not alike (symmetric = False)"
    for order in ((1, 0), (2, 0, 1), (3, 0, 4, 1, 2)):
        for case in _random_cases(subject, 2 * ((1, len(order)),), steps=3):
            tasks_are_alike(subject, case, order)
    return None


def tasks_are_alike(subject: Subject, case: Case, order: Sequence[int]) -> None:
    """With tasks in this order, weights have the same order and directions are unchanged.

    T random numbers may or may not be one for each task; the property needs to hold for one of the two readings.
    """
    problem = _unlike(subject, case, order, move_draws=True)
    if problem and _unlike(subject, case, order, move_draws=False):
        raise ContractError(problem)


def _unlike(subject: Subject, case: Case, order: Sequence[int], *, move_draws: bool) -> str | None:
    strategy = subject.permuted(order).build(case.shape)
    moved = [live(strategy, step) for step in case.steps(order=order, move_draws=move_draws)]
    straight = [{name: permuted(tensor, order) for name, tensor in step.items()} for step in _lived(subject, case)]
    where, sources = f"tasks in the order {', '.join(map(str, order))}", ("found", "expected from the original order")
    pairs = ((k, _of_replica(moved, k), _of_replica(straight, k)) for k in range(case.shape[0]))
    problems = (_difference(one, other, case, k, where, sources) for k, one, other in pairs)
    return next(filter(None, problems), None)


PRESENT = ((0, 2, 3), (2, 3), (0,), (0, 2, 3), (0, 3), (3,), (0, 2), (0, 2, 3))
"""Tasks with labels in consecutive steps; task 1 never has any."""


def absent_tasks_are_left_out(subject: Subject) -> str | None:
    """A step without labels of some tasks leaves their state as it is, and treats the others as if they were all."""
    if not subject.cls.divisible:
        return "its state is not kept by task (divisible = False)"
    (tasks,) = subject.counts(4)  # or 2, with numbers per task: these cannot be built without a task
    present = [each for each in ([t for t in each if t < tasks] for each in PRESENT) if each]
    case = random_case((2, tasks), 0, steps=len(present))
    life, strategy = list[dict[str, Tensor]](), subject.build(case.shape)
    for i, step in enumerate(case.with_labels(present)):
        absent = [t for t in range(tasks) if t not in present[i]]
        before = {name: taken(tensor, absent, tasks) for name, tensor in _state(strategy).items()}
        with only(strategy, present[i]):
            life.append(live(strategy, step))
        for name, tensor in _state(strategy).items():
            if tasks in tensor.shape[1:] and not torch.equal(taken(tensor, absent, tasks), before[name]):
                raise ContractError(f"step {i}: {name} of absent tasks changes; found {_first(tensor)}")
    if tasks == 4:
        places = [[max(t - 1, 0) for t in each] for each in present]
        smaller, expected = subject.build((2, 3)), list[dict[str, Tensor]]()
        for i, step in enumerate(case.without(1).with_labels(places)):
            with only(smaller, places[i]):
                expected.append(live(smaller, step))
        sources = ("with a task that is always absent", "without it")
        for k in range(2):
            one, other = _of_replica(life, k), _of_replica(expected, k)
            if problem := _difference(one, other, case, k, "tasks may be absent", sources):
                raise ContractError(problem)
    return None


def finite_everywhere(subject: Subject) -> None:
    """All is finite for losses of 0 and from 1e-8 to 1e8, and zero, parallel, opposite and rank-deficient gradients."""
    _finite_in_stacks(subject, degenerate_case)


def finite_for_negative_losses(subject: Subject) -> str | None:
    """All is finite for negative losses and losses of both signs, unless positive losses are declared."""
    declared = subject.build((1, 2)).losses
    if declared not in (known := typing.get_args(Losses)):
        raise ContractError(f"losses must be one of {', '.join(known)}; found {declared!r}")
    if declared == "positive":
        return 'it is defined for positive losses (losses = "positive")'
    _finite_in_stacks(subject, negative_case)
    return None


def _finite_in_stacks(subject: Subject, case_of: Callable[[int], Case]) -> None:
    for tasks in subject.counts(2, 4):
        for dtype in (torch.float32, torch.float64):
            stack = case_of(tasks).to(dtype)
            try:
                _stays_finite(subject, stack)
            except ContractError as error:
                for k in range(stack.shape[0]):
                    _stays_finite(subject, stack.replica(k))
                raise ContractError(f"only in a stack of {len(stack.about)} replicas: {error}") from None


def _stays_finite(subject: Subject, case: Case) -> None:
    dtype = case.losses.dtype
    strategy = subject.build(case.shape, dtype)
    for i, step in enumerate(case.steps()):
        for name, tensor in {**live(strategy, step), **_state(strategy)}.items():
            if not tensor.isfinite().all():
                raise ContractError(f"step {i}, {dtype}: {name} {_first(tensor)}; {case.described(i, 0)}")


def state_is_whole(subject: Subject) -> None:
    """A strategy continues bit for bit from its saved state, and a new one does not depend on those before it."""
    for case in _random_cases(subject, ((1, 2), (2, 3)), steps=6):
        before = state_round_trips(subject, case, after=3)
        where = "of a new strategy after another was trained (keep state in buffers and parameters)"
        sources = ("in the new one", "in the other")
        if problem := _difference(_lived(subject, case), before, case, 0, where, sources, exact=True):
            raise ContractError(problem)


def state_round_trips(subject: Subject, case: Case, *, after: int) -> Life:
    """If the state is saved after so many steps and loaded into a new strategy, the other steps are the same.

    Returns:
        All steps of the strategy that was saved.
    """
    one, other = subject.build(case.shape), subject.build(case.shape)
    life = [live(one, step) for step in itertools.islice(case.steps(), after)]
    saved = io.BytesIO()
    torch.save(one.state_dict(), saved)
    saved.seek(0)
    other.load_state_dict(torch.load(saved))
    expected, found = ([live(strategy, step) for step in case.steps(first=after)] for strategy in (one, other))
    where, sources = f"after loading the state of step {after - 1}", ("in the loaded strategy", "in the saved one")
    if problem := _difference(found, expected, case, 0, where, sources, first=after, exact=True):
        raise ContractError(problem)
    return life + expected


def state_stays_in_place(subject: Subject) -> None:
    """State is changed in place: a captured step does not see tensors that replace those it was captured with."""
    case = random_case((2, 2), 0, steps=3)
    strategy = subject.build(case.shape)
    before = _state(strategy)
    for step in case.steps():
        live(strategy, step)
    after = _state(strategy)
    if new := sorted(after.keys() - before.keys()):
        raise ContractError(f"{new[0]} is created in a step; create it in __init__ or allocate")
    for name, tensor in before.items():
        if name not in after or after[name].data_ptr() != tensor.data_ptr() or after[name].dtype != tensor.dtype:
            raise ContractError(f"{name} is replaced in a step; change it in place, as with {name}.copy_(...)")


def docstring_is_whole(subject: Subject) -> None:
    """The class's docstring names its source and every hyper-parameter."""
    text = subject.cls.__doc__ or ""
    if not text.strip():
        raise ContractError('the class has no docstring; say what it computes and `Source: authors, "title", year`')
    lines = [line.strip() for line in text.splitlines()]
    if not any(line.startswith("Source:") and line != "Source:" for line in lines):
        raise ContractError('the docstring has no line `Source: authors, "title", venue year`')
    for key in subject.registry.parameters(subject.spec.name):
        if key != "heads" and not any(line.startswith(f"{key}:") for line in lines):
            raise ContractError(f"the docstring does not describe {key}; add a line `{key}: ...` under Args")


def _random_cases(subject: Subject, shapes: Sequence[tuple[int, int]], *, steps: int) -> Iterator[Case]:
    """A random case of each of those shapes (K, T) that the subject can be built for."""
    for seed, shape in enumerate(shapes):
        if shape[1] in subject.counts(shape[1]):
            yield random_case(shape, seed, steps=steps)


def _lived(subject: Subject, case: Case, *, seed: int = 0) -> Life:
    strategy = subject.build(case.shape)
    return [live(strategy, step) for step in case.steps(seed=seed)]


def _of_replica(life: Life, k: int) -> Life:
    return [{name: tensor[k : k + 1] for name, tensor in step.items()} for step in life]


def _state(strategy: Strategy) -> dict[str, Tensor]:
    return {name: value for name, value in strategy.state_dict().items() if isinstance(value, Tensor)}


def _difference(
    one: Life,
    other: Life,
    case: Case,
    k: int,
    where: str,
    sources: tuple[str, str],
    *,
    first: int = 0,
    exact: bool = False,
) -> str | None:
    """Names the first tensor that differs, or that only one has, with its values in both for replica k of the case.

    `first` is the step of the case in which both begin. Unless `exact`, differences are those that torch's own tests do
    not accept for the dtype.
    """
    tolerance = 0.0 if exact else None
    for step, (tensors, others) in enumerate(zip(one, other, strict=True), first):
        for name in {**others, **tensors}:
            pair = tensors.get(name), others.get(name)
            try:
                torch.testing.assert_close(*pair, rtol=tolerance, atol=tolerance)
            except AssertionError:
                values = ", ".join(f"{_first(tensor)} {source}" for tensor, source in zip(pair, sources, strict=True))
                return f"step {step}, {where}: {name} {values}; {case.described(step, k)}"
    return None


def _first(tensor: Tensor | None) -> str:
    """The values of the first replica, if there are any."""
    return "none" if tensor is None else shown(tensor[0] if tensor.dim() else tensor)
