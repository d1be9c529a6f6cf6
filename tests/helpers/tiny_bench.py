"""Whole benches on the tiny setup, with plug-ins written on the spot and a display that records what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtlbench.bench import execution
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.planning import Plan, Request
from mtlbench.bench.planning import plan as lay_out
from tests.helpers.toy import TINY

GOOD = """
from mtlbench import Strategy, register

@register("{name}")
class Mine(Strategy):
    def forward(self, step):
        {body}
"""
SUM = "return step.losses.sum(-1)"
SETUP = TINY.name


class Silent(Display):
    """A display that keeps the notes, and the titles of started jobs."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.titles: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, job: ShownJob) -> None:
        self.titles.append(job.title)

    def moved(self, job: ShownJob) -> None:
        assert job.progress is not None
        assert 0 < job.progress.done <= job.epochs

    def ended(self, job: ShownJob) -> None: ...


def write(folder: Path, name: str, body: str = SUM) -> Path:
    path = folder / f"{name}.py"
    path.write_text(GOOD.format(name=name, body=body))
    return path


def plan(out: Path, strategies: Sequence[str], plugins: Sequence[Path] = (), jobs: int = 2, **asked: int) -> Plan:
    return lay_out(
        Request(
            name="tiny",
            out=out,
            setups=[SETUP],
            strategies=strategies,
            seeds=(0, 1),
            epochs=asked.get("epochs", 1),
            batch_size=100,
            lr=1e-3,
            device="cpu",
            jobs=jobs,
            plugins=tuple(plugins),
            command="test",
        )
    )


def execute(asked: Plan) -> tuple[bool, Silent]:
    display = Silent()
    return execution.execute(asked, display), display
