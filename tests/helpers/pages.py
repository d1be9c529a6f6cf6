"""A made-up report, for the tests of the page; run as a module, it writes a page to look at."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mtlbench.plugins.explain import Explanation
from mtlbench.report.figures.inputs import Frames
from mtlbench.report.figures.marks import Mark
from mtlbench.report.figures.style import COLOURS, DASHES, FAINT, INK, MARKERS, Style, theme
from mtlbench.report.html import render
from mtlbench.report.model import LabelEntry, Report, SetupSection, StrategyEntry, TunedEntry
from mtlbench.report.plots import Plot, SavedPlot
from mtlbench.report.tables import Cell, Column, Row, Table

FRONT = ("front:0.1", "front:0.25", "front:0.75", "front:0.9")
SINGLE = ("single:digit", "single:above_five")
DOCSTRING = """Weights that make the logarithms of all losses fall at the same rate, from losses alone.

With z = softmax(xi), D_t = L_t - b_t + 1e-8 and c = 1 / sum_t (z_t / D_t), cut off from the gradient, minimises
c sum_t z_t log D_t, so that the weights w_t = c z_t / D_t sum to 1.

Source: Liu, Feng, Stone & Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1.

Args:
    shape: (K, T).
    lr: learning rate of xi, finite and > 0.
    weight_decay: of xi, finite and >= 0."""
CODE = '''@register("famo")
class FAMO(Strategy):
    """Weights that make the logarithms of all losses fall at the same rate."""

    def forward(self, step: Step) -> Tensor:
        distances = self._distances(step.losses)  # [K, T]
        return (shares * distances.log()).sum(-1) / total
'''


def labels_of(strategies: Sequence[str]) -> tuple[LabelEntry, ...]:
    """Labels of a bench: the strategies, the same ones tuned, a front and the single tasks."""
    labels = [LabelEntry("fixed", "strategy", "fixed", Style(INK))]
    for i, name in enumerate(strategies):
        cycle = i // len(COLOURS)
        style = Style(COLOURS[i % 6], MARKERS[cycle % 5], DASHES[cycle % 5])
        labels.append(LabelEntry(name, "strategy", name, style))
    for entry in tuple(labels):
        style = Style(entry.style.colour, entry.style.marker, (4, 1.5))
        labels.append(LabelEntry(f"tuned:{entry.label}", "tuned", entry.strategy, style))
    labels += [LabelEntry(name, "front", "fixed", Style("#767676", "d")) for name in FRONT]
    labels += [LabelEntry(name, "single", "", Style("#8a8a8a", "d", (2.5, 2))) for name in SINGLE]
    return tuple(labels)


def svg_of(figure: Figure) -> str:
    """The figure as the text of an SVG file."""
    stream = io.StringIO()
    with theme():
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return stream.getvalue()


def not_drawn_again(data: Frames) -> Figure:
    """Plots of a page are saved already."""
    raise NotImplementedError


def curves(labels: Sequence[LabelEntry], title: str, points: int = 40, seed: int = 0) -> SavedPlot:
    """A line per label with its seeds' band, and a name at its end."""
    rng = np.random.default_rng(seed)
    marks: dict[str, Mark] = {}
    with theme():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        x = np.linspace(0, 3, points)
        for i, label in enumerate(labels):
            y = 97.9 + 0.5 * rng.random() - (3 + rng.random()) * np.exp(-1.6 * x) + rng.normal(0, 0.02, points)
            line = axes.plot(x, y, color=label.style.colour, linewidth=1.6)[0]
            if label.style.dashes:
                line.set_dashes(label.style.dashes)
            band = axes.fill_between(x, y - 0.1, y + 0.1, color=label.style.colour, alpha=0.12, linewidth=0)
            name = axes.annotate(label.label, (x[-1], y[-1]), (4, 0), textcoords="offset points", size=7,
                                 color=label.style.colour, va="center")  # fmt: skip
            for kind, artist in (("line", line), ("band", band), ("name", name)):
                artist.set_gid(f"mark-{i}-{kind}")
                marks[f"mark-{i}-{kind}"] = Mark(label.label, f"{label.label}\nepoch 3: {y[-1]:.2f} %")
        axes.set(xlabel="epoch", ylabel="validation accuracy of digit (%)", xlim=(0, 3.6), ylim=(94, None))
        axes.set_title(title)
        svg = svg_of(figure)
    plot = Plot(
        "Learning curves",
        "Lines are means over seeds, bands reach from the lowest to the highest seed.",
        "Validation accuracy of every strategy against epochs; all end between 97.9% and 98.4%.",
        not_drawn_again,
        "curves.csv",
    )
    return SavedPlot("curves", plot, Path("curves.png"), svg, marks)


