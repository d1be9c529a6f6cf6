"""Measure how a training step grows, then draw the figures and write `docs/performance.md`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from mtlbench import data
from mtlbench.bench import jobs
from mtlbench.records import environment
from mtlbench.report.figures.style import theme
from tests.project.growth.document import Evidence, written
from tests.project.growth.figures import draw_all
from tests.project.growth.measure import measure_all

DOCS = Path(__file__).parents[3] / "docs"
FOLDER = "performance"
ROUNDS = 15


def measure(folder: Path, rounds: int) -> None:
    """Measure, and store the rows and their evidence in the folder."""
    data.fetch(data.MNIST, print)
    jobs.prepare()
    evidence = Evidence(
        command="make growth",
        created=environment.now(),
        rounds=rounds,
        threads=jobs.THREADS,
        environment=environment.describe("cpu"),
    )
    measure_all(rounds).to_csv(folder / "growth.csv", index=False, float_format="%.6g")
    (folder / "growth.json").write_text(evidence.model_dump_json(indent=2) + "\n")


def stored(folder: Path) -> tuple[pd.DataFrame, Evidence]:
    """The rows and the evidence that `measure` stored."""
    evidence = Evidence.model_validate_json((folder / "growth.json").read_text())
    return pd.read_csv(folder / "growth.csv"), evidence


def write(docs: Path) -> None:
    """Draw the stored rows, and write the page next to them."""
    folder = docs / FOLDER
    rows, evidence = stored(folder)
    for name, figure in draw_all(rows, evidence.caption).items():
        with theme():
            figure.savefig(folder / f"{name}.png", dpi=160)
    (docs / "performance.md").write_text(written(rows, evidence, FOLDER))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.project.growth", description=__doc__)
    parser.add_argument("--replot", action="store_true", help="only draw the stored rows again")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each measurement ({ROUNDS})")
    arguments = parser.parse_args()
    (DOCS / FOLDER).mkdir(parents=True, exist_ok=True)
    if not arguments.replot:
        measure(DOCS / FOLDER, arguments.rounds)
    write(DOCS)


if __name__ == "__main__":
    main()
