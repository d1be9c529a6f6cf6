"""Small convex problems in the Gramian of the task gradients, batched and without waiting for the device.

All of them take leading dimensions as independent problems, run a fixed number of iterations, and compute in
float64 where the device has it: T x T numbers cost nothing, and squares of gradients of very different lengths
need it. They work in units of each gradient's length, so a Gramian may be scaled from 1e-12 to 1e12, task by task,
be of any rank, or zero; what is then no longer determined is said for each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

INTERIOR_STEPS = 25
NEWTON_STEPS = 25
FINISHING_STEPS = 5
HALVINGS = 10
SWEEPS = 10

Curve = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Gradient `[..., T]` and Hessian `[..., T, T]` of a convex function at a point `[..., T]`."""


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
    return scaled.clamp(-1, 1).masked_fill(_identity_like(gramian).bool(), 1.0)


def simplex_projection(v: Tensor) -> Tensor:
    """The nearest point to `v` `[..., T]` with entries >= 0 that sum to 1.

    Source: Held, Wolfe & Crowder, Mathematical Programming 1974; Duchi et al., ICML 2008, figure 1.
    """
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
        length = first - 2 * cross + second
        share = torch.where(length > 0, (second - cross) * reciprocal(length), 0.5).clamp(0, 1)
        return torch.stack([share, 1 - share], -1).to(gramian.dtype)
    matrix = cosines(wide)
    return _over_simplex(gradient_norms(wide), lambda y: (_times(matrix, y), matrix)).to(gramian.dtype)


def conflict_averse_point(gramian: Tensor, c: float) -> Tensor:
    """The w of the simplex, `[..., T]`, that minimises <g_w, g_0> + c |g_0| |g_w|, g_0 the mean gradient.

    Source: Liu et al., "CAGrad", NeurIPS 2021, eq. 3. Where g_0 is 0, any w is one.

    Args:
        gramian: `[..., T, T]`.
        c: >= 0.
    """
    wide = _wide(gramian)
    norms, matrix = gradient_norms(wide), cosines(wide)
    mean = wide.mean(-1)  # <g_t, g_0>
    linear = mean * reciprocal(norms) * reciprocal(mean.mean(-1, keepdim=True).clamp_min(0).sqrt())
    smooth = torch.finfo(wide.dtype).eps  # |g_w| has no derivative at 0

    def curve(y: Tensor) -> tuple[Tensor, Tensor]:
        product = _times(matrix, y)
        length = ((y * product).sum(-1, keepdim=True).clamp_min(0) + smooth).sqrt()
        unit = product / length
        hessian = (matrix - unit.unsqueeze(-1) * unit.unsqueeze(-2)) / length.unsqueeze(-1)
        return linear + c * unit, c * hessian

    return _over_simplex(norms, curve).to(gramian.dtype)


def dual_cone_projection(gramian: Tensor, start: Tensor) -> Tensor:
    """Weights `[..., T]` of the projection of sum_t u_t g_t onto the cone of directions no task objects to.

    argmin v'Gv over v >= u: the direction d = sum_t v_t g_t has <d, g_t> >= 0 for every task (Quinton & Rey,
    arXiv:2406.16232, proposition 1). In closed form for T = 2, where at most one task objects to u. Where
    gradients depend on each other the weights are not unique, the direction is.

    Args:
        gramian: `[..., T, T]`.
        start: u >= 0, `[..., T]`.
    """
    wide, u = _wide(gramian), _wide(start)
    inverse = reciprocal(gradient_norms(wide))
    linear = _times(wide, u) * inverse  # <g_u, g_t> / |g_t|
    if wide.shape[-1] == 2:
        return (u + (-linear).clamp_min(0) * inverse).to(gramian.dtype)
    size = linear.abs().amax(-1, keepdim=True)
    matrix, linear = cosines(wide), linear * reciprocal(size)
    x = _interior_point(lambda x: (_times(matrix, x) + linear, matrix), torch.ones_like(linear), None)
    return (u + x * size * inverse).to(gramian.dtype)


