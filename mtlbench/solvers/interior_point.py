"""Interior-point methods for two convex problems: batched, a fixed number of steps, no waiting for the device.

Primal-dual path following (Nocedal & Wright, chapters 14 and 16): Newton steps on the optimality conditions, each of
which aims at products x_t z_t of the unknowns and their multipliers equal to a tenth of their current mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import solve_ex  # solve() would wait for the device to report a singular matrix

from mtlbench.solvers.linalg import identity_like, times

QUADRATIC_STEPS = 25
AVERSE_STEPS = 60


def nonnegative_point(matrix: Tensor, linear: Tensor, ridge: float) -> Tensor:
    """The x >= 0, `[..., T]`, that minimises x'Ax / 2 + b'x.

    Args:
        matrix: A `[..., T, T]`, positive semi-definite up to rounding, with entries of the order of 1.
        linear: b `[..., T]`, with entries of the order of 1.
        ridge: added to A when computing the steps; keeps them finite and changes no solution.
    """
    x = z = torch.ones_like(linear)
    ridged, least = matrix + ridge * identity_like(matrix), torch.finfo(x.dtype).eps
    for _ in range(QUADRATIC_STEPS):
        target = (0.1 * (x * z).mean(-1, keepdim=True)).clamp_min(least)
        move = solve_ex(ridged + torch.diag_embed(z / x), target / x - linear - times(matrix, x))[0]
        dual_move = (target - z * move) / x - z
        length = torch.minimum(_reach(x, move), _reach(z, dual_move))
        x, z = x + length * move, z + length * dual_move
    return x


def averse_point(matrix: Tensor, linear: Tensor, normal: Tensor, c: float | Tensor, ridge: float) -> Tensor:
    """The x >= 0 with normal'x = 1, `[..., T]`, that minimises b'x + c |x|, |x|^2 = x'Ax.

    |x| has no derivative at 0, where the minimum often lies. Its gradient, some v with |v| <= c, is therefore a
    separate unknown. The Newton steps solve |x| v = c x, with |x| smoothed by the same target as the x_t z_t
    (Andersen, Christiansen, Conn & Overton, SIAM J. Sci. Comput. 2000, on sums of norms).

    Args:
        matrix: A `[..., T, T]`, a Gramian of vectors of length 1 or 0.
        linear: b `[..., T]`, entries at most of the order of 1.
        normal: > 0 and <= 1, `[..., T]`.
        c: >= 0, one number or `[..., 1]`.
        ridge: as in `nonnegative_point`.
    """
    x = torch.ones_like(linear) / normal.sum(-1, keepdim=True)
    z, slope = torch.ones_like(x), torch.zeros_like(x)  # v = sum_t slope_t a_t, where a_t are the vectors
    multiplier = torch.zeros_like(x[..., :1])
    ridged = matrix + ridge * identity_like(matrix)
    # Stiffness across the constraint changes no move along it, and keeps the system regular if the Hessian is not.
    unit = normal / normal.square().sum(-1, keepdim=True).sqrt()
    stiff = ridged + matrix.shape[-1] * unit.unsqueeze(-1) * unit.unsqueeze(-2)
    least = torch.finfo(x.dtype).eps ** 1.125
    for _ in range(AVERSE_STEPS):
        target = (0.1 * (x * z).mean(-1, keepdim=True)).clamp_min(least)
        product = times(matrix, x)
        # |x| is at least every |<x, a_t>|, whereas x'Ax may cancel to 0.
        square = torch.maximum((x * product).sum(-1, keepdim=True), product.square().amax(-1, keepdim=True))
        square = square + target.square()
        pull = c / square.sqrt()
        turn = times(matrix, slope / square).unsqueeze(-1) * product.unsqueeze(-2)
        hessian = pull.unsqueeze(-1) * stiff - (turn + turn.mT) / 2
        right = target / x - linear - pull * product + multiplier * normal
        free, along = solve_ex(hessian + torch.diag_embed(z / x), torch.stack([right, normal], -1))[0].unbind(-1)
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


def _reach(x: Tensor, move: Tensor) -> Tensor:
    """The largest fraction of a move, at most 1, that keeps x > 0: `[..., 1]`."""
    return (0.99 / (-move / x).amax(-1, keepdim=True).clamp_min(0.99)).clamp_max(1)
