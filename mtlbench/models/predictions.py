"""Predictions of a trained network for pictures, as records, a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mtlbench.errors import UserError, printable
from mtlbench.models import pictures
from mtlbench.models.framing import SIDE
from mtlbench.models.model_file import Card, Model, TaskCard

AT_ONCE = 1_000  # images in a forward pass


@dataclass(frozen=True)
class Prediction:
    """The answers for one image by task; `index` is the image's index in an idx file."""

    file: str
    index: int | None
    tasks: dict[str, dict[str, object]]


def check(card: Card) -> None:
    """Raise a UserError if a model does not take pictures."""
    if not card.pictures:
        raise UserError(
            f"MODEL must take grey pictures of {SIDE} x {SIDE}; found the setup {card.setup} with {card.inputs} "
            f"inputs: load the model in plain torch"
        )


def predict(model: Model, path: Path) -> tuple[list[Prediction], list[str]]:
    """Predictions for all images of a file, and a line for each image that cannot be used."""
    name = printable(str(path))
    images: list[NDArray[np.uint8]] = []
    indices: list[int | None] = []
    problems: list[str] = []
    try:
        for picture in pictures.read(path):
            try:
                images.append(picture.image(model.card.framing))
                indices.append(picture.index)
            except UserError as error:
                problems.append(f"{_place(name, picture.index)} {error}")
    except UserError as error:
        problems.append(f"{name} {error}")
    predicted: list[Prediction] = []
    for first in range(0, len(images), AT_ONCE):
        batch = slice(first, first + AT_ONCE)
        outputs = model.outputs(torch.from_numpy(np.stack(images[batch])).flatten(1))
        for row, index in enumerate(indices[batch]):
            tasks = {task.name: _answer(task, outputs[task.name][row]) for task in model.card.tasks}
            predicted.append(Prediction(str(path), index, tasks))
    return predicted, problems


def as_json(predictions: Sequence[Prediction]) -> str:
    """A JSON list with one object per line."""
    lines = ",\n ".join(json.dumps(vars(each)) for each in predictions)
    return f"[{lines}]"


def table(card: Card, predictions: Sequence[Prediction]) -> Table:
    """A table with one row per image and one column per task."""
    shown = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown.add_column("file", overflow="fold")
    for task in card.tasks:
        shown.add_column(escape(task.name), justify="right", overflow="fold")
    for each in predictions:
        place = _place(printable(each.file), each.index)
        shown.add_row(escape(place), *(_text(each.tasks[task.name]) for task in card.tasks))
    return shown


def _answer(task: TaskCard, outputs: Tensor) -> dict[str, object]:
    """The answer in a task's outputs `[columns]` for one image."""
    if task.kind == "classification":
        probability, chosen = outputs.double().softmax(-1).max(-1)
        return {"class": int(chosen), "probability": float(probability)}
    if task.kind == "binary":
        logit = outputs.double()[0]
        return {"answer": bool(logit > 0), "probability": float(logit.abs().sigmoid())}
    if task.kind == "regression":
        return {"value": float(outputs[0])}
    return {"outputs": outputs.tolist()}


def _text(answer: dict[str, object]) -> str:
    match answer:
        case {"class": chosen, "probability": float(probability)}:
            return f"{chosen}  {probability:7.2%}"
        case {"answer": bool(yes), "probability": float(probability)}:
            return f"{'yes' if yes else 'no'}  {probability:7.2%}"
        case {"value": float(value)}:
            return f"{value:.4g}"
        case _:
            return str(answer["outputs"])


def _place(name: str, index: int | None) -> str:
    return name if index is None else f"{name} [{index}]"
