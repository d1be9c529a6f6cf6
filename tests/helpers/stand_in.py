"""A stand-in for an accelerator: tensors of their own device that compute on the host and cannot mix with its tensors.

torch's backend for other devices has the name `standin`. Its tensors hold a tensor of the host, on which every
operation is carried out. As on CUDA, operations with tensors of both devices raise, numbers without dimensions aside;
copies between the devices, and reads of a number, are counted.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections import Counter
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}


class DeviceTensor(Tensor):
    """A tensor of the device, which wraps one of the host."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[DeviceTensor], held: Tensor) -> DeviceTensor:
        """Wrap a tensor of the host, with its sizes and strides."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"DeviceTensor({self.held})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: object) -> DeviceTensor:
        return DeviceTensor(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class StandIn(TorchDispatchMode):
    """While it is active, the device exists; `copies` counts transfers by direction, and `reads` of numbers."""

    def __enter__(self) -> Self:
        # `torch.tensor(..., device=...)` hides the copy to the device from modes unless told so.
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


transfers: Counter[str] = Counter()


def _is_here(device: object) -> bool:
    return device is not None and torch.device(device).type == NAME  # pyright: ignore[reportArgumentType]


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors: list[Tensor] = []
    tree_map_only(Tensor, tensors.append, (args, kwargs))
    ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    wanted = kwargs.get("device")
    is_copy = func._schema.name == "aten::copy_"
    if func._schema.name in READS and ours:
        transfers["read"] += 1
    if (
        wanted is None
        and not is_copy
        and ours
        and any(not isinstance(tensor, DeviceTensor) and tensor.dim() for tensor in tensors)
    ):
        raise RuntimeError(f"{func}: expected all tensors on the same device, found cpu and {NAME}")
    to_host = wanted is not None and not _is_here(wanted)
    if is_copy and isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
        transfers["to device" if isinstance(args[0], DeviceTensor) else "to host"] += 1
    if ours and to_host:
        transfers["to host"] += 1
    if tensors and not ours and _is_here(wanted):
        transfers["to device"] += 1
    if _is_here(wanted):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers = {id(tensor.held): tensor for tensor in ours}
    plain_args, plain_kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.held, (args, kwargs))
    found = func(*plain_args, **plain_kwargs)
    if (ours and not to_host and not (is_copy and not isinstance(args[0], DeviceTensor))) or _is_here(wanted):
        return tree_map_only(
            Tensor, lambda tensor: wrappers[id(tensor)] if id(tensor) in wrappers else DeviceTensor(tensor), found
        )
    return found


if torch._C._get_privateuse1_backend_name() != NAME:
    _setup_privateuseone_for_python_backend(NAME)
