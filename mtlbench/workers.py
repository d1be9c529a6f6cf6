"""Runs a function in a process of its own, so that whatever happens there takes nothing else with it."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from mtlbench.errors import in_one_line

Argument = TypeVar("Argument")
Job = TypeVar("Job")
Message = TypeVar("Message")
Value = TypeVar("Value")


class WorkerError(Exception):
    """The function raised, or its process died; `traceback` is what the worker printed of it, if it could."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class Workers:
    """The processes that are alive, so that all of them can be ended at once."""

    def __init__(self, preload: list[str]) -> None:
        if "forkserver" in mp.get_all_start_methods():
            self._context = mp.get_context("forkserver")
            self._context.set_forkserver_preload(preload)
        else:
            self._context = mp.get_context("spawn")
        self._lock = threading.Lock()
        self._alive: set[BaseProcess] = set()
        self._closed = False

    def call(
        self,
        function: Callable[[Argument, Callable[[Message], None]], Value],
        argument: Argument,
        on_message: Callable[[Message], None],
    ) -> Value:
        """`function(argument, report)` in a new process; what it reports reaches `on_message` here.

        Raises:
            WorkerError: the function raised, or its process ended without a result.
        """
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_serve, args=(there, function, argument), daemon=True)
        with self._lock:
            if self._closed:
                raise WorkerError("stopped")
            process.start()
            self._alive.add(process)
        there.close()
        try:
            with here:
                while True:
                    try:
                        kind, content = here.recv()
                    except (EOFError, OSError):  # the pipe ended between two messages, or within one
                        process.join()
                        raise WorkerError(_end_of(process.exitcode)) from None
                    if kind == "message":
                        on_message(content)
                    elif kind == "value":
                        return content
                    else:
                        raise WorkerError(*content)
        finally:
            process.join()
            with self._lock:
                self._alive.discard(process)

    def stop(self) -> None:
        """Kill every process that is alive and start no more."""
        with self._lock:
            self._closed = True
            for process in self._alive:
                process.kill()


def side_by_side(
    jobs: Sequence[Job],
    at_once: int,
    work: Callable[[Job], Value],
    done: Callable[[Job, Future[Value]], None],
    workers: Workers,
) -> None:
    """`work` on each job, in threads that wait for processes, some at once; `done` is called here as each ends.

    If anything is raised here, Ctrl-C included, all processes are ended.
    """
    pool = ThreadPoolExecutor(at_once)
    try:
        futures = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(futures):
            done(futures[future], future)
    except BaseException:
        workers.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _serve(pipe: Connection, function: Callable[[Any, Callable[[Any], None]], object], argument: object) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        try:
            value = function(argument, lambda message: pipe.send(("message", message)))
        except BaseException as error:
            if isinstance(error, BrokenPipeError):
                raise
            pipe.send(("error", (in_one_line(error), traceback.format_exc())))
        else:
            pipe.send(("value", value))


def _end_of(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code} before it was done"
