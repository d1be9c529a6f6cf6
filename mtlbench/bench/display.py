"""How the progress of jobs is shown."""

from __future__ import annotations

from typing import Protocol

from mtlbench.engine.fitting import Progress


class Display(Protocol):
    """Where the progress of a bench is shown."""

    def note(self, text: str) -> None:
        """Say one thing."""

    def run_started(self, label: str, epochs: int) -> None:
        """A run has begun."""

    def run_moved(self, label: str, progress: Progress) -> None:
        """A run has come further."""

    def run_ended(self, label: str, outcome: str) -> None:
        """A run goes on no more; `outcome` is its scores or its error."""


class Shown:
    """A job on a display, from the first thing that it reports."""

    def __init__(self, display: Display, title: str, epochs: int) -> None:
        self._display, self._title, self._epochs = display, title, epochs
        self._begun = False

    def report(self, message: Progress | str) -> None:
        """Show how far it is, or what is said of it."""
        self._begin()
        if isinstance(message, str):
            self._display.note(f"{self._title}: {message}")
        elif message.done > 0:
            self._display.run_moved(self._title, message)

    def end(self, outcome: str) -> None:
        """Show what came of it."""
        self._begin()
        self._display.run_ended(self._title, outcome)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._display.run_started(self._title, self._epochs)
