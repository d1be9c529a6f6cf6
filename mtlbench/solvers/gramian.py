"""Convex problems and equations in the Gramian of the task gradients, batched and without waiting for the device.

A Gramian is `[..., T, T]`; leading dimensions are independent problems. Every function runs a fixed number of
iterations and computes in float64 where the device has it: T x T numbers cost nothing, and squares of gradients of very
different lengths need it. Each gradient's length is its unit, so a Gramian may be scaled from 1e-12 to 1e12, task by
task, and may have any rank or be zero; each docstring says what is then undetermined or not reached.

`precision` is the dtype that the gradients were computed in, that of `step.losses`: what cancels below its rounding is
treated as 0. Without it, it is the Gramian's dtype.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.linalg import solve_ex  # solve() would wait for the device to report a singular matrix

from mtlbench.solvers.interior_point import averse_point, nonnegative_point
from mtlbench.solvers.linalg import cosines, eigen, gradient_norms, identity_like, in_double, reciprocal, times

RIDGE = 1e-13  # on the cosines, so that y is bounded where g_w is 0
SMALLEST_BALL = 1e-6  # the radius with which y is found for a smaller one
MOST_STEPS = 100  # of Newton's method for an extreme alpha
PAIR_STEPS = 8
MISSED, FARTHEST = 1e-6, 1e9  # of a condition with distances of the order of 1


def simplex_projection(v: Tensor) -> Tensor:
    """The point nearest to `v` `[..., T]` with entries >= 0 that sum to 1.

    Source: Held, Wolfe & Crowder, Mathematical Programming 1974; Duchi et al., ICML 2008, figure 1.
    """
    v = v - v.amax(-1, keepdim=True)  # the same point, without the rounding of large entries
    ordered = v.sort(dim=-1, descending=True).values
    counts = torch.arange(1, v.shape[-1] + 1, device=v.device, dtype=v.dtype)
    # The threshold is the largest of these: it belongs to the entries that stay positive.
    threshold = ((ordered.cumsum(-1) - 1) / counts).amax(-1, keepdim=True)
    return (v - threshold).clamp_min(0)


def min_norm_point(gramian: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Weights `[..., T]` of the shortest vector in the convex hull of the task gradients.

    argmin w'Gw over w >= 0, sum w = 1; in closed form for T = 2 (Sener & Koltun, NeurIPS 2018, eq. 4). If several
    weights give the shortest vector, returns some whose w_t g_t are short, so that less cancels.
    """
    wide = in_double(gramian)
    if wide.shape[-1] == 2:
        first, cross, second = wide[..., 0, 0], wide[..., 0, 1], wide[..., 1, 1]
        return _shares(second - cross, first - cross).to(gramian.dtype)
    # x = s w, w on the simplex, minimises x'Gx + (1'x - 1)^2: the weighting of the two terms changes only its size s.
    normal, matrix = _scaled(wide)
    ridge = torch.finfo(wide.dtype).eps * identity_like(wide)
    sides = matrix + ridge + normal.unsqueeze(-1) * normal.unsqueeze(-2)
    weights = normal * nonnegative_point(sides, -normal, _rounding(gramian, precision))
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def conflict_averse_push(gramian: Tensor, c: float | Tensor, precision: torch.dtype | None = None) -> Tensor:
    """The y >= 0 `[..., T]`, |g_y| <= c, for which the smallest <g_t, g_0 / |g_0| + g_y> over the tasks is largest.

    g_y = sum_t y_t g_t, and g_0 is the mean gradient. y is c w / |g_w| with w the `conflict_averse_point`, and exists
    also where g_w is 0. It is 0 if g_0 is. A zero gradient, which no direction serves, gets 0 and is left out of the
    minimum. In closed form for T = 2; for more tasks by an interior-point method, accurate to 1e-6 of the longest
    gradient's length while lengths differ by a factor of up to 1e12. `c` must be >= 0: one number, or one for each
    problem, `[...]`.
    """
    y, _ = _conflict_averse(gramian, c, precision)
    return y


def conflict_averse_point(gramian: Tensor, c: float | Tensor, precision: torch.dtype | None = None) -> Tensor:
    """The w on the simplex, `[..., T]`, that minimises <g_w, g_0> + c |g_0| |g_w|, where g_0 is the mean gradient.

    It is the dual of `conflict_averse_push`, and as accurate; a zero gradient is left out. If g_0 is 0, any w is a
    minimum. Source: Liu et al., "CAGrad", NeurIPS 2021, eq. 3.
    """
    _, w = _conflict_averse(gramian, c, precision)
    return w


