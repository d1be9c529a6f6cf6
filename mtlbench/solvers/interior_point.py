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
AVERSE_STEPS = 45


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


def averse_point(matrix: Tensor, linear: Tensor, normal: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The y `[..., T]` with |y| <= c, |y|^2 = y'Ay, that maximises the smallest (b + Ay)_t / normal_t, and multipliers.

    The multipliers x `[..., T]`, x >= 0 with normal'x = 1, minimise b'x + c |x|. Where that is 0 at |x| = 0, y is not
    determined: then it is one within the ball. With the smallest ratio phi as a separate unknown, the slacks are
    s = b + Ay - phi normal and, of the ball, r = (c^2 - y'Ay) / 2. The steps solve x_t s_t = r lambda = target and
    lambda y = x, where lambda is the multiplier of the ball.

    Args:
        matrix: A `[..., T, T]`, the Gramian of vectors of length 1, positive definite.
        linear: b `[..., T]`, entries at most 1.
        normal: >= 0 and <= 1, not all 0, `[..., T]`; where it is 0, b must be 1.
        c: > 0 and <= 1, `[..., 1]`.
    """
    tasks, least = matrix.shape[-1], torch.finfo(linear.dtype).eps
    bounds = (linear - 1 - c) / torch.where(normal > 0, normal, 1.0)
    phi = bounds.masked_fill(normal == 0, torch.inf).amin(-1, keepdim=True)  # slacks are >= 1 + c where y is 0
    y = c / (2 * tasks) / (linear - phi * normal)
    slack = linear + times(matrix, y) - phi * normal
    multiplier = 1 / (normal * y).sum(-1, keepdim=True)  # lambda
    x, room = multiplier * y, (c * c - (y * times(matrix, y)).sum(-1, keepdim=True)) / 2
    for _ in range(AVERSE_STEPS):
        product = times(matrix, y)
        square = (y * product).sum(-1, keepdim=True)
        gap = ((x * slack).sum(-1, keepdim=True) + multiplier * room) / (tasks + 1)
        target = torch.maximum(0.1 * gap, least * multiplier.clamp_min(1))
        # The moves of y, slacks and room follow from those of x, phi and lambda, of which lambda's is relative.
        whole = multiplier * (room + square)
        grow = (target - multiplier * (c * c + square) / 2 + (product * x).sum(-1, keepdim=True)) / whole
        right = target / x - linear + phi * normal - times(matrix, x) / multiplier + product * grow
        curved = matrix / multiplier.unsqueeze(-1) - product.unsqueeze(-1) * (product / whole).unsqueeze(-2)
        free, along = solve_ex(curved + torch.diag_embed(slack / x), torch.stack([right, normal], -1))[0].unbind(-1)
        rise = (1 - (normal * (x + free)).sum(-1, keepdim=True)) / (normal * along).sum(-1, keepdim=True)
        move = free + rise * along
        grow = grow + (product * move).sum(-1, keepdim=True) / whole
        slack_move = (target - slack * move) / x - slack
        room_move = target / multiplier - room * grow - room
        ahead = torch.minimum(_reach(slack, slack_move), _reach(room, room_move))
        back = torch.minimum(_reach(x, move), _reach(torch.ones_like(grow), grow))
        moved = [
            y + ahead * ((x + move) / multiplier - y * (1 + grow)),
            slack + ahead * slack_move,
            room + ahead * room_move,
            phi + ahead * rise,
            x + back * move,
            multiplier * (1 + back * grow),
        ]
        # At a solution the matrix may be singular, or nearly so: then this is the last step.
        sound = (move.sum(-1, keepdim=True) + grow + rise).isfinite()
        y, slack, room, phi, x, multiplier = (
            torch.where(sound, new, old) for new, old in zip(moved, (y, slack, room, phi, x, multiplier), strict=True)
        )
    return y, x


def _reach(x: Tensor, move: Tensor) -> Tensor:
    """The largest fraction of a move, at most 1, that keeps x > 0: `[..., 1]`."""
    return (0.99 / (-move / x).amax(-1, keepdim=True).clamp_min(0.99)).clamp_max(1)