def inverse_power_point(gramian: Tensor, alpha: float) -> Tensor:
    """The w > 0, `[..., T]`, with (G w)_t = w_t^(-1 / alpha) for every task.

    It minimises the strictly convex w'Gw / 2 - sum_t p(w_t), p'(w) = w^(-1 / alpha): Newton's method with a line
    search, then plain Newton steps. Opposite gradients have no such w and dependent ones may have none: a ridge
    on the cosines keeps w finite. A task without a gradient gets weight 0.

    Args:
        gramian: `[..., T, T]`.
        alpha: > 0; 1 is the Nash bargaining solution.
    """
    wide = _wide(gramian)
    norms, power = gradient_norms(wide), 1 / alpha
    there = norms > 0
    matrix = cosines(wide) + torch.finfo(wide.dtype).eps ** 0.75 * _identity_like(wide)
    # With y = n w the equation is (C y)_t = f_t y_t^(-1 / alpha); y takes up the common size of f.
    logs = (power - 1) * torch.where(there, norms, 1.0).log()
    common = logs.mean(-1, keepdim=True)
    factors = torch.exp(logs - common)
    y = factors ** (1 / (1 + power))
    halves = 0.5 ** torch.arange(HALVINGS, device=wide.device, dtype=wide.dtype).unsqueeze(-1)  # [S, 1]

    def value(y: Tensor) -> Tensor:  # [..., S, T] -> [..., S]
        gain = y.log() if power == 1 else y ** (1 - power) / (1 - power)
        return (y * (y @ matrix) / 2 - factors.unsqueeze(-2) * gain).sum(-1)

    def newton(y: Tensor) -> Tensor:
        gradient = _times(matrix, y) - factors * y**-power
        hessian = matrix + torch.diag_embed(power * factors * y ** (-power - 1))
        move = -_solve(hessian, gradient)
        return _reach(y, move) * move

    for _ in range(NEWTON_STEPS):
        tried = y.unsqueeze(-2) + halves * newton(y).unsqueeze(-2)  # [..., S, T]
        best = value(tried).argmin(-1)[..., None, None].expand(*y.shape[:-1], 1, y.shape[-1])
        y = tried.gather(-2, best).squeeze(-2)
    for _ in range(FINISHING_STEPS):
        y = y + newton(y)
    weights = y * torch.exp(common / (1 + power)) * reciprocal(norms)
    return weights.to(gramian.dtype)


def equiangular_weights(gramian: Tensor) -> Tensor:
    """Weights v `[..., T]` of a u = sum_t v_t g_t with the same projection 1 onto every unit gradient.

    v = N^-1 C^-1 1, C the cosines and N the norms; a ridge of a rounding on C stands in for the pseudo-inverse. Where
    a combination of the unit gradients whose factors do not cancel is 0 (two opposite ones), there is no such u, and v
    is large, in the proportions of that combination. A task without a gradient gets 0.

    Args:
        gramian: `[..., T, T]`.
    """
    wide = _wide(gramian)
    norms = gradient_norms(wide)
    there = (norms > 0).to(wide.dtype)
    matrix = cosines(wide) + torch.finfo(wide.dtype).eps ** 0.75 * _identity_like(wide)
    return (_solve(matrix, there) * reciprocal(norms)).to(gramian.dtype)


def impartial_weights(gramian: Tensor) -> Tensor:
    """Weights `[..., T]` of equal projections onto the unit gradients, over their sum; 0 where they cancel.

    For two tasks (n_2, n_1) / (n_1 + n_2), n the norms.

    Args:
        gramian: `[..., T, T]`.
    """
    weights = equiangular_weights(_wide(gramian))
    total, size = weights.sum(-1, keepdim=True), weights.abs().sum(-1, keepdim=True)
    cancel = total.abs() <= torch.finfo(weights.dtype).eps ** 0.5 * size
    return (weights * reciprocal(total.masked_fill(cancel, 0.0))).to(gramian.dtype)


