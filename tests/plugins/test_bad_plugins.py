"""A bench of three good strategies with a bad one of each kind beside them, against the bench without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mtlbench.bench import execution
from mtlbench.bench.planning import Plan, plan
from mtlbench.records.history import Result
from mtlbench.records.records import RunRecord
from mtlbench.report.writing import write_report
from tests.helpers.kills import SETUP, Quiet, small_plan

GOOD = ("fixed", "gradnorm", "famo")
PLUGIN = """
import os, sys, time
import torch
from mtlbench import Strategy, register

kept = []

@register("{name}")
class Bad(Strategy):
    def forward(self, step):
        {body}
"""
BAD = {
    "raises": ("raise RuntimeError('not today')", "failed: RuntimeError: not today"),
    "misshapen": ("return step.losses.sum()", "ContractError: forward(step)"),
    "half": ("return step.losses.half().sum(-1)", "ContractError: forward(step)"),
    "detached": ("return step.losses.detach().sum(-1)", "ContractError"),
    "alters": (
        "step.losses.detach().mul_(2); return step.losses.sum(-1)",
        "step.losses",
    ),
    "nan": ("return step.losses.sum(-1) * float('nan')", "diverged: seed 0 at step 0, seed 1 at step 0"),
    "late": (
        "return step.losses.sum(-1) * torch.where(step.index == 7, torch.inf, 1.0)",
        "diverged: seed 0 at step 7, seed 1 at step 7",
    ),
    # Harmless but for its memory, which --run-memory bounds; `mtlbench check` names it.
    "keeps": ("kept.append((step.losses**2).sum(-1)); return torch.stack(kept).sum(0)", ""),
    "leaves": ("sys.exit(0)", "failed: SystemExit: 0"),
    "exits": ("os._exit(3)", "exit code 3"),
    "killed": ("import signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "loops": ("\n        while True: time.sleep(0.01)", "--run-timeout"),
    "eats": ("\n        while True: kept.append(torch.ones(5_000_000)); time.sleep(0.01)", "--run-memory"),
    "chatty": ("print('x' * 10_000); raise ValueError('said enough')", "failed: ValueError: said enough"),
    "lengthy": ("raise ValueError('x' * 5_000_000)", "failed: ValueError: xxx"),
    "colours": ("raise ValueError('\\x1b[31mred\\x07')", "failed: ValueError: \\x1b[31mred\\x07"),
    "mute": ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})", "failed: Mute"),
    "markup": ("raise ValueError('<script>alert(1)</script> [bold]')", "failed: ValueError: <script>alert(1)"),
}


@dataclass(frozen=True)
class Benches:
    """The bench with the bad strategies, and the runs of the one without."""

    disturbed: Plan
    alone: dict[str, RunRecord]


def execute(out: Path, strategies: Sequence[str], plugins: Sequence[Path]) -> tuple[Plan, bool]:
    request = replace(
        small_plan(out).request,
        strategies=strategies,
        plugins=tuple(plugins),
        run_timeout=10.0,
        run_memory=1.5,
        epochs=1,
        jobs=4,  # while one waits for its end
    )
    asked = plan(request)
    return asked, execution.execute(asked, Quiet())


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Benches:
    folder = tmp_path_factory.mktemp("bad")
    plugins: list[Path] = []
    for name, (body, _) in BAD.items():
        plugins.append(folder / f"{name}.py")
        plugins[-1].write_text(PLUGIN.format(name=name, body=body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "ROUNDS", 2)
        patch.setattr(execution, "TURN_SECONDS", 0.01)
        alone, complete = execute(folder / "alone", GOOD, ())
        assert complete
        disturbed, complete = execute(folder / "disturbed", [*GOOD, *BAD], plugins)
        assert not complete
    return Benches(disturbed, {run.spec.label: run for run in alone.store.runs(SETUP)})


def run_of(asked: Plan, label: str) -> RunRecord:
    found = asked.store.run(SETUP, label)
    assert found is not None
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_bad_strategy_has_one_line_that_names_its_fault(benches: Benches, name: str) -> None:
    found = run_of(benches.disturbed, name)
    assert BAD[name][1] in found.problem
    assert found.problem.isprintable()
    assert len(found.problem) < 400
    details = benches.disturbed.store.folder / "runs" / SETUP / f"{name}.error.txt"
    assert details.exists() == found.problem.startswith("failed")
    if name in ("raises", "chatty"):
        assert f'{name}.py", line' in details.read_text()
    if name == "chatty":
        assert "x" * 10_000 in details.read_text()


@pytest.mark.parametrize("label", [*GOOD, "single:digit", "single:above_five"])
def test_good_strategies_are_not_affected(benches: Benches, label: str) -> None:
    def numbers(run: RunRecord) -> dict[str, object]:
        assert isinstance(run.result, Result)
        return {name: value for name, value in vars(run.result).items() if name != "training_seconds"}

    assert numbers(run_of(benches.disturbed, label)) == numbers(benches.alone[label])


def test_the_report_shows_each_fault_escaped(benches: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_plots(*_: object) -> list[Path]:
        return []

    monkeypatch.setattr("mtlbench.report.plots.save_all", no_plots)
    made = write_report(benches.disturbed.store)
    rows = {row.label: row.problem for row in made.setups[0].table.rows}
    assert {name for name in BAD if rows[name]} == {name for name, (_, problem) in BAD.items() if problem}
    lines = (made.folder / "README.md").read_text().splitlines()
    for name in ("raises", "exits", "killed", "nan"):
        assert any(name in line and BAD[name][1] in line for line in lines)
    assert "not today" in (benches.disturbed.store.folder / "summary.csv").read_text()
    page = (made.folder / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
