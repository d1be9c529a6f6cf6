"""The interface that shows the progress of jobs; `mtlbench.cli.progress` implements it for the command line."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Self

from mtlbench.contracts.metrics import named_score
from mtlbench.engine.fitting import Progress


class Display(ABC):
    """Shows notes and the progress of jobs; its methods may be called from several threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a line of text."""

    @abstractmethod
    def started(self, job: ShownJob) -> None:
        """Show that a job has started."""

    @abstractmethod
    def moved(self, job: ShownJob) -> None:
        """Show the progress of a job."""

    @abstractmethod
    def ended(self, job: ShownJob) -> None:
        """Stop showing a job; its outcome follows as a note."""


class ShownJob:
    """Shows a job that trains some number of epochs, under a title, starting with its first report."""

    def __init__(self, display: Display, title: str, epochs: int) -> None:
        self._display, self.title, self.epochs = display, title, epochs
        self._started_at: float | None = None
        self.progress: Progress | None = None

    def report(self, message: Progress | str) -> None:
        """Show the progress of the job, or a line about it."""
        self._start()
        if isinstance(message, str):
            self._display.note(f"{self.title}: {message}")
        elif message.done > 0:
            self.progress = message
            self._display.moved(self)

    def end(self, outcome: str) -> None:
        """Show that the job has ended, and its outcome."""
        self._start()
        self._display.ended(self)
        self._display.note(f"{self.title}  {self.seconds:.0f} s  {outcome}")

    @property
    def seconds(self) -> float:
        """Seconds since the job was first shown."""
        return 0.0 if self._started_at is None else time.monotonic() - self._started_at

    @property
    def loss(self) -> str:
        """The last training loss."""
        return "-" if self.progress is None or self.progress.loss is None else f"{self.progress.loss:.4f}"

    @property
    def score(self) -> str:
        """The last validation score with the name of its metric."""
        if self.progress is None or self.progress.score is None:
            return "-"
        return named_score(self.progress.score, self.progress.metric)

    def _start(self) -> None:
        if self._started_at is None:
            self._started_at = time.monotonic()
            self._display.started(self)
