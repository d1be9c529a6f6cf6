"""Places that carry out jobs: this machine, several at a time, or a cluster (`mtlbench.bench.dask_cluster`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Protocol, TypeVar

from mtlbench.bench.display import ShownJob
from mtlbench.bench.jobs import Notify, StackJob
from mtlbench.bench.processes import ProcessDiedError, ProcessError, Processes
from mtlbench.records import checkpoint

MOST_RESTARTS = 2

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Function = Callable[[StackJob, Notify], Value]


class Place(Protocol):
    """Carries out several jobs at a time, in the order of submission; `size` says how many, in words."""

    size: str

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Carry out `function(job, report)`; the future raises `ProcessError` if that fails."""
        ...

    def stop(self) -> None:
        """Start no more jobs."""
        ...


class Here:
    """This machine: up to `at_once` of the given processes at a time; the caller ends the processes."""

    def __init__(self, processes: Processes, at_once: int) -> None:
        self._processes = processes
        self._threads = ThreadPoolExecutor(at_once)
        self.size = f"{at_once} at a time"

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Carry out a job in a process of its own, as soon as there is room."""
        return self._threads.submit(carry_out, self._processes, function, job, report)

    def stop(self) -> None:
        """Start no more jobs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def carry_out_all(
    place: Place,
    function: Function[Value],
    jobs: Mapping[Key, tuple[StackJob, ShownJob]],
    done: Callable[[Key, Value | ProcessError], str],
) -> None:
    """Carry out jobs in their order; `done` is called here for each as it ends, and returns its outcome in words.

    The place is stopped at the end, whatever is raised meanwhile (Ctrl-C included).
    """
    try:
        futures = {place.submit(function, job, shown.report): key for key, (job, shown) in jobs.items()}
        for future in as_completed(futures):
            try:
                outcome: Value | ProcessError = future.result()
            except ProcessError as error:
                outcome = error
            key = futures[future]
            jobs[key][1].end(done(key, outcome))
    finally:
        place.stop()


def carry_out(processes: Processes, function: Function[Value], job: StackJob, report: Notify) -> Value:
    """Carry out a job in a process of its own; restart it up to `MOST_RESTARTS` times per epoch if the process dies.

    Raises:
        ProcessError: the job raised, exceeded a limit, or died too often after the same epoch.
    """
    deaths: Counter[int] = Counter()
    while True:
        try:
            return processes.call(function, job, report)
        except ProcessDiedError as error:
            stored = checkpoint.read(job.checkpoint, job.key) if job.checkpoint else None
            epoch = len(stored.history.validation) if stored else 0
            if deaths[epoch] == MOST_RESTARTS or processes.stopped:
                raise
            deaths[epoch] += 1
            report(f"{error}; restarting from {f'the end of epoch {epoch}' if epoch else 'the beginning'}")
