"""Training resumed from a checkpoint, compared with uninterrupted training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from mtlbench.contracts.setup import Setup
from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.engine import fitting
from mtlbench.engine.fitting import Progress
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from mtlbench.records import checkpoint
from mtlbench.records.history import History
from tests.helpers.toy import toy_setup

SEEDS, EPOCHS = (3, 0, 11), 3


class CutOffError(Exception):
    pass


def make(registry: Registry, label: str, setup: Setup, seeds: tuple[int, ...] = SEEDS) -> Trainer:
    build = partial(registry.build, registry.parse(label, setup))
    return Trainer(setup, build, seeds, setup.samples()[0], batch_size=6, lr=1e-2, device=torch.device("cpu"))


def fit(trainer: Trainer, setup: Setup, path: Path | None = None, stop_after: int = EPOCHS) -> History:
    """Train, from the checkpoint at `path` if there is one, and be interrupted in the epoch after `stop_after`."""
    found = checkpoint.read(path, "key") if path else None
    if found is not None:
        trainer.restore(found.state)

    def keep(history: History) -> None:
        if path is not None:
            checkpoint.write(path, "key", trainer.state, history)

    def report(progress: Progress) -> None:
        if progress.done > stop_after:
            raise CutOffError

    return fitting.fit(
        trainer,
        setup.samples()[1],
        epochs=EPOCHS,
        watched=setup.tasks[0],
        report=report,
        so_far=found.history if found else None,
        keep=keep,
    )


def without_time(history: History) -> dict[str, object]:
    return {name: value for name, value in vars(history).items() if name != "training_seconds"}


def test_every_strategy_resumes_bit_for_bit(registry: Registry, tmp_path: Path) -> None:
    setup = toy_setup(size=30)  # five steps in an epoch
    for label in registry.strategies:
        whole = make(registry, label, setup)
        history = fit(whole, setup)
        path = tmp_path / f"{label}.safetensors"
        for stop_after in (1, 2):
            with pytest.raises(CutOffError):
                fit(make(registry, label, setup), setup, path, stop_after)
        last = make(registry, label, setup)
        resumed = fit(last, setup, path)
        assert without_time(resumed) == without_time(history), label
        for name, tensor in whole.state.items():
            assert torch.equal(tensor, last.state[name]), (label, name)


@pytest.mark.parametrize("damage", ["cut", "scrambled", "empty", "absent", "another key"])
def test_an_unusable_checkpoint_is_ignored(registry: Registry, tmp_path: Path, damage: str) -> None:
    setup, path = toy_setup(), tmp_path / "state.safetensors"
    trainer = make(registry, "gradnorm", setup)
    checkpoint.write(path, "another" if damage == "another key" else "key", trainer.state, fit(trainer, setup))
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "scrambled":
        path.write_bytes(bytes(reversed(whole)))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "absent":
        path.unlink()
    assert checkpoint.read(path, "key") is None


def test_a_failed_write_keeps_the_old_checkpoint(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, path = toy_setup(), tmp_path / "state.safetensors"
    trainer = make(registry, "fixed", setup)
    history = fit(trainer, setup)
    checkpoint.write(path, "key", trainer.state, history)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mtlbench.files._sync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, "key", trainer.state, history)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_state_of_another_stack_is_refused(registry: Registry) -> None:
    setup = toy_setup()
    with pytest.raises(ValueError, match="state"):
        make(registry, "fixed", setup).restore(make(registry, "fixed", setup, (1, 2)).state)


class Explodes(Strategy):
    """The loss of the second replica becomes infinite at its fourth step."""

    def forward(self, step: Step) -> torch.Tensor:
        factor = torch.ones(self.shape[0], dtype=step.losses.dtype)
        factor[1] = torch.where(step.index == 3, torch.inf, 1.0)
        return factor * step.losses.sum(-1)


def test_a_diverging_seed_has_its_step_recorded() -> None:
    setup = toy_setup()
    trainer = Trainer(setup, Explodes, SEEDS, setup.samples()[0], batch_size=6, lr=1e-2, device=torch.device("cpu"))
    assert fit(trainer, setup).diverged == [None, 3, None]
