"""CAGrad's dual by a barrier method in 80-bit numbers: the lowest <g_w, g_0> / |g_0| + c |g_w| on the simplex."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Extended = NDArray[np.longdouble]
OUTER, INNER, FASTER, BACK = 17, 14, 8, 30
"""Values of the barrier's weight, Newton steps for each, the factor between them, and halvings of a step."""


def lowest(cosines: Extended, linear: Extended, normal: Extended, c: float) -> Extended:
    """The least b'x + c sqrt(x'Cx) over x >= 0 with n'x = 1, `[N]`, for C `[N, T, T]` of full rank.

    With x_t = w_t |g_t| in units of the shortest gradient, b_t = <g_t, g_0> / (|g_t| |g_0|) and n_t the shortest length
    over |g_t|, it is the least value of the dual in that unit (Boyd & Vandenberghe, section 11.3).
    """
    tasks = normal.shape[-1]
    x = np.broadcast_to(1 / normal.sum(-1, keepdims=True), normal.shape).copy()
    best, weight = _value(x, cosines, linear, c), np.ones(len(x), dtype=np.longdouble)

    def barrier(point: Extended) -> Extended:
        logs = np.log(np.where(point > 0, point, 1)).sum(-1)
        return np.where((point > 0).all(-1), weight * _value(point, cosines, linear, c) - logs, np.inf)

    for _ in range(OUTER):
        for _ in range(INNER):
            product = np.einsum("nts,ns->nt", cosines, x)
            size = np.sqrt((x * product).sum(-1))[:, None]
            slope = weight[:, None] * (linear + c * product / size) - 1 / x
            curve = cosines / size[..., None] - product[:, :, None] * product[:, None, :] / size[..., None] ** 3
            curve = weight[:, None, None] * c * curve * x[:, :, None] * x[:, None, :] + np.eye(tasks)  # in units of x
            free, along = np.moveaxis(_solve(curve, np.stack([-slope * x, normal * x], -1)), -1, 0)
            price = (normal * x * free).sum(-1) / (normal * x * along).sum(-1)
            move = x * (free - price[:, None] * along)
            length = np.minimum(1, 0.95 / np.maximum((-move / x).max(-1), 1e-30))
            here, descent = barrier(x), (slope * move).sum(-1)
            lower = np.zeros(len(x), dtype=bool)
            for _ in range(BACK):
                there = barrier(x + length[:, None] * move)
                lower = there <= here + 0.1 * length * descent + 1e-18 * np.abs(here)
                length = np.where(lower, length, length / 2)
            x = x + np.where(lower, length, 0)[:, None] * move
        best = np.minimum(best, _value(x / (normal * x).sum(-1, keepdims=True), cosines, linear, c))
        weight = FASTER * weight
    return best


def _value(x: Extended, cosines: Extended, linear: Extended, c: float) -> Extended:
    return (linear * x).sum(-1) + c * np.sqrt(np.einsum("nt,nts,ns->n", x, cosines, x))


def _solve(matrix: Extended, right: Extended) -> Extended:
    """Solutions `[N, T, M]` for positive definite matrices `[N, T, T]`, by Cholesky; LAPACK has no 80-bit numbers."""
    root, solution = matrix.copy(), right.copy()
    size = range(matrix.shape[-1])
    for k in size:
        root[:, k, k] = np.sqrt(root[:, k, k])
        root[:, k + 1 :, k] /= root[:, k, k, None]
        root[:, k + 1 :, k + 1 :] -= root[:, k + 1 :, k, None] * root[:, None, k + 1 :, k]
    for k in size:
        known = np.einsum("nj,njm->nm", root[:, k, :k], solution[:, :k])
        solution[:, k] = (solution[:, k] - known) / root[:, k, k, None]
    for k in reversed(size):
        known = np.einsum("nj,njm->nm", root[:, k + 1 :, k], solution[:, k + 1 :])
        solution[:, k] = (solution[:, k] - known) / root[:, k, k, None]
    return solution
