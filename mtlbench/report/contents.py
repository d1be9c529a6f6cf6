"""Assembles the model of a report from the findings of a bench and its saved plots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mtlbench.plugins.explain import cited, explain
from mtlbench.plugins.spec_text import settings_text
from mtlbench.records.records import RunRecord, TuningRecord
from mtlbench.records.roles import role_of
from mtlbench.records.store import ROLES
from mtlbench.report.answer import answer
from mtlbench.report.figures.inputs import Frames
from mtlbench.report.figures.style import FAINT, Style, styles
from mtlbench.report.model import LabelEntry, Report, SetupSection, StrategyEntry, TunedEntry
from mtlbench.report.plots import SavedPlots
from mtlbench.report.tables import lay_out, over_setups
from mtlbench.setups import SETUPS
from mtlbench.stats.findings import Findings
from mtlbench.stats.frames import curves_over_seeds


def assemble(findings: Findings, folder: Path, plots: SavedPlots) -> Report:
    """The model of a report; `folder` is that of the bench."""
    main_setup, main_task = next(iter(findings.main_tasks.items()))
    summary = pd.concat(findings.summaries.values(), ignore_index=True)
    sections: list[SetupSection] = []
    for setup, runs in findings.runs.items():
        table = lay_out(findings.summaries[setup], findings.tasks[setup])
        sections.append(SetupSection(setup, _about(runs[-1], setup), table, tuple(plots.of_setups.get(setup, ()))))
    return Report(
        name=findings.bench.name,
        folder=folder,
        answer=tuple(answer(findings.scores, findings.speeds, main_setup, main_task)),
        conditions=_conditions(findings),
        notes=tuple(findings.notes),
        labels=tuple(_labels(findings)),
        setups=tuple(sections),
        over_setups=over_setups(findings.scores, findings.main_tasks) if len(findings.runs) > 1 else None,
        plots=tuple(plots.across),
        strategies=tuple(_strategies(findings)),
        environment=_environment(findings),
        commands=tuple(findings.commands),
        csv={
            "summary.csv": summary.to_csv(index=False, float_format="%.7g"),
            "scores.csv": findings.scores.to_csv(index=False, float_format="%.6g"),
            "speeds.csv": findings.speeds.to_csv(index=False, float_format="%.6g"),
            "runs.csv": findings.per_seed.to_csv(index=False, float_format="%.7g"),
            "curves.csv": curves_over_seeds(findings.curves).to_csv(index=False, float_format="%.4g"),
        },
    )


def _conditions(findings: Findings) -> tuple[tuple[str, str], ...]:
    conditions = findings.bench.conditions
    compared = findings.scores[findings.scores["verdict"] != ""]
    trials = sum(len(record.trials) for records in findings.tuned.values() for record in records)
    training = f"batch size {conditions.batch_size}, Adam, learning rate {conditions.lr:g}"
    comparisons = (f"{count} of {metric}" for metric, count in compared["metric"].value_counts().items())
    return (
        ("setups", ", ".join(findings.runs)),
        ("seeds", f"{len(conditions.seeds)}, paired"),
        ("epochs", str(conditions.epochs)),
        ("training", training + (" unless tuned" if trials else "")),
        ("device", conditions.device),
        ("matrix products", f"{conditions.products}, {conditions.precision}"),
        ("comparisons", ", ".join(comparisons) or "none"),
        ("tuning", f"{trials} trials, scored on validation data only, with separate seeds" if trials else "none"),
    )


def _environment(findings: Findings) -> tuple[tuple[str, str], ...]:
    environment, speeds = findings.bench.environment, findings.speed_record
    pairs = [
        ("machine", f"{environment.machine}, {environment.cores} cores, {environment.memory_gib} GiB"),
        ("system", environment.system),
        ("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
        ("commit", environment.commit or "unknown"),
        ("begun", findings.bench.created),
    ]
    if speeds:
        rounds = max((len(step.ratios) for step in speeds.costs), default=0)
        threads = f"{speeds.threads} CPU thread{'s' if speeds.threads != 1 else ''}"
        pairs.append(("speed measured", f"alone on the machine, {threads}, {rounds} interleaved rounds"))
    return tuple(pairs)


def _about(run: RunRecord, setup: str) -> str:
    """The description of a setup; for one from a file of its own, as it was when the run was trained."""
    if run.own_setup is not None:
        return run.own_setup.about
    return SETUPS[setup].about if setup in SETUPS else ""


def _labels(findings: Findings) -> Iterator[LabelEntry]:
    """Every label that has a run on any setup, with its style in the plots of the main setup."""
    runs = {run.spec.label: run for setup in reversed(findings.runs) for run in findings.runs[setup]}
    look = styles(Frames.of(findings, findings.bench.main_setup))
    order = dict.fromkeys(run.spec.label for runs_of_setup in findings.runs.values() for run in runs_of_setup)
    for label in sorted(order, key=lambda label: ROLES.index(role_of(label))):
        yield LabelEntry(label, role_of(label), runs[label].spec.name, look.get(label, Style(FAINT)))


def _strategies(findings: Findings) -> Iterator[StrategyEntry]:
    """Each strategy once, explained by the source that was stored with its run."""
    first: dict[str, RunRecord] = {}
    for run in (run for runs in findings.runs.values() for run in runs):
        first.setdefault(run.spec.name, run)
    tuned = [record for records in findings.tuned.values() for record in records]
    for name, run in first.items():
        entries = tuple(_tuned(record) for record in tuned if record.spec.name == name)
        explanation = explain(run.source, name)
        yield StrategyEntry(name, explanation, cited(explanation.description), entries, run.source_file, run.source)


def _tuned(record: TuningRecord) -> TunedEntry:
    chosen = record.chosen
    settings = "nothing: a trial failed or is missing" if chosen is None else settings_text(chosen.lr, chosen.hyper)
    seconds = sum(trial.seconds for trial in record.trials)
    return TunedEntry(record.spec.label, record.settings.setup, settings, len(record.trials), seconds)
