"""What a strategy promises, each as a function that says what broke, on made-up steps in float64."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mtlbench.check.strategy.cases import FEATURES, Case, degenerate_case, random_case, shown
from mtlbench.check.strategy.steps import Taken, live, permuted
from mtlbench.check.strategy.subject import Subject
from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.errors import ContractError

EXAMPLES = 2
"""Random problems of each shape; the first shapes are the smallest."""


def one_weight_per_task(subject: Subject) -> None:
    """A step gives one objective per replica in the losses' dtype; weights and directions are finite, of their shape.

    Raises:
        ContractError: as for all functions here, says what broke, with the smallest example that was tried.
    """
    for tasks in subject.counts(2, 3):
        for replicas, dtype in ((1, torch.float64), (3, torch.float32)):
            case = random_case((replicas, tasks), 0)
            strategy = subject.build(case.shape, dtype)
            for name, parameter in strategy.named_parameters():
                if parameter.dim() == 0 or parameter.shape[0] != replicas:
                    raise ContractError(f"the parameter {name} must have shape (K, T), not {tuple(parameter.shape)}")
            (step,) = _cast(case, dtype).steps()
            taken = live(strategy, step)
            shapes = {
                "the trunk's direction": (replicas, FEATURES),
                "the representation's direction": (replicas, 1, FEATURES),
            }
            for name, tensor in taken.named().items():
                expected = shapes.get(name, tuple(tensor.shape))
                if tuple(tensor.shape) != expected:
                    raise ContractError(f"{name} must have shape {expected}, not {tuple(tensor.shape)}")
                if tensor.dtype != dtype:
                    raise ContractError(f"{name} must be {dtype} as the losses are, not {tensor.dtype}")
                if not tensor.isfinite().all():
                    raise ContractError(f"{name} {_one(tensor)}; {case.described(0, 0)}")


def batched_equals_one_by_one(subject: Subject) -> None:
    """Each replica of a stack gets what it would get alone."""
    for shape in ((2, 2), (3, 2), (2, 3), (3, 5)):
        if shape[1] in subject.counts(2, 3, 5):
            for seed in range(EXAMPLES):
                replicas_are_independent(subject, random_case(shape, seed, steps=3))


def replicas_are_independent(subject: Subject, case: Case) -> None:
    """Each replica of this case gets what it would get alone."""
    replicas, tasks = case.shape
    together = _lived(subject.build(case.shape), case.steps())
    for k in range(replicas):
        alone = _lived(subject.build((1, tasks)), case.replica(k).steps(seed=k))
        for i, (mine, other) in enumerate(zip(together, alone, strict=True)):
            found = {name: tensor[k : k + 1] for name, tensor in mine.named().items()}
            if (name := _different(found, other.named())) is not None:
                raise ContractError(
                    f"step {i}, replica {k} of {replicas}: {name} {_one(found.get(name))} in the stack, "
                    f"{_one(other.named().get(name))} alone; {case.described(i, k)}"
                )


def permuting_tasks_permutes_weights(subject: Subject) -> str | None:
    """Tasks are named by their place alone; what is drawn for a task moves with it."""
    if not subject.cls.symmetric:
        return "its tasks are not alike (symmetric = False)"
    for order in ((1, 0), (2, 0, 1), (3, 0, 4, 1, 2)):
        if len(order) in subject.counts(2, 3, 5):
            for seed in range(EXAMPLES):
                tasks_are_alike(subject, random_case((1, len(order)), seed, steps=3), order)
    return None


def tasks_are_alike(subject: Subject, case: Case, order: Sequence[int]) -> None:
    """In this order of tasks, weights have that order, too, and directions are the same.

    Of T numbers that are drawn it cannot be seen whether there is one for each task; it is enough if either holds.
    """
    wrong = _unlike(subject, case, order, move_draws=True)
    if wrong and _unlike(subject, case, order, move_draws=False):
        raise ContractError(wrong)


def _unlike(subject: Subject, case: Case, order: Sequence[int], *, move_draws: bool) -> str | None:
    straight = _lived(subject.build(case.shape), case.steps())
    steps = case.steps(order=order, move_draws=move_draws)
    moved = _lived(subject.permuted(order).build(case.shape), steps)
    for i, (mine, other) in enumerate(zip(straight, moved, strict=True)):
        for k in range(case.shape[0]):
            expected = {name: permuted(tensor, order)[k : k + 1] for name, tensor in mine.named().items()}
            found = {name: tensor[k : k + 1] for name, tensor in other.named().items()}
            if (name := _different(found, expected)) is not None:
                return (
                    f"step {i}, tasks in the order {', '.join(map(str, order))}: {name} {_one(found.get(name))}, "
                    f"not {_one(expected.get(name))}; before it {case.described(i, k)}"
                )
    return None


def finite_everywhere(subject: Subject) -> None:
    """Losses of 0 and from 1e-8 to 1e8, zero, parallel, opposite and rank-deficient gradients leave all finite."""
    for tasks in subject.counts(2, 4):
        for dtype in (torch.float32, torch.float64):
            whole = _cast(degenerate_case(tasks), dtype)
            if _unbounded(subject, whole, dtype) is None:
                continue
            for k in range(whole.shape[0]):
                alone = whole.replica(k)
                if (found := _unbounded(subject, alone, dtype)) is not None:
                    i, name, tensor = found
                    raise ContractError(f"step {i}, {dtype}: {name} {_one(tensor)}; {alone.described(i, 0)}")
            raise ContractError(f"{dtype}: not finite for {len(whole.about)} odd replicas in one stack")


def _unbounded(subject: Subject, case: Case, dtype: torch.dtype) -> tuple[int, str, Tensor] | None:
    """The first step of a case that leaves a tensor that is not finite, its name and itself."""
    strategy = subject.build(case.shape, dtype)
    for i, step in enumerate(case.steps()):
        for name, tensor in {**live(strategy, step).named(), **_state(strategy)}.items():
            if not tensor.isfinite().all():
                return i, name, tensor
    return None


def state_is_whole(subject: Subject) -> None:
    """A strategy that is saved, and loaded into a new one, goes on as if it had not been; a new one starts anew."""
    for shape in ((1, 2), (2, 3)):
        if shape[1] in subject.counts(2, 3):
            for seed in range(EXAMPLES):
                state_round_trips(subject, random_case(shape, seed, steps=6), after=3)
                state_is_its_own(subject, random_case(shape, seed, steps=3))


def state_round_trips(subject: Subject, case: Case, *, after: int) -> None:
    """Saved after so many steps of this case, and loaded into a new strategy, the rest is bit for bit the same."""
    one, other = subject.build(case.shape), subject.build(case.shape)
    for step in list(case.steps())[:after]:
        live(one, step)
    saved = io.BytesIO()
    torch.save(one.state_dict(), saved)
    saved.seek(0)
    other.load_state_dict(torch.load(saved))
    for i, (mine, theirs) in enumerate(zip(case.steps(first=after), case.steps(first=after), strict=True), start=after):
        expected, found = live(one, mine).named(), live(other, theirs).named()
        for name, tensor in expected.items():
            if name not in found or not torch.equal(tensor, found[name]):
                raise ContractError(
                    f"step {i}, after loading the state of step {after - 1}: {name} {_one(found.get(name))}, "
                    f"without it {_one(tensor)}; {case.described(i, 0)}"
                )


def state_is_its_own(subject: Subject, case: Case) -> None:
    """A new strategy does in this case bit for bit what one before it did: nothing is kept in its class or module."""
    lives = [_lived(subject.build(case.shape), case.steps()) for _ in range(2)]
    for i, (before, now) in enumerate(zip(*lives, strict=True)):
        expected, found = before.named(), now.named()
        for name, tensor in expected.items():
            if name not in found or not torch.equal(tensor, found[name]):
                raise ContractError(
                    f"step {i} of a new strategy, after another was trained: {name} {_one(found.get(name))}, "
                    f"before it {_one(tensor)}; keep state in buffers and parameters; {case.described(i, 0)}"
                )


def state_stays_in_place(subject: Subject) -> None:
    """A captured step sees what is written into its tensors, and nothing that is put in their place."""
    for tasks in subject.counts(2):
        strategy = subject.build((2, tasks))
        before = _state(strategy)
        for step in random_case((2, tasks), 0, steps=3).steps():
            live(strategy, step)
        after = _state(strategy)
        if new := sorted(after.keys() - before.keys()):
            raise ContractError(f"{new[0]} is made in a step; make it in __init__ or allocate")
        for name, tensor in before.items():
            if name not in after or after[name].data_ptr() != tensor.data_ptr() or after[name].dtype != tensor.dtype:
                raise ContractError(f"{name} is replaced in a step; change it in place, as with {name}.copy_(...)")


def docstring_is_whole(subject: Subject) -> None:
    """The description names its source and every hyper-parameter."""
    text = subject.cls.__doc__ or ""
    if not text.strip():
        raise ContractError('the class has no docstring; say what it computes and `Source: authors, "title", year`')
    lines = [line.strip() for line in text.splitlines()]
    if not any(line.startswith("Source:") and line != "Source:" for line in lines):
        raise ContractError('the docstring has no line `Source: authors, "title", venue year`')
    for key in subject.registry.parameters(subject.spec.name):
        if key != "heads" and not any(line.startswith(f"{key}:") for line in lines):
            raise ContractError(f"the docstring does not describe {key}; give it a line `{key}: ...` under Args")


def _lived(strategy: Strategy, steps: Iterable[Step]) -> list[Taken]:
    return [live(strategy, step) for step in steps]


def _state(strategy: Strategy) -> dict[str, Tensor]:
    return {name: value for name, value in strategy.state_dict().items() if isinstance(value, Tensor)}


def _cast(case: Case, dtype: torch.dtype) -> Case:
    return Case(case.losses.to(dtype), case.jacobians.to(dtype), case.about)


def _different(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str | None:
    """The first that is there only once, or differs by more than torch's own tests allow the dtype."""
    for name in {**expected, **found}:
        if name not in found or name not in expected:
            return name
        try:
            torch.testing.assert_close(found[name], expected[name])
        except AssertionError:
            return name
    return None


def _one(tensor: Tensor | None) -> str:
    """What belongs to the first replica, if there is anything."""
    if tensor is None:
        return "none"
    return shown(tensor[0] if tensor.dim() else tensor)
