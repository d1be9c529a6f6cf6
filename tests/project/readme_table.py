"""`make readme`: the README's table of strategies, written anew from the registry."""

from __future__ import annotations

import re
from pathlib import Path

from mtlbench.cli import listing
from mtlbench.plugins.registry import Registry

README = Path(__file__).parents[2] / "README.md"


def with_table(readme: str, table: str) -> str:
    """The text of a README in which its table of strategies is replaced by this one."""
    header = re.escape(table.splitlines()[0])
    (old_table,) = re.findall(rf"^{header}\n(?:\|.*\n)*", readme, re.MULTILINE)
    return readme.replace(old_table, f"{table}\n")


if __name__ == "__main__":
    README.write_text(
        with_table(README.read_text(encoding="utf-8"), listing.markdown(Registry.load())), encoding="utf-8"
    )
