"""Convex problems in a Gramian, batched over replicas, that strategies share."""

from mtlbench.solvers.gramian import (
    conflict_averse_point,
    cosines,
    dual_cone_projection,
    eigen,
    equiangular_weights,
    gradient_norms,
    impartial_weights,
    inverse_power_point,
    min_norm_point,
    reciprocal,
    simplex_projection,
)

__all__ = [
    "conflict_averse_point",
    "cosines",
    "dual_cone_projection",
    "eigen",
    "equiangular_weights",
    "gradient_norms",
    "impartial_weights",
    "inverse_power_point",
    "min_norm_point",
    "reciprocal",
    "simplex_projection",
]
