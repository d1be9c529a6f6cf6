"""Checks that a figure is readable: every text is inside it, and no two texts overlap."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn, including those of legends."""
    shown = {id(t): t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()}
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (axis.axes.axison and tick.get_visible() and low <= tick.get_loc() <= high):
                for label in (tick.label1, tick.label2):
                    shown.pop(id(label), None)
    return list(shown.values())


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Each text and its bounding box in pixels."""
    figure.draw_without_rendering()  # tick labels get their positions by drawing
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts_of(figure)]


def assert_readable(figure: Figure) -> None:
    """Every text lies inside the figure, and no two texts overlap."""
    boxes = boxes_of(figure)
    page = figure.bbox.padded(0.5)
    for text, box in boxes:
        assert page.contains(box.x0, box.y0), f"{text!r} leaves the figure"
        assert page.contains(box.x1, box.y1), f"{text!r} leaves the figure"
    edges = np.array([box.padded(-0.5).extents for _, box in boxes]).reshape(-1, 4)  # half a pixel is rounding
    low, high = np.minimum(edges[:, :2], edges[:, 2:]), np.maximum(edges[:, :2], edges[:, 2:])  # [N, 2]
    apart = (low[:, None] > high).any(-1)  # [N, N]
    overlaps = [f"{boxes[i][0]!r} and {boxes[j][0]!r}" for i, j in np.argwhere(~(apart | apart.T)) if i < j]
    assert overlaps == []
