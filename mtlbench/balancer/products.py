"""Inner products of gradients that are given parameter by parameter, of any size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from mtlbench.solvers.linalg import in_double, scaled_back, unit_of

Row = Sequence[Tensor]
"""A task's gradients, flat, by parameter."""


def gramian_of(rows: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients of any size, as `scaled_back`.

    On CPU, where a look at the lengths costs nothing, gradients whose squares are in range are not scaled.
    """
    if rows[0][0].device.type == "cpu":
        direct, limits = _products(rows, rows), torch.finfo(rows[0][0].dtype)
        squares = direct.diagonal()
        if bool(((squares > limits.tiny**0.5) & (squares < limits.max**0.5)).all()):
            return in_double(direct)
    return scaled_products(rows, rows)


def scaled_products(rows: Sequence[Row], others: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients of any size, each in a unit of its own, as `scaled_back`."""
    scaled, units = zip(*map(_in_unit, rows), strict=True)
    others_scaled, other_units = (scaled, units) if others is rows else zip(*map(_in_unit, others), strict=True)
    return scaled_back(_products(scaled, others_scaled), torch.stack(units), torch.stack(other_units))


def _in_unit(row: Row) -> tuple[Row, Tensor]:
    """The gradients in units of a power of two, so that their squares are in range, and that unit."""
    unit = unit_of(torch.stack([torch.linalg.vector_norm(part, torch.inf) for part in row if part.numel()]).amax())
    return [part / unit for part in row], unit


def _products(rows: Sequence[Row], others: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients given parameter by parameter; a Gramian if both are the same.

    Pair by pair: joining them to one matrix first would copy them, which takes longer than the products.
    """
    products: dict[tuple[int, int], Tensor] = {}
    for s, t in product(range(len(rows)), repeat=2):
        if rows is others and t < s:
            products[s, t] = products[t, s]
        else:
            pairs = zip(rows[s], others[t], strict=True)
            products[s, t] = torch.stack([one @ other for one, other in pairs]).sum()
    return torch.stack(list(products.values())).view(len(rows), -1)
