"""A trained network as a file of its own: plain tensors, and what a reader needs to know to use them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtlbench import __version__, files
from mtlbench.errors import UserError, first_line
from mtlbench.images import SIDE, Framing, framing_of
from mtlbench.metrics import named_score
from mtlbench.network import Network
from mtlbench.records import Evaluation, Record, Result, Settings, Spec
from mtlbench.tasks import Setup, Split, Task

Kind = Literal["classification", "binary", "regression", "other"]
"""What a task's outputs are: a logit per class, the logit of yes, the value itself, or not for us to say."""

FORMAT = 1
FRAMED_SAMPLES = 1_000  # looked at to see how figures lie
CARD = "mtlbench"  # where the card is among a file's metadata


class Score(Record):
    """Loss and score of a task on a split."""

    loss: float
    score: float


class TaskCard(Record):
    """A task that was trained: its outputs, and how well it does. Losses are without the strategy's weights."""

    name: str
    kind: Kind
    columns: int
    metric: str
    validation: Score
    test: Score

    def text(self, score: Score) -> str:
        """The score as it is shown."""
        return named_score(score.score, self.metric)


class Card(Record):
    """What stands beside the tensors of a model: weights `[out, in]` and biases `[out]`, float32.

    An input v is seen by the network as `v * scale + shift`; `widths` are the features of the input and of each trunk
    layer. `framing` says how figures lie in the 28 x 28 images that were trained on, None if the inputs are none of
    unsigned bytes. `strategy` is the label with its hyper-parameters.
    """

    format: Literal[1] = FORMAT
    version: str
    setup: str
    strategy: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
    widths: Annotated[list[int], Field(min_length=1)]
    scale: float
    shift: float
    framing: Framing | None
    tasks: list[TaskCard]


@dataclass(frozen=True)
class Model:
    """A network of one replica, by the names that its tensors have in the file."""

    card: Card
    tensors: Mapping[str, Tensor]

    def outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Each task's outputs `[N, columns]` for inputs `[N, F]` as the setup has them, not yet scaled."""
        hidden = inputs.float() * self.card.scale + self.card.shift
        for name in trunk_names(len(self.card.widths) - 1):
            hidden = self._linear(name, hidden).relu()
        return {task.name: self._linear(head_name(task.name), hidden) for task in self.card.tasks}

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def kind_of(task: Task) -> Kind:
    """What the outputs of a task are, by its classes and columns."""
    if task.classes is None:
        return "regression" if task.columns == 1 else "other"
    if task.columns == task.classes:
        return "classification"
    return "binary" if (task.columns, task.classes) == (1, 2) else "other"


def trunk_names(layers: int) -> list[str]:
    """`trunk.0`, `trunk.2`, ...: as in an `nn.Sequential`, where each layer is followed by its ReLU."""
    return [f"trunk.{2 * layer}" for layer in range(layers)]


def head_name(task: str) -> str:
    """As in an `nn.ModuleDict` of heads."""
    return f"heads.{task}"


def of(network: Network, setup: Setup, samples: Split, spec: Spec, settings: Settings, result: Result) -> Model:
    """The first replica of a trained network; of its heads those that were trained.

    Args:
        network: after training.
        setup: what it was trained on.
        samples: the training split, which says how figures lie in its images.
        spec: the strategy.
        settings: what it was trained with.
        result: what was measured of it.
    """
    trained = [task for task in setup.tasks if spec.only in (None, task.name)]

    def scored(task: Task, evaluation: Evaluation) -> Score:
        t = setup.task_names.index(task.name)
        return Score(loss=evaluation.losses[0][t], score=evaluation.scores[0][t])

    is_pictures = setup.widths[0] == SIDE**2 and samples.inputs.dtype == torch.uint8
    card = Card(
        version=__version__,
        setup=setup.name,
        strategy=spec.label,
        seed=settings.seeds[0],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        widths=list(setup.widths),
        scale=setup.scale,
        shift=setup.shift,
        framing=framing_of(samples.inputs[:FRAMED_SAMPLES].cpu().numpy()) if is_pictures else None,
        tasks=[
            TaskCard(
                name=task.name,
                kind=kind_of(task),
                columns=task.columns,
                metric=task.metric,
                validation=scored(task, result.validation[-1]),
                test=scored(task, result.test),
            )
            for task in trained
        ],
    )
    return Model(card, _tensors(network, setup.task_names, [task.name for task in trained]))


def _tensors(network: Network, tasks: Sequence[str], kept: Sequence[str]) -> dict[str, Tensor]:
    """The first replica's parameters on the host: all trunk layers, and the heads of the tasks in `kept`."""
    trunk = zip(trunk_names(len(network.trunk)), network.trunk, strict=True)
    found = {name: (layer.weight[0], layer.bias[0]) for name, layer in trunk}
    weights = network.split_outputs(network.heads.weight[0].mT)
    biases = network.split_outputs(network.heads.bias[0])
    for task, weight, bias in zip(tasks, weights, biases, strict=True):
        if task in kept:
            found[head_name(task)] = (weight.mT, bias)
    return {
        f"{name}.{part}": tensor.cpu().contiguous().clone()
        for name, pair in found.items()
        for part, tensor in zip(("weight", "bias"), pair, strict=True)
    }


def save(path: Path, model: Model) -> None:
    """Write a model, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    with files.replaced(path) as scratch:
        try:
            save_file(dict(model.tensors), scratch, {"format": "pt", CARD: model.card.model_dump_json()})
        except SafetensorError as error:
            raise OSError(str(error)) from None


def load(path: Path) -> Model:
    """Read a model; nothing in the file is run.

    Raises:
        UserError: it cannot be read, was not written by `save` or by a later format, or its tensors are not those that
            its card speaks of.
    """
    if path.is_dir() or not path.exists():
        raise UserError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: name a file of `mtlbench train`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = _read_card(path, (file.metadata() or {}).get(CARD))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except SafetensorError as error:
        raise UserError(f"{path} is no safetensors file, or a damaged one: {first_line(error)}") from None
    _check(path, card, tensors)
    return Model(card, tensors)


def _read_card(path: Path, text: str | None) -> Card:
    if text is None:
        raise UserError(f"{path} is a safetensors file, but not one of `mtlbench train`: nothing says what is in it")
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format") not in (None, FORMAT):
            raise UserError(
                f"{path} is of format {found['format']!r}, written by mtlbench {found.get('version', '?')}; "
                f"this one reads format {FORMAT}"
            )
        return Card.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "its JSON"
        raise UserError(f"{path} is damaged: what it says of the model cannot be read ({where})") from None


def _check(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    layers = [*zip(trunk_names(len(card.widths) - 1), itertools.pairwise(card.widths), strict=True)]
    layers += [(head_name(task.name), (card.widths[-1], task.columns)) for task in card.tasks]
    for name, (into, out) in layers:
        for part, shape in (("weight", [out, into]), ("bias", [out])):
            tensor = tensors.get(f"{name}.{part}")
            if tensor is None:
                raise UserError(f"{path} is damaged: it lacks {name}.{part}")
            if list(tensor.shape) != shape or tensor.dtype != torch.float32:
                found = f"{list(tensor.shape)} {tensor.dtype}"
                raise UserError(f"{path} is damaged: {name}.{part} is {found}, not {shape} {torch.float32}")
            if not tensor.isfinite().all():
                raise UserError(f"{path} is damaged: {name}.{part} has numbers that are not finite")
    if card.framing is not None and card.widths[0] != SIDE**2:
        raise UserError(f"{path} is damaged: it is for images of {SIDE} x {SIDE}, but has {card.widths[0]} inputs")
