"""Small convex problems in the Gramian of the task gradients, batched and without waiting for the device.

All of them take leading dimensions as independent problems, run a fixed number of iterations, and compute in
float64 where the device has it: T x T numbers cost nothing, and squares of gradients of very different lengths
need it. They work in units of each gradient's length, so a Gramian may be scaled from 1e-12 to 1e12, task by task,
be of any rank, or zero; what is then no longer determined, or not reached, is said for each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtlbench.solvers.interior_point import averse_point, identity_like, nonnegative_point, solve, times

MOST_STEPS = 100  # of Newton's method for an extreme alpha
PAIR_STEPS = 8
SWEEPS = 4


def gradient_norms(gramian: Tensor) -> Tensor:
    """Norms of the task gradients, `[..., T]`, from their Gramian `[..., T, T]`."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def reciprocal(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0."""
    zero = x == 0
    return (1 / x.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)


def cosines(gramian: Tensor) -> Tensor:
    """Cosines between the task gradients, `[..., T, T]`, with 1 on the diagonal; 0 towards a zero gradient."""
    inverse = reciprocal(gradient_norms(gramian))  # [..., T]
    scaled = gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
    return scaled.clamp(-1, 1).masked_fill(identity_like(gramian).bool(), 1.0)


def simplex_projection(v: Tensor) -> Tensor:
    """The nearest point to `v` `[..., T]` with entries >= 0 that sum to 1.

    Source: Held, Wolfe & Crowder, Mathematical Programming 1974; Duchi et al., ICML 2008, figure 1.
    """
    v = v - v.amax(-1, keepdim=True)  # the same point, without the rounding of large entries
    ordered = v.sort(dim=-1, descending=True).values
    counts = torch.arange(1, v.shape[-1] + 1, device=v.device, dtype=v.dtype)
    # The threshold is the largest of these: it belongs to the entries that stay positive.
    threshold = ((ordered.cumsum(-1) - 1) / counts).amax(-1, keepdim=True)
    return (v - threshold).clamp_min(0)


def min_norm_point(gramian: Tensor) -> Tensor:
    """Weights `[..., T]` of the shortest vector in the convex hull of the task gradients.

    argmin w'Gw over w >= 0, sum w = 1; in closed form for T = 2 (Sener & Koltun, NeurIPS 2018, eq. 4). Where
    several weights give the shortest vector, one of them.
    """
    wide = _wide(gramian)
    if wide.shape[-1] == 2:
        first, cross, second = wide[..., 0, 0], wide[..., 0, 1], wide[..., 1, 1]
        return _shares(second - cross, first - cross).to(gramian.dtype)
    # x = s w with w of the simplex minimises x'Gx + (1'x - 1)^2: only its size s depends on how the two are weighed.
    normal, matrix = _scaled(wide)
    sides = matrix + normal.unsqueeze(-1) * normal.unsqueeze(-2)
    weights = normal * nonnegative_point(sides, -normal, _rounding(gramian))
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def conflict_averse_point(gramian: Tensor, c: float) -> Tensor:
    """The w of the simplex, `[..., T]`, that minimises <g_w, g_0> + c |g_0| |g_w|, g_0 the mean gradient.

    In closed form for T = 2; for more tasks converged while lengths differ by a factor of up to 1e4. Where g_0 is 0,
    any w is one. Source: Liu et al., "CAGrad", NeurIPS 2021, eq. 3.

    Args:
        gramian: `[..., T, T]`.
        c: >= 0.
    """
    wide = _wide(gramian)
    if wide.shape[-1] == 2:
        return _conflict_averse_pair(wide, c).to(gramian.dtype)
    mean = wide.mean(-1)  # <g_t, g_0>
    linear = mean * reciprocal(gradient_norms(wide)) * reciprocal(mean.mean(-1, keepdim=True).clamp_min(0).sqrt())
    normal, matrix = _scaled(wide)
    weights = normal * averse_point(matrix, linear, normal, c, _rounding(gramian))
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def _conflict_averse_pair(gramian: Tensor, c: float) -> Tensor:
    """With g_s = s g_1 + (1 - s) g_2, it minimises a s + c |g_0| |g_s|, a = <g_1 - g_2, g_0>: a root of a quadratic."""
    first, cross, second = gramian[..., 0, 0], gramian[..., 0, 1], gramian[..., 1, 1]
    to_first, to_second = second - cross, first - cross  # where g_s is shortest
    slope = (first - second) / 2
    area = (first * second - cross.square()).clamp_min(0)
    # (c |g_0| |g_1 - g_2|)^2 - a^2 without the difference of their leading parts; where it is <= 0, w is a corner.
    bend = (c * c - 1) * slope.square() + c * c * area
    corner = to_first.abs() + to_second.abs()
    shift = torch.where(bend > 0, slope.abs() * (area * reciprocal(bend)).abs().sqrt(), corner)
    shift = torch.minimum(shift, corner) * slope.sign()
    return _shares(to_first - shift, to_second + shift)


