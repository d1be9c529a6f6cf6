"""Shared by all tests: the registry, small random data, and steps with given losses and gradients."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

from mtlbench.registry import Registry

# A run must not depend on the reader's terminal.
for variable in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(variable, None)
settings.register_profile("mtlbench", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("mtlbench")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load()
