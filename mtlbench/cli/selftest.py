"""The command `selftest-stats`: the statistics put to the test on stored runs."""

from __future__ import annotations

from rich.console import Console

from mtlbench.stats.estimates import LEVEL
from mtlbench.stats.selftest import WANTED_POWER, Control


def show(nothing: Control, planted: Control, console: Console) -> bool:
    """Print both figures; whether they are as they should be."""
    holds = nothing.interval[0] <= LEVEL and planted.share >= WANTED_POWER
    console.print(
        f"A/A: {_in_words(nothing)} of the same strategy declared a difference (at most {LEVEL:.0%} should)\n"
        f"planted, twice the smallest detectable difference: {_in_words(planted)} found it "
        f"(at least {WANTED_POWER:.0%} should)\n" + ("both hold" if holds else "this does NOT hold"),
        highlight=False,
        soft_wrap=True,
    )
    return holds


def _in_words(control: Control) -> str:
    low, high = control.interval
    return f"{control.share:.2%} [{low:.2%}, {high:.2%}] of {control.made:,} comparisons"
