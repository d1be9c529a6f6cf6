"""Options that commands share: their help, and what their text stands for. Nothing here loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.errors import UserError
from mtlbench.records.roles import FIRST_TUNING_SEED

MOST_SEEDS = 10_000
DEFAULT_SETUP = "mnist"

BENCH_HELP = """
Train strategies on setups and compare them; what is already there is not computed again.

Examples:

- `mtlbench bench --name alpha --strategies "gradnorm:alpha=0.5 gradnorm:alpha=1.5"`

- `mtlbench bench --name weights --strategies "fixed:weights=[1,0.1]" --epochs 5`

- `mtlbench bench --name mine --plugin mine.py --strategies mine --seeds 0,3,7`

- `mtlbench bench --name scales --setup "mnist mnist-aux-x100" --strategies "gradnorm imtl-l"`

- `mtlbench bench --name tuned --tuned --front` after `mtlbench tune --name tuned`

`fixed` (equal weights) and each task trained alone always take part. Exit code 1: a strategy failed; 2: what was
asked cannot be done.
"""

TUNE_HELP = """
Try hyper-parameters of strategies, the same number of settings for each, and keep the best by validation.

The first trial is the strategy as given; the others spread over the learning rate and the spaces that its
hyper-parameters declare, for `fixed` its weights. Trials run on seeds that no bench uses, are compared by the main
task's validation score, and cannot read the test set. `mtlbench bench --tuned` under that name uses what they chose.

Example: `mtlbench tune --name tuned --strategies "gradnorm cagrad" --trials 16`

Exit code 1: a strategy could not be tuned; 2: what was asked cannot be done.
"""

OutOption = Annotated[Path, typer.Option(help="Folder that benches are kept in.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with further strategies; may be repeated.")
]
StrategiesOption = Annotated[
    list[str] | None,
    typer.Option(help="Strategies as name:hyper=value, separated by spaces; all by default. May be repeated."),
]
EpochsOption = Annotated[int, typer.Option(help="Passes over the training data.")]
BatchOption = Annotated[int, typer.Option(help="Samples of a step.")]
LrOption = Annotated[float, typer.Option(help="Learning rate of Adam.")]
SetupOption = Annotated[
    list[str] | None,
    typer.Option(help="Tasks, data and network, or several, separated by spaces (mnist); see `mtlbench list`."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
JobsOption = Annotated[int | None, typer.Option(help="Runs at a time; on cpu one per core by default.")]
RunTimeoutOption = Annotated[float | None, typer.Option(help="Seconds that a process may take for its run; no limit.")]
RunMemoryOption = Annotated[
    float | None, typer.Option(help="GiB of memory that each run's process may hold; no limit.")
]
ClusterOption = Annotated[
    str | None, typer.Option(help="Dask scheduler to run on, its address or file; see docs/cluster.md.")
]
NameOption = Annotated[str, typer.Option(help="Name of the bench, its folder under --out.")]
SeedsOption = Annotated[str, typer.Option(help="How many (12), or which (0,3,7; one seed as 3,).")]
TunedOption = Annotated[bool, typer.Option("--tuned", help="Also run what `mtlbench tune` has chosen.")]
FrontOption = Annotated[bool, typer.Option("--front", help="Also sweep fixed weights over main-task shares.")]
TrialsOption = Annotated[int, typer.Option(help="Settings tried per strategy, the same number for each.")]
TuningSeedsOption = Annotated[int, typer.Option(help="Seeds of each trial.")]


def seeds_of(text: str) -> tuple[int, ...]:
    """`10` is 0 to 9; `0,3,7` is those; `3,` is 3 alone.

    Raises:
        UserError: it cannot be read, or names seeds that are not there for a bench.
    """
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--seeds takes a count (10) or a list (0,3,7), not {text!r}") from None
    if "," not in text and len(values) == 1 and values[0] > MOST_SEEDS:
        raise UserError(f"--seeds takes at most {MOST_SEEDS} seeds, not {text}")
    if "," not in text and len(values) == 1:
        values = list(range(values[0]))
    if not values or min(values) < 0 or max(values) >= FIRST_TUNING_SEED:
        raise UserError(f"--seeds takes at least one seed, each >= 0 and < 2^62 (the others tune), not {text!r}")
    repeated = sorted({seed for seed in values if values.count(seed) > 1})
    if repeated:
        raise UserError(f"--seeds names {', '.join(map(str, repeated))} more than once")
    return tuple(values)


def check_name(name: str) -> None:
    """Refuse a name that is no plain folder name.

    Raises:
        UserError: it is not.
    """
    if not name or not all(char.isalnum() or char in "-_." for char in name) or name.startswith("."):
        raise UserError(f"a bench's name is letters, digits, dashes, dots and underscores, not {name!r}")


def words_of(texts: list[str] | None) -> list[str]:
    """What stands between spaces or commas, in all the texts of an option."""
    return [word for text in texts or [] for word in text.replace(",", " ").split()]
