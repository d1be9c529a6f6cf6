"""Several processes that each hold a part of the batch: means over them, and wrappers whose gradients are not per task.

Ranks have batches of equal size, so that the joint batch's loss is the mean of theirs, and so is its gradient.
"""

from __future__ import annotations

import typing
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtlbench.balancer.leaves import named
from mtlbench.errors import UserError

STATIC = """DistributedDataParallel(static_graph=True) counts every backward pass: put the Balancer into the wrapped \
module, or set static_graph=False"""
SHARDED = """this strategy needs gradients per task, and fully_shard keeps only parts of parameters between passes: \
use DistributedDataParallel, or a strategy that needs losses alone"""


@dataclass(frozen=True)
class Ranks:
    """The processes of a group; with size 1, nothing is sent."""

    group: dist.ProcessGroup | None = None
    size: int = 1
    number: int = 0

    @classmethod
    def of(cls, group: object) -> Ranks:
        """Those of a group, of the default one if there is one (`default`), or this process alone (None).

        Raises:
            UserError: it is none of these, or this process is not in it.
        """
        if group is None or (group == "default" and not is_distributed()):
            return cls()
        if group != "default" and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
            raise UserError(f"group must be a process group of this process, 'default' or None; found {group!r}")
        found = None if group == "default" else typing.cast("dist.ProcessGroup", group)
        return cls(found, dist.get_world_size(found), dist.get_rank(found))

    def mean(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The mean of each tensor over the ranks, the same bits on all."""
        if self.size == 1:
            return list(parts)
        joint = torch.cat([part.detach().flatten() for part in parts])
        dist.all_reduce(joint, group=self.group)
        split = (joint / self.size).split([part.numel() for part in parts])
        return [mean.view_as(part) for mean, part in zip(split, parts, strict=True)]

    def any(self, flags: Tensor) -> Tensor:
        """For each flag, whether it is set on any rank."""
        if self.size == 1:
            return flags
        numbers = flags.to(torch.uint8)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.group)
        return numbers.bool()

    def agree_on(self, tasks: Sequence[int], weights: Tensor) -> None:
        """Raise a UserError on all ranks if these tasks, of those with weights `[T]`, are not the same on all."""
        if self.size == 1:
            return
        present = torch.zeros_like(weights)
        present[list(tasks)] = 1
        (share,) = self.mean([present])
        if bool(((share > 0) & (share < 1)).any()):
            raise UserError("the ranks must have labels of the same tasks in a step; found some on some ranks only")

    def joined(self, rows: Tensor) -> Tensor:
        """Gradients `[T, B, F]` by the ranks' samples as those of the joint batch's losses, `[T, ranks * B, F]`.

        Raises:
            UserError: the ranks have batches of different sizes.
        """
        if self.size == 1:
            return rows
        sizes: list[object] = [None] * self.size
        dist.all_gather_object(sizes, tuple(rows.shape), group=self.group)
        if len({*sizes}) > 1:
            raise UserError(f"all ranks must have batches of the same size, as drop_last=True ensures; found {sizes}")
        all_rows = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(all_rows, rows.contiguous(), group=self.group)
        return torch.cat(all_rows, 1) / self.size

    def own(self, joint: Tensor) -> Tensor:
        """This rank's part of a cotangent `[1, ranks * B, F]`, times the ranks, over which its effect is averaged."""
        return joint if self.size == 1 else joint.chunk(self.size, 1)[self.number] * self.size

    def agree(self, name: str, tasks: Sequence[str], state: nn.Module) -> None:
        """Raise a UserError unless strategy, tasks and state are the same on all ranks."""
        if self.size == 1:
            return
        tensors = [tensor.detach().cpu().contiguous() for tensor in (*state.parameters(), *state.buffers())]
        found: list[object] = [None] * self.size
        bits = [zlib.crc32(tensor.flatten().view(torch.uint8).numpy().tobytes()) for tensor in tensors]
        dist.all_gather_object(found, (name, tuple(tasks), tuple(bits)), group=self.group)
        if len({*found}) > 1:
            raise UserError(
                "a Balancer must start with the same strategy, tasks, seed and state on all ranks: load the same "
                "checkpoint on each, or set group=None to weigh by this process alone"
            )


def is_distributed() -> bool:
    """Whether this process is one of a default group."""
    return dist.is_available() and dist.is_initialized()


def check_wrappers(losses: Sequence[Tensor]) -> None:
    """Raise a UserError if a wrapper around the network does not allow gradients per task, which it would get wrong."""
    if not is_distributed():
        return
    wrappers = [node.ddp_weakref() for node in named(losses, "_DDPSinkBackward")]
    if any(wrapper is not None and wrapper.static_graph for wrapper in wrappers):
        raise UserError(STATIC)
    from torch.distributed import _composable_state
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    wrapped = list(typing.cast("typing.Any", _composable_state)._module_state_mapping)
    if any(isinstance(module, FSDPModule | FullyShardedDataParallel) for module in wrapped):
        raise UserError(SHARDED)
