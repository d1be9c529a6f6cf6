"""A setup as a plugin file, small enough to train on in a moment, with an error wherever a test wants one."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
"""Points on a line, for tests."""

import torch
from mtlbench import Setup, Split, Task, binary, classification, register_setup, regression, scaled


def drawn(size, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, generator=generator)
    targets = torch.stack([inputs.argmax(-1).float(), (inputs[:, 0] > 0).float(), inputs.sum(-1)], dim=-1)
    return Split(inputs, targets)


def samples():
    training, validation = drawn(120, 0), drawn(60, 1)
    {spoil}
    return training, validation


def test():
    training, split = drawn(120, 0), drawn(60, 2)
    {spoil_test}
    return split


register_setup(
    Setup(
        name="{name}",
        about="{about}",
        tasks=({tasks}),
        widths={widths},
        samples=samples,
        test=test,
        training_size={size},
    )
)
'''
TASKS = 'classification("largest", 3), binary("positive"), regression("sum")'


def write_setup(
    path: Path,
    name: str = "own",
    *,
    spoil: str = "pass",
    spoil_test: str = "pass",
    about: str = "which of three numbers is the largest; trunk 3-8",
    tasks: str = TASKS,
    widths: str = "(3, 8)",
    size: int = 120,
    extra: str = "",
) -> Path:
    """Write a plugin file with a setup of 120 samples and three tasks, followed by `extra` code."""
    values = {"name": name, "spoil": spoil, "spoil_test": spoil_test, "about": about, "tasks": tasks, "widths": widths}
    path.write_text(SOURCE.format(**values, size=size) + extra)
    return path
