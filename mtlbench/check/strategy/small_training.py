"""Properties of a strategy in short trainings of a tiny network; one that does not hold is a ContractError."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mtlbench.check.strategy.cases import shown
from mtlbench.check.subjects import Subject
from mtlbench.contracts.setup import Setup, Split, Task, binary, classification
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import ContractError

BATCH, LR = 6, 1e-2
STEPS = 12  # an epoch has ten
SEEDS = (3, 0)
Args = tuple[object, ...]
Kwargs = dict[str, object] | None
WAITING = ("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq", "linalg_pinv")
"""Operations of torch.linalg that wait for the device to report errors, but also run on meta."""


def toy_setup(
    *,
    widths: tuple[int, ...] = (6, 5, 4),
    tasks: Sequence[Task] = (classification("digit", 3), binary("above_five")),
    size: int = 60,
    seed: int = 0,
) -> Setup:
    """A setup of random inputs in float64 with learnable targets; each split has `size` samples."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * size, widths[0], generator=generator, dtype=torch.float64)
    classes = inputs[:, :3].argmax(-1)
    columns = [classes if task.columns > 1 else (classes > 0).long() for task in tasks]
    targets = torch.stack(columns, dim=-1)
    training, validation, test = map(Split, inputs.split(size), targets.split(size))
    return Setup(
        name="toy",
        about="random inputs",
        tasks=tuple(tasks),
        widths=widths,
        samples=lambda: (training, validation),
        test=lambda: test,
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
    """A stack of these seeds on the toy setup; further tasks repeat the second one."""
    further = [binary(f"further_{i}") for i in range(tasks - 2)]
    setup = toy_setup(tasks=(classification("digit", 3), binary("above_five"), *further), size=size)
    build = partial(subject.registry.build, subject.spec)
    samples, where = setup.samples()[0], torch.device(device)
    return Trainer(setup, build, seeds, samples, batch_size=BATCH, lr=LR, device=where, dtype=dtype)


def advance(trainer: Trainer, taken: int) -> None:
    """Take one step after `taken` steps; ends and starts epochs as needed."""
    epoch, position = divmod(taken, trainer.steps_per_epoch)
    if position == 0:
        if epoch:
            trainer.end_epoch()
        trainer.start_epoch(epoch)
    trainer.step()


def stack_trains_as_each_alone(subject: Subject, seeds: Sequence[int] = SEEDS) -> None:
    """The last seed of a stack gets the same parameters as when trained alone."""
    together, alone = trainer_of(subject, seeds), trainer_of(subject, seeds[-1:])
    last = len(seeds) - 1
    for taken in range(STEPS):
        advance(together, taken)
        advance(alone, taken)
        position = taken % alone.steps_per_epoch
        losses, weights = (alone.traces[name][position, 0] for name in ("losses", "weights"))
        expected = _parameters(alone, 0)
        difference = (_parameters(together, last) - expected).norm()
        if not difference < 1e-10 * expected.norm():
            raise ContractError(
                f"step {taken} of a training, replica {last} of {len(seeds)}: losses {shown(losses)}, weights "
                f"{shown(together.traces['weights'][position, last])} in the stack, {shown(weights)} alone; its "
                f"parameters differ by {float(difference):.1e}"
            )


def runs_on_meta(subject: Subject) -> str | None:
    """Steps and hooks never copy a number to the host, so a step can be captured as a CUDA graph."""
    if subject.cls.waits:
        return "its step waits for the device (waits = True)"
    for tasks, steps in zip(subject.counts(2, 3), (2, 1), strict=False):  # solvers of three tasks take long on meta
        trainer = trainer_of(subject, SEEDS, tasks=tasks, size=BATCH, device="meta", dtype=torch.float32)
        with NothingThatWaits():
            for taken in range(steps):  # each is an epoch
                advance(trainer, taken)
            trainer.end_epoch()
    return None


def memory_does_not_grow(subject: Subject) -> None:
    """No more bytes of tensors are alive after 40 steps, which are eight epochs, than after 20."""
    trainer = trainer_of(subject, SEEDS, size=5 * BATCH, dtype=torch.float32)
    alive: list[int] = []
    gc.freeze()  # older objects need not be searched for garbage
    try:
        with _Living() as living:
            for taken in range(40):
                advance(trainer, taken)
                if taken in (19, 39):
                    gc.collect()
                    alive.append(living.bytes)
    finally:
        gc.unfreeze()
    if alive[1] > alive[0]:
        tensors: dict[str, object] = {**vars(trainer.strategy), **dict(trainer.strategy.named_buffers())}
        held = [name for name, value in tensors.items() if isinstance(value, Tensor) and value.grad_fn is not None]
        hint = f"; {', '.join(held)} keeps the graphs of earlier steps alive: detach it" if held else ""
        raise ContractError(f"{alive[0]} bytes of tensors are alive after 20 steps, {alive[1]} after 40{hint}")


class NothingThatWaits(TorchDispatchMode):
    """Context manager that refuses operations that run on meta but wait for a real device."""

    def __torch_dispatch__(self, func: OpOverload, types: object, args: Args = (), kwargs: Kwargs = None) -> object:
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise RuntimeError(f"{name.strip('_')} waits for the device: use its _ex form or mtlbench.solvers")
        return func(*args, **(kwargs or {}))


class _Living(TorchDispatchMode):
    """Context manager that tracks all storages made within it; `bytes` is the size of those alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._known: dict[int, weakref.ref[object]] = {}

    def __torch_dispatch__(self, func: OpOverload, types: object, args: Args = (), kwargs: Kwargs = None) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tree_iter(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known:
                    self.bytes += storage.nbytes()
                    # The garbage collector, unlike a weak reference, does not see storages that autograd's graph holds.
                    freed = partial(self._freed, id(storage), storage.nbytes())
                    self._known[id(storage)] = weakref.ref(storage, freed)
        return result

    def _freed(self, known: int, size: int, _: object) -> None:
        del self._known[known]
        self.bytes -= size


def _parameters(trainer: Trainer, replica: int) -> Tensor:
    layers = (*trainer.network.trunk, trainer.network.heads)
    return torch.cat([part[replica].flatten() for layer in layers for part in (layer.weight, layer.bias)])
