"""Jobs on a Dask cluster: the same processes as on this machine, started by Dask workers."""

from __future__ import annotations

import logging
import multiprocessing as mp
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mtlbench import files
from mtlbench.bench.jobs import PRELOAD, Notify, StackJob
from mtlbench.bench.places import Function, carry_out
from mtlbench.bench.processes import Limits, ProcessError, Processes
from mtlbench.contracts.setup import Setup
from mtlbench.data import datasets
from mtlbench.engine.fitting import Progress
from mtlbench.errors import UserError, first_line, in_one_line
from mtlbench.plugins.registry import Registry
from mtlbench.records import environment

try:
    from dask.distributed import Client, get_worker
except ImportError:
    raise UserError("--cluster needs Dask: pip install 'mtlbench[cluster]'") from None

Value = TypeVar("Value")

CONNECT_WITHIN = 10  # seconds
LOOK_EVERY = 10.0  # seconds between two checks that there are workers

_fetching = threading.Lock()
_pools: dict[str, Processes] = {}  # of this Dask worker, by bench
_making = threading.Lock()


@dataclass(frozen=True)
class Parcel:
    """A job as it is sent to a Dask worker: with the names and contents of its plug-in files, and the sender's code."""

    job: StackJob
    plugins: tuple[tuple[str, bytes], ...]
    code: dict[str, str]
    limits: Limits
    topic: str
    bench: str


