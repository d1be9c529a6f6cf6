"""Makes everything derived of a bench from its stored runs: tables, plots, the bench's README and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from mtlbench.records.store import Store
from mtlbench.report.answer import answer
from mtlbench.report.tables import Table, lay_out, over_setups
from mtlbench.stats import frames
from mtlbench.stats.findings import Findings, read

if TYPE_CHECKING:
    from mtlbench.report.page_content import SavedPlots


@dataclass(frozen=True)
class BenchReport:
    """What was made: the table of the main setup, that over setups if there are several, sentences, and the files."""

    table: Table
    over_setups: Table | None
    answer: list[str]
    notes: list[str]
    readme: Path
    page: Path
    plots: list[Path]


def make(store: Store) -> BenchReport:
    """Write `runs.csv`, `curves.csv`, `summary.csv`, `plots/`, `README.md` and `report.html` of a bench.

    Raises:
        UserError: there is no such bench, it has no runs yet, a stored file cannot be read, or its folder
            cannot be written.
    """
    found = read(store)
    store.prepare()
    from mtlbench.report import page_content

    store.write("runs.csv", found.per_seed.to_csv(index=False, float_format="%.7g"))
    store.write("curves.csv", frames.curves_over_seeds(found.curves).to_csv(index=False, float_format="%.4g"))
    summary = pd.concat(found.summaries.values(), ignore_index=True)
    store.write("summary.csv", summary.to_csv(index=False, float_format="%.7g"))
    pictures = (
        page_content.draw(found, store.folder / "plots") if len(found.per_seed) else page_content.SavedPlots({}, [])
    )
    setup, task = next(iter(found.main_tasks.items()))
    sentences = answer(found.scores, found.speeds, setup, task)
    notes = found.notes
    table = lay_out(found.summaries[setup], found.tasks[setup])
    across = over_setups(found.scores, found.main_tasks) if len(found.runs) > 1 else None
    readme = store.write("README.md", _readme(found, table.brief(), across, sentences, notes, pictures))
    page = store.write("report.html", page_content.page(found, sentences, notes, pictures, summary))
    saved = [*pictures.across, *(picture for own in pictures.of_setups.values() for picture in own)]
    return BenchReport(table, across, sentences, notes, readme, page, [picture.png for picture in saved])


def _readme(
    found: Findings,
    table: Table,
    across: Table | None,
    sentences: Sequence[str],
    notes: Sequence[str],
    pictures: SavedPlots,
) -> str:
    environment = Environment(
        loader=PackageLoader("mtlbench.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    from mtlbench.report.page_content import tuning_of

    costs = found.costs
    return environment.get_template("bench.md.j2").render(
        bench=found.bench,
        environment=found.bench.environment,
        conditions=found.conditions,
        commands=found.commands,
        table=table,
        across=across,
        answer=sentences,
        notes=notes,
        pictures=pictures,
        tunings=[(record.spec.label, tuning_of(record)) for own in found.tuned.values() for record in own],
        threads=costs.threads if costs else 1,
        rounds=max((len(cost.ratios) for cost in costs.costs), default=0) if costs else 0,
    )


def _markdown(text: str) -> str:
    """Text that may come from a plugin, made harmless in a Markdown table."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
