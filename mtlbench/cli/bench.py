"""The commands that train, `bench` and `tune`; what needs torch is imported when they run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from mtlbench.cli.console import open_console, warn
from mtlbench.cli.data import fetch
from mtlbench.cli.options import (
    DEFAULT_SETUP,
    MOST_SEEDS,
    BatchOption,
    ClusterOption,
    DeviceOption,
    EpochsOption,
    FrontOption,
    JobsOption,
    LrOption,
    NameOption,
    OutOption,
    PluginOption,
    RunMemoryOption,
    RunTimeoutOption,
    SeedsOption,
    SetupOption,
    StrategiesOption,
    TrialsOption,
    TunedOption,
    TuningSeedsOption,
    check_name,
    seeds_of,
    words_of,
)
from mtlbench.cli.stopping import stoppable
from mtlbench.errors import UserError

LEFT = "finished runs and epochs are kept, and the same command goes on from there"


def run_bench(
    strategies: StrategiesOption = None,
    seeds: SeedsOption = "12",
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    tuned: TunedOption = False,
    front: FrontOption = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    run_timeout: RunTimeoutOption = None,
    run_memory: RunMemoryOption = None,
    cluster: ClusterOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Train strategies on setups and compare them."""
    chosen = seeds_of(seeds)
    check_name(name)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench.bench import execution
    from mtlbench.bench.planning import Request, plan
    from mtlbench.cli import progress
    from mtlbench.report import terminal
    from mtlbench.report.writing import write_report

    planned = plan(
        Request(
            name=name,
            out=out,
            setups=words_of(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=chosen,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            run_timeout=run_timeout,
            run_memory=run_memory,
            cluster=cluster,
            plugins=tuple(path.resolve() for path in plugin or []),
            command=shlex.join(["mtlbench", *sys.argv[1:]]),
            tuned=tuned,
            front=front,
        )
    )
    warn(planned.registry.problems)
    planned.store.prepare()
    fetch([run.setup for run in planned.runs], console)
    with stoppable(LEFT), progress.display(console) as display:
        complete = execution.execute(planned, display)
    console.print("making tables and plots", highlight=False)
    terminal.show(write_report(planned.store), console)
    if not complete:
        raise typer.Exit(1)


def run_tune(
    strategies: StrategiesOption = None,
    trials: TrialsOption = 16,
    tuning_seeds: TuningSeedsOption = 2,
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    run_timeout: RunTimeoutOption = None,
    run_memory: RunMemoryOption = None,
    cluster: ClusterOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Try hyper-parameters of strategies under one budget."""
    if not 1 <= tuning_seeds <= MOST_SEEDS:
        raise UserError(f"--tuning-seeds must be between 1 and {MOST_SEEDS}, not {tuning_seeds}")
    check_name(name)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench.bench import tune
    from mtlbench.bench.planning import Request
    from mtlbench.cli import progress

    planned = tune.plan_tuning(
        Request(
            name=name,
            out=out,
            setups=words_of(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=tune.tuning_seeds(tuning_seeds),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            run_timeout=run_timeout,
            run_memory=run_memory,
            cluster=cluster,
            plugins=tuple(path.resolve() for path in plugin or []),
            command=shlex.join(["mtlbench", *sys.argv[1:]]),
        ),
        trials,
    )
    planned.store.prepare()
    fetch([tuning.setup for tuning in planned.tunings], console)
    with stoppable(LEFT), progress.display(console) as display:
        complete = tune.execute(planned, display)
    if not complete:
        raise typer.Exit(1)


def _strategies(texts: list[str] | None) -> list[str]:
    from mtlbench.plugins.spec_text import split_specs

    return split_specs(texts or [])
