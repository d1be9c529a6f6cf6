"""Values that hyper-parameters refuse: the ranges that `REFUSED` of a strategy's test file is made of."""

from __future__ import annotations

Refused = dict[str, tuple[float | list[float], ...]]
"""Refused values by hyper-parameter; NaN and infinity are added to those of a float."""

POSITIVE, NOT_NEGATIVE, SHARE = (0, -1), (-1e-9, -1), (-0.1, 1.1)
"""Values outside the range that the name says."""
