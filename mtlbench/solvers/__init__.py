"""Convex problems and equations in a Gramian, batched over replicas, shared by strategies."""

from mtlbench.solvers.gramian import (
    conflict_averse_point,
    dual_cone_projection,
    equiangular_weights,
    impartial_weights,
    inverse_power_point,
    least_push,
    min_norm_point,
    simplex_projection,
)
from mtlbench.solvers.linalg import cosines, eigen, gradient_norms, reciprocal

__all__ = [
    "conflict_averse_point",
    "cosines",
    "dual_cone_projection",
    "eigen",
    "equiangular_weights",
    "gradient_norms",
    "impartial_weights",
    "inverse_power_point",
    "least_push",
    "min_norm_point",
    "reciprocal",
    "simplex_projection",
]
