"""Marks: which strategy an artist of a figure belongs to, by the id of its group in the SVG file.

The HTML page uses these ids to hide strategies and to show tooltips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from matplotlib.artist import Artist
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Mark:
    """The strategy that an artist belongs to, and its tooltip."""

    strategy: str
    tooltip: str = ""


_MARKS: WeakKeyDictionary[Figure, dict[str, Mark]] = WeakKeyDictionary()


def mark(artists: Artist | Sequence[Artist], strategy: str, tooltip: str = "") -> None:
    """Mark artists as belonging to a strategy; each gets an id of its own.

    Ids are numbered from one in every figure, in the order of drawing, so that equal data gives equal ids.
    """
    for artist in [artists] if isinstance(artists, Artist) else artists:
        figure = artist.figure
        assert isinstance(figure, Figure)
        marks = _MARKS.setdefault(figure, {})
        gid = f"mark-{len(marks) + 1}"
        marks[gid] = Mark(strategy, tooltip)
        artist.set_gid(gid)


def marks_of(figure: Figure) -> dict[str, Mark]:
    """All marks of a figure, by id."""
    return dict(_MARKS.get(figure, {}))
