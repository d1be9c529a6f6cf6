"""Fixtures and settings of all tests: the registry, the command line in this process, the order of the tests.

What takes seconds to import is imported in functions, so that the process that only shares out tests starts at once.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import browser

if TYPE_CHECKING:
    from mtlbench.plugins.registry import Registry
    from tests.helpers.commands import Run

SLOWEST = ("test_kills", "test_cluster", "test_balancer_ranks", "test_page_in_browser", "test_site")
LONGEST = 300  # seconds that a test may take

# Output must not depend on the terminal that the tests run in.
for variable in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(variable, None)


def pytest_configure(config: pytest.Config) -> None:
    """Set up torch and hypothesis in every process that runs tests."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import torch
    from hypothesis import settings

    settings.register_profile("mtlbench", max_examples=50, deadline=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("mtlbench")
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def tiny_setup() -> None:
    """Register the tiny setup. A fixture and not an import, so that tests over all setups do not collect it."""
    importlib.import_module("tests.helpers.preloaded")


@pytest.fixture(scope="module", autouse=True)
def denormals() -> None:
    """Keep denormal numbers: code of a worker process that runs here flushes them to 0, which hypothesis rejects."""
    import torch

    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def registry() -> Registry:
    from mtlbench.plugins.registry import Registry

    return Registry.load()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Call the command line in this process: exit code, standard output, standard error."""

    from tests.helpers.commands import call

    def run_in_folder(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        code = call(*arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run_in_folder


@pytest.fixture(scope="module")
def in_double() -> Iterator[None]:
    """Make new tensors float64: a start of 1 / T in float32 would show in the eighth digit."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pytest_collection_finish() -> None:
    """Exclude what was imported from garbage collection, which would otherwise search all of it every time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that no core waits for one of their tests at the end."""
    items.sort(key=lambda item: item.path.stem not in SLOWEST)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process of a test that hangs, so that it fails by name; the stacks of all threads are printed.

    The timer needs no interpreter lock: it also ends a test that hangs in compiled code.
    """
    with os.fdopen(os.dup(2), "w") as stream:
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=stream)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Report a missing browser last, after the summary of skipped tests."""
    yield
    if skipped := browser.skipped_tests(terminalreporter.getreports("skipped")):
        terminalreporter.section(browser.MISSING)
        terminalreporter.write_line("These tests were skipped:")
        for line in skipped:
            terminalreporter.write_line(f"  {line}")
        terminalreporter.write_line(f"To run them, install Chromium and its driver. On Debian: {browser.INSTALL}")
