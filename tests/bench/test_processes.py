"""Functions in processes of their own: their results, and that failures affect nothing else."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from mtlbench.bench.jobs import PRELOAD, Notify, StackJob
from mtlbench.bench.places import MOST_RESTARTS, carry_out
from mtlbench.bench.processes import OUTPUT_KEPT, Limits, ProcessDiedError, ProcessError, Processes
from mtlbench.engine.fitting import Progress
from mtlbench.records import checkpoint
from mtlbench.records.history import Evaluation, History, Trajectory
from mtlbench.records.records import Settings, Spec


def count(upto: int, report: Callable[[int], None]) -> int:
    for i in range(upto):
        report(i)
    return sum(range(upto))


def own_id(_: None, report: Callable[[object], None]) -> int:
    return os.getpid()


def fail(error: BaseException, report: Callable[[object], None]) -> None:
    raise error


def leave(code: int, report: Callable[[object], None]) -> None:
    os._exit(code)


def kill_itself(number: int, report: Callable[[str], None]) -> None:
    report("before")
    os.kill(os.getpid(), number)


def die_within_a_message(_: None, report: Callable[[bytes], None]) -> None:
    report(b"first")
    threading.Timer(0.2, os._exit, [7]).start()
    report(bytes(10_000_000))


def print_much(size: int, report: Callable[[object], None]) -> int:
    os.write(2, b"to stderr\n")
    print("x" * size)
    raise RuntimeError("after printing")


def spin(_: None, report: Callable[[object], None]) -> None:
    while True:
        pass


def eat(_: None, report: Callable[[object], None]) -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 10_000_000)
        time.sleep(0.005)


def leave_a_child(_: None, report: Callable[[object], None]) -> None:
    subprocess.Popen(["sleep", "30"], close_fds=False)
    os._exit(5)


def fail_with_closed_streams(_: None, report: Callable[[object], None]) -> None:
    print("before", flush=True)
    sys.stdout.close()
    sys.stderr.close()
    raise RuntimeError("not today")


def loop_with_closed_pipes(_: None, report: Callable[[object], None]) -> None:
    time.sleep(0.3)  # until the watch over its parent has begun, which ends a process where it cannot
    os.closerange(3, 256)
    while True:
        time.sleep(0.01)


def write_into_its_pipe(_: None, report: Callable[[object], None]) -> None:
    (pipe,) = inspect.getclosurevars(report).nonlocals.values()
    os.write(pipe.fileno(), b"\0\0\0\4none")
    time.sleep(60)


def leave_a_child_that_prints(fails: bool, report: Callable[[object], None]) -> str:
    subprocess.Popen(["timeout", "20", "yes"], close_fds=False)
    if fails:
        raise RuntimeError("not today")
    return "done"


def sleep(seconds: float, report: Callable[[int], None]) -> None:
    report(os.getpid())
    time.sleep(seconds)


def die(_: StackJob, report: Notify) -> None:
    os._exit(9)


def ignore(_: object) -> None:
    pass


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes(PRELOAD)
    yield made
    made.stop()


def test_messages_arrive_in_order_before_the_value(processes: Processes) -> None:
    messages: list[int] = []
    assert processes.call(count, 100, messages.append) == 4950
    assert messages == list(range(100))


def test_each_call_has_its_own_process(processes: Processes) -> None:
    one, other = (processes.call(own_id, None, ignore) for _ in range(2))
    assert len({one, other, os.getpid()}) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line"),
        (ValueError(), "ValueError"),
        (SystemExit(4), "SystemExit: 4"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (BrokenPipeError("of its own"), "BrokenPipeError: of its own"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_becomes_one_line_with_its_traceback(
    processes: Processes, error: BaseException, line: str
) -> None:
    with pytest.raises(ProcessError) as raised:
        processes.call(fail, error, ignore)
    assert str(raised.value) == line
    assert raised.value.traceback.startswith("Traceback")
    assert "in fail" in raised.value.traceback


def test_an_exception_is_reported_even_with_closed_streams(processes: Processes) -> None:
    with pytest.raises(ProcessError, match="RuntimeError: not today") as raised:
        processes.call(fail_with_closed_streams, None, ignore)
    assert "in fail_with_closed_streams" in raised.value.traceback
    assert raised.value.output == "before\n"


def test_an_exit_is_noticed(processes: Processes) -> None:
    with pytest.raises(ProcessDiedError, match="exit code 3"):
        processes.call(leave, 3, ignore)


def test_an_exit_is_noticed_while_a_child_is_alive(processes: Processes) -> None:
    with pytest.raises(ProcessDiedError, match="exit code 5"):
        processes.call(leave_a_child, None, ignore)


@pytest.mark.parametrize("fails", [False, True])
def test_a_printing_child_does_not_delay_the_result(processes: Processes, fails: bool) -> None:
    begun = time.monotonic()
    with pytest.raises(ProcessError, match="not today") if fails else contextlib.nullcontext():
        assert processes.call(leave_a_child_that_prints, fails, ignore) == "done"
    assert time.monotonic() - begun < 10


def assert_ended(function: Callable[[None, Callable[[object], None]], None], limits: Limits, says: str) -> None:
    """The process is ended by the bench with an error of one line, and does not count as dead."""
    processes = Processes(PRELOAD, limits)
    try:
        with pytest.raises(ProcessError, match=says) as raised:
            processes.call(function, None, ignore)
        assert not isinstance(raised.value, ProcessDiedError)
    finally:
        processes.stop()


@pytest.mark.parametrize("function", [loop_with_closed_pipes, write_into_its_pipe])
@pytest.mark.parametrize(("seconds", "says"), [(None, "closed the pipe"), (0.5, "--run-timeout")])
def test_a_process_that_can_no_longer_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[[None, Callable[[object], None]], None],
    seconds: float | None,
    says: str,
) -> None:
    monkeypatch.setattr("mtlbench.bench.processes.LEAVE_WITHIN", 1.0)
    assert_ended(function, Limits(seconds=seconds), says)


def test_output_stays_off_the_terminal_and_its_end_is_kept(
    processes: Processes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProcessError, match="after printing") as raised:
        processes.call(print_much, 5_000_000, ignore)
    assert len(raised.value.output) == OUTPUT_KEPT
    assert raised.value.output.endswith("xxx\n")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "limits", "says"),
    [(spin, Limits(seconds=1.0), "--run-timeout"), (eat, Limits(memory=2**30), "--run-memory")],
)
def test_a_process_over_its_limit_is_ended(
    function: Callable[[None, Callable[[object], None]], None], limits: Limits, says: str
) -> None:
    assert_ended(function, limits, says)


OUTLIVED = """
import os, time
from mtlbench.bench.processes import Processes

