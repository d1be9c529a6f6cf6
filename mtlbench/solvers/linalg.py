"""Small batched linear algebra shared by the solvers. Nothing here waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 4  # of Jacobi rotations, besides one for each bit of T


def gradient_norms(gramian: Tensor) -> Tensor:
    """Norms of the task gradients, `[..., T]`, from their Gramian `[..., T, T]`."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def unit_of(size: Tensor) -> Tensor:
    """The power of two at or next below a size >= 0, and 1 for 0: dividing by it changes no digit."""
    least = torch.finfo(size.dtype).smallest_normal
    return torch.where(size > 0, size, 1.0).clamp_min(least).log2().floor().exp2()


def scaled_back(products: Tensor, units: Tensor, others: Tensor) -> Tensor:
    """The inner products `[..., T, T]` of rows, from those of the rows divided by their units `[..., T]`.

    In float64 where the device has it, for its range: the square of a length below 1e-19 or above 1e19 is none of
    float32's numbers.
    """
    return in_double(products) * in_double(units).unsqueeze(-1) * in_double(others).unsqueeze(-2)


def inner_products(rows: Tensor, others: Tensor) -> Tensor:
    """Inner products `[..., T, T]` of the rows of two `[..., T, P]`, which may have any size, as `scaled_back`."""
    (one, units), (other, other_units) = _in_units(rows), _in_units(others)
    return scaled_back(one @ other.mT, units, other_units)


def _in_units(rows: Tensor) -> tuple[Tensor, Tensor]:
    units = unit_of(rows.abs().amax(-1))
    return rows / units.unsqueeze(-1), units


def lengths_of(rows: Tensor) -> Tensor:
    """Lengths `[..., T]` of rows `[..., T, P]` of any size, in float64 where the device has it."""
    return torch.linalg.vector_norm(rows, dim=-1, dtype=None if rows.device.type == "mps" else torch.float64)


def reciprocal(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0."""
    zero = x == 0
    return (1 / x.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)


def shares_of(parts: Tensor) -> Tensor:
    """Parts >= 0, `[..., T]`, divided by their sum; equal if all are 0."""
    total = parts.sum(-1, keepdim=True)
    return torch.where(total > 0, parts / total, 1 / parts.shape[-1])


def cosines(gramian: Tensor) -> Tensor:
    """Cosines between the task gradients, `[..., T, T]`: 1 on the diagonal, 0 between a zero gradient and any other."""
    inverse = reciprocal(gradient_norms(gramian))  # [..., T]
    scaled = gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
    return scaled.clamp(-1, 1).masked_fill(identity_like(gramian).bool(), 1.0)


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """Matrix-vector product, `[..., T]`."""
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


def identity_like(matrix: Tensor) -> Tensor:
    """The identity `[T, T]` on the matrix's device, in its dtype."""
    return torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)


def in_double(x: Tensor) -> Tensor:
    """The same numbers in float64, or unchanged on MPS, which has no float64."""
    return x if x.device.type == "mps" else x.double()


def eigen(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `[..., T]`, unordered, and eigenvectors `[..., T, T]`, as columns, of a symmetric matrix.

    Jacobi rotations (Golub & Van Loan, section 8.5), T / 2 of them at a time; exact after one for T = 2. Errors are
    roundings of the largest eigenvalue. `torch.linalg.eigh` waits for the device to report errors, so it cannot be
    part of a captured step.
    """
    tasks = gramian.shape[-1]
    odd = tasks % 2  # pads an odd T, so that each index has a partner in every round
    matrix = torch.nn.functional.pad(in_double(gramian), (0, odd, 0, odd))
    vectors = identity_like(matrix)
    for _ in range(1 if tasks == 2 else (SWEEPS + tasks.bit_length()) * (tasks + odd - 1)):
        rotation = _rotation(matrix)
        matrix = rotation.mT @ matrix @ rotation
        vectors = vectors @ rotation
    values, vectors = matrix.diagonal(dim1=-2, dim2=-1)[..., :tasks], vectors[..., :tasks, :tasks]
    return values.to(gramian.dtype), vectors.to(gramian.dtype)


def _rotation(matrix: Tensor) -> Tensor:
    """The rotation `[..., T, T]` that zeroes the entries (i, T / 2 + i) and moves the next round's pairs there.

    All indices but the first advance by one place in a circle (a round-robin tournament): after T - 1 rounds every
    pair has met, and all indices are back in place.
    """
    half = matrix.shape[-1] // 2
    off = matrix[..., :half, half:].diagonal(dim1=-2, dim2=-1)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    # A rounding error is left alone: rotating equal eigenvalues into each other at random would undo other zeros.
    rounding = torch.finfo(matrix.dtype).eps * diagonal.abs().amax(-1, keepdim=True)
    off = off.masked_fill(off.abs() <= rounding, 0.0)
    first, second = diagonal.split(half, -1)
    gap = second - first
    # The tangent of the angle is the smaller root of t^2 + (gap / off) t - 1 = 0.
    tangent = torch.where(gap < 0, -2 * off, 2 * off) * reciprocal(gap.abs() + torch.hypot(gap, 2 * off))
    cosine = (1 + tangent.square()).rsqrt()
    cosines_, sines = torch.diag_embed(cosine), torch.diag_embed(tangent * cosine)
    left, right = torch.cat([cosines_, -sines], -2), torch.cat([sines, cosines_], -2)  # columns, [..., T, T / 2]
    if half == 1:
        return torch.cat([left, right], -1)
    return torch.cat([left[..., :1], right[..., :1], left[..., 1:-1], right[..., 1:], left[..., -1:]], -1)
