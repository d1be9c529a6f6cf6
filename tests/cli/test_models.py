"""Train, save, load and predict, compared with the engine, plain torch and the tensors themselves."""

from __future__ import annotations

import gzip
import json
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mtlbench import __version__, data, setups
from mtlbench.engine.products import Products, library
from mtlbench.engine.trainer import Trainer
from mtlbench.models import model_file
from mtlbench.models.model_file import LossAndScore
from mtlbench.plugins.registry import Registry
from tests.helpers.commands import call, errors
from tests.helpers.toy import TINY

STRATEGY, SEED, BATCH, LR = "fixed:weights=[1,0.5]", 5, 250, 2e-3
DIGITS = 500
Digits = tuple[NDArray[np.uint8], Tensor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    numbers = ("--epochs", "1", "--seed", str(SEED), "--batch-size", str(BATCH), "--lr", str(LR))
    assert call("train", STRATEGY, "--save", path, *numbers) == 0
    return path


@pytest.fixture(scope="module")
def digits() -> Digits:
    data.fetch(data.MNIST, print)
    images, labels = data.test(data.MNIST)
    return images[:DIGITS].numpy().reshape(-1, 28, 28), labels[:DIGITS]


def test_training_is_that_of_the_engine(model: Path, registry: Registry) -> None:
    setup = setups.MNIST
    samples, held_out = setup.samples()
    build = partial(registry.build, registry.parse(STRATEGY, setup))
    products = Products(library("auto", "cpu"))
    trainer = Trainer(
        setup, build, (SEED,), samples, batch_size=BATCH, lr=LR, device=torch.device("cpu"), products=products
    )
    trainer.start_epoch(0)
    for _ in range(trainer.steps_per_epoch):
        trainer.step()
    kept = model_file.load(model)
    for name, layer in zip(("trunk.0", "trunk.2"), trainer.network.trunk, strict=True):
        assert torch.allclose(kept.tensors[f"{name}.weight"], layer.weight[0], atol=1e-5)
        assert torch.allclose(kept.tensors[f"{name}.bias"], layer.bias[0], atol=1e-5)
    for split, scores in ((held_out, "validation"), (setup.test(), "test")):
        losses, values = trainer.evaluate(split)
        for t, task in enumerate(kept.card.tasks):
            found: LossAndScore = getattr(task, scores)
            assert found.loss == pytest.approx(float(losses[0, t]), rel=1e-3)
            assert found.score == pytest.approx(float(values[0, t]), abs=1e-3)


def test_the_file_has_a_card(model: Path) -> None:
    with safe_open(model, framework="pt") as file:
        card = json.loads(file.metadata()["mtlbench"])
    assert (card["format"], card["version"], card["setup"], card["strategy"]) == (1, __version__, "mnist", STRATEGY)
    assert (card["seed"], card["epochs"], card["batch_size"], card["lr"]) == (SEED, 1, BATCH, LR)
    assert (card["widths"], card["framing"]) == ([784, 512, 256], {"box": 20, "centre": "mass"})
    assert [(task["name"], task["kind"], task["columns"]) for task in card["tasks"]] == [
        ("digit", "classification", 10),
        ("above_five", "binary", 1),
    ]
    assert model.stat().st_mode & 0o777 == 0o644


def test_plain_torch_reads_the_file(model: Path, digits: Digits) -> None:
    trunk = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
    heads = nn.ModuleDict({"digit": nn.Linear(256, 10), "above_five": nn.Linear(256, 1)})
    nn.ModuleDict({"trunk": trunk, "heads": heads}).load_state_dict(load_file(model))
    kept = model_file.load(model)
    inputs = torch.from_numpy(digits[0]).flatten(1)
    hidden = trunk(inputs.float() * kept.card.scale + kept.card.shift)
    for task, outputs in kept.outputs(inputs).items():
        assert torch.allclose(heads[task](hidden), outputs, atol=1e-4)


def test_predictions_for_pictures_equal_those_for_tensors(
    model: Path, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    paths = [tmp_path / f"{i:03}.png" for i in range(DIGITS)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(255 - image).resize((200, 200), Image.Resampling.BICUBIC).save(path, compress_level=1)
    idx = tmp_path / "digits.gz"
    idx.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes(), 1))
    capsys.readouterr()
    assert call("predict", model, *paths, idx, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    assert [(each["file"], each["index"]) for each in answers] == [
        *((str(path), None) for path in paths),
        *((str(idx), i) for i in range(DIGITS)),
    ]
    outputs = model_file.load(model).outputs(torch.from_numpy(images).flatten(1))
    probabilities, chosen = outputs["digit"].softmax(-1).max(-1)
    yes = outputs["above_five"][:, 0].sigmoid()
    for i, answer in enumerate(answers[DIGITS:]):
        assert answer["tasks"]["digit"]["class"] == chosen[i]
        assert answer["tasks"]["digit"]["probability"] == pytest.approx(float(probabilities[i]), abs=1e-5)
        assert answer["tasks"]["above_five"]["answer"] == bool(yes[i] > 0.5)
        assert answer["tasks"]["above_five"]["probability"] == pytest.approx(
            max(float(yes[i]), 1 - float(yes[i])), abs=1e-5
        )
    for task, truth in (("digit", labels), ("above_five", labels > 5)):
        told = torch.tensor([next(iter(each["tasks"][task].values())) for each in answers]).view(2, DIGITS)
        pictures, tensors = (told == truth).float().mean(1).tolist()
        # Digits on the border between two answers differ from one trained network, and so one processor, to another.
        assert abs(pictures - tensors) <= 0.01, task


def test_a_file_that_is_not_a_picture_does_not_affect_the_others(
    model: Path, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, blank = tmp_path / "good[b].png", tmp_path / "blank.png"
    Image.fromarray(digits[0][0]).save(good)
    Image.new("L", (9, 9)).save(blank)
    some = tmp_path / "some.idx"
    some.write_bytes(struct.pack(">IIII", 0x803, 3, 28, 28) + bytes(784) + digits[0][:2].tobytes())
    odd = tmp_path / "odd\nname"
    odd.write_text("text")
    capsys.readouterr()
    assert call("predict", model, tmp_path, good, blank, some, odd, tmp_path / "absent") == 2
    out, err = capsys.readouterr()
    rows = [line.strip() for line in "".join(out.split("─")[-1]).splitlines() if line.strip()]
    assert [row.split()[-4] for row in rows] == ["7", "7", "2"]
    problems = err.splitlines()
    assert [line.partition(f"{tmp_path}")[2].split(" is ")[0] for line in problems] == [
        "", "/blank.png", "/some.idx [0]", "/odd\\nname", "/absent does not exist",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fixed", "--save", "there"], "--force"),
        (["fixed", "--save", "."], "folder ."),
        (["fixed", "--save", "no/where"], "no/where"),
        (["fixed", "--save", "there/where"], "there/where"),
        (["fixed", "--save", "/proc/model"], "cannot be written"),
        (["fixed"], "--save"),
        (["gradnrom", "--save", "x"], "gradnorm"),
        (["tuned:fixed", "--save", "x"], "mtlbench tune"),
        (["fixed", "--save", "x", "--seed", "-1"], "--seed"),
        (["fixed", "--save", "x", "--epochs", "0"], "--epochs"),
        (["fixed", "--save", "x", "--lr", "nan"], "--lr"),
        (["fixed", "--save", "x", "--setup", "mnits"], "mnist"),
        (["fixed", "--save", "x", "--device", "tpu"], "auto, cpu"),
    ],
)
def test_an_invalid_training_is_refused(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("mine")
    (line,) = errors(capsys, 2, "train", *arguments)
    assert says in line
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "mine")]


def test_a_training_that_diverges_or_fails_keeps_the_old_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, plugin = tmp_path / "model", tmp_path / "bad.py"
    path.write_text("mine")
    plugin.write_text(
        "from mtlbench import Strategy, register\n"
        "@register('bad')\n"
        "class Bad(Strategy):\n"
        "    def forward(self, step):\n"
        "        return step.losses.sum(-1) / step.index.mul(0)\n"
        "@register('worse')\n"
        "class Worse(Strategy):\n"
        "    def forward(self, step):\n"
        "        raise RuntimeError('not today')\n"
    )
    keep = ("--save", path, "--force", "--plugin", plugin, "--setup", TINY.name, "--batch-size", "100", "--epochs", "1")
    assert "bad diverged at step 0" in errors(capsys, 1, "train", "bad", *keep)[0]
    (line,) = errors(capsys, 1, "train", "worse", *keep)
    assert "worse failed" in line
    assert "RuntimeError: not today" in line
    assert path.read_text() == "mine"
    assert errors(capsys, 0, "train", "single:digit", *keep) == []
    assert [task.name for task in model_file.load(path).card.tasks] == ["digit"]


def test_a_stopped_training_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlbench.models.train_one.train", stopped)
    (line,) = errors(capsys, 130, "train", "fixed", "--save", tmp_path / "x")
    assert "stopped" in line
    assert list(tmp_path.iterdir()) == []
