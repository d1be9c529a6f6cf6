"""What a strategy promises of whole trainings, on a network small enough to try it at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mtlbench.check.strategy.cases import shown
from mtlbench.check.strategy.subject import Subject
from mtlbench.contracts.setup import Setup, Split, Task, binary, classification
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import ContractError

BATCH, LR = 6, 1e-2
STEPS = 12  # an epoch is ten
SEEDS = (3, 0)
WAITING = ("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq", "linalg_pinv")
"""Operations of torch.linalg that wait for the device to report errors, but run on meta, which reports none."""


def toy_setup(
    *,
    widths: tuple[int, ...] = (6, 5, 4),
    tasks: Sequence[Task] = (classification("digit", 3), binary("above_five")),
    size: int = 60,
    seed: int = 0,
) -> Setup:
    """Random inputs with learnable targets, float64, split into training, validation and test."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * size, widths[0], generator=generator, dtype=torch.float64)
    classes = inputs[:, :3].argmax(-1)
    columns = [classes if task.columns > 1 else (classes > 0).long() for task in tasks]
    targets = torch.stack(columns, dim=-1)
    splits = [
        Split(inputs[part], targets[part]) for part in (slice(0, size), slice(size, 2 * size), slice(2 * size, None))
    ]
    return Setup(
        name="toy",
        about="random inputs",
        tasks=tuple(tasks),
        widths=widths,
        samples=lambda: (splits[0], splits[1]),
        test=lambda: splits[2],
        training_size=size,
    )


def trainer_of(
    subject: Subject,
    seeds: Sequence[int],
    *,
    tasks: int = 2,
    size: int = 60,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Trainer:
    """A stack of these seeds on the toy setup of so many samples, with the second task again for each further one."""
    further = [binary(f"further_{i}") for i in range(tasks - 2)]
    setup = toy_setup(tasks=(classification("digit", 3), binary("above_five"), *further), size=size)
    return Trainer(
        setup,
        subject.make,
        seeds,
        setup.samples()[0],
        batch_size=BATCH,
        lr=LR,
        device=torch.device(device),
        dtype=dtype,
    )


def advance(trainer: Trainer, taken: int) -> None:
    """The step after so many, with what stands between epochs."""
    epoch, position = divmod(taken, trainer.steps_per_epoch)
    if position == 0:
        if epoch:
            trainer.end_epoch()
        trainer.start_epoch(epoch)
    trainer.step()


def stack_trains_as_each_alone(subject: Subject, seeds: Sequence[int] = SEEDS) -> None:
    """The last seed of a stack sees the losses, weights and parameters that it has alone.

    Raises:
        ContractError: as for all functions here, says what broke.
    """
    together, alone = trainer_of(subject, seeds), trainer_of(subject, seeds[-1:])
    last = len(seeds) - 1
    for taken in range(STEPS):
        advance(together, taken)
        advance(alone, taken)
        position = taken % alone.steps_per_epoch
        losses, weights = (alone.traces[name][position, 0] for name in ("losses", "weights"))
        found, expected = _parameters(together, last), _parameters(alone, 0)
        if not (found - expected).norm() < 1e-10 * expected.norm():
            raise ContractError(
                f"step {taken} of a training, replica {last} of {len(seeds)}: losses {shown(losses)}, weights "
                f"{shown(together.traces['weights'][position, last])} in the stack, {shown(weights)} alone; its "
                f"parameters differ by {float((found - expected).norm()):.1e}"
            )


def runs_on_meta(subject: Subject) -> str | None:
    """Steps and hooks never ask the host for a number, so that a step can be captured as a CUDA graph."""
    if subject.cls.waits:
        return "its step waits for the device (waits = True)"
    for tasks in subject.counts(2, 3):
        trainer = trainer_of(subject, SEEDS, tasks=tasks, size=BATCH, device="meta", dtype=torch.float32)
        with NothingThatWaits():
            for taken in range(2):  # an epoch and the first step of the next
                advance(trainer, taken)
    return None


def memory_does_not_grow(subject: Subject) -> None:
    """After 200 steps no more tensors are alive than after 100."""
    trainer = trainer_of(subject, SEEDS, dtype=torch.float32)
    alive: list[int] = []
    with _Living() as living:
        for taken in range(200):
            advance(trainer, taken)
            if taken in (99, 199):
                alive.append(living.bytes())
    if alive[1] > alive[0]:
        held = [name for name, value in vars(trainer.strategy).items() if _holds_a_graph(value)]
        held += [name for name, value in trainer.strategy.named_buffers() if _holds_a_graph(value)]
        hint = f"; {', '.join(held)} holds on to the graphs of earlier steps: detach what is kept" if held else ""
        raise ContractError(f"{alive[0]} bytes of tensors are alive after 100 steps, {alive[1]} after 200{hint}")


class NothingThatWaits(TorchDispatchMode):
    """Refuses what runs on meta but waits for a real device."""

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise RuntimeError(f"{name.strip('_')} waits for the device: take its _ex form or mtlbench.solvers")
        return func(*args, **(kwargs or {}))


class _Living(TorchDispatchMode):
    """Follows the storages of all tensors that are made while it is on, however they are held."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __enter__(self) -> Self:
        gc.freeze()  # what is older need not be looked through for garbage
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        gc.unfreeze()

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        for tensor in (made,) if isinstance(made, Tensor) else tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = id(storage)
                if key not in self._alive:
                    # A storage lives in autograd's graph, too, where the garbage collector does not look.
                    self._alive[key] = weakref.ref(storage, lambda _, key=key: self._alive.pop(key)), storage.nbytes()
        return made

    def bytes(self) -> int:
        """Size of what is alive."""
        gc.collect()
        return sum(size for _, size in self._alive.values())


def _holds_a_graph(value: object) -> bool:
    return isinstance(value, Tensor) and value.grad_fn is not None


def _parameters(trainer: Trainer, replica: int) -> Tensor:
    layers = (*trainer.network.trunk, trainer.network.heads)
    return torch.cat([part[replica].flatten() for layer in layers for part in (layer.weight, layer.bias)])
