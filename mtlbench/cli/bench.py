"""The commands `bench` and `tune`; what needs torch is imported when they run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mtlbench.cli import options
from mtlbench.cli.console import open_console, warn
from mtlbench.cli.data import fetch
from mtlbench.cli.stopping import stoppable
from mtlbench.errors import UserError
from mtlbench.records import roles

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.bench.planning import Request

LEFT = "finished runs and epochs are kept: rerun the command to resume"


def run_bench(
    strategies: options.StrategiesOption = None,
    seeds: options.SeedsOption = "12",
    epochs: options.EpochsOption = 2,
    batch_size: options.BatchOption = 64,
    lr: options.LrOption = 1e-3,
    setup: options.SetupOption = None,
    tuned: options.TunedOption = False,
    front: options.FrontOption = False,
    device: options.DeviceOption = "auto",
    products: options.ProductsOption = "auto",
    precision: options.PrecisionOption = "float32",
    jobs: options.JobsOption = None,
    run_timeout: options.RunTimeoutOption = None,
    run_memory: options.RunMemoryOption = None,
    cluster: options.ClusterOption = None,
    name: options.NameOption = "default",
    out: options.OutOption = Path("results"),
    plugin: options.PluginOption = None,
) -> None:
    """Train strategies on setups and compare them; runs that are already stored are not computed again.

    Examples:

    - `mtlbench bench --name alpha --strategies "gradnorm:alpha=0.5 gradnorm:alpha=1.5"`

    - `mtlbench bench --name weights --strategies "fixed:weights=[1,0.1]" --epochs 5`

    - `mtlbench bench --name mine --plugin mine.py --strategies mine --seeds 0,3,7`

    - `mtlbench bench --name scales --setup "mnist mnist-aux-x100" --strategies "gradnorm imtl-l"`

    - `mtlbench bench --name tuned --tuned --front` after `mtlbench tune --name tuned`

    `fixed` (equal weights) and each task trained alone are always included. Exit code 1: a strategy failed; 2: the
    request is invalid.
    """  # noqa: D412 - Markdown needs the blank line
    values = locals()
    request, console = _start(values, options.seeds_of(seeds))
    from mtlbench.bench import execution
    from mtlbench.bench.planning import plan
    from mtlbench.cli import progress
    from mtlbench.report import terminal
    from mtlbench.report.writing import write_report

    planned = plan(request)
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
    strategies: options.StrategiesOption = None,
    trials: options.TrialsOption = 16,
    tuning_seeds: options.TuningSeedsOption = 2,
    epochs: options.EpochsOption = 2,
    batch_size: options.BatchOption = 64,
    lr: options.LrOption = 1e-3,
    setup: options.SetupOption = None,
    device: options.DeviceOption = "auto",
    products: options.ProductsOption = "auto",
    precision: options.PrecisionOption = "float32",
    jobs: options.JobsOption = None,
    run_timeout: options.RunTimeoutOption = None,
    run_memory: options.RunMemoryOption = None,
    cluster: options.ClusterOption = None,
    name: options.NameOption = "default",
    out: options.OutOption = Path("results"),
    plugin: options.PluginOption = None,
) -> None:
    """Try hyper-parameters of strategies, equally many settings for each, and choose the best by validation score.

    The first trial is the strategy as given. The others cover the learning rate and the spaces that its
    hyper-parameters declare (for `fixed`, the task weights). Trials use seeds that no bench uses, are compared by the
    main task's validation score, and cannot read the test set. `mtlbench bench --tuned` with the same name uses the
    chosen settings.

    Example: `mtlbench tune --name tuned --strategies "gradnorm cagrad" --trials 16`

    Exit code 1: a strategy could not be tuned; 2: the request is invalid.
    """
    values = locals()
    if not 1 <= tuning_seeds <= options.MOST_SEEDS:
        raise UserError(f"--tuning-seeds must be between 1 and {options.MOST_SEEDS}; found {tuning_seeds}")
    request, console = _start(values, roles.tuning_seeds(tuning_seeds))
    from mtlbench.bench import tune
    from mtlbench.cli import progress

    planned = tune.plan_tuning(request, trials)
    planned.store.prepare()
    fetch([tuning.setup for tuning in planned.tunings], console)
    with stoppable(LEFT), progress.display(console) as display:
        complete = tune.execute(planned, display)
    if not complete:
        raise typer.Exit(1)


def _start(values: dict[str, Any], seeds: tuple[int, ...]) -> tuple[Request, Console]:
    """The request made from the values of a command's options, and the console that it prints to."""
    options.check_name(values["name"])
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench.bench.planning import Request
    from mtlbench.plugins.spec_text import split_specs

    copied = Request.__dataclass_fields__.keys() & values.keys() - {"seeds", "strategies"}
    same: dict[str, Any] = {name: values[name] for name in copied}
    request = Request(
        **same,
        seeds=seeds,
        setups=options.words_of(values["setup"]) or [options.DEFAULT_SETUP],
        strategies=split_specs(values["strategies"] or []),
        plugins=tuple(path.resolve() for path in values["plugin"] or []),
        command=shlex.join(["mtlbench", *sys.argv[1:]]),
    )
    return request, console
