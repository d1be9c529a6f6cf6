"""Whether one can read a figure: every text inside it, and none over another."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn, the legends' included."""
    shown = {id(t): t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()}
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (axis.axes.axison and tick.get_visible() and low <= tick.get_loc() <= high):
                for label in (tick.label1, tick.label2):
                    shown.pop(id(label), None)
    return list(shown.values())


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    figure.draw_without_rendering()  # it is drawing that puts tick labels in their places
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts_of(figure)]


def assert_readable(figure: Figure) -> None:
    """Every text lies inside the figure, and no two texts overlap."""
    boxes = boxes_of(figure)
    page = figure.bbox.padded(0.5)
    for text, box in boxes:
        assert page.contains(box.x0, box.y0), f"{text!r} leaves the figure"
        assert page.contains(box.x1, box.y1), f"{text!r} leaves the figure"
    for (one, a), (other, b) in combinations(boxes, 2):
        # Half a pixel is rounding.
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), f"{one!r} and {other!r} overlap"