def dual_cone_projection(gramian: Tensor, start: Tensor) -> Tensor:
    """Weights `[..., T]` of the projection of sum_t u_t g_t onto the cone of directions no task objects to.

    argmin v'Gv over v >= u: the direction d = sum_t v_t g_t has <d, g_t> >= 0 for every task (Quinton & Rey,
    arXiv:2406.16232, proposition 1). In closed form for T = 2, where at most one task objects to u. Where
    gradients depend on each other the weights are not unique, the direction is; a ridge of a rounding on the
    cosines chooses the smallest.

    Args:
        gramian: `[..., T, T]`.
        start: u >= 0, `[..., T]`.
    """
    wide, u = _wide(gramian), _wide(start)
    inverse = reciprocal(gradient_norms(wide))
    linear = times(wide, u) * inverse  # <g_u, g_t> / |g_t|
    if wide.shape[-1] == 2:
        return (u + (-linear).clamp_min(0) * inverse).to(gramian.dtype)
    size = linear.abs().amax(-1, keepdim=True)
    linear = linear * reciprocal(size)
    matrix = cosines(wide) + _rounding(gramian) * identity_like(wide)
    x = nonnegative_point(matrix, linear, 0.0)
    return (u + x * size * inverse).to(gramian.dtype)


def inverse_power_point(gramian: Tensor, alpha: float) -> Tensor:
    """The w > 0, `[..., T]`, with (G w)_t = w_t^(-1 / alpha) for every task.

    For T = 2 and alpha = 1, w_t = 1 / (n_t sqrt(1 + cos)), n the gradients' norms; for another alpha an equation in
    one unknown; for more tasks a primal-dual Newton's method, whose steps grow in number with alpha and 1 / alpha. At
    full rank it has converged for alpha in [1/2, 5] whatever the lengths, for 10 if they differ by a factor of up to
    1e4. Opposite gradients have no such w and dependent ones may have none: a ridge of a rounding on the cosines keeps
    w finite, and so does the range of the Gramian's dtype. A task without a gradient gets weight 0.

    Args:
        gramian: `[..., T, T]`.
        alpha: > 0; 1 is the Nash bargaining solution.
    """
    wide = _wide(gramian)
    norms, power = gradient_norms(wide), 1 / alpha
    logs = torch.where(norms > 0, norms, 1.0).log()
    # With y = n w the equation is (C y)_t = n_t^(1 / alpha - 1) y_t^(-1 / alpha), C the cosines.
    right, matrix, ridge = (power - 1) * logs, cosines(wide), _rounding(gramian)
    if wide.shape[-1] == 2:
        log_y = _inverse_power_pair(matrix[..., 0, 1], right, power, ridge)
    else:
        log_y = _inverse_power(matrix + ridge * identity_like(wide), right, power)
    range_ = torch.finfo(gramian.dtype)
    weights = (log_y - logs).clamp(math.log(range_.tiny), math.log(range_.max) - 1).exp()
    return weights.masked_fill(norms == 0, 0.0).to(gramian.dtype)


