"""Stopping a command by Ctrl-C or SIGTERM, with a line about the results that are kept."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager

import typer

from mtlbench.cli.console import complain


@contextmanager
def stoppable(left: str) -> Generator[None]:
    """Context manager in which Ctrl-C and SIGTERM end the program with the line `left`; the innermost one prints it."""
    received = signal.SIGINT

    def stop(number: int, _: object) -> None:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        complain(f"stopped; {left}")
        raise typer.Exit(128 + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