def _conflict_averse(gramian: Tensor, c: float | Tensor, precision: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """The results of the two functions above, y and w."""
    wide, ridge = in_double(gramian), max(_rounding(gramian, precision), RIDGE)
    radius = (torch.full_like(wide[..., 0, 0], c) if isinstance(c, float | int) else in_double(c)).unsqueeze(-1)
    norms, mean = gradient_norms(wide), wide.mean(-1)  # mean: <g_t, g_0>
    nonzero, length = norms > 0, mean.mean(-1, keepdim=True).clamp_min(0).sqrt()
    if wide.shape[-1] == 2:
        one_is_zero = nonzero.any(-1, keepdim=True) & ~nonzero.all(-1, keepdim=True)
        w = torch.where(one_is_zero, nonzero.to(norms.dtype), _conflict_averse_pair(wide, radius[..., 0]))
        square = (w * times(wide, w)).sum(-1, keepdim=True).clamp_min(0) + ridge * (w * norms).square().sum(-1, True)
        y = w * radius * reciprocal(square.sqrt())
    else:
        inverse, ball = reciprocal(norms), radius.clamp(SMALLEST_BALL, 1)
        linear = (mean * inverse * reciprocal(length)).clamp(-1, 1) / radius.clamp_min(1)
        matrix, (normal, _) = cosines(wide) + ridge * identity_like(wide), _scaled(wide)
        normal = torch.where(nonzero | ~nonzero.any(-1, keepdim=True), normal, 0.0)
        y, x = averse_point(matrix, torch.where(nonzero, linear, 1.0), normal, ball)
        w = normal * x / (normal * x).sum(-1, keepdim=True)
        y = y.clamp_min(0) * nonzero
        size = (y * times(matrix, y)).sum(-1, keepdim=True).sqrt()
        y = y * inverse * (radius / ball) * (ball * reciprocal(size)).clamp_max(1)
    return (y * (length > 0)).to(gramian.dtype), w.to(gramian.dtype)


def _conflict_averse_pair(gramian: Tensor, c: Tensor) -> Tensor:
    """Minimises a s + c |g_0| |g_s| with g_s = s g_1 + (1 - s) g_2, a = <g_1 - g_2, g_0>: a root of a quadratic."""
    first, cross, second = gramian[..., 0, 0], gramian[..., 0, 1], gramian[..., 1, 1]
    to_first, to_second = second - cross, first - cross  # proportions of the shortest g_s
    slope = (first - second) / 2
    area = (first * second - cross.square()).clamp_min(0)
    # (c |g_0| |g_1 - g_2|)^2 - a^2 without the difference of their leading parts; where it is <= 0, w is a corner.
    bend = (c * c - 1) * slope.square() + c * c * area
    corner = to_first.abs() + to_second.abs()
    shift = torch.where(bend > 0, slope.abs() * (area * reciprocal(bend)).abs().sqrt(), corner)
    shift = torch.minimum(shift, corner) * slope.sign()
    return _shares(to_first - shift, to_second + shift)


def dual_cone_projection(gramian: Tensor, start: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Weights `[..., T]` of the projection of sum_t u_t g_t onto the cone of directions that conflict with no task.

    argmin v'Gv over v >= u, where u = `start` >= 0, `[..., T]`: the direction d = sum_t v_t g_t has <d, g_t> >= 0 for
    every task (Quinton & Rey, arXiv:2406.16232, proposition 1). In closed form for T = 2, where at most one task
    conflicts with u. If the gradients are linearly dependent, the direction is unique but the weights are not; a ridge
    of a rounding on the cosines selects the smallest.
    """
    wide, u = in_double(gramian), in_double(start)
    inverse = reciprocal(gradient_norms(wide))
    linear = times(wide, u) * inverse  # <g_u, g_t> / |g_t|
    if wide.shape[-1] == 2:
        return (u + (-linear).clamp_min(0) * inverse).to(gramian.dtype)
    size = linear.abs().amax(-1, keepdim=True)
    matrix = cosines(wide) + _rounding(gramian, precision) * identity_like(wide)
    x = nonnegative_point(matrix, linear * reciprocal(size), 0.0)
    return (u + x * size * inverse).to(gramian.dtype)


def least_push(gramian: Tensor, progress: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Weights v >= 0, `[..., T]`, of the shortest d = sum_t v_t g_t with <d, g_t> >= p_t for each task.

    argmin v'Gv / 2 - p'v over v >= 0, where p = `progress`, `[..., T]`. If no d meets the conditions, as with progress
    along two opposite gradients, or if only v_t |g_t| beyond 1e9 times the largest p_t / |g_t| do, v is 0. A task with
    a zero gradient gets 0 and has no condition. In closed form for T <= 2.
    """
    if not progress.shape[-1]:
        return progress.to(gramian.dtype)
    wide, wanted = in_double(gramian), in_double(progress)
    inverse = reciprocal(gradient_norms(wide))
    distances = wanted * inverse  # p_t / |g_t|
    size = distances.abs().amax(-1, keepdim=True)
    distances = distances * reciprocal(size)
    matrix = cosines(wide)
    ridged = matrix + _rounding(gramian, precision) * identity_like(wide)
    few = wide.shape[-1] <= 2
    x = _nonnegative_few(ridged, distances) if few else nonnegative_point(ridged, -distances, 0.0)
    slack = (times(matrix, x) - distances).amin(-1, keepdim=True)
    met = (slack > -MISSED) & (x.sum(-1, keepdim=True) < FARTHEST)
    return torch.where(met, x * size * inverse, 0.0).to(gramian.dtype)


def _nonnegative_few(matrix: Tensor, linear: Tensor) -> Tensor:
    """The x >= 0, `[..., T]`, that minimises x'Ax / 2 - b'x, for T <= 2 and an A with equal numbers on its diagonal."""
    diagonal = matrix[..., :1, 0]
    alone = linear.clamp_min(0) / diagonal
    if matrix.shape[-1] == 1:
        return alone
    cross = matrix[..., :1, 1]
    both = (diagonal * linear - cross * linear.flip(-1)) / (diagonal.square() - cross.square())
    larger = torch.where(linear == linear.amax(-1, keepdim=True), alone, 0.0)
    return torch.where((both > 0).all(-1, keepdim=True), both, larger)


def inverse_power_point(gramian: Tensor, alpha: float, precision: torch.dtype | None = None) -> Tensor:
    """The w > 0, `[..., T]`, with (G w)_t = w_t^(-1 / alpha) for every task; alpha > 0, 1 for Nash bargaining.

    For T = 2 and alpha = 1, w_t = 1 / (n_t sqrt(1 + cos)), where n are the gradients' norms; for another alpha an
    equation in one unknown; for more tasks a primal-dual Newton's method, whose number of steps grows with alpha and
    1 / alpha. At full rank it converges for alpha in [1/2, 5] whatever the lengths, and for alpha = 10 if they differ
    by a factor of up to 1e4. No such w exists for opposite gradients, and possibly none for dependent ones: a ridge of
    a rounding on the cosines, and the range of the Gramian's dtype, keep w finite. A task with a zero gradient gets 0.
    """
    wide = in_double(gramian)
    norms, power = gradient_norms(wide), 1 / alpha
    logs = torch.where(norms > 0, norms, 1.0).log()
    # With y = n w the equation is (C y)_t = n_t^(1 / alpha - 1) y_t^(-1 / alpha), where C are the cosines.
    right, matrix, ridge = (power - 1) * logs, cosines(wide), _rounding(gramian, precision)
    if wide.shape[-1] == 2:
        log_y = _inverse_power_pair(matrix[..., 0, 1], right, power, ridge)
    else:
        log_y = _inverse_power(matrix + ridge * identity_like(wide), right, power)
    limits = torch.finfo(gramian.dtype)
    weights = (log_y - logs).clamp(math.log(limits.tiny), math.log(limits.max) - 1).exp()
    return weights.masked_fill(norms == 0, 0.0).to(gramian.dtype)


def _inverse_power_pair(cosine: Tensor, right: Tensor, power: float, ridge: float) -> Tensor:
    """Log y with log (C y)_t + power log y_t = right_t, `[..., 2]`.

    With k = |cos| and m(x) = log((e^x + k) / (1 + k e^x)), the difference r of the two equations is power x + m(x) = r,
    x = log y_2 / y_1, if cos >= 0, and x + power m(x) = r, m(x) = log y_2 / y_1, if cos < 0. Both left sides are odd
    and, for x > 0, increasing and concave, so Newton's method from below does not overshoot.
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
    """Log y with log (C y)_t + power log y_t = right_t, for more than two tasks.

    u = C y is a separate unknown: Newton steps on C y = u and log u + power log y = right, as in an interior-point
    method, except that each entry of y and u is limited separately, to no less than a fiftieth of its value in a step.
    """
    log_y = log_u = torch.zeros_like(right)
    diagonal = power * identity_like(matrix)
    for _ in range(min(round(20 * max(power, 1 / power)), MOST_STEPS)):
        shares = matrix * (log_y.unsqueeze(-2) - log_u.unsqueeze(-1)).exp()  # C_ts y_s / u_t
        remaining = right - power * log_y - log_u
        move = solve_ex(shares + diagonal, remaining + 1 - shares.sum(-1))[0].nan_to_num(0.0, 0.0, 0.0)  # relative to y
        log_y = log_y + move.clamp(-0.98, 1e4).log1p()
        log_u = log_u + (remaining - power * move).clamp(-0.98, 1e4).log1p()
    return log_y


def equiangular_weights(gramian: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Weights v `[..., T]` of a u = sum_t v_t g_t whose projection onto every unit gradient is 1.

    v = N^-1 C^+ 1, where C are the cosines and N the norms; for two tasks 1 / (n_t (1 + cos)). If the unit gradients
    are linearly dependent, there may be no such u; then it is the nearest to one. Opposite gradients get large weights
    for two tasks, 0 for more. A task with a zero gradient gets 0.
    """
    wide = in_double(gramian)
    norms, matrix = gradient_norms(wide), cosines(wide)
    if wide.shape[-1] == 2:
        least = torch.finfo(precision or gramian.dtype).eps ** 0.75
        return (reciprocal(norms) / (1 + matrix[..., :1, 1]).clamp_min(least)).to(gramian.dtype)
    values, vectors = eigen(matrix)
    inverse = reciprocal(torch.where(values > _rounding(gramian, precision), values, 0.0))
    ones = (norms > 0).to(wide.dtype)  # 0 for a zero gradient
    y = times(vectors, inverse * times(vectors.mT, ones))
    return (y * reciprocal(norms)).to(gramian.dtype)


def impartial_weights(gramian: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """Weights `[..., T]` of equal projections onto the unit gradients, divided by their sum; 0 if they cancel.

    For two tasks (n_2, n_1) / (n_1 + n_2), where n are the norms.
    """
    weights = in_double(equiangular_weights(gramian, precision))
    total, size = weights.sum(-1, keepdim=True), weights.abs().sum(-1, keepdim=True)
    cancel = total.abs() <= torch.finfo(precision or gramian.dtype).eps ** 0.5 * size
    return (weights * reciprocal(total.masked_fill(cancel, 0.0))).to(gramian.dtype)


def clipped(weights: Tensor, gramian: Tensor, max_norm: float, precision: torch.dtype | None = None) -> Tensor:
    """Weights `[..., T]` times the factor <= 1 that limits |sum_t w_t g_t| to `max_norm`; unchanged if that is 0.

    |d|^2 = w'Gw, so that clipping the norm of the shared gradient, as much published code does after the backward pass,
    is a common factor of the weights. Of terms that cancel, a rounding counts, so that the limit holds for them too.
    """
    if max_norm == 0:
        return weights
    lengths = weights * gradient_norms(gramian)
    square = (weights * times(gramian, weights)).sum(-1, keepdim=True).clamp_min(0)
    square = square + _rounding(gramian, precision) * lengths.square().sum(-1, keepdim=True)
    return weights * torch.where(square > 0, max_norm / square.sqrt(), 1.0).clamp_max(1)


def _shares(first: Tensor, second: Tensor) -> Tensor:
    """Weights `[..., 2]` >= 0 in these proportions; 0 and 1 if one is negative, 1/2 each if both are 0."""
    both = torch.stack([first, second], -1)
    total = both.sum(-1, keepdim=True)
    return torch.where(total > 0, both * reciprocal(total), 0.5).clamp(0, 1)


def _scaled(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Factors `[..., T]` that turn lengths y_t into weights w_t, and the Gramian C with |g_w|^2 = y'Cy.

    Lengths are in units of the smallest nonzero gradient; the row and column of a zero gradient are 0.
    """
    norms = gradient_norms(gramian)
    nonzero = norms > 0
    smallest = torch.where(nonzero, norms, torch.inf).amin(-1, keepdim=True)
    normal = torch.where(nonzero, smallest * reciprocal(norms), 1.0)
    return normal, cosines(gramian) * nonzero.unsqueeze(-1)


def _rounding(gramian: Tensor, precision: torch.dtype | None) -> float:
    """How far rounding may make the cosines indefinite."""
    return 8 * gramian.shape[-1] * torch.finfo(precision or gramian.dtype).eps