class Cluster:
    """A Dask cluster; each of its worker threads takes one job at a time (on cuda, each worker that declares `GPU`).

    `address` is that of the scheduler, as Dask writes it (`tcp://host:8786`), or the path of its scheduler file; jobs
    train on `device`, in processes within `limits`.

    Raises:
        UserError: there is no scheduler, it has no workers, or none of them can take a job.
    """

    def __init__(self, address: str, device: str, limits: Limits) -> None:
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs tracebacks of errors that are reported here
        self._lost = f"the Dask scheduler at {address} was lost; finished runs are kept: rerun the command to resume"
        try:
            target: Any = {"scheduler_file" if files.is_there(Path(address)) else "address": address}
            self._client = Client(**target, timeout=CONNECT_WITHIN)
        except Exception as error:  # Dask raises many types for an invalid address
            raise UserError(f"no Dask scheduler can be reached at {address}: {first_line(error)}") from None
        workers = self._workers().values()
        slots = [worker["resources"].get("GPU", 0) if device == "cuda" else worker["nthreads"] for worker in workers]
        if not sum(slots):
            self._client.close()
            if not workers:
                raise UserError(f"the Dask scheduler at {address} has no workers: start some: `dask worker {address}`")
            raise UserError("no Dask worker declares a GPU: start them with `dask worker ... --resources GPU=1`")
        self.size = f"{sum(slots):g} at a time on {len(slots)} Dask workers"
        self._limits = limits
        self._waiting: dict[Future[Any], Notify] = {}
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._bench = f"mtlbench-{uuid.uuid4()}"  # the cluster may have other users
        resources = {"resources": {"GPU": 1}} if device == "cuda" else {}
        self._executor = self._client.get_executor(pure=False, **resources)

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Send a job to the cluster; it is sent again if its worker is lost.

        The future raises `ProcessError` if the job failed, `UserError` if the scheduler was lost.
        """
        topic = f"mtlbench-{uuid.uuid4()}"
        code = _code_of(Registry.load(job.plugins), job)
        plugins = tuple((path.name, path.read_bytes()) for path in job.plugins)
        parcel = Parcel(replace(job, plugins=()), plugins, code, self._limits, topic, self._bench)

        def listen(event: tuple[float, dict[str, Any]]) -> None:
            message = event[1]["message"]
            report(message if isinstance(message, str) else Progress(**message))

        self._client.subscribe_topic(topic, listen)
        result: Future[Value] = Future()

        def end(remote: Future[Value]) -> None:
            del self._waiting[remote]
            if remote.cancelled():
                result.set_exception(UserError(self._lost))
            elif (error := remote.exception()) is None:
                result.set_result(remote.result())
            elif isinstance(error, ProcessError):
                result.set_exception(error)
            else:  # an error of Dask itself, such as the loss of too many workers
                result.set_exception(ProcessError(in_one_line(error), "".join(traceback.format_exception(error))))

        remote = self._executor.submit(_carry_out_there, function, parcel)
        self._waiting[remote] = report  # this also keeps the future: Dask drops a job that nobody holds
        remote.add_done_callback(end)
        return result

    def stop(self) -> None:
        """End this bench's processes on all workers, and disconnect."""
        self._stopped.set()
        with suppress(Exception):  # the scheduler may be lost; its workers then end by themselves
            self._executor.shutdown(wait=False)
            self._client.run(_end, self._bench)
        self._client.close()

    def _workers(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _watch(self) -> None:
        """Report when the last worker is lost; the jobs wait until another one starts."""
        had_workers = True
        while not self._stopped.wait(LOOK_EVERY):
            with suppress(Exception):  # if the scheduler is lost, all jobs end
                has_workers = bool(self._workers())
                if had_workers and not has_workers:
                    for report in list(self._waiting.values())[:1]:
                        report("no Dask worker is left; the missing runs wait until one is started")
                had_workers = has_workers


def _carry_out_there(function: Callable[[StackJob, Notify], Any], parcel: Parcel) -> Any:  # noqa: ANN401
    """Carry out a job on a Dask worker; whatever fails becomes a `ProcessError`, so only this run is affected."""
    try:
        with tempfile.TemporaryDirectory(prefix="mtlbench-") as scratch:
            return _carry_out_in(Path(scratch), function, parcel)
    except ProcessError:
        raise
    except Exception as error:
        raise ProcessError(f"on the Dask worker: {in_one_line(error)}", traceback.format_exc()) from None


def _carry_out_in(scratch: Path, function: Callable[[StackJob, Notify], Any], parcel: Parcel) -> Any:  # noqa: ANN401
    worker = get_worker()
    # Under a nanny, the worker is a daemon, which Python forbids to have children because they might outlive it.
    # Ours do not.
    vars(mp.current_process())["_config"]["daemon"] = False
    plugins = [scratch / f"plugin-{number}" / name for number, (name, _) in enumerate(parcel.plugins)]
    for path, (_, content) in zip(plugins, parcel.plugins, strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    registry = Registry.load(plugins)
    code = _code_of(registry, parcel.job)
    if differing := [name for name, version in parcel.code.items() if code.get(name) != version]:
        versions = ", ".join(f"{name} {code.get(name)}, not {parcel.code[name]}" for name in differing)
        raise ProcessError(f"the Dask worker has {versions}: install the same everywhere")
    _fetch_data(registry.setup(parcel.job.settings.setup))
    checkpoint = None if parcel.job.checkpoint is None else scratch / "state.safetensors"
    job = replace(parcel.job, plugins=tuple(plugins), checkpoint=checkpoint)

    def tell(message: Progress | str) -> None:
        worker.log_event(parcel.topic, {"message": message if isinstance(message, str) else asdict(message)})

    return carry_out(_pool_of(parcel.bench, parcel.limits), function, job, tell)


def _pool_of(bench: str, limits: Limits) -> Processes:
    """The processes of this Dask worker for one bench, which can be ended without those of other benches."""
    with _making:
        return _pools.setdefault(bench, Processes(PRELOAD, limits))


def _end(bench: str) -> None:
    """End a bench's processes on this Dask worker; its jobs that have not started yet will then fail at once."""
    _pool_of(bench, Limits()).stop()


def _code_of(registry: Registry, job: StackJob) -> dict[str, str]:
    """Versions of the packages, and digests of the files of strategy and setup, if they are known."""
    strategy, setup = job.spec.name, job.settings.setup
    known = {f"strategy {strategy}": registry.digest(strategy)}
    if setup in registry.setups:
        known[f"setup {setup}"] = registry.setup_digest(setup) or "built in"
    return environment.versions() | {name: digest[:16] for name, digest in known.items()}


def _fetch_data(setup: Setup) -> None:
    if setup.dataset is not None:
        with _fetching:
            datasets.fetch(setup.dataset, lambda _: None)