def sleep(seconds, report):
    report(os.getpid())
    time.sleep(seconds)

def tell(process):
    print(process, flush=True)

if __name__ == "__main__":
    Processes([]).call(sleep, 60.0, tell)
"""


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    file = tmp_path / "outlived.py"
    file.write_text(OUTLIVED)
    with subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
    for _ in range(100):
        if not psutil.pid_exists(worker):
            break
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_the_signal_that_ended_a_process_is_named(processes: Processes, name: str) -> None:
    messages: list[str] = []
    with pytest.raises(ProcessError, match=name):
        processes.call(kill_itself, signal.Signals[name].value, messages.append)
    assert messages == ["before"]


def test_an_exit_within_a_message_is_noticed(processes: Processes) -> None:
    def slowly(message: bytes) -> None:
        time.sleep(0.6)

    with pytest.raises(ProcessError, match="exit code 7"):
        processes.call(die_within_a_message, None, slowly)


@pytest.mark.parametrize(("epochs", "where"), [(None, "beginning"), (0, "beginning"), (3, "epoch 3")])
def test_a_job_whose_process_dies_restarts_from_its_checkpoint(
    processes: Processes, tmp_path: Path, epochs: int | None, where: str
) -> None:
    path = tmp_path / "state.safetensors"
    if epochs is not None:
        evaluations = [Evaluation([[1.0]], [[1.0]])] * epochs
        state = {"weight": torch.zeros(1)}  # safetensors 0.4.0 cannot read a file without tensors
        checkpoint.write(path, "key", state, History(evaluations, Trajectory([], [], [], None, None), [None], 1.0))
    settings = Settings(setup="mnist", seeds=(0,), epochs=5, batch_size=1, lr=1.0, device="cpu")
    job = StackJob(Spec(label="fixed", name="fixed", hyper={}), settings, (0,), (), "key", path if epochs else None)
    messages: list[Progress | str] = []
    with pytest.raises(ProcessDiedError, match="exit code 9"):
        carry_out(processes, die, job, messages.append)
    assert len(messages) == MOST_RESTARTS
    for message in messages:
        assert isinstance(message, str)
        assert "exit code 9" in message
        assert where in message


def test_a_failure_does_not_affect_other_calls(processes: Processes) -> None:
    with pytest.raises(ProcessError):
        processes.call(leave, 1, ignore)
    assert processes.call(count, 3, ignore) == 3


def test_stopping_kills_all_processes_and_starts_no_more(processes: Processes) -> None:
    ids: list[int] = []
    errors: list[str] = []
    started = threading.Event()

    def begun(process: int) -> None:
        ids.append(process)
        started.set()

    def call() -> None:
        try:
            processes.call(sleep, 60.0, begun)
        except ProcessError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    assert started.wait(30)
    processes.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert "SIGKILL" in errors[0]
    with pytest.raises(ProcessLookupError):
        os.kill(ids[0], 0)
    with pytest.raises(ProcessError, match="stopped"):
        processes.call(count, 1, ignore)
