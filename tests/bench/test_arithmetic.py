"""The library and precision of matrix products as conditions of a bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlbench.bench import execution
from mtlbench.bench.planning import Plan, Request, plan
from mtlbench.engine import fitting, products
from mtlbench.engine.products import Products
from mtlbench.engine.turns import Turns, trainer_of
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records import checkpoint
from mtlbench.records.records import RunRecord, Settings, key_of
from mtlbench.stats import findings
from tests.helpers.own_setup import write_setup
from tests.helpers.tiny_bench import Silent
from tests.helpers.toy import toy_setup

WIDE = "(3, 300, 90)"  # large enough that oneDNN multiplies each replica apart


def asked(folder: Path, strategies: Sequence[str] = ("mgda",), **changes: Any) -> Plan:
    file = folder / "own.py"
    if not file.exists():
        write_setup(file, widths=WIDE)
    request = Request(
        name="b",
        out=folder / "out",
        setups=["own"],
        strategies=strategies,
        seeds=(0, 1),
        epochs=2,
        batch_size=60,
        lr=1e-3,
        device="cpu",
        plugins=(file,),
        command="test",
    )
    return plan(replace(request, **changes))


def runs_of(planned: Plan) -> list[RunRecord]:
    assert execution.execute(planned, Silent())
    return planned.store.runs("own")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_results_of_onednn_are_identical_for_any_number_of_jobs(tmp_path: Path, precision: str) -> None:
    found: list[list[object]] = []
    for jobs in (1, 2):
        planned = asked(tmp_path, products="onednn", precision=precision, out=tmp_path / str(jobs), jobs=jobs)
        runs = runs_of(planned)
        assert {(run.settings.products, run.settings.precision) for run in runs} == {("onednn", precision)}
        assert planned.store.require_bench().conditions.precision == precision
        captions = findings.read(planned.store).conditions
        assert ("bf16" in captions) == (precision == "bf16")
        results = [run.result for run in runs]
        found.append([replace(result, training_seconds=0.0) for result in results if result is not None])
    assert repr(found[0]) == repr(found[1])


def test_a_bench_goes_on_with_the_products_it_began_with(tmp_path: Path) -> None:
    other = {"bmm": "onednn", "onednn": "bmm"}[products.library("auto", "cpu")]
    began = asked(tmp_path, ["fixed"], products=other, epochs=1)
    runs_of(began)
    added = asked(tmp_path, epochs=1)
    assert {run.settings.products for run in added.runs} == {other}
    kept = {run.spec.label: run.key for run in began.runs}
    assert {run.spec.label: run.key for run in added.runs if run.spec.label in kept} == kept
    for changes in ({"products": products.library("auto", "cpu")}, {"precision": "bf16"}):
        with pytest.raises(UserError, match=f"{next(iter(changes))} .* not {next(iter(changes.values()))}"):
            asked(tmp_path, epochs=1, **changes)


def test_a_bench_made_with_a_library_that_is_missing_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution.write_request(asked(tmp_path, products="onednn"))
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    with pytest.raises(UserError, match="onednn is not available"):
        asked(tmp_path)


def test_runs_that_were_stored_before_products_were_named_keep_their_keys() -> None:
    settings = Settings(setup="mnist", seeds=(0, 1), epochs=2, batch_size=64, lr=1e-3, device="cpu")
    older = {"seeds": (0, 1), "epochs": 2, "batch_size": 64, "lr": 1e-3, "device": "cpu", "setup": "mnist"}
    assert key_of(settings=settings) == key_of(settings=older)
    named = [settings.model_copy(update=change) for change in ({"products": "onednn"}, {"precision": "bf16"})]
    assert len({key_of(settings=each) for each in (settings, *named)}) == 3


def test_stacks_that_take_turns_resume_bit_for_bit(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, path = toy_setup(), tmp_path / "state.safetensors"
    monkeypatch.setattr(products, "cache_bytes", lambda: 1)

    def make() -> Turns:
        build = partial(registry.build, registry.parse("gradnorm", setup))
        made = trainer_of(
            setup,
            build,
            (3, 0, 11),
            setup.samples()[0],
            batch_size=6,
            lr=1e-2,
            device=torch.device("cpu"),
            products=Products("onednn"),
        )
        assert isinstance(made, Turns)
        return made

    fit = partial(fitting.fit, validation=setup.samples()[1], watched=setup.tasks[0], report=lambda progress: None)
    whole = fit(make(), epochs=3)
    first, rest = make(), make()
    fit(first, epochs=2, keep=lambda history: checkpoint.write(path, "key", first.state, history))
    stored = checkpoint.read(path, "key")
    assert stored is not None
    rest.restore(stored.state)
    resumed = fit(rest, epochs=3, so_far=stored.history)
    assert repr(replace(resumed, training_seconds=0.0)) == repr(replace(whole, training_seconds=0.0))
