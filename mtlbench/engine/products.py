"""The matrix products of a stack: by one library for all replicas at once, or by another for each replica.

torch leaves float32 products on CPU to MKL, which uses AVX2 kernels on processors that are not Intel's. oneDNN, in the
same torch, uses AVX-512 wherever a processor has it. AMD's Zen 5 carries AVX-512 out at full width, so that oneDNN is
about twice as fast there; Zen 4 takes two cycles for it, and both libraries reach the peak of its cores. torch has no
public function that takes this way without copying each weight, so the operator that `torch.compile` uses is called.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.records.records import Library, Precision

SMALLEST = 1 << 20  # multiply-adds of a replica from which a call of its own pays
USUAL_BATCH = 64
CACHE = 32 << 20  # bytes that the cores of one AMD core complex share; the system may report those of all complexes
ZEN_5 = 26  # family of AMD's processors
KEPT_PER_PARAMETER = 4  # numbers: the parameter, its gradient and Adam's two moments

Pieces = tuple[Tensor, ...]
"""The tensors that the optimizer updates for one parameter of all replicas: each a slice `[k, ...]` of consecutive
replicas, with its gradient as `.grad`."""


@dataclass(frozen=True)
class Products:
    """Batched matrix products, `[K, M, N]` from `[K, M, J]` and `[K, J, N]`, with results in the dtype of parameters.

    `library` is `bmm` for torch's batched product of all replicas, or `onednn` for oneDNN's product of each replica.
    With `precision` `bf16`, operands are rounded to bfloat16; sums are accumulated in float32, as by autocast.
    """

    library: Library = "bmm"
    precision: Precision = "float32"

    def operand(self, x: Tensor) -> Tensor:
        """A factor of products; rounded once if it is used in several."""
        return x if self.precision == "float32" else x.bfloat16()

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`x W' + b`, `[K, N, out]`, from operands `x` `[K, N, in]` and `weight` `[K, out, in]`.

        `bias` is `[K, out]`, or `[1, 1]`.
        """
        if self._apart(x, weight.mT):
            each = zip(x, weight, bias.to(x.dtype).expand(weight.shape[:2]).contiguous(), strict=True)
            return _stacked([_linear(*factors) for factors in each]).to(bias.dtype)
        if x.dtype == bias.dtype:
            return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        return torch.bmm(x, weight.mT).to(bias.dtype).add_(bias.unsqueeze(1))

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """`a b`, `[K, M, N]`, in float32 if the operands are in bfloat16."""
        product = _stacked(_each(a, b)) if self._apart(a, b) else torch.bmm(a, b)
        return product.float() if product.dtype == torch.bfloat16 else product

    def multiply_into(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Write `a b` into `out` `[K, M, N]`."""
        if self._apart(a, b):
            for target, product in zip(out, _each(a, b), strict=True):
                target.copy_(product)
        elif a.dtype == out.dtype:
            torch.bmm(a, b, out=out)
        else:
            out.copy_(torch.bmm(a, b))

    def pieces(self, parameter: Tensor) -> Pieces:
        """The pieces of a parameter `[K, ...]`, with gradients of zeros.

        oneDNN makes a new tensor for each replica's product. If each replica is a piece, this tensor is its gradient,
        which saves a copy that would take a tenth of a step.
        """
        apart = self.library == "onednn" and USUAL_BATCH * parameter[0].numel() >= SMALLEST
        pieces = parameter.split(1) if apart else (parameter,)
        for piece in pieces:
            piece.grad = torch.zeros_like(piece)
        return pieces

    def write_gradient(self, a: Tensor, b: Tensor, pieces: Pieces) -> None:
        """Make `a b` the gradient of a parameter."""
        if len(pieces) == len(a) and self._apart(a, b):
            for piece, product in zip(pieces, _each(a, b), strict=True):
                piece.grad = product.to(piece.dtype).unsqueeze(0)
        elif len(pieces) == 1:
            self.multiply_into(a, b, joined(pieces))
        else:
            write(self.multiply(a, b), pieces)

    def replicas(self, parameters: int, replicas: int) -> int:
        """How many of K replicas, of so many parameters each, are best trained in one stack.

        Products of all replicas at once are for one large stack. Where each replica has its own, a stack should fit
        into the third-level cache: it takes several steps before the next stack's turn.
        """
        if self.library == "bmm":
            return replicas
        fitting = cache_bytes() // (KEPT_PER_PARAMETER * parameters * torch.float32.itemsize)
        return max(1, min(replicas, fitting))

    def _apart(self, a: Tensor, b: Tensor) -> bool:
        """Whether each replica has a product of its own; small ones cost more in calls than they save."""
        return (
            self.library == "onednn"
            and a.dtype in (torch.float32, torch.bfloat16)
            and a.shape[-2] * a.shape[-1] * b.shape[-1] >= SMALLEST
        )


def joined(pieces: Pieces) -> Tensor:
    """The gradient of a parameter, `[K, ...]`; for one piece its gradient itself."""
    gradients = [piece.grad for piece in pieces]
    assert all(gradient is not None for gradient in gradients)
    return cast("Tensor", gradients[0]) if len(gradients) == 1 else torch.cat(cast("list[Tensor]", gradients))


def write(gradient: Tensor, pieces: Pieces) -> None:
    """Make `gradient` `[K, ...]` that of a parameter."""
    for piece, part in zip(pieces, gradient.split([len(piece) for piece in pieces]), strict=True):
        assert piece.grad is not None
        piece.grad.copy_(part.view_as(piece))


def library(name: str, device: str) -> Library:
    """The library that `name` selects on this machine; `auto` is `onednn` where it is known to be the faster one.

    That is on AMD's Zen 5 and later, with a torch that has MKL. This follows from the processor and how torch was
    built, so it is the same in every process of a machine.

    Raises:
        UserError: the name is unknown, or the library cannot be used here.
    """
    if name not in ("auto", *get_args(Library)):
        raise UserError(f"--products must be auto, {' or '.join(get_args(Library))}; found {name!r}")
    if name == "onednn" and (device != "cpu" or not has_onednn()):
        where = f"on {device}" if device != "cpu" else f"in torch {torch.__version__} on this machine"
        raise UserError(f"--products onednn is not available {where}; use --products auto or bmm")
    if name != "auto":
        return cast("Library", name)
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _amd_family() >= ZEN_5
    return "onednn" if device == "cpu" and torch.backends.mkl.is_available() and wide and has_onednn() else "bmm"


def precision(name: str, device: str) -> Precision:
    """The precision of products that `name` selects; a UserError if it is unknown or the device lacks it."""
    if name not in get_args(Precision):
        raise UserError(f"--precision must be {' or '.join(get_args(Precision))}; found {name!r}")
    if name == "bf16" and device not in ("cpu", "cuda"):
        raise UserError(f"--precision bf16 is not available on {device}; use --device cpu or cuda, or float32")
    return cast("Precision", name)


def has_onednn() -> bool:
    """Whether torch has oneDNN's linear layer as an operator."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def cache_bytes() -> int:
    """Size of the third-level cache that a core can use."""
    try:
        return min(os.sysconf("SC_LEVEL3_CACHE_SIZE") or CACHE, CACHE)
    except (AttributeError, ValueError, OSError):
        return CACHE


def _amd_family() -> int:
    """The family of an AMD processor; 0 for another maker's."""
    text = _processor()
    family = re.search(r"family\s*:?\s*(\d+)", text, re.IGNORECASE)
    return int(family[1]) if family and "AuthenticAMD" in text else 0


def _processor() -> str:
    """What names the processor's maker and family."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text()[:4096] if cpuinfo.is_file() else platform.processor()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W' + b`, `[N, out]`, by oneDNN."""
    operator = cast("Callable[..., Tensor]", torch.ops.mkldnn._linear_pointwise)
    return operator(x, weight, bias, "none", [], "")


def _each(a: Tensor, b: Tensor) -> list[Tensor]:
    return [_linear(one, other.mT) for one, other in zip(a, b, strict=True)]


def _stacked(products: list[Tensor]) -> Tensor:
    return products[0].unsqueeze(0) if len(products) == 1 else torch.stack(products)
