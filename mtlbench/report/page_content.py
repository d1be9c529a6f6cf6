"""What the page of a bench shows, put together from its findings; and the pictures that it shows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from mtlbench.plugins.explain import cited, explain
from mtlbench.plugins.spec_text import settings_text
from mtlbench.records.environment import cores
from mtlbench.records.records import RunRecord, TuningRecord
from mtlbench.records.roles import role_of
from mtlbench.report import plots
from mtlbench.report.figures.style import FAINT, Style
from mtlbench.report.html import ROLES, Figure, Label, Page, Setup, Strategy, Tuning, render
from mtlbench.report.plots import Frames, Overview, SavedPlot
from mtlbench.report.tables import lay_out
from mtlbench.setups.mnist import SETUPS
from mtlbench.stats.comparisons import rankings
from mtlbench.stats.findings import Findings
from mtlbench.stats.frames import curves_over_seeds

ROOM, TABLES_AND_TEXT = 3_900_000, 700_000
"""Bytes of a page, and what is kept of them for all but figures and data; a figure that finds no room lies beside the
page, in `plots/`."""
ENOUGH_FOR_PROCESSES = 4  # setups
VERDICTS = (
    "Everything is paired by seed: the same initial weights and the same order of the data. A score is the mean over "
    "seeds with its 95% bootstrap interval (BCa, expanded for few seeds). A difference is to fixed equal weights, of "
    "a tuned strategy to tuned fixed weights; it counts as shown if a two-sided sign-flip test over seeds (exact up "
    "to 16) stays below 5% after Holm's correction over all comparisons made of that metric, in all setups together. "
    "Beside it stands the smallest difference that would have been found with a probability of 80%. That nothing is "
    "shown does not show equality. Speed is the median over interleaved rounds, measured alone on the machine."
)


DATA_OF = {
    "accuracy": "runs.csv",
    "auxiliary": "runs.csv",
    "curves": "curves.csv",
    "weights": "curves.csv",
    "cost": "speeds.csv",
}
"""The file of the page that a figure was drawn from; `scores.csv` for the others."""


@dataclass(frozen=True)
class SavedPlots:
    """The saved plots of each setup, and those across setups."""

    of_setups: dict[str, list[SavedPlot]]
    across: list[SavedPlot]


def draw(found: Findings, folder: Path) -> SavedPlots:
    """Draw and save all plots of a bench: `folder/SETUP/*`, and across setups `folder/*`."""
    every = dict(plots.PLOTS)
    others = {name: plot for name, plot in every.items() if name != "cost"}  # measured on the main setup alone
    jobs = [
        (every if setup == found.bench.main_setup else others, frames_of(found, setup), folder / setup)
        for setup in found.runs
    ]
    of_setups = dict(zip(found.runs, _side_by_side(jobs), strict=True))
    overview = Overview(
        scores=found.scores,
        main_tasks=found.main_tasks,
        rankings=rankings(found.per_seed, found.main_tasks),
        caption=f"{found.conditions}.",
    )
    several = {name: plot for name, plot in plots.OVERVIEW_PLOTS.items() if name != "heat-map" or len(found.runs) > 1}
    return SavedPlots(of_setups, plots.save_all(several, overview, folder))


def _side_by_side(jobs: Sequence[tuple[dict[str, plots.Plot[Frames]], Frames, Path]]) -> list[list[SavedPlot]]:
    """`plots.save_all` of each setup, in processes of their own where there are setups and cores enough."""
    workers = min(len(jobs), cores())
    if len(jobs) < ENOUGH_FOR_PROCESSES or workers < 2:
        return [plots.save_all(*job) for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(plots.save_all, *zip(*jobs, strict=True)))


def frames_of(found: Findings, setup: str) -> Frames:
    """The frames of one setup."""
    lost = [run.spec.label for run in found.runs[setup] if run.problem]

    def of_setup(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["setup"] == setup]

    return Frames(
        runs=of_setup(found.per_seed),
        curves=of_setup(found.curves),
        scores=of_setup(found.scores),
        costs=found.speeds if setup == found.bench.main_setup else found.speeds.iloc[:0],
        tasks=tuple(task.name for task in found.tasks[setup]),
        caption=f"Setup {setup}, {found.conditions}." + (f" Without scores: {', '.join(lost)}." if lost else ""),
    )


def page(
    found: Findings, sentences: Sequence[str], notes: Sequence[str], pictures: SavedPlots, summary: pd.DataFrame
) -> str:
    """The page of a bench, as HTML."""
    bench, environment = found.bench, found.bench.environment
    files = {
        "summary.csv": summary.to_csv(index=False, float_format="%.6g"),
        "scores.csv": found.scores.to_csv(index=False, float_format="%.6g"),
        "runs.csv": _of_main(found, found.per_seed).to_csv(index=False, float_format="%.6g"),
        "curves.csv": curves_over_seeds(_of_main(found, found.curves)).to_csv(index=False, float_format="%.4g"),
        "speeds.csv": found.speeds.to_csv(index=False, float_format="%.6g"),
    }
    inlined = _inlined(pictures, bench.main_setup, ROOM - TABLES_AND_TEXT - sum(map(len, files.values())))
    return render(
        Page(
            bench=bench.name,
            answer=tuple(sentences),
            conditions=_asked(found),
            notes=tuple(notes),
            labels=tuple(_labels(found)),
            setups=tuple(_setup(found, setup, inlined.of_setups.get(setup, [])) for setup in found.runs),
            figures=tuple(_figure(saved) for saved in inlined.across),
            strategies=tuple(_strategies(found)),
            verdicts=VERDICTS,
            environment=(
                ("machine", f"{environment.machine}, {environment.cores} cores, {environment.memory_gib} GiB"),
                ("system", environment.system),
                ("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
                ("commit", environment.commit or "unknown"),
                ("begun", bench.created),
            ),
            commands=tuple(found.commands),
            files=files,
        )
    )


def _inlined(pictures: SavedPlots, main: str, room: int) -> SavedPlots:
    """The figures that fit into the page: those of the main setup and across setups, then the others in turn."""
    kept = set[int]()
    others = [own for setup, own in pictures.of_setups.items() if setup != main]
    in_turn = [saved for place in zip_longest(*others) for saved in place if saved is not None]
    for saved in [*pictures.of_setups.get(main, []), *pictures.across, *in_turn]:
        if len(saved.svg) <= room:
            room -= len(saved.svg)
            kept.add(id(saved))
    return SavedPlots(
        {setup: [saved for saved in own if id(saved) in kept] for setup, own in pictures.of_setups.items()},
        [saved for saved in pictures.across if id(saved) in kept],
    )


def _figure(saved: SavedPlot) -> Figure:
    plot = saved.plot
    return Figure(
        saved.name,
        plot.title,
        plot.how_to_read,
        plot.alt,
        saved.svg,
        saved.marks,
        DATA_OF.get(saved.name, "scores.csv"),
    )


def _setup(found: Findings, name: str, saved: Sequence[SavedPlot]) -> Setup:
    table = lay_out(found.summaries[name], found.tasks[name])
    return Setup(name, _about(found.runs[name][-1], name), table, tuple(_figure(picture) for picture in saved))


def _about(run: RunRecord, setup: str) -> str:
    """What a setup says of itself: where it is from a file, as it was when the run was trained."""
    if run.own_setup is not None:
        return run.own_setup.about
    return SETUPS[setup].about if setup in SETUPS else ""


def _asked(found: Findings) -> tuple[tuple[str, str], ...]:
    asked = found.bench.conditions
    compared = found.scores[found.scores["verdict"] != ""]
    trials = sum(len(record.trials) for own in found.tuned.values() for record in own)
    return (
        ("setups", ", ".join(found.runs)),
        ("seeds", f"{len(asked.seeds)}, paired"),
        ("epochs", str(asked.epochs)),
        (
            "training",
            f"batch {asked.batch_size}, Adam, learning rate {asked.lr:g}" + (" where not tuned" if trials else ""),
        ),
        ("device", asked.device),
        (
            "comparisons",
            ", ".join(f"{count} of {metric}" for metric, count in compared["metric"].value_counts().items()),
        ),
        ("tuning", f"{trials} trials, validation only, on seeds of their own" if trials else "none"),
    )


def _labels(found: Findings) -> Iterator[Label]:
    """Every label that has a run anywhere, once, with the look that it has in the plots of the main setup."""
    runs = {run.spec.label: run for setup in reversed(found.runs) for run in found.runs[setup]}
    looks = plots.styles(frames_of(found, found.bench.main_setup))
    order = {run.spec.label: None for own in found.runs.values() for run in own}
    for label in sorted(order, key=lambda label: list(ROLES).index(role_of(label))):
        look = looks.get(label, Style(FAINT))
        yield Label(label, role_of(label), runs[label].spec.name, look.colour, look.marker, look.dashes)


def _strategies(found: Findings) -> Iterator[Strategy]:
    """Each strategy once, explained by the source that was stored with its run."""
    first: dict[str, RunRecord] = {}
    for own in found.runs.values():
        for run in own:
            first.setdefault(run.spec.name, run)
    for name, run in first.items():
        about = explain(run.source, name)
        yield Strategy(
            name,
            about.about,
            about.description,
            cited(about.description),
            about.heads,
            about.hyper,
            tuple(tuning_of(record) for own in found.tuned.values() for record in own if record.spec.name == name),
            run.source_file,
            run.source,
        )


def tuning_of(record: TuningRecord) -> Tuning:
    """What was chosen for a strategy, and what the choice cost."""
    chosen, label = record.chosen, record.spec.label
    settings = "nothing was chosen: a trial failed or is missing"
    if chosen is not None:
        settings = settings_text(chosen.lr, chosen.hyper)
    seconds = sum(trial.seconds for trial in record.trials)
    about = "" if label == record.spec.name else f"as {label}"
    return Tuning(record.settings.setup, settings, len(record.trials), seconds, about)


def _of_main(found: Findings, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the main setup; those of all setups are in the files beside the page."""
    return frame[frame["setup"] == found.bench.main_setup]
