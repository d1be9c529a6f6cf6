"""The two-task toy problem of CAGrad and Nash-MTL: two losses of a point in the plane, whose sum misleads.

Source: Liu et al., "CAGrad", NeurIPS 2021; Navon et al., "Nash-MTL", ICML 2022, which scales the first loss by 0.1 and
gives the starting points. `make toy` descends it with every strategy as published, 35,000 steps of Adam with
learning rate 1e-3, and writes the paths and their plot to `docs/toy-problem`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry
from mtlbench.report.figures.style import COLOURS, theme
from tests.helpers.toy import GivenGradients, toy_setup

FOLDER = Path(__file__).parents[2] / "docs" / "toy-problem"
# (0, 0) lies on the kink of both switches, where torch's gradient is 0, so it is nudged.
STARTS = ((-8.5, 7.5), (0.0, 1e-3), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
STEPS, LR, KEPT = 35_000, 1e-3, 100
# Both losses are negative on the front, so methods that take logarithms or ratios of losses are left out, except FAMO,
# which is given a lower bound.
NAMES = (
    "fixed", "rlw", "stch:warm_up=0", "famo:least=-25", "mgda", "pcgrad", "gradvac", "cagrad", "imtl-g", "nashmtl",
    "fairgrad", "aligned-mtl", "upgrad", "dualproj", "config", "sdmgrad", "modo", "moco", "excessmtl", "graddrop",
)  # fmt: skip
FLOOR = 5e-6
SCALE = 0.1
SPAN, GRID = 11.0, 221


def losses_at(points: Tensor) -> Tensor:
    """Both losses `[..., 2]` of points `[..., 2]`."""
    x, y = points.unbind(-1)
    f1 = (0.5 * (-x - 7) - torch.tanh(-y)).abs().clamp_min(FLOOR).log() + 6
    f2 = (0.5 * (-x + 3) + torch.tanh(-y) + 2).abs().clamp_min(FLOOR).log() + 6
    g1 = ((-x + 7).square() + 0.1 * (-y - 8).square()) / 10 - 20
    g2 = ((-x - 7).square() + 0.1 * (-y - 8).square()) / 10 - 20
    c1, c2 = torch.tanh(y / 2).clamp_min(0), torch.tanh(-y / 2).clamp_min(0)
    return torch.stack([SCALE * (c1 * f1 + c2 * g1), c1 * f2 + c2 * g2], -1)


def gradients_at(points: Tensor) -> tuple[Tensor, Tensor]:
    """Losses `[K, 2]` of points `[K, 2]`, and their gradients `[K, 2, 2]`."""
    copies = points.detach().repeat(2, 1, 1).requires_grad_()  # one for each task: a single backward pass
    losses = losses_at(copies)
    (rows,) = torch.autograd.grad(losses[0, :, 0].sum() + losses[1, :, 1].sum(), copies)
    return losses[0].detach(), rows.transpose(0, 1)


def grid() -> Tensor:
    """Points `[GRID, GRID, 2]` that cover the plane around all paths; the first index is y."""
    line = torch.linspace(-SPAN, SPAN, GRID, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def shortfall(points: Tensor) -> Tensor:
    """Distance `[K]` of points `[K, 2]` from the Pareto front: the most that a point of the grid gains on both losses.

    Each loss counts in units of its range on the front, where the second falls from 0 to -20 and the first to -2.
    """
    units = torch.tensor([20 * SCALE, 20.0], dtype=torch.float64)
    gains = (losses_at(points)[:, None] - losses_at(grid()).flatten(0, 1)) / units  # [K, G, 2]
    return gains.amin(-1).amax(-1).clamp_min(0)


class ExactGradients(GivenGradients):
    """Every batch has the same gradients, and the point itself is the shared representation."""

    def independent_gramian(self) -> Tensor:
        return self.gramian()


def descend(strategy: Strategy, *, steps: int, lr: float, kept: int) -> Tensor:
    """Paths of all starting points under one strategy, as a stack of replicas, `[kept + 1, K, 2]`."""
    points = torch.tensor(STARTS, dtype=torch.float64)
    strategy.allocate(2)
    strategy.double()
    own = list(strategy.parameters())
    groups: list[dict[str, object]] = [{"params": [points], "lr": lr}]
    if own:
        groups.append({"params": own, "lr": strategy.lr or lr})
    optimizer = torch.optim.Adam(groups)
    index, epoch, seeds = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64), torch.arange(5)
    path = [points.clone()]
    for done in range(1, steps + 1):
        losses, jacobian = gradients_at(points)
        step = Step(losses.requires_grad_(), ExactGradients(jacobian), index=index, epoch=epoch, seeds=seeds)
        weights, *grads = torch.autograd.grad(strategy(step).sum(), [step.losses, *own], materialize_grads=True)
        for parameter, grad in zip(own, grads, strict=True):
            parameter.grad = grad
        points.grad = chosen_direction(step, weights, jacobian)
        optimizer.step()
        with torch.no_grad():
            strategy.project()
            if strategy.overrides("after_update"):
                strategy.after_update(losses_at(points))
        index += 1
        if done % (steps // kept) == 0:
            path.append(points.clone())
    return torch.stack(path)


def chosen_direction(step: Step, weights: Tensor, jacobian: Tensor) -> Tensor:
    """The gradient that the points descend, `[K, 2]`."""
    if step.direction is not None:
        return step.direction
    if step.representation_direction is not None:
        return step.representation_direction.squeeze(1)
    return (weights.unsqueeze(1) @ jacobian).squeeze(1)


def run_all() -> pd.DataFrame:
    """The path of each strategy from every start: strategy, start, step, x, y."""
    registry, setup = Registry.load(), toy_setup()
    frames: list[pd.DataFrame] = []
    for name in NAMES:
        strategy = registry.build(registry.parse(name, setup), (len(STARTS), 2))
        path = descend(strategy, steps=STEPS, lr=LR, kept=KEPT)
        rows = [
            (name, start, kept * STEPS // KEPT, round(x, 4), round(y, 4))
            for start in range(len(STARTS))
            for kept, (x, y) in enumerate(path[:, start].tolist())
        ]
        frames.append(pd.DataFrame(rows, columns=["strategy", "start", "step", "x", "y"]))
        print(name, *(f"({x:.1f}, {y:.1f})" for x, y in path[-1].tolist()), flush=True)
    return pd.concat(frames)


def draw(paths: pd.DataFrame) -> Figure:
    """One panel for each strategy: contours of the sum of the losses, paths from o to x, and the Pareto front."""
    names = list(dict.fromkeys(paths["strategy"]))
    columns = 5
    with theme():
        figure = Figure(figsize=(9.0, 0.55 + 1.85 * math.ceil(len(names) / columns)), layout="constrained")
        figure.suptitle("Paths from five published starts (o) to where 35,000 steps end (x)", size=11, weight="bold")
        panels = figure.subplots(math.ceil(len(names) / columns), columns, sharex=True, sharey=True).ravel()
        plane = grid()
        for ax, name in zip(panels, names, strict=False):
            draw_panel(ax, plane.numpy(), losses_at(plane).sum(-1).numpy(), paths[paths["strategy"] == name])
            ax.set_title(name, size=8.5)
        for ax in panels[len(names) :]:
            ax.remove()
    return figure


def draw_panel(ax: Axes, plane: NDArray[np.float64], total: NDArray[np.float64], paths: pd.DataFrame) -> None:
    """The paths of one strategy."""
    ax.contour(plane[..., 0], plane[..., 1], total, levels=14, colors="#d6d6d6", linewidths=0.6, linestyles="solid")
    ax.plot([-7, 7], [-8.3, -8.3], color="#b0b0b0", linewidth=4, solid_capstyle="round", zorder=1.5)
    for start, path in paths.groupby("start"):
        colour = COLOURS[int(str(start)) % len(COLOURS)]
        ax.plot(path["x"], path["y"], color=colour, linewidth=1.2)
        ax.plot(path["x"].iloc[0], path["y"].iloc[0], "o", color=colour, markersize=3.5)
        ax.plot(path["x"].iloc[-1], path["y"].iloc[-1], "X", color=colour, markersize=6, markeredgecolor="white")
    ax.set(xlim=(-SPAN, SPAN), ylim=(-SPAN, SPAN), xticks=[-7, 0, 7], yticks=[-8, 0, 8])
    ax.grid(visible=False)


def main() -> None:
    """Compute the paths and save their plot."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = run_all()
    paths.to_csv(FOLDER / "paths.csv", index=False)
    figure = draw(paths)
    with theme():
        figure.savefig(FOLDER / "paths.png", dpi=160)


if __name__ == "__main__":
    main()
