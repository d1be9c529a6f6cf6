"""Where jobs are carried out: side by side on this machine, or on a cluster (`mtlbench.cluster`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Protocol, TypeVar

from mtlbench import checkpoint
from mtlbench.jobs import Report, StackJob
from mtlbench.workers import WorkerDiedError, Workers

MOST_RESTARTS = 2

Job = TypeVar("Job")
Value = TypeVar("Value")
Function = Callable[[StackJob, Report], Value]


class Place(Protocol):
    """Carries out jobs, some at once, the first ones first."""

    def submit(self, function: Function[Value], job: StackJob, report: Report) -> Future[Value]:
        """Carry out `function(job, report)`; the future raises `WorkerError` if that failed."""
        ...

    def stop(self) -> None:
        """End what is under way and start nothing more."""
        ...


class Here:
    """This machine: as many processes at once as are asked for."""

    def __init__(self, workers: Workers, at_once: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(at_once)

    def submit(self, function: Function[Value], job: StackJob, report: Report) -> Future[Value]:
        """Carry out a job in a process of its own, as soon as one of them is free."""
        return self._pool.submit(carry_out, self._workers, function, job, report)

    def stop(self) -> None:
        """Kill the processes."""
        self._workers.stop()
        self._pool.shutdown(cancel_futures=True)


def carry_out(workers: Workers, function: Function[Value], job: StackJob, report: Report) -> Value:
    """A job in a process of its own, which is started again where it dies, `MOST_RESTARTS` times from each epoch.

    Raises:
        WorkerError: it raised, broke a limit, or died once too often after the same epoch.
    """
    died: Counter[int] = Counter()
    while True:
        try:
            return workers.call(function, job, report)
        except WorkerDiedError as error:
            epoch = _epochs_kept(job)
            if died[epoch] == MOST_RESTARTS or workers.stopped:
                raise
            died[epoch] += 1
            report(f"{error}; it is started again from {f'the end of epoch {epoch}' if epoch else 'its beginning'}")


def _epochs_kept(job: StackJob) -> int:
    """The epochs that a job need not train again: what it will find, whichever process left it."""
    found = checkpoint.read(job.checkpoint, job.key) if job.checkpoint else None
    return len(found.history.validation) if found else 0


def side_by_side(
    place: Place, futures: Mapping[Future[Value], Job], done: Callable[[Job, Future[Value]], None]
) -> None:
    """Wait for all futures of a place; `done` is called here as each ends.

    If anything is raised here, Ctrl-C included, all of them are ended.
    """
    try:
        for future in as_completed(futures):
            done(futures[future], future)
    finally:
        place.stop()
