"""Labels, titles and numbers as text of a plot."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mtlbench.contracts.metrics import Metric
from mtlbench.report.figures.inputs import Floats


def wrapped(label: str, width: int = 34, lines: int = 2) -> str:
    """The label on at most `lines` lines, broken after a colon or comma, shortened in the middle if necessary."""
    parts = re.split(r"(?<=[:,])(?![^\[]*\])", label)
    half = width // 2
    return "\n".join(
        x if len(x) <= width else f"{x[:half]}…{x[1 - half :]}" for x in filled(*parts, width=width, lines=lines)
    )


def filled(*parts: str, width: int, lines: int | None = None) -> list[str]:
    """The parts joined into lines of up to `width` characters; the last of at most `lines` lines may be longer."""
    text = [""]
    for part in parts:
        if text[-1] and len(text[-1] + part) > width and (lines is None or len(text) < lines):
            text.append("")
        text[-1] += part
    return text


def titled(task: str, *parts: str, width: int) -> str:
    """The name of a task and what is shown of it, broken into lines between parts, each shortened if necessary."""
    lines = filled(*(wrapped(part, width, 1) for part in (f"{task}:", *parts)), width=width)
    return "\n".join(line.strip() for line in lines)


def number(value: float, metric: Metric, *, signed: bool = False) -> str:
    """A score, or with `signed` a difference of scores (shares in percentage points), as text."""
    if not math.isfinite(value):
        return "–"
    return (metric.difference(value, unit=False) if signed else metric.score(value)).replace("-", "−")


def estimate(values: Floats, metric: Metric) -> str:
    """Mean and interval, `[3]`, as text."""
    mean, low, high = values
    if not math.isfinite(low + high):
        return number(mean, metric)
    ends = (number(end, metric).removesuffix("%") for end in (low, high))
    return f"{number(mean, metric)} [{', '.join(ends)}]"


def not_drawn(tasks: Sequence[str]) -> str:
    """A note on tasks that there is no room for."""
    return f"Not drawn: {', '.join(tasks)}." if tasks else ""