def forest(labels: Sequence[LabelEntry], seed: int = 0) -> SavedPlot:
    """A row per label with seeds, mean and interval."""
    rng = np.random.default_rng(seed)
    marks: dict[str, Mark] = {}
    with theme():
        figure = Figure(figsize=(9, 0.9 + 0.28 * len(labels)), layout="constrained")
        axes = figure.subplots()
        for i, label in enumerate(labels):
            mean = 98 + rng.normal(0, 0.12)
            seeds = mean + rng.normal(0, 0.1, 10)
            dots = axes.scatter(
                seeds, i + 0.25 * (rng.random(10) - 0.5), s=14, color=label.style.colour, alpha=0.45, lw=0
            )
            line = axes.plot([mean - 0.07, mean + 0.07], [i, i], color=label.style.colour, linewidth=2.4)[0]
            dot = axes.plot(
                [mean], [i], label.style.marker, color=label.style.colour, markersize=8, markeredgecolor="white"
            )[0]
            for kind, artist in (("seeds", dots), ("line", line), ("mean", dot)):
                artist.set_gid(f"row {i} {kind}")
                marks[f"row {i} {kind}"] = Mark(label.label, f"{label.label}: {mean:.2f} %, 10 seeds")
        axes.axvline(98, color=INK, linewidth=0.9, dashes=(4, 3))
        axes.annotate(
            "mean of fixed", (98, 1.01), xycoords=("data", "axes fraction"), size=7.5, color=FAINT, ha="center"
        )
        axes.set(
            yticks=range(len(labels)), yticklabels=[label.label for label in labels], ylim=(len(labels) - 0.5, -0.5)
        )
        axes.set_xlabel("test accuracy of digit (%), higher is better")
        svg = svg_of(figure)
    plot = Plot(
        "Main task",
        "Each faint dot is one seed, the large marker their mean and the thick line its 95% interval.",
        "Test accuracy of digit for every strategy: one dot per seed, mean and 95% interval.",
        not_drawn_again,
    )
    return SavedPlot("accuracy", plot, Path("accuracy.png"), svg, marks)


def table_of(labels: Sequence[LabelEntry], seed: int) -> Table:
    """Numbers as they are near on MNIST; one strategy failed."""
    rng = np.random.default_rng(seed)
    columns = (
        Column("accuracy, %", "digit", "mean over seeds of the test accuracy", higher_is_better=True),
        Column("difference, points", "digit", "paired by seed, to fixed; tuned ones to tuned:fixed", True),
        Column("error, %", "above_five", "mean over seeds of the test error", higher_is_better=False),
        Column("difference, points", "above_five", "paired by seed", higher_is_better=False),
        Column("samples/s", "cost", "training steps only, measured alone", higher_is_better=True),
        Column("x fixed", "cost", "step time relative to fixed", higher_is_better=False),
    )
    rows: list[Row] = []
    for i, label in enumerate(labels):
        if i == 3:
            rows.append(Row(label.label, (), "ValueError: weights must be finite and > 0, not [nan, 0.1]"))
            continue
        cells: list[Cell] = []
        for j, column in enumerate(columns):
            if label.role == "single" and (column.group == "cost" or (j < 2) != label.label.endswith("digit")):
                cells.append(Cell("–"))
                continue
            if "difference" in column.name:
                value = rng.normal(0, 0.12)
                better = "better" if (value > 0) == column.higher_is_better else "worse"
                verdict = better if abs(value) > 0.14 else "none shown"
                if label.role == "front":
                    verdict = "too few seeds"
                interval = f"{value - 0.13:+.2f} {value + 0.13:+.2f}"
                cells.append(Cell("–") if label.label == "fixed" else Cell(f"{value:+.2f}", interval, value, verdict))
                continue
            value = (98 + rng.normal(0, 0.1), 0, 1.9 + rng.normal(0, 0.1), 0, rng.uniform(4e4, 9e4), 1 + rng.random())[
                j
            ]
            text = f"{value:,.0f}" if column.name == "samples/s" else f"{value:.2f}"
            shown = "" if column.name == "samples/s" else f"{value - 0.08:.2f} {value + 0.08:.2f}"
            cells.append(Cell(text, shown, float(value)))
        rows.append(Row(label.label, tuple(cells)))
    return Table(
        columns, tuple(rows), "Below a number stands its 95% interval over seeds, below a cost that over rounds."
    )


