"""The commands that train, `bench` and `tune`; what needs torch is imported when they run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mtlbench.console import open_console, warn
from mtlbench.errors import UserError
from mtlbench.options import (
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
from mtlbench.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.tasks import Setup

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
    from mtlbench import bench, progress, report, terminal
    from mtlbench.planning import Request, plan

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
        complete = bench.execute(planned, display)
    console.print("making tables and plots", highlight=False)
    terminal.show(report.make(planned.store), console)
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
    from mtlbench import progress, tune
    from mtlbench.planning import Request

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


def fetch(setups: Sequence[Setup], console: Console) -> None:
    """Have the data of these setups in the cache."""
    from mtlbench import data

    for dataset in {setup.dataset.title: setup.dataset for setup in setups if setup.dataset}.values():
        data.fetch(dataset, lambda text: console.print(text, highlight=False))


def _strategies(texts: list[str] | None) -> list[str]:
    from mtlbench.labels import split_specs

    return split_specs(texts or [])
