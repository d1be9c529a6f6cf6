"""A strategy in the user's own training loop."""

from mtlbench.balancer.balancer import Balancer

__all__ = ["Balancer"]
