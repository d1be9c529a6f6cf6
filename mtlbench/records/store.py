"""The files of one bench; only this module reads and writes them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from mtlbench import files
from mtlbench.errors import UserError
from mtlbench.records.records import BenchRecord, RunRecord, SpeedRecord, TuningRecord
from mtlbench.records.roles import REFERENCE, Role, role_of

R = TypeVar("R", bound=BaseModel)
LONGEST_NAME = 235  # a scratch file or an `.error.txt` adds up to 20 characters; file systems allow 255
READABLE = 100  # characters kept of a longer name, before its hash
ROLES: list[Role] = ["strategy", "tuned", "front", "single"]
TUNE_AGAIN = "delete it to tune that strategy again"


class Store:
    """The folder `results/<bench>/`: `bench.json`, `runs/SETUP/*.json`, `tuning/SETUP/*.json`, `costs.json`, reports.

    A failed run also has `*.error.txt`, with its traceback and the end of its output; `checkpoints/` has the states of
    unfinished runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            UserError: the folder is not writable.
        """
        try:
            (self.folder / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder / "runs"):
                pass
        except OSError as error:
            raise UserError(f"cannot write to {self.folder} ({error.strerror}): choose another --out") from None

    @contextmanager
    def locked(self) -> Generator[None]:
        """Context manager that keeps other processes from computing for this bench, until it or the process ends.

        Scratch files of interrupted writes are removed first.

        Raises:
            UserError: another process is at work, or the folder is not writable.
        """
        self.prepare()
        try:
            lock = FileLock(self.folder / ".lock").acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process is working on {self.folder}: wait, or choose another --name") from None
        with lock:
            for path in [*self.folder.rglob(".*.json"), *self.folder.rglob(".*.safetensors")]:
                path.unlink(missing_ok=True)
            yield

    def bench(self) -> BenchRecord | None:
        """The record of the bench; None if there is none yet."""
        return _read(self.folder / "bench.json", BenchRecord, "delete the folder to start again")

    def require_bench(self) -> BenchRecord:
        """The record of the bench.

        Raises:
            UserError: there is no such bench, or its record cannot be read.
        """
        if (bench := self.bench()) is None:
            raise UserError(f"there is no bench in {self.folder}: run `mtlbench bench --name {self.folder.name}`")
        return bench

    def run(self, setup: str, label: str) -> RunRecord | None:
        """The stored run of a strategy on a setup, complete or failed."""
        return _read(self._path("runs", setup, label), RunRecord, "delete it to compute that run again")

    def runs(self, setup: str) -> list[RunRecord]:
        """The runs of a setup in the order of tables: fixed weights, strategies, tuned ones, front, single tasks."""
        bench = self.bench()
        labels = bench.runs.get(setup, []) if bench else []
        runs = [run for label in labels if (run := self.run(setup, label))]
        return sorted(runs, key=lambda run: (run.spec.label != REFERENCE, ROLES.index(role_of(run.spec.label))))

    def tuning(self, setup: str, label: str) -> TuningRecord | None:
        """The trials of a strategy on a setup."""
        return _read(self._path("tuning", setup, label), TuningRecord, TUNE_AGAIN)

    def tuned(self, setup: str) -> list[TuningRecord]:
        """The tunings of all strategies on a setup, sorted by label."""
        paths = (self.folder / "tuning" / setup).glob("[!.]*.json")
        tunings = [record for path in sorted(paths) if (record := _read(path, TuningRecord, TUNE_AGAIN))]
        return sorted(tunings, key=lambda record: record.spec.label)

    def speeds(self) -> SpeedRecord | None:
        """The stored speeds."""
        return _read(self.folder / "costs.json", SpeedRecord, "delete it to measure the speeds again")

    def write_bench(self, record: BenchRecord) -> None:
        """Store the record of the bench."""
        self.write("bench.json", record.model_dump_json(indent=1))

    def write_run(self, record: RunRecord, details: str = "") -> None:
        """Store a complete or failed run, with the details of its failure."""
        path = self._path("runs", record.settings.setup, record.spec.label)
        error_file = path.with_suffix(".error.txt")
        if details:
            _write(error_file, details)
        else:
            error_file.unlink(missing_ok=True)
        _write(path, record.model_dump_json())

    def checkpoint(self, setup: str, label: str, stack: int) -> Path:
        """Path of the state of an unfinished stack of a run."""
        return self._path("checkpoints", setup, label).with_suffix("") / f"{stack}.safetensors"

    def drop_checkpoints(self, setup: str, label: str) -> None:
        """Remove the states of a complete run, and the folders that are then empty."""
        folder = self.checkpoint(setup, label, 0).parent
        shutil.rmtree(folder, ignore_errors=True)
        for parent in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()

    def write_tuning(self, record: TuningRecord) -> None:
        """Store the trials of a strategy."""
        _write(self._path("tuning", record.settings.setup, record.spec.label), record.model_dump_json())

    def write_speeds(self, record: SpeedRecord) -> None:
        """Store measured speeds."""
        self.write("costs.json", record.model_dump_json())

    def write(self, name: str, text: str) -> Path:
        """Write a text file atomically."""
        return _write(self.folder / name, text)

    def _path(self, kind: str, setup: str, label: str) -> Path:
        plain, digest = re.sub(r"[^A-Za-z0-9.=-]+", "-", label).strip("-"), hashlib.sha256(label.encode()).hexdigest()
        if plain != label:
            plain = f"{plain}-{digest[:6]}"
        if len(plain) > LONGEST_NAME:
            plain = f"{plain[:READABLE]}-{digest[:16]}"
        return self.folder / kind / setup / f"{plain}.json"


def _write(path: Path, text: str) -> Path:
    with files.replaced(path) as scratch:
        scratch.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    return path


def _read(path: Path, model: type[R], remedy: str) -> R | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}): {remedy}") from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        why = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
        raise UserError(f"{path} cannot be read by this version ({why}): {remedy}") from None
