"""A strategy in a training loop of the user's own."""

from mtlbench.balancer.balancer import Balancer

__all__ = ["Balancer"]
