"""Options that commands share: their help, and how their texts are read. Nothing here loads torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from mtlbench.errors import UserError
from mtlbench.records.roles import FIRST_TUNING_SEED

MOST_SEEDS = 10_000
DEFAULT_SETUP = "mnist"

OutOption = Annotated[Path, typer.Option(help="Folder of all benches.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with more strategies or setups; may be repeated.")
]
StrategiesOption = Annotated[
    list[str] | None,
    typer.Option(help="Strategies as name:hyper=value, separated by spaces; by default all. May be repeated."),
]
EpochsOption = Annotated[int, typer.Option(help="Passes over the training data.")]
BatchOption = Annotated[int, typer.Option(help="Samples per step.")]
LrOption = Annotated[float, typer.Option(help="Adam's learning rate.")]
SetupOption = Annotated[
    list[str] | None, typer.Option(help="One or more setups, separated by spaces (mnist); see `mtlbench list`.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
ProductsOption = Annotated[
    str,
    typer.Option(help="Library of matrix products on CPU: bmm (torch's choice), onednn, or auto for the faster one."),
]
PrecisionOption = Annotated[
    str, typer.Option(help="Precision of matrix products: float32 or bf16; all else is computed in float32.")
]
JobsOption = Annotated[
    int | None, typer.Option(help="Number of runs at a time; by default one per core on cpu, else one.")
]
RunTimeoutOption = Annotated[
    float | None, typer.Option(help="Time limit of each run's process in seconds; by default none.")
]
RunMemoryOption = Annotated[
    float | None, typer.Option(help="Memory limit of each run's process in GiB; by default none.")
]
ClusterOption = Annotated[
    str | None, typer.Option(help="Address or file of a Dask scheduler to run on; see docs/cluster.md.")
]
NameOption = Annotated[str, typer.Option(help="Name of the bench and of its folder in --out.")]
SeedsOption = Annotated[str, typer.Option(help="A number of seeds (12), or a list (0,3,7; one seed is 3,).")]
TunedOption = Annotated[bool, typer.Option("--tuned", help="Also run the settings chosen by `mtlbench tune`.")]
FrontOption = Annotated[
    bool, typer.Option("--front", help="Also run fixed weights with other shares for the main task.")
]
TrialsOption = Annotated[int, typer.Option(help="Number of settings tried per strategy.")]
TuningSeedsOption = Annotated[int, typer.Option(help="Number of seeds of each trial.")]


def seeds_of(text: str) -> tuple[int, ...]:
    """Read seeds: `10` means 0 to 9, `0,3,7` these three, `3,` only 3.

    Raises:
        UserError: the text is malformed, or a bench cannot use these seeds.
    """
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--seeds must be a number (10) or a list (0,3,7); found {text!r}") from None
    if "," not in text and len(values) == 1:
        if values[0] > MOST_SEEDS:
            raise UserError(f"--seeds must be at most {MOST_SEEDS}; found {text}")
        values = list(range(values[0]))
    if not values or min(values) < 0 or max(values) >= FIRST_TUNING_SEED:
        raise UserError(
            f"--seeds must name at least one seed, each >= 0 and < 2^62 (larger seeds are for tuning); found {text!r}"
        )
    if repeated := [str(seed) for seed, count in Counter(values).items() if count > 1]:
        raise UserError(f"--seeds must be unique; found {', '.join(repeated)} more than once")
    return tuple(values)


def check_name(name: str) -> None:
    """Check that the name of a bench is a plain folder name; a `UserError` says so if it is not."""
    if not name or not all(char.isalnum() or char in "-_." for char in name) or name.startswith("."):
        raise UserError(f"a bench's name must be letters, digits, dashes, dots and underscores; found {name!r}")


def words_of(texts: list[str] | None) -> list[str]:
    """The words in all texts of an option, separated by spaces or commas."""
    return [word for text in texts or [] for word in text.replace(",", " ").split()]
