"""Benches of these tests measure speeds as briefly as possible."""

from __future__ import annotations

import pytest

from mtlbench.bench import execution


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ROUNDS", 6)
    monkeypatch.setattr(execution, "TURN_SECONDS", 0.01)
