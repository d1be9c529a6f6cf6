"""`python -m tests.project.rooms`: draws the sub-packages and their imports into docs/architecture/rooms.svg.

The imports come from `MAY_IMPORT` of `test_architecture.py`. The picture leaves out an arrow from A to C if there is a
way over B. On the site, colours follow the theme; elsewhere the picture has a white background.
"""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "architecture" / "rooms.svg"
BASE = "root"
WIDTH, ROW, BOX, LANE, HEIGHT, GAP = 380, 62, 84, 12, 30, 12
"""Width of the picture, distance of rows, width of a box and of an arrow that passes a row, height of a box, gap."""
ALT = "The sub-packages of mtlbench, from cli at the top to root at the bottom; arrows point down to what is imported"
STYLE = """
.rooms { font: 13px system-ui, sans-serif; }
.rooms text { fill: var(--md-default-fg-color, #1f2328); text-anchor: middle; }
.rooms .box { fill: var(--md-code-bg-color, #f4f5f7); stroke: var(--md-default-fg-color--light, #59636e); }
.rooms .arrow { fill: none; stroke: var(--md-default-fg-color--light, #59636e); }
.rooms .head { fill: var(--md-default-fg-color--light, #59636e); }
.rooms .paper { fill: var(--md-default-bg-color, #fff); }
"""
Imports = dict[str, set[str]]


def declared_imports() -> Imports:
    """What each room may import; the modules of the root are one room.

    `cli` may import everything, so its arrows to rooms that import nothing are left out.
    """
    declared: Imports = runpy.run_path(str(ROOT / "tests" / "project" / "test_architecture.py"))["MAY_IMPORT"]
    rooms = [room for room in declared if (ROOT / "mtlbench" / room).is_dir()]
    imports = {BASE: set[str]()} | {
        room: {target if target in rooms else BASE for target in declared[room]} for room in rooms
    }
    imports["cli"] = {room for room in imports["cli"] if imports[room]}
    return imports


def without_detours(imports: Imports) -> Imports:
    """The imports that no chain of other imports implies."""

    @cache
    def below(room: str) -> frozenset[str]:
        return frozenset(imports[room]).union(*map(below, imports[room]))

    return {
        room: {target for target in targets if not any(target in below(other) for other in targets - {target})}
        for room, targets in imports.items()
    }


def rows_of(imports: Imports) -> list[list[str]]:
    """The rooms by their distance from the top: each is above everything that it imports."""

    @cache
    def depth(room: str) -> int:
        return 1 + max((depth(other) for other, targets in imports.items() if room in targets), default=-1)

    used = [room for room in imports if imports[room] or any(room in targets for targets in imports.values())]
    rows = [[room for room in used if depth(room) == i] for i in range(1 + max(map(depth, used)))]
    rows[-1] += [room for room in imports if room not in used]
    return rows


def ways(imports: Imports, rows: list[list[str]]) -> list[list[str]]:
    """Each arrow as the names that it passes, one per row; lanes for arrows are added to the rows in between."""
    row_of = {room: i for i, row in enumerate(rows) for room in row}
    arrows: list[list[str]] = []
    for room, targets in imports.items():
        for target in sorted(targets):
            lanes = [f"{room}>{target}>{i}" for i in range(row_of[room] + 1, row_of[target])]
            for i, lane in enumerate(lanes, start=row_of[room] + 1):
                rows[i].append(lane)
            arrows.append([room, *lanes, target])
    return arrows


def crossings(arrows: list[list[str]], places: dict[str, float]) -> tuple[int, float]:
    """How often arrows cross between two rows, then how far they run sideways."""
    steps = [(places[a], places[b], a, b) for arrow in arrows for a, b in pairwise(arrow)]
    crossed = sum(
        (a - c) * (b - d) < 0
        for i, (a, b, start, end) in enumerate(steps)
        for c, d, other_start, other_end in steps[:i]
        if places[f"row {start}"] == places[f"row {other_start}"] and start != other_start and end != other_end
    )
    return crossed, sum(abs(a - b) for a, b, _, _ in steps)


def places_of(rows: Sequence[Sequence[str]]) -> dict[str, float]:
    """The centre of each box and lane, rows being centred; and the number of its row as `row NAME`."""
    places: dict[str, float] = {}
    for i, row in enumerate(rows):
        widths = [LANE if ">" in name else BOX for name in row]
        left = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            places[name], places[f"row {name}"] = left + width / 2, i
            left += width + GAP
    return places


def arranged(rows: list[list[str]], arrows: list[list[str]]) -> dict[str, float]:
    """The places with fewest crossings: each row in turn is ordered best for the others, until nothing changes."""
    before = None
    while before != rows:
        before = [list(row) for row in rows]
        for i, row in enumerate(rows):
            orders = ([*rows[:i], list(order), *rows[i + 1 :]] for order in permutations(row))
            rows[i] = min(orders, key=lambda order: crossings(arrows, places_of(order)))[i]
    return places_of(rows)


def drawn() -> str:
    """The picture as SVG."""
    imports = without_detours(declared_imports())
    rows = rows_of(imports)
    arrows = ways(imports, rows)
    places = arranged(rows, arrows)

    def at(name: str) -> tuple[float, float]:
        return places[name], GAP + HEIGHT / 2 + ROW * places[f"row {name}"]

    parts: list[str] = []
    for arrow in arrows:
        x, y = at(arrow[0])
        path = f"M{x:g} {y + HEIGHT / 2:g}"
        for name in arrow[1:]:
            start, (x, y) = (x, y), at(name)
            top, bottom = start[1] + HEIGHT / 2, y - HEIGHT / 2 - (0 if ">" in name else 6)
            middle = (top + bottom) / 2
            path += f" C{start[0]:g} {middle:g} {x:g} {middle:g} {x:g} {bottom:g}"
            path += f" V{y + HEIGHT / 2:g}" if ">" in name else ""
        tip = y - HEIGHT / 2
        parts.append(f'<path class="arrow" d="{path}"/>')
        parts.append(f'<path class="head" d="M{x - 4:g} {tip - 7:g} h8 L{x:g} {tip:g} z"/>')
    for room in imports:
        x, y = at(room)
        parts.append(
            f'<rect class="box" x="{x - BOX / 2:g}" y="{y - HEIGHT / 2:g}" width="{BOX}" height="{HEIGHT}" rx="4"/>'
        )
        parts.append(f'<text x="{x:g}" y="{y + 4.5:g}">{room}</text>')
    height = 2 * GAP + HEIGHT + ROW * (len(rows) - 1)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH * 3 // 2}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="rooms" {size} role="img">',
        f"<title>{ALT}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
