"""Invalid command lines and damaged files of a bench: one line, no traceback, and nothing is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.records import checkpoint
from mtlbench.records.history import Evaluation, History, Trajectory
from tests.helpers.bad_input import (
    STORED,
    Damage,
    assert_sound,
    byte_damages,
    call,
    command_lines,
    contents,
    damages,
    limited,
    stored_bench,
    untrained,
)

COMMANDS = {
    "report": ("made",),
    "compare": ("made", "made"),
    "bench": ("--name=made", "--strategies=fixed gradnorm", "--device=cpu"),
    "bench --tuned": ("--name=made", "--strategies=fixed", "--device=cpu"),
    "tune": ("--name=made", "--strategies=fixed", "--device=cpu"),
}


@pytest.fixture(scope="module", autouse=True)
def no_training() -> Iterator[None]:
    with untrained():
        yield


@given(command_lines())
@limited(0.5)
def test_any_command_line_is_carried_out_or_refused(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = call(arguments)
        assert_sound(said)
        assert said.code == 0 or not contents(Path(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_bench(tmp_path_factory.mktemp("stored"))


@given(st.sampled_from(STORED), damages, st.sampled_from(list(COMMANDS)))
@limited(0.4)
def test_a_damaged_file_is_used_or_refused_and_stays_unchanged(
    made: Path, name: str, damage: Damage, command: str
) -> None:
    path = made / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    before = contents(made)
    try:
        said = call([*command.split(), *COMMANDS[command], f"--out={made.parent}"])
        assert_sound(said)
        after = contents(made)
        assert {file: after[file] for file in STORED} == {file: before[file] for file in STORED}
        if said.code == 2:
            assert after == before
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    history = History([Evaluation([[1.0]], [[0.5]])], Trajectory([1.0], [[[1.0]]], [[[1.0]]], None, None), [None], 1.0)
    checkpoint.write(path, "key", {"parameters": torch.arange(6.0).view(2, 3), "index": torch.tensor(3)}, history)
    return path


@given(st.data())
@limited(0.1)
def test_a_damaged_checkpoint_is_not_used(state: Path, data: st.DataObject) -> None:
    whole = state.read_bytes()
    assert checkpoint.read(state, "key") is not None
    changed = data.draw(byte_damages())(whole)
    state.write_bytes(changed)
    try:
        assert changed == whole or checkpoint.read(state, "key") is None
        assert state.read_bytes() == changed
    finally:
        state.write_bytes(whole)