@cache
def make_report(
    strategies: tuple[str, ...] = ("famo", "gradnorm", "uncertainty"),
    setups: tuple[str, ...] = ("mnist", "mnist-aux-noise"),
    points: int = 40,
    figures: int = 1,
) -> Report:
    """A report of a few strategies besides fixed weights; `figures` is the number of curves per setup."""
    labels = labels_of(strategies)
    plotted = [label for label in labels if label.role in ("strategy", "single")]
    return Report(
        name="default",
        folder=Path("results/default"),
        answer=(
            "On mnist no strategy is shown to beat equal weights on digit by more than 0.2 points with 10 seeds; "
            "uncertainty weighting comes closest, at +0.12 points (95% interval 0.02 to 0.21).",
            "Losses alone cost nothing extra; strategies that compare gradients take 1.3 to 1.6 times as long a step.",
        ),
        conditions=(
            ("Setups", ", ".join(setups)), ("Seeds", "0-9 (10)"), ("Epochs", "2"), ("Batch size", "64"),
            ("Optimiser", "Adam, learning rate 0.001"), ("Device", "cpu"), ("Trained", "14 x 10 networks per setup"),
        ),
        notes=("gradnorm failed: ValueError: weights must be finite and > 0, not [nan, 0.1]",),
        labels=labels,
        setups=tuple(
            SetupSection(
                name,
                "MNIST: which digit (10 classes, main), is it > 5 (binary, auxiliary); trunk 784-512-256, ReLU",
                table_of(labels, i),
                (forest(plotted, i), *(curves(plotted, f"digit on {name}", points, i + 9 * j) for j in range(figures))),
            )
            for i, name in enumerate(setups)
        ),
        over_setups=None,
        plots=(curves(plotted, "mean over setups", points, 99),),
        strategies=tuple(
            StrategyEntry(
                name,
                Explanation(
                    "Weights that make the logarithms of all losses fall at the same rate.",
                    DOCSTRING,
                    "weighted: head t learns with w_t dL_t",
                    (("lr", "0.025"), ("weight_decay", "0.001"), ("least", "0.0")),
                ),
                "Liu et al., NeurIPS 2023",
                tuple(
                    TunedEntry(name, setup, "lr=0.041,weight_decay=0.002; Adam 0.0021", 24, 3141.6) for setup in setups
                ),
                f"strategies/{name}.py",
                CODE,
            )
            for name in ("fixed", *strategies)
        ),
        environment=(
            ("Machine", "AMD EPYC 7B13"), ("Cores", "2"), ("Memory", "7.8 GiB"), ("System", "Linux 6.1 x86_64"),
            ("Versions", "Python 3.11.2, torch 2.6.0, numpy 1.26.4"), ("Commit", "c88ef56"),
            ("Begun", "2026-11-24 17:31"),
        ),
        commands=(
            'mtlbench bench --name default --strategies "fixed famo gradnorm uncertainty" --setups '
            '"mnist mnist-aux-noise" --tune --front',
            "mtlbench report default",
        ),
        csv={
            "summary.csv": "strategy,setup,digit_accuracy\nfixed,mnist,0.9801\n",
            "curves.csv": "strategy,epoch,score\nfixed,1,0.97\n",
        },
    )  # fmt: skip


def main() -> None:
    """Write the page to look at; with `large`, one of 28 strategies and 9 setups."""
    many, nine = tuple(f"method-{i}" for i in range(27)), tuple(f"setup-{i}" for i in range(9))
    path = Path(sys.argv[1])
    report = make_report(many, nine, 60, 2) if sys.argv[2:] == ["large"] else make_report()
    path.write_text(render(report), encoding="utf-8")
    print(f"{path} {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