def eigen(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `[..., T]`, in no order, and eigenvectors as columns `[..., T, T]`, of a symmetric matrix.

    Cyclic Jacobi rotations (Golub & Van Loan, section 8.5), T / 2 of them at a time, exact after one for T = 2.
    `torch.linalg.eigh` waits for the device to report errors, so it cannot be part of a captured step.
    """
    matrix = _wide(gramian)
    tasks = matrix.shape[-1]
    vectors = _identity_like(matrix).expand_as(matrix)
    for _ in range(1 if tasks == 2 else SWEEPS):
        for pairs in _rounds(tasks):
            rotation = _rotations(matrix, pairs)
            matrix = rotation.mT @ matrix @ rotation
            vectors = vectors @ rotation
    return matrix.diagonal(dim1=-2, dim2=-1).to(gramian.dtype), vectors.to(gramian.dtype)


def _rounds(tasks: int) -> list[list[tuple[int, int]]]:
    """Each pair of tasks once, in rounds of disjoint pairs (the circle method of a round-robin tournament)."""
    players = list(range(tasks + tasks % 2))
    half = len(players) // 2
    rounds: list[list[tuple[int, int]]] = []
    for _ in range(len(players) - 1):
        met = zip(players[:half], reversed(players[half:]), strict=True)
        rounds.append([(min(pair), max(pair)) for pair in met if max(pair) < tasks])
        players = [players[0], players[-1], *players[1:-1]]
    return rounds


def _rotations(matrix: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The rotation that makes the entries of disjoint pairs zero, `[..., T, T]`."""
    first, second = (torch.tensor(side, device=matrix.device) for side in zip(*pairs, strict=True))
    off = matrix[..., first, second]
    gap = matrix[..., second, second] - matrix[..., first, first]
    # The smaller root of t^2 + (gap / off) t - 1 = 0 is the tangent of the angle.
    sign = torch.where(gap < 0, -1.0, 1.0).to(matrix.dtype)
    tangent = 2 * off * sign * reciprocal(gap.abs() + torch.hypot(gap, 2 * off))
    cosine = (1 + tangent.square()).rsqrt()
    sine = tangent * cosine
    rotation = _identity_like(matrix).expand_as(matrix).clone()
    rotation[..., first, first] = cosine
    rotation[..., second, second] = cosine
    rotation[..., first, second] = sine
    rotation[..., second, first] = -sine
    return rotation


def _over_simplex(norms: Tensor, curve: Curve) -> Tensor:
    """The w of the simplex that minimises a function of y, y_t = n_t w_t over the smallest n."""
    largest = norms.amax(-1, keepdim=True)
    floored = torch.where(largest > 0, norms.clamp_min(torch.finfo(norms.dtype).eps ** 2 * largest), 1.0)
    normal = floored.amin(-1, keepdim=True) / floored  # w = normal * y
    y = _interior_point(curve, torch.ones_like(norms) / normal.sum(-1, keepdim=True), normal)
    weights = normal * y
    return weights / weights.sum(-1, keepdim=True)


def _interior_point(curve: Curve, start: Tensor, normal: Tensor | None) -> Tensor:
    """Minimise a convex function over x >= 0 and, if `normal` is given, normal'x = 1; `start` is inside.

    Primal-dual path following (Nocedal & Wright, chapters 14 and 16): Newton steps on the optimality conditions
    with x_t z_t brought down to a tenth of its mean in each.
    """
    x, z = start, torch.ones_like(start)
    multiplier = change = torch.zeros_like(start[..., :1])
    least = torch.finfo(start.dtype).eps
    for _ in range(INTERIOR_STEPS):
        gradient, hessian = curve(x)
        target = (0.1 * (x * z).mean(-1, keepdim=True)).clamp_min(least)
        matrix = hessian + torch.diag_embed(z / x)
        step = -gradient + target / x
        if normal is None:
            move = _solve(matrix, step)
        else:
            # It changes no move along the constraint, and keeps the matrix regular where the Hessian is not.
            stiffness = hessian.diagonal(dim1=-2, dim2=-1).sum(-1) / normal.square().sum(-1)
            matrix = matrix + stiffness[..., None, None] * normal.unsqueeze(-1) * normal.unsqueeze(-2)
            step = step + multiplier * normal
            solved = _solve(matrix, torch.stack([step, normal], -1))
            free, along = solved.unbind(-1)
            change = (1 - (normal * (x + free)).sum(-1, keepdim=True)) / (normal * along).sum(-1, keepdim=True)
            move = free + change * along
        dual_move = (target - z * move) / x - z
        length = torch.minimum(_reach(x, move), _reach(z, dual_move))
        x, z = x + length * move, z + length * dual_move
        multiplier = multiplier + length * change
    return x


def _reach(x: Tensor, move: Tensor) -> Tensor:
    """How much of a move, at most all of it, leaves x > 0: `[..., 1]`."""
    return (0.99 / (-move / x).amax(-1, keepdim=True).clamp_min(0.99)).clamp_max(1)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix^-1 right without asking the device whether there is one."""
    return torch.linalg.solve_ex(matrix, right)[0]


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """Matrix-vector product, `[..., T]`."""
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()
