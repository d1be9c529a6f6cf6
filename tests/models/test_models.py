"""Files of networks: predictions, loading in plain torch, and refused files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtlbench.errors import UserError
from mtlbench.models import model_file, predictions
from mtlbench.models.framing import Framing
from mtlbench.models.model_file import Card, LossAndScore, Model, TaskCard
from tests.helpers.commands import call, errors

FRAMING = Framing(20, "mass")
LAYERS = {"image": [1, 28, 28], "layers": [{"channels": 1, "kernel": 5, "pool": 2}]}


def made(kind: model_file.Kind, columns: int, framing: Framing | None = FRAMING, bias: float = 0.5) -> Model:
    """A network without a trunk layer that gives `bias` times 1, 2, ... for every picture."""
    score = LossAndScore(loss=0.0, score=0.0)
    task = TaskCard(name="t", kind=kind, columns=columns, metric="m", validation=score, test=score)
    card = Card(
        version="1", setup="s", strategy="fixed", seed=0, epochs=1, batch_size=1, lr=1.0, widths=[784], scale=1.0,
        shift=0.0, pictures=framing is not None, framing=framing, tasks=[task],
    )  # fmt: skip
    return Model(
        card, {"heads.t.weight": torch.zeros(columns, 784), "heads.t.bias": bias * torch.arange(1.0, columns + 1)}
    )


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (made("classification", 2), {"class": 1, "probability": pytest.approx(1 / (1 + np.exp(-0.5)))}),
        (made("binary", 1), {"answer": True, "probability": pytest.approx(1 / (1 + np.exp(-0.5)))}),
        (made("binary", 1, bias=-0.5), {"answer": False, "probability": pytest.approx(1 / (1 + np.exp(-0.5)))}),
        (made("regression", 1), {"value": 0.5}),
        (made("other", 2), {"outputs": [0.5, 1.0]}),
    ],
)
def test_every_kind_of_task_has_an_answer(model: Model, answer: dict[str, object], tmp_path: Path) -> None:
    Image.fromarray(np.pad(np.full((5, 5), 255, np.uint8), 4)).save(tmp_path / "square.png")
    model_file.save(tmp_path / "made", model)
    read = model_file.load(tmp_path / "made")
    (found,), problems = predictions.predict(read, tmp_path / "square.png")
    assert (found.tasks, problems) == ({"t": answer}, [])
    assert predictions.table(read.card, [found]).row_count == 1


def test_predict_refuses_a_model_that_does_not_take_pictures() -> None:
    with pytest.raises(UserError, match="28 x 28"):
        predictions.check(made("regression", 1, framing=None).card)


@pytest.mark.parametrize(
    ("bias", "changed", "says"),
    [
        (None, {}, "lacks heads.t.bias"),
        (torch.zeros(3), {}, "[3]"),
        (torch.full((2,), torch.nan), {}, "must be finite"),
        (torch.zeros(2), {"format": 2}, "format 2, written by mtlbench 1"),
        (torch.zeros(2), {"widths": "x"}, "(widths)"),
        (torch.zeros(2), {"widths": []}, "(widths)"),
        (torch.zeros(2), {"more": 1}, "(more)"),
        (torch.zeros(2), {"convolutions": LAYERS}, "widths[0]"),
        (torch.zeros(2), {"convolutions": LAYERS, "widths": [12 * 12]}, "lacks trunk.1.weight"),
        (torch.zeros(2), {"convolutions": LAYERS | {"image": [1, 4, 4]}}, "leaves nothing of a 4x4 image"),
        (torch.zeros(2), {"convolutions": LAYERS | {"image": [1, 28]}}, "(convolutions.image.2)"),
    ],
)
def test_a_model_that_contradicts_itself_is_refused(
    bias: Tensor | None,
    changed: dict[str, object],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, path = made("classification", 2), tmp_path / "made"
    tensors = {"heads.t.weight": model.tensors["heads.t.weight"]} | ({} if bias is None else {"heads.t.bias": bias})
    save_file(tensors, path, {"mtlbench": json.dumps(model.card.model_dump() | changed)})
    (line,) = errors(capsys, 2, "predict", path, "x.png")
    assert says in line


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made"
    model_file.save(path, made("classification", 2))
    whole = path.read_bytes()
    save_file({"x": torch.zeros(1)}, tmp_path / "others")
    for content, says in (
        (b"", "damaged"),
        (b"\x80\x04K\x01.", "damaged"),
        (whole[: len(whole) // 2], "damaged"),
        (whole[:40], "damaged"),
        ((tmp_path / "others").read_bytes(), "mtlbench train"),
    ):
        path.write_bytes(content)
        (line,) = errors(capsys, 2, "predict", path, "x.png")
        assert says in line
    assert "is a folder" in errors(capsys, 2, "predict", tmp_path, "x.png")[0]
    assert "does not exist" in errors(capsys, 2, "predict", tmp_path / "absent", "x.png")[0]


CROSSES = """
import torch
from mtlbench import Conv, Convolutions, Setup, Split, classification, register_setup, regression