def _inverse_power_pair(cosine: Tensor, right: Tensor, power: float, ridge: float) -> Tensor:
    """Log y with log (C y)_t + power log y_t = right_t, `[..., 2]`.

    With k = |cos| and m(x) = log((e^x + k) / (1 + k e^x)), the difference r of the two equations is
    power x + m(x) = r for x = log y_2 / y_1 where cos >= 0, and x + power m(x) = r, m(x) = log y_2 / y_1, where
    cos < 0. Both are odd and, beyond 0, increasing and concave, so that Newton's method from below does not overshoot.
    """
    k, opposed = cosine.abs().clamp_max(1 - ridge), cosine < 0
    apart, tiny = (1 - k) * (1 + k), torch.finfo(k.dtype).tiny
    along, across = torch.where(opposed, torch.ones_like(k), power), torch.where(opposed, power, torch.ones_like(k))
    difference = right[..., 1] - right[..., 0]
    size = difference.abs()
    x = torch.maximum(size / (along + across * (1 - k) / (1 + k)), (size + across * k.log()) / along)
    for _ in range(PAIR_STEPS if power != 1 else 0):  # with alpha = 1 both sides are 0, and so is x
        small = (-x).exp()
        over, under = 1 + k * small, (k + small).clamp_min(tiny)
        slope = along + across * apart * small / (over * under)
        x = x + (size - along * x - across * (over / under).log()) / slope
    small = (-x).exp()
    over, under = 1 + k * small, (k + small).clamp_min(tiny)
    ratio = torch.where(opposed, (over / under).log(), x) * difference.sign()
    product = (over * under).log() + x  # log (1 + k^2 + 2 k cosh x), of (C y)_1 (C y)_2 / (y_1 y_2)
    mean = (right.sum(-1) - torch.where(opposed, 2 * apart.log() - product, product)) / (1 + power)
    return torch.stack([mean - ratio, mean + ratio], -1) / 2


def _inverse_power(matrix: Tensor, right: Tensor, power: float) -> Tensor:
    """Log y with log (C y)_t + power log y_t = right_t, for more tasks.

    u = C y is an unknown of its own: Newton steps on C y = u and log u + power log y = right, as in an interior-point
    method, but with each entry of y and u kept from falling below a fiftieth on its own.
    """
    log_y = log_u = torch.zeros_like(right)
    diagonal = power * identity_like(matrix)
    for _ in range(min(round(20 * max(power, 1 / power)), MOST_STEPS)):
        shares = matrix * (log_y.unsqueeze(-2) - log_u.unsqueeze(-1)).exp()  # C_ts y_s / u_t
        remaining = right - power * log_y - log_u
        move = solve(shares + diagonal, remaining + 1 - shares.sum(-1)).nan_to_num(0.0, 0.0, 0.0)  # relative to y
        log_y = log_y + move.clamp(-0.98, 1e4).log1p()
        log_u = log_u + (remaining - power * move).clamp(-0.98, 1e4).log1p()
    return log_y


def equiangular_weights(gramian: Tensor) -> Tensor:
    """Weights v `[..., T]` of a u = sum_t v_t g_t with the same projection 1 onto every unit gradient.

    v = N^-1 C^+ 1, C the cosines and N the norms. For two tasks 1 / (n_t (1 + cos)). Where the unit gradients depend on
    each other there may be no such u, and it is the nearest to one; opposite gradients of two tasks get large weights,
    of more tasks 0. A task without a gradient gets 0.

    Args:
        gramian: `[..., T, T]`.
    """
    wide = _wide(gramian)
    norms = gradient_norms(wide)
    matrix = cosines(wide)
    if wide.shape[-1] == 2:
        least = torch.finfo(gramian.dtype).eps ** 0.75
        return (reciprocal(norms) / (1 + matrix[..., :1, 1]).clamp_min(least)).to(gramian.dtype)
    values, vectors = eigen(matrix)
    inverse = reciprocal(torch.where(values > _rounding(gramian), values, 0.0))
    there = (norms > 0).to(wide.dtype)
    y = times(vectors, inverse * times(vectors.mT, there))
    return (y * reciprocal(norms)).to(gramian.dtype)


