"""Runs functions in processes of their own, so that a crash affects nothing else."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self, TypeVar

import psutil

from mtlbench.errors import in_one_line

Argument = TypeVar("Argument")
Message = TypeVar("Message")
Value = TypeVar("Value")

OUTPUT_KEPT = 64 * 1024
LOOK_EVERY = 0.2  # seconds between two checks of time and memory
LEAVE_WITHIN = 5.0  # seconds that a process may take to end once its result has arrived or can no longer arrive
MOST_READS = 16  # of the output of an ended process, whose child may print for ever


class ProcessError(Exception):
    """The function raised, or its process died or exceeded a limit; `output` is the end of what the process printed."""

    def __init__(self, message: str, traceback: str = "", output: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback
        self.output = output

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.traceback, self.output)


class ProcessDiedError(ProcessError):
    """The process exited or was killed from outside, which may be the fault of the machine, not of the function."""


@dataclass(frozen=True)
class Limits:
    """Limits of a process: seconds since its start, and bytes of resident memory."""

    seconds: float | None = None
    memory: int | None = None


class Processes:
    """Context manager that starts processes within limits, and ends all of them; safe to use from several threads."""

    def __init__(self, preload: list[str], limits: Limits = Limits()) -> None:
        if "forkserver" in mp.get_all_start_methods():
            self._context = mp.get_context("forkserver")
            self._context.set_forkserver_preload(preload)
        else:
            self._context = mp.get_context("spawn")
        self.limits = limits
        self._changed = threading.Condition()
        self._alive: set[BaseProcess] = set()
        self._closed = False

    def call(
        self,
        function: Callable[[Argument, Callable[[Message], None]], Value],
        argument: Argument,
        on_message: Callable[[Message], None],
    ) -> Value:
        """Call `function(argument, report)` in a new process; `on_message` receives what it reports.

        The process does not print to the terminal; the end of its output is part of an error.

        Raises:
            ProcessError: the function raised, or its process exceeded a limit.
            ProcessDiedError: the process ended without a result.
        """
        here, there = self._context.Pipe(duplex=False)
        output, printed = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_serve, args=(there, printed, function, argument), daemon=True)
        with self._changed:
            if self._closed:
                raise ProcessError("stopped")
            process.start()
            self._alive.add(process)
        there.close()
        printed.close()
        tail = bytearray()
        try:
            with here, output:
                return self._listen(process, here, output, tail, on_message)
        except ProcessError as error:
            error.output = tail.decode(errors="replace")
            raise
        finally:
            process.join(LEAVE_WITHIN)
            process.kill()
            process.join()
            with self._changed:
                self._alive.discard(process)
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._closed

    def stop(self) -> None:
        """Kill every process, start no more, and wait until their callers have noticed."""
        with self._changed:
            self._closed = True
            for process in self._alive:
                process.kill()
            self._changed.wait_for(lambda: not self._alive, LEAVE_WITHIN)

    def _listen(
        self,
        process: BaseProcess,
        here: Connection,
        output: Connection,
        tail: bytearray,
        on_message: Callable[[Message], None],
    ) -> Any:  # noqa: ANN401 - whatever the function returned
        begun, silent = time.monotonic(), None
        sources: list[Connection | int] = [here, output, process.sentinel]
        while True:
            ready = wait(sources, LOOK_EVERY)
            if output in ready and not _read_output(output, tail):
                sources.remove(output)
            if here in ready:
                try:
                    kind, content = here.recv()
                except Exception:  # the process ended, perhaps within a message, or its code wrote into the pipe
                    sources.remove(here)
                    silent = time.monotonic()
                    continue
                if kind == "value":
                    return content
                if kind == "error":
                    _drain(output, tail)
                    raise ProcessError(*content)
                on_message(content)
            elif process.sentinel in ready:
                process.join()
                _drain(output, tail)
                raise ProcessDiedError(_end_of(process.exitcode))
            if broken := self._broken_limit(begun, silent, process):
                process.kill()
                raise ProcessError(broken)

    def _broken_limit(self, begun: float, silent: float | None, process: BaseProcess) -> str:
        """The limit that a process exceeds, in a line; empty if none."""
        limits, now = self.limits, time.monotonic()
        if limits.seconds is not None and now - begun > limits.seconds:
            return f"ended after {limits.seconds:g} s, the time allowed by --run-timeout"
        if silent is not None and now - silent > LEAVE_WITHIN:
            return "ended because it closed the pipe for its result"
        if limits.memory is not None:
            with contextlib.suppress(psutil.Error):
                held = psutil.Process(process.pid).memory_info().rss
                if held > limits.memory:
                    return f"ended at {held / 2**30:.1f} GiB of memory; --run-memory allows {limits.memory / 2**30:g}"
        return ""


def _serve(
    pipe: Connection, printed: Connection, function: Callable[[Any, Callable[[Any], None]], object], argument: object
) -> None:
    # Ctrl-C reaches the whole process group; the parent decides which processes end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # preloaded objects are not garbage, and scanning them would copy their pages
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    printed.close()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer: tuple[str, object] = "value", function(argument, lambda message: pipe.send(("message", message)))
    except BaseException as error:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed or replaced it
                stream.flush()
        answer = "error", (in_one_line(error), traceback.format_exc())
    with contextlib.suppress(BrokenPipeError):  # the parent no longer listens
        pipe.send(answer)


def _end_with_parent() -> None:
    # A worker that outlived a killed bench would write to the same files as the next bench.
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_output(output: Connection, tail: bytearray) -> bool:
    """Append output to `tail`, of which only the end is kept; False once the stream has ended."""
    text = os.read(output.fileno(), OUTPUT_KEPT)
    tail += text
    del tail[:-OUTPUT_KEPT]
    return bool(text)


def _drain(output: Connection, tail: bytearray) -> None:
    for _ in range(MOST_READS):
        if not wait([output], 0) or not _read_output(output, tail):
            break


def _end_of(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code} before it was done"
