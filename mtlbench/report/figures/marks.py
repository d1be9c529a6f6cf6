"""Which artists of a figure stand for which strategy, by the ids that they have in its SVG.

A page that shows the SVG can hide a strategy by these ids, and say what lies under the pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from matplotlib.artist import Artist
from matplotlib.figure import Figure

AnyArtist = TypeVar("AnyArtist", bound=Artist)


@dataclass(frozen=True)
class Mark:
    """The strategy that an artist belongs to, and what to say of it."""

    strategy: str
    tooltip: str = ""


_MARKS: WeakKeyDictionary[Figure, dict[str, Mark]] = WeakKeyDictionary()


def mark(artist: AnyArtist, strategy: str, tooltip: str = "") -> AnyArtist:
    """Say which strategy an artist of a figure stands for; it gets an id of its own, and is given back.

    The ids count from one in every figure, in the order of drawing: equal data gives equal ids.
    """
    figure = artist.figure
    assert isinstance(figure, Figure)
    marks = _MARKS.setdefault(figure, {})
    gid = f"mark-{len(marks) + 1}"
    marks[gid] = Mark(strategy, tooltip)
    artist.set_gid(gid)
    return artist


def mark_all(artists: Sequence[Artist], strategy: str, tooltip: str = "") -> None:
    """Mark several artists alike, each with an id of its own."""
    for artist in artists:
        mark(artist, strategy, tooltip)


def marks_of(figure: Figure) -> dict[str, Mark]:
    """What was marked in the figure, by id."""
    return dict(_MARKS.get(figure, {}))
