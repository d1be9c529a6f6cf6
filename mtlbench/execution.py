"""What training and tuning share: where jobs are carried out, within which limits, and how they are shown."""

from __future__ import annotations

from typing import Protocol

from mtlbench import environment
from mtlbench.harness import Progress
from mtlbench.places import Here, Place
from mtlbench.planning import Request
from mtlbench.workers import Limits, Workers

# torch.optim imports torch._dynamo when it is first used: done once here, not for seconds in each worker.
PRELOAD = ["mtlbench.jobs", "torch._dynamo"]


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


def workers_of(request: Request) -> Workers:
    """Processes of this machine within the limits that were asked for."""
    return Workers(PRELOAD, limits_of(request))


def limits_of(request: Request) -> Limits:
    """What each process may take."""
    memory = None if request.run_memory is None else round(request.run_memory * 2**30)
    return Limits(request.run_timeout, memory)


def place_of(request: Request, device: str) -> tuple[Place, str]:
    """Where the jobs of a request are carried out, and how many at a time, in words.

    On this machine it is as many as were asked for, else one per core on cpu and one on any other device.

    Raises:
        UserError: the cluster cannot be reached or cannot do it.
    """
    if request.cluster is not None:
        from mtlbench.cluster import Cluster  # an optional extra

        cluster = Cluster(request.cluster, device, limits_of(request))
        return cluster, cluster.size
    at_once = request.jobs or (environment.cores() if device == "cpu" else 1)
    return Here(workers_of(request), at_once), f"{at_once} at a time"
