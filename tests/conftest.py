"""Shared by all tests: the registry, small random data, and steps with given losses and gradients."""

from __future__ import annotations

import gc
import importlib
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


@pytest.fixture(scope="session", autouse=True)
def tiny_setup() -> None:
    """Not at import: tests of every setup are not meant for it."""
    importlib.import_module("tests.preloaded")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load()


def pytest_collection_finish() -> None:
    """What was imported is no garbage; without this each collection looks through all of it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no core waits for it at the end."""
    items.sort(key=lambda item: item.path.stem not in ("test_kills", "test_cluster", "test_strategies"))
