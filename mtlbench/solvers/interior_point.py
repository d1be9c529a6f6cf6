"""Interior-point methods for the solvers' convex problems: batched, a fixed number of steps, no waiting for the device.

Primal-dual path following (Nocedal & Wright, chapters 14 and 16): Newton steps on the optimality conditions, with the
products x_t z_t of the unknowns and their multipliers brought down to a tenth of their mean in each.
"""

from __future__ import annotations

import torch
from torch import Tensor

QUADRATIC_STEPS = 25
AVERSE_STEPS = 60


def nonnegative_point(matrix: Tensor, linear: Tensor, ridge: float) -> Tensor:
    """The x >= 0, `[..., T]`, that minimises x'Ax / 2 + b'x.

    Args:
        matrix: A `[..., T, T]`, positive semi-definite up to rounding, with entries of the order of 1.
        linear: b `[..., T]`, likewise.
        ridge: what is added to A in the steps alone, which keeps them finite and changes no solution.
    """
    x = z = torch.ones_like(linear)
    ridged = matrix + ridge * identity_like(matrix)
    least = torch.finfo(x.dtype).eps
    for _ in range(QUADRATIC_STEPS):
        target = (0.1 * (x * z).mean(-1, keepdim=True)).clamp_min(least)
        move = solve(ridged + torch.diag_embed(z / x), target / x - linear - times(matrix, x))
        dual_move = (target - z * move) / x - z
        length = torch.minimum(_reach(x, move), _reach(z, dual_move))
        x, z = x + length * move, z + length * dual_move
    return x


def averse_point(matrix: Tensor, linear: Tensor, normal: Tensor, c: float, ridge: float) -> Tensor:
    """The x >= 0 with normal'x = 1, `[..., T]`, that minimises b'x + c |x|, |x|^2 = x'Ax.

    |x| has no derivative at 0, where the minimum often lies. Its gradient, some v with |v| <= c, is therefore an
    unknown of its own, and the Newton steps are those of |x| v = c x, with |x| rounded off by the same target as the
    x_t z_t (Andersen, Christiansen, Conn & Overton, SIAM J. Sci. Comput. 2000, on sums of norms).

    Args:
        matrix: A `[..., T, T]`, a Gramian of vectors of length 1 or 0.
        linear: b `[..., T]`, entries at most of the order of 1.
        normal: > 0 and <= 1, `[..., T]`.
        c: >= 0.
        ridge: as in `nonnegative_point`.
    """
    x = torch.ones_like(linear) / normal.sum(-1, keepdim=True)
    z, slope = torch.ones_like(x), torch.zeros_like(x)  # v = sum_t slope_t a_t, a_t the vectors
    multiplier = torch.zeros_like(x[..., :1])
    ridged = matrix + ridge * identity_like(matrix)
    # Stiff along the constraint, which changes no move on it and keeps the system regular where the Hessian is not.
    unit = normal / normal.square().sum(-1, keepdim=True).sqrt()
    stiff = ridged + matrix.shape[-1] * unit.unsqueeze(-1) * unit.unsqueeze(-2)
    least = torch.finfo(x.dtype).eps ** 1.125
    for _ in range(AVERSE_STEPS):
        target = (0.1 * (x * z).mean(-1, keepdim=True)).clamp_min(least)
        product = times(matrix, x)
        # No |<x, a_t>| is larger than |x|, whose own square may cancel to nothing.
        square = torch.maximum((x * product).sum(-1, keepdim=True), product.square().amax(-1, keepdim=True))
        square = square + target.square()
        pull = c / square.sqrt()
        turn = times(matrix, slope / square).unsqueeze(-1) * product.unsqueeze(-2)
        hessian = pull.unsqueeze(-1) * stiff - (turn + turn.mT) / 2
        right = target / x - linear - pull * product + multiplier * normal
        solved = solve(hessian + torch.diag_embed(z / x), torch.stack([right, normal], -1))
        free, along = solved.unbind(-1)
        change = (1 - (normal * (x + free)).sum(-1, keepdim=True)) / (normal * along).sum(-1, keepdim=True)
        move = free + change * along
        dual_move = (target - z * move) / x - z
        turned = pull * (x + move) - slope * ((product * move).sum(-1, keepdim=True) / square)
        length = torch.minimum(_reach(x, move), _reach(z, dual_move))
        slope = slope + length * (turned - slope)
        size = (slope * times(ridged, slope)).sum(-1, keepdim=True).clamp_min(least).sqrt()
        slope = slope * (c / size).clamp_max(1)
        x, z, multiplier = x + length * move, z + length * dual_move, multiplier + length * change
    return x


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix^-1 right without asking the device whether there is one."""
    return torch.linalg.solve_ex(matrix, right)[0]


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """Matrix-vector product, `[..., T]`."""
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


def identity_like(matrix: Tensor) -> Tensor:
    """The identity `[T, T]` on the matrix's device, in its dtype."""
    return torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)


def _reach(x: Tensor, move: Tensor) -> Tensor:
    """How much of a move, at most all of it, leaves x > 0: `[..., 1]`."""
    return (0.99 / (-move / x).amax(-1, keepdim=True).clamp_min(0.99)).clamp_max(1)
