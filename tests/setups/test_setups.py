"""The built-in setups: each changes one thing of MNIST, the same for every seed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtlbench import data
from mtlbench.contracts.setup import Setup, Split, Task, binary, classification, regression, scaled
from mtlbench.setups import MNIST, NOISE, PROPERTIES, SETUPS, VALIDATION_SIZE


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    for dataset in (data.MNIST, data.FASHION_MNIST):
        data.fetch(dataset, print)


def splits(setup: Setup) -> tuple[Split, Split, Split]:
    return (*setup.samples(), setup.test())


@pytest.mark.parametrize("name", SETUPS)
def test_splits_have_the_declared_sizes_and_targets(name: str) -> None:
    setup = SETUPS[name]
    for split, size in zip(splits(setup), (setup.training_size, VALIDATION_SIZE, 10_000), strict=True):
        assert split.inputs.shape == (size, setup.features)
        assert split.targets.shape == (size, len(setup.tasks))
        for task, targets in zip(setup.tasks, split.targets.unbind(-1), strict=True):
            assert set(targets.unique().tolist()) == set(range(max(2, task.columns)))


@pytest.mark.parametrize("name", SETUPS)
def test_a_setup_is_the_same_whenever_it_is_read(name: str) -> None:
    for one, other in zip(splits(SETUPS[name]), splits(SETUPS[name]), strict=True):
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize(
    "name", [name for name in SETUPS if name not in ("fashion-mnist", "mnist-few-labels", "multimnist")]
)
def test_variants_of_mnist_have_its_images_and_digits(name: str) -> None:
    for variant, original in zip(splits(SETUPS[name]), splits(MNIST), strict=True):
        assert torch.equal(variant.inputs, original.inputs)
        assert torch.equal(variant.targets[:, 0], original.targets[:, 0])


def test_few_labels_are_the_first_of_mnist_with_the_same_held_out_splits() -> None:
    few, whole = splits(SETUPS["mnist-few-labels"]), splits(MNIST)
    assert torch.equal(few[0].inputs, whole[0].inputs[:1000])
    assert torch.equal(few[1].targets, whole[1].targets)
    assert torch.equal(few[2].targets, whole[2].targets)


def test_noise_is_in_training_only_and_of_the_declared_share() -> None:
    noisy, clean = splits(SETUPS["mnist-aux-noise"]), splits(MNIST)
    flipped = (noisy[0].targets[:, 1] != clean[0].targets[:, 1]).double()
    assert float(flipped.mean()) == pytest.approx(NOISE, abs=4 * (NOISE * (1 - NOISE) / 55_000) ** 0.5)
    for digit in range(10):
        assert float(flipped[clean[0].targets[:, 0] == digit].mean()) == pytest.approx(NOISE, abs=0.04)
    assert torch.equal(noisy[1].targets, clean[1].targets)
    assert torch.equal(noisy[2].targets, clean[2].targets)


def test_random_auxiliary_labels_are_independent_of_the_image() -> None:
    for mine, clean in zip(splits(SETUPS["mnist-aux-random"]), splits(MNIST), strict=True):
        ones = mine.targets[:, 1].double()
        assert float(ones.mean()) == pytest.approx(0.5, abs=2 / len(ones) ** 0.5)
        agrees = (mine.targets[:, 1] == clean.targets[:, 1]).double()
        assert float(agrees.mean()) == pytest.approx(0.5, abs=2 / len(ones) ** 0.5)


@pytest.mark.parametrize(("name", "factor"), [("mnist-aux-x100", 100), ("mnist-aux-x0.01", 0.01)])
def test_the_scale_setups_multiply_only_the_auxiliary_loss(name: str, factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 5, 1, generator=generator), torch.randint(2, (2, 5), generator=generator)
    (main, auxiliary), (_, plain) = SETUPS[name].tasks, MNIST.tasks
    assert main == MNIST.tasks[0]
    torch.testing.assert_close(auxiliary.loss(outputs, targets), factor * plain.loss(outputs, targets))
    assert torch.equal(auxiliary.score(outputs, targets), plain.score(outputs, targets))


def test_questions_about_a_digit_have_the_right_answers() -> None:
    facts: dict[str, Callable[[int], bool]] = {
        "above_five": lambda d: d > 5,
        "odd": lambda d: d % 2 == 1,
        "prime": lambda d: d > 1 and all(d % k for k in range(2, d)),
        "multiple_of_three": lambda d: d % 3 == 0,
        "power_of_two": lambda d: d > 0 and d & (d - 1) == 0,
        "fibonacci": lambda d: d in (0, 1, 1, 2, 3, 5, 8),
        "has_loop": lambda d: d in (0, 6, 8, 9),
    }
    assert {name: tuple(filter(holds, range(10))) for name, holds in facts.items()} == PROPERTIES
    training, _ = SETUPS["mnist-8-tasks"].samples()
    for column, members in enumerate(PROPERTIES.values(), start=1):
        expected = torch.isin(training.targets[:, 0], torch.tensor(members))
        assert torch.equal(training.targets[:, column].bool(), expected)
    assert torch.linalg.matrix_rank(training.targets[:2000, 1:].double()) == len(PROPERTIES)


def test_footwear_is_sandals_sneakers_and_ankle_boots() -> None:
    _, validation = SETUPS["fashion-mnist"].samples()
    assert set(validation.targets[validation.targets[:, 1] == 1, 0].tolist()) == {5, 7, 9}


@pytest.mark.parametrize("task", [classification("c", 3), binary("b"), regression("r")], ids=lambda task: task.name)
def test_scaling_a_task_scales_its_loss_and_keeps_its_score(task: Task) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(2, 4, task.columns, generator=generator)
    targets: Tensor = torch.randint(2, (2, 4), generator=generator)
    torch.testing.assert_close(scaled(task, 7).loss(outputs, targets), 7 * task.loss(outputs, targets))
    torch.testing.assert_close(scaled(task, 7).score(outputs, targets), task.score(outputs, targets))