def crosses(size, seed):
    drawn = torch.Generator().manual_seed(seed)
    y, x = torch.randint(2, 26, (2, size), generator=drawn)
    images = torch.zeros(size, 28, 28, dtype=torch.uint8)
    for image, i, j in zip(images, y, x):
        image[i - 2 : i + 3, j] = image[i, j - 2 : j + 3] = 255
    return Split(images.flatten(1), torch.stack([2 * (y > 13) + (x > 13), y / 28], dim=-1))

convolutions = Convolutions((1, 28, 28), (Conv(3, kernel=5, pool=3), Conv(4, kernel=3, pool=2)))
register_setup(
    Setup(
        name="crosses", about="crosses: where (main), and how far down", convolutions=convolutions,
        tasks=(classification("quadrant", 4), regression("row")), widths=(convolutions.features, 6),
        samples=lambda: (crosses(300, 0), crosses(50, 1)), test=lambda: crosses(60, 2), training_size=300,
        scale=1 / 255, shift=-0.1, passes=30,
    )
)
"""


def test_a_network_with_convolutions_loads_in_plain_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, path, idx = tmp_path / "crosses.py", tmp_path / "model", tmp_path / "some.idx"
    plugin.write_text(CROSSES)
    keep = ("--setup", "crosses", "--plugin", plugin, "--save", path, "--epochs", "1", "--lr", "0.01")
    assert call("train", "pcgrad", *keep) == 0
    trunk = nn.Sequential(
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 3, 5), nn.MaxPool2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6), nn.ReLU()),
    )
    heads = nn.ModuleDict({"quadrant": nn.Linear(6, 4), "row": nn.Linear(6, 1)})
    nn.ModuleDict({"trunk": trunk, "heads": heads}).load_state_dict(load_file(path))

    namespace: dict[str, Any] = {}
    exec(CROSSES.partition("convolutions =")[0], namespace)
    test = namespace["crosses"](60, 2)
    hidden = trunk(test.inputs / 255 - 0.1)
    outputs = {name: head(hidden).detach() for name, head in heads.items()}
    right = outputs["quadrant"].argmax(-1) == test.targets[:, 0]
    quadrant, row = model_file.load(path).card.tasks
    assert quadrant.test.score == pytest.approx(float(right.float().mean()))
    assert quadrant.test.score > 0.5  # so that the above is no accident
    assert row.test.score == pytest.approx(float((outputs["row"][:, 0] - test.targets[:, 1]).square().mean()), rel=1e-4)

    idx.write_bytes(struct.pack(">IIII", 0x803, 60, 28, 28) + test.inputs.numpy().tobytes())
    capsys.readouterr()
    assert call("predict", path, idx, "--json") == 0
    answers = [each["tasks"] for each in json.loads(capsys.readouterr().out)]
    assert [each["quadrant"]["class"] for each in answers] == outputs["quadrant"].argmax(-1).tolist()
    assert [each["row"]["value"] for each in answers] == pytest.approx(outputs["row"][:, 0].tolist(), abs=1e-5)
