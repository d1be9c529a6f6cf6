"""Names beside points, each at the place where it covers the least of the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtlbench.report.figures.inputs import Floats
from mtlbench.report.figures.marks import mark

Place = tuple[float, float]

CLASH = 100_000
"""Badness of an impossible place: more than the number of points that a name can cover."""
RADII, ANGLES = np.array([8, 14, 22, 34, 48, 64, 84]), np.arange(16) * np.pi / 8
RADIUS, ANGLE = (grid.ravel() for grid in np.meshgrid(RADII, ANGLES, indexing="ij"))
"""All places around the point that are tried."""
FAR = 13.0  # distance in points above which a thin line leads from the name to its point


@dataclass(frozen=True)
class PointName:
    """A text for a point in data coordinates; it is left out if there is no room and it is not `needed`."""

    text: str
    point: Place
    colour: str
    size: float
    strategy: str
    needed: bool = True


def label_points(ax: Axes, labels: Sequence[PointName], arrows: Sequence[Sequence[Place]] = ()) -> bool:
    """Write each label near its point; False if there was no room for one that is needed. The layout must be fixed.

    Labels avoid lines, dots, texts and the `arrows`, given by their ends in data coordinates.
    """
    figure = ax.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    pixels = figure.dpi / 72
    inner = ax.get_window_extent(renderer).padded(-4)
    covered = np.concatenate([_drawn(ax), *(_along(ax.transData.transform(ends)) for ends in arrows)])
    if labels:
        covered = np.concatenate([covered, ax.transData.transform([label.point for label in labels]).repeat(8, axis=0)])
    covered = covered[_inside(covered, np.array([inner.padded(12).extents]))[0]]
    taken = np.empty((0, 4))
    for label in labels:
        text = ax.annotate(label.text, label.point, (0, 0), textcoords="offset points", size=label.size, ha="center",
                           va="center", color=label.colour, weight="bold" if label.needed else "normal",
                           linespacing=1.0, in_layout=False)  # fmt: skip
        box = text.get_window_extent(renderer)
        at = ax.transData.transform(label.point)
        moves = np.stack([
            np.cos(ANGLE) * (RADIUS * pixels + box.width / 2), np.sin(ANGLE) * (RADIUS * pixels + box.height / 2),
        ], axis=-1)  # fmt: skip
        boxes = np.concatenate([moves + box.min, moves + box.max], axis=-1)  # [places, 4]
        edges = np.clip(at, boxes[:, :2] + [0, 2], boxes[:, 2:] - [0, 2])
        far = np.hypot(*(edges - at).T) > FAR * pixels
        links = edges[:, None] + np.linspace(0, 1, 20)[:, None] * (at - edges)[:, None]  # [places, 20, 2]
        hidden = _inside(covered, boxes + np.array([-2, -2, 2, 2])).sum(1)
        hidden += far * _inside(links.reshape(-1, 2), taken).sum(0).reshape(len(boxes), -1).sum(1)
        clashes = _overlaps(boxes + np.array([-5, -3, 5, 3]), taken).sum(1)
        outside = (boxes[:, :2] < inner.min).any(1) | (boxes[:, 2:] > inner.max).any(1)
        badness = RADIUS + 3 * hidden + CLASH * (clashes + outside)
        best = int(badness.argmin())
        if badness[best] >= CLASH:
            text.remove()
            if label.needed:
                return False
            continue
        text.set_position(tuple(moves[best] / pixels))
        mark(text, label.strategy)
        if far[best]:
            stop = at + (edges[best] - at) * 5 * pixels / np.hypot(*(edges[best] - at))  # the marker's edge
            ends = ax.transData.inverted().transform([edges[best], stop])
            mark(ax.plot(*ends.T, color=label.colour, linewidth=0.7, in_layout=False), label.strategy)
            covered = np.concatenate([covered, links[best]])
        taken = np.concatenate([taken, boxes[best][None]])
    return True


def _drawn(ax: Axes) -> Floats:
    """Points along everything drawn, in pixels, `[points, 2]`."""
    points = [np.empty((0, 2))]
    points += [ax.transData.transform(np.asarray(dots.get_offsets(), dtype=float)) for dots in ax.collections]
    points += [_along(line.get_transform().transform(np.asarray(line.get_xydata(), dtype=float))) for line in ax.lines]
    for text in ax.texts:
        box = text.get_window_extent()
        points.append(np.stack(np.meshgrid(np.linspace(box.x0, box.x1, 30), [box.y0, box.y1]), axis=-1).reshape(-1, 2))
    return np.concatenate(points)


def _along(corners: Floats) -> Floats:
    """Points along a line with these corners."""
    parts = [np.linspace(start, end, 80) for start, end in pairwise(corners)]
    return np.concatenate(parts) if parts else corners


def _inside(points: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """True where a box contains a point, `[boxes, points]`."""
    x, y = points.T
    x0, y0, x1, y1 = boxes.T[..., None]
    return np.asarray((x0 < x) & (x < x1) & (y0 < y) & (y < y1))


def _overlaps(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    """True where a box overlaps one of the others, `[boxes, others]`."""
    a, b = boxes[:, None], others[None]
    return np.asarray((a[..., :2] < b[..., 2:]).all(-1) & (b[..., :2] < a[..., 2:]).all(-1))
