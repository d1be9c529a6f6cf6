"""The examples in docs/ run unchanged, and learn."""

from __future__ import annotations

import math
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], example: str, *arguments: str
) -> list[float]:
    """The numbers in the last line that an example prints."""
    monkeypatch.setattr(sys, "argv", [example, *arguments])
    runpy.run_path(str(DOCS / "examples" / example), run_name="__main__")
    return [float(number) for number in re.findall(r"\d+\.\d+", capsys.readouterr().out.splitlines()[-1])]


def test_the_resnet_learns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--random", "--batch", "16", "--steps", "50", "--strategy", "gradnorm")
    digit, weight, above, other = run(monkeypatch, capsys, "resnet_trunk.py", *arguments)
    assert digit < 0.7 * math.log(10)
    assert above < 0.7 * math.log(2)
    assert weight + other == pytest.approx(2, abs=2e-3)


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [("modo", "bfloat16"), ("mgda", "float16"), ("famo", "bfloat16"), ("graddrop", "float32")],
)
def test_the_resnet_runs_with_any_strategy_and_precision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str, precision: str
) -> None:
    arguments = ("--random", "--batch", "16", "--steps", "2", "--strategy", strategy, "--precision", precision)
    assert len(run(monkeypatch, capsys, "resnet_trunk.py", *arguments)) == 4


@pytest.mark.parametrize("strategy", ["famo", "gradnorm", "modo"])
def test_tasks_with_loaders_of_their_own_learn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    kind, size, *_ = run(monkeypatch, capsys, "two_loaders.py", "--epochs", "8", "--strategy", strategy)
    assert kind < 0.6 * math.log(4)
    assert size < 0.1 * 8  # the variance of the number


@pytest.mark.parametrize(("strategy", "precision"), [("famo", "32-true"), ("gradnorm", "bf16-mixed")])
def test_lightning_learns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str, precision: str
) -> None:
    arguments = ("--epochs", "10", "--strategy", strategy, "--precision", precision)
    kind, size = run(monkeypatch, capsys, "with_lightning.py", *arguments)
    assert kind < 0.8 * math.log(4)
    assert size < 0.5 * 8  # the variance of the number


def test_lightning_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    import lightning.pytorch as pl
    from torch.utils.data import DataLoader, TensorDataset

    make = runpy.run_path(str(DOCS / "examples" / "with_lightning.py"))["TwoTasks"]
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(x, x[:, :4].argmax(-1), x.sum(-1))

    def train(epochs: int, checkpoint: Path | None = None) -> tuple[pl.LightningModule, pl.Trainer]:
        torch.manual_seed(0)
        module = make("uncertainty")
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        trainer.fit(module, DataLoader(samples, batch_size=16), ckpt_path=checkpoint)
        return module, trainer

    whole, _ = train(4)
    _, half = train(2)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = train(4, tmp_path / "half.ckpt")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
