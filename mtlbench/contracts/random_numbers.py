"""Random numbers that depend on a seed, a step and a draw alone, and so on no other replica."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(seeds: Tensor, index: Tensor, draw: int, count: int) -> Tensor:
    """`count` uniform numbers per seed, `[K, count]` in float32: the draw numbered `draw` of step `index`.

    They are a hash of (seed, step, draw, element): no state is kept between steps, and a draw can be captured in a CUDA
    graph. Resolution 2^-24.
    """
    counter = torch.arange(count, device=seeds.device) + (draw << 32)  # [n]
    key = _mix(_mix(seeds) ^ index)  # [K]
    bits = (_mix(_mix(key[:, None] ^ counter)) >> 40) & 0xFFFFFF  # [K, n]
    return bits.to(torch.float32) * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014) on int64, whose products wrap."""

    def shifted(value: Tensor, by: int) -> Tensor:
        return (value >> by) & ((1 << (64 - by)) - 1)

    x = x + -7046029254386353131
    x = (x ^ shifted(x, 30)) * -4658895280553007687
    x = (x ^ shifted(x, 27)) * -7723592293110705685
    return x ^ shifted(x, 31)