def impartial_weights(gramian: Tensor) -> Tensor:
    """Weights `[..., T]` of equal projections onto the unit gradients, over their sum; 0 where they cancel.

    For two tasks (n_2, n_1) / (n_1 + n_2), n the norms.

    Args:
        gramian: `[..., T, T]`.
    """
    weights = _wide(equiangular_weights(gramian))
    total, size = weights.sum(-1, keepdim=True), weights.abs().sum(-1, keepdim=True)
    cancel = total.abs() <= torch.finfo(gramian.dtype).eps ** 0.5 * size
    return (weights * reciprocal(total.masked_fill(cancel, 0.0))).to(gramian.dtype)


def eigen(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `[..., T]`, in no order, and eigenvectors as columns `[..., T, T]`, of a symmetric matrix.

    Jacobi rotations (Golub & Van Loan, section 8.5), T / 2 of them at a time, exact after one for T = 2; errors are
    roundings of the largest eigenvalue. `torch.linalg.eigh` waits for the device to report errors, so it cannot be
    part of a captured step.
    """
    tasks = gramian.shape[-1]
    odd = tasks % 2  # an entry of its own for the one that has no partner in a round
    matrix = torch.nn.functional.pad(_wide(gramian), (0, odd, 0, odd))
    vectors = identity_like(matrix)
    for _ in range(1 if tasks == 2 else (SWEEPS + tasks.bit_length()) * (tasks + odd - 1)):
        rotation = _rotation(matrix)
        matrix = rotation.mT @ matrix @ rotation
        vectors = vectors @ rotation
    values = matrix.diagonal(dim1=-2, dim2=-1)[..., :tasks]
    return values.to(gramian.dtype), vectors[..., :tasks, :tasks].to(gramian.dtype)


def _rotation(matrix: Tensor) -> Tensor:
    """The rotation `[..., T, T]` that makes the entries (i, T / 2 + i) zero, then brings on the next round's pairs.

    All but the first index move on by one place in a circle (a round-robin tournament): after T - 1 rounds each has
    met each, and all are back in place.
    """
    half = matrix.shape[-1] // 2
    off = matrix[..., :half, half:].diagonal(dim1=-2, dim2=-1)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    # A rounding is left as it is: turning equal eigenvalues into each other at random would undo other pairs' zeros.
    rounding = torch.finfo(matrix.dtype).eps * diagonal.abs().amax(-1, keepdim=True)
    off = off.masked_fill(off.abs() <= rounding, 0.0)
    first, second = diagonal.split(half, -1)
    gap = second - first
    # The smaller root of t^2 + (gap / off) t - 1 = 0 is the tangent of the angle.
    tangent = torch.where(gap < 0, -2 * off, 2 * off) * reciprocal(gap.abs() + torch.hypot(gap, 2 * off))
    cosine = (1 + tangent.square()).rsqrt()
    cosines_, sines = torch.diag_embed(cosine), torch.diag_embed(tangent * cosine)
    left, right = torch.cat([cosines_, -sines], -2), torch.cat([sines, cosines_], -2)  # columns, [..., T, T / 2]
    if half == 1:
        return torch.cat([left, right], -1)
    return torch.cat([left[..., :1], right[..., :1], left[..., 1:-1], right[..., 1:], left[..., -1:]], -1)


def _shares(first: Tensor, second: Tensor) -> Tensor:
    """Weights `[..., 2]` >= 0 in these proportions, 0 and 1 where one is negative, halves where both are 0."""
    both = torch.stack([first, second], -1)
    total = both.sum(-1, keepdim=True)
    return torch.where(total > 0, both * reciprocal(total), 0.5).clamp(0, 1)


def _scaled(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """What turns lengths y_t into weights w_t `[..., T]`, and the Gramian with which |g_w|^2 = y'Cy.

    Lengths are in units of the smallest gradient that is not 0; where one is 0, so are its row and column.
    """
    norms = gradient_norms(gramian)
    there = norms > 0
    smallest = torch.where(there, norms, torch.inf).amin(-1, keepdim=True)
    normal = torch.where(there, smallest * reciprocal(norms), 1.0)
    return normal, cosines(gramian) * there.unsqueeze(-1)


def _rounding(gramian: Tensor) -> float:
    """How far rounding may make the cosines indefinite."""
    return 8 * gramian.shape[-1] * torch.finfo(gramian.dtype).eps


def _wide(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()
