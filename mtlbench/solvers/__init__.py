"""Convex problems and equations in a Gramian, batched over replicas, shared by strategies."""

from mtlbench.solvers.gramian import (
    clipped,
    conflict_averse_point,
    conflict_averse_push,
    dual_cone_projection,
    equiangular_weights,
    impartial_weights,
    inverse_power_point,
    least_push,
    min_norm_point,
    simplex_projection,
)
from mtlbench.solvers.linalg import (
    cosines,
    eigen,
    gradient_norms,
    inner_products,
    lengths_of,
    reciprocal,
    shares_of,
)

__all__ = [
    "clipped",
    "conflict_averse_point",
    "conflict_averse_push",
    "cosines",
    "dual_cone_projection",
    "eigen",
    "equiangular_weights",
    "gradient_norms",
    "impartial_weights",
    "inner_products",
    "inverse_power_point",
    "least_push",
    "lengths_of",
    "min_norm_point",
    "reciprocal",
    "shares_of",
    "simplex_projection",
]
