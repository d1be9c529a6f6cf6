"""The files of one bench: read and written here and nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mtlbench.errors import UserError
from mtlbench.records import REFERENCE, BenchRecord, CostRecord, Role, RunRecord, TuningRecord, role_of

R = TypeVar("R", bound=BaseModel)
ROLES: list[Role] = ["strategy", "tuned", "front", "single"]


class Store:
    """`results/<bench>/`: `bench.json`, `runs/SETUP/*.json`, `tuning/SETUP/*.json`, `costs.json`, and what is derived.

    Nothing else reads or writes there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            (self.folder / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder / "runs"):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror}): choose another folder with --out"
            ) from None

    def bench(self) -> BenchRecord | None:
        """What was asked under this name, if anything."""
        return _read(self.folder / "bench.json", BenchRecord, "delete the folder to start the bench anew")

    def run(self, setup: str, label: str) -> RunRecord | None:
        """The stored run of a strategy on a setup, complete or failed."""
        return _read(self._path("runs", setup, label), RunRecord, "delete it to have that run computed again")

    def runs(self, setup: str) -> list[RunRecord]:
        """The runs of a setup in the order of tables: fixed weights, strategies, tuned ones, front, single tasks."""
        bench = self.bench()
        found = [self.run(setup, label) for label in (bench.runs.get(setup, []) if bench else [])]
        there = [run for run in found if run is not None]
        return sorted(there, key=lambda run: (run.spec.label != REFERENCE, ROLES.index(role_of(run.spec.label))))

    def tuning(self, setup: str, label: str) -> TuningRecord | None:
        """The trials of a strategy on a setup."""
        return _read(self._path("tuning", setup, label), TuningRecord, "delete it to have that strategy tuned again")

    def tuned(self, setup: str) -> list[TuningRecord]:
        """All that have been tuned on a setup, by label."""
        files = sorted((self.folder / "tuning" / setup).glob("[!.]*.json"))
        found = [_read(path, TuningRecord, "delete it to have that strategy tuned again") for path in files]
        return sorted((record for record in found if record), key=lambda record: record.spec.label)

    def costs(self) -> CostRecord | None:
        """The stored speeds."""
        return _read(self.folder / "costs.json", CostRecord, "delete it to have the speeds measured again")

    def write_bench(self, record: BenchRecord) -> None:
        """Store what was asked."""
        self.write("bench.json", record.model_dump_json(indent=1))

    def write_run(self, record: RunRecord) -> None:
        """Store a run that is complete or has failed."""
        self._write_at(self._path("runs", record.settings.setup, record.spec.label), record)

    def write_tuning(self, record: TuningRecord) -> None:
        """Store the trials of a strategy."""
        self._write_at(self._path("tuning", record.settings.setup, record.spec.label), record)

    def write_costs(self, record: CostRecord) -> None:
        """Store measured speeds."""
        self.write("costs.json", record.model_dump_json())

    def write(self, name: str, text: str) -> Path:
        """Write a file whole or not at all: to a temporary name, synced, then renamed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".", suffix=f"-{path.name}", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        return path

    def _write_at(self, path: Path, record: BaseModel) -> None:
        self.write(str(path.relative_to(self.folder)), record.model_dump_json())

    def _path(self, kind: str, setup: str, label: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", label).strip("-")
        if plain != label:
            plain = f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        return self.folder / kind / setup / f"{plain}.json"


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
        where = ".".join(str(part) for part in first["loc"])
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(f"{path} is not a record that this version can read ({why}): {remedy}") from None
