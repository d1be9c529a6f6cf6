"""Two lines with known noise: what a weighting should make of tasks whose noise differs a hundredfold in variance.

y1 = 2x + 8 + 10 e1 and y2 = 3x + 3 + e2, with x, e1 and e2 standard normal: the toy problem with which the code of
Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
CVPR 2018, was published. No network can get below squared errors of 100 and 1 on data that it has not seen; uncertainty
weighting with c = 0.5 learns the two standard deviations.
"""

from __future__ import annotations

import torch

from mtlbench import Setup, Split, register_setup, regression

SLOPES, INTERCEPTS, NOISE = (2.0, 3.0), (8.0, 3.0), (10.0, 1.0)
TRAINING, VALIDATION, TEST = 4_000, 2_000, 4_000  # samples


def lines(size: int, seed: int) -> Split:
    """So many samples: x `[N, 1]` and both lines' y `[N, 2]`."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, generator=generator)
    noise = torch.randn(size, 2, generator=generator) * torch.tensor(NOISE)
    return Split(x, x * torch.tensor(SLOPES) + torch.tensor(INTERCEPTS) + noise)


def samples() -> tuple[Split, Split]:
    """The training and the validation split."""
    return lines(TRAINING, 0), lines(VALIDATION, 1)


def held_out() -> Split:
    """The test split."""
    return lines(TEST, 2)


register_setup(
    Setup(
        name="toy-regression",
        about="two lines with noise of standard deviation 10 (wide, main) and 1 (narrow); trunk 1-1024",
        tasks=(regression("wide"), regression("narrow")),
        widths=(1, 1024),
        samples=samples,
        test=held_out,
        training_size=TRAINING,
        passes=15,
    )
)
