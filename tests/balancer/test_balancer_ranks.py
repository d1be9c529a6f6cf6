"""Several gloo processes against one with the joint batch."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.loops import NAMES
from tests.helpers.ranks import rank


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_compute_what_one_process_with_the_joint_batch_does(size: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork server serves all tests, and is started with their setups
    file = str(tmp_path / "store")
    processes = [context.Process(target=rank, args=(number, size, file), daemon=True) for number in range(size)]
    for process in processes:
        process.start()
    end = time.monotonic() + 240
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * size
    found = [torch.load(f"{file}.{number}", weights_only=True) for number in range(size)]
    errors = {key: error for of_rank, _, _ in found for key, error in of_rank.items()}
    assert len(errors) == len(NAMES)
    assert {key: error for key, error in errors.items() if not error < 1e-10} == {}
    states = [of_rank for _, of_rank, _ in found]
    assert [name for name in NAMES if len({of_rank[name] for of_rank in states}) > 1] == []
    for _, _, lines in found:
        assert "static_graph" in lines["static"]
        assert "seed" in lines["seeds"]
        assert "group" in lines["group"]
        assert not lines["sharded, losses"]
        assert "fully_shard" in lines["sharded, gradients"]
