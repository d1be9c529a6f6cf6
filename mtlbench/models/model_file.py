"""Files of trained networks: plain tensors, with a card that says how to use them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mtlbench import __version__
from mtlbench.contracts.convolutions import Convolutions
from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.engine.network import Network
from mtlbench.errors import UserError, first_line
from mtlbench.models.framing import SIDE, Framing, framing_of
from mtlbench.records.checkpoint import save_tensors
from mtlbench.records.history import Evaluation, Result
from mtlbench.records.records import Precision, Record, Settings, Spec

Kind = Literal["classification", "binary", "regression", "other"]
"""Meaning of a task's outputs: a logit per class, the logit of yes, the value, or unknown."""

FORMAT = 1
FRAMED_SAMPLES = 1_000  # used to determine the framing
CARD = "mtlbench"  # key of the card in the file's metadata


class LossAndScore(Record):
    """Loss and score of a task on a split."""

    loss: float
    score: float


class TaskCard(Record):
    """A trained task: its outputs, losses (without the strategy's weights) and scores."""

    name: str
    kind: Kind
    columns: int
    metric: str
    validation: LossAndScore
    test: LossAndScore


class Card(Record):
    """Describes the tensors of a model: float32 weights `[out, in]`, kernels `[out, in, k, k]` and biases `[out]`.

    The network sees an input v as `v * scale + shift`. `widths` are the inputs of the trunk's first linear layer, then
    the outputs of each; `convolutions` come before them. `pictures` is True if inputs are grey images of 28 x 28
    unsigned bytes; `framing` is None if these have no common one. `strategy` is the label with its hyper-parameters.
    """

    format: Literal[1] = FORMAT
    version: str
    setup: str
    strategy: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
    precision: Precision = "float32"
    convolutions: Convolutions | None = None
    widths: Annotated[list[int], Field(min_length=1)]
    scale: float
    shift: float
    pictures: bool
    framing: Framing | None
    tasks: list[TaskCard]

    @model_validator(mode="after")
    def _fits(self) -> Card:
        if self.convolutions is not None and self.widths[0] != self.convolutions.features:
            raise ValueError("widths[0] must be the number of outputs of the convolutions")
        if self.pictures and self.inputs != SIDE**2:
            raise ValueError(f"pictures must have {SIDE**2} inputs; found {self.inputs}")
        return self

    @property
    def inputs(self) -> int:
        """F, the number of values of a sample."""
        return self.convolutions.inputs if self.convolutions else self.widths[0]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each layer's weight by the layer's name: first the trunk in order, then the heads."""
        convolved = self.convolutions.each() if self.convolutions else []
        kernels = [(conv.channels, image[0], conv.kernel, conv.kernel) for conv, image in convolved]
        matrices = [(out, into) for into, out in itertools.pairwise(self.widths)]
        names = trunk_names(len(kernels), len(matrices))
        heads = {head_name(task.name): (task.columns, self.widths[-1]) for task in self.tasks}
        return {**dict(zip(names, [*kernels, *matrices], strict=True)), **heads}


@dataclass(frozen=True)
class Model:
    """A network of one replica; the tensors have their names in the file."""

    card: Card
    tensors: Mapping[str, Tensor]

    def outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Each task's outputs `[N, columns]` for unscaled inputs `[N, F]`."""
        hidden = inputs.float() * self.card.scale + self.card.shift
        convolutions = self.card.convolutions
        names = iter(self.card.shapes)
        if convolutions is not None:
            hidden = hidden.unflatten(1, convolutions.image)
            for conv, name in zip(convolutions.layers, names, strict=False):
                hidden = F.max_pool2d(F.conv2d(hidden, *self._layer(name)), conv.pool).relu()
            hidden = hidden.flatten(1)
        for _, name in zip(self.card.widths[1:], names, strict=False):
            hidden = F.linear(hidden, *self._layer(name)).relu()
        return {task.name: F.linear(hidden, *self._layer(head_name(task.name))) for task in self.card.tasks}

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]


def kind_of(task: Task) -> Kind:
    """The meaning of a task's outputs."""
    if task.classes is None:
        return "regression" if task.columns == 1 else "other"
    if task.columns == task.classes:
        return "classification"
    return "binary" if (task.columns, task.classes) == (1, 2) else "other"


def trunk_names(convolutions: int, linear: int) -> list[str]:
    """Names of the trunk's layers with weights, as in an `nn.Sequential`.

    Each linear layer is followed by a ReLU: `trunk.0`, `trunk.2`, ... With convolutions, an `Unflatten` comes first,
    each convolution is followed by `MaxPool2d` and ReLU (`trunk.1`, `trunk.4`, ...), and a `Flatten` precedes the
    linear layers.
    """
    first = 3 * convolutions + 2 if convolutions else 0
    places = [3 * layer + 1 for layer in range(convolutions)] + [first + 2 * layer for layer in range(linear)]
    return [f"trunk.{place}" for place in places]


def head_name(task: str) -> str:
    """The name of a task's head, as in an `nn.ModuleDict`."""
    return f"heads.{task}"


def of(network: Network, setup: Setup, samples: Split, spec: Spec, settings: Settings, result: Result) -> Model:
    """The first replica of a trained network, with the heads that were trained.

    `samples` is the training split, which determines the framing; `result` gives the card's losses and scores.
    """

    def scored(task: Task, evaluation: Evaluation) -> LossAndScore:
        t = setup.task_names.index(task.name)
        return LossAndScore(loss=evaluation.losses[0][t], score=evaluation.scores[0][t])

    image = setup.convolutions.image if setup.convolutions else (1, SIDE, SIDE)
    pictures = setup.features == SIDE**2 and samples.inputs.dtype == torch.uint8 and image == (1, SIDE, SIDE)
    card = Card(
        version=__version__,
        setup=setup.name,
        strategy=spec.label,
        seed=settings.seeds[0],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        precision=settings.precision,
        convolutions=setup.convolutions,
        widths=list(setup.widths),
        scale=setup.scale,
        shift=setup.shift,
        pictures=pictures,
        framing=framing_of(samples.inputs[:FRAMED_SAMPLES].cpu().numpy()) if pictures else None,
        tasks=[
            TaskCard(
                name=task.name,
                kind=kind_of(task),
                columns=task.columns,
                metric=task.metric,
                validation=scored(task, result.validation[-1]),
                test=scored(task, result.test),
            )
            for task in setup.tasks
            if spec.only in (None, task.name)
        ],
    )
    return Model(card, _tensors(network, card, setup.task_names))


def _tensors(network: Network, card: Card, tasks: Sequence[str]) -> dict[str, Tensor]:
    """The first replica's parameters on the host: the trunk, and those heads of `tasks` that are on the card."""
    layers = [(layer.weight[0], layer.bias[0]) for layer in network.trunk]
    parameters = dict(zip(card.shapes, layers, strict=False))
    weights = network.split_outputs(network.heads.weight[0].mT)
    biases = network.split_outputs(network.heads.bias[0])
    for task, weight, bias in zip(tasks, weights, biases, strict=True):
        parameters[head_name(task)] = (weight.mT, bias)
    tensors: dict[str, Tensor] = {}
    for name, shape in card.shapes.items():
        weight, bias = parameters[name]
        tensors |= {f"{name}.weight": weight.reshape(shape), f"{name}.bias": bias}
    return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}


def save(path: Path, model: Model) -> None:
    """Write a model atomically: if an OSError prevents that, an earlier file is kept."""
    save_tensors(path, dict(model.tensors), {"format": "pt", CARD: model.card.model_dump_json()})


def load(path: Path) -> Model:
    """Read a model; no code in the file is run.

    Raises:
        UserError: the file is unreadable, damaged, not from `save` or of a later format, or contradicts its card.
    """
    if path.is_dir() or not path.exists():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {found}: name a file saved by `mtlbench train`")
    try:
        with safe_open(path, framework="pt") as file:
            card = _read_card(path, (file.metadata() or {}).get(CARD))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or first_line(error)}") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file, or is damaged: {first_line(error)}") from None
    _check(path, card, tensors)
    return Model(card, tensors)


def _read_card(path: Path, text: str | None) -> Card:
    if text is None:
        raise UserError(f"{path} was not saved by `mtlbench train`: its metadata have no card")
    try:
        card = json.loads(text)
        if isinstance(card, dict) and card.get("format") not in (None, FORMAT):
            raise UserError(
                f"{path} must have format {FORMAT}; found format {card['format']!r}, written by mtlbench "
                f"{card.get('version', '?')}"
            )
        return Card.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        where = "its JSON"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = first["msg"] if first["type"] == "value_error" else ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is damaged: its card cannot be read ({where})") from None


def _check(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    for name, weight in card.shapes.items():
        for part, shape in (("weight", weight), ("bias", weight[:1])):
            tensor = tensors.get(f"{name}.{part}")
            if tensor is None:
                raise UserError(f"{path} is damaged: it lacks {name}.{part}")
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
                found = f"{list(tensor.shape)} {tensor.dtype}"
                raise UserError(f"{path} is damaged: {name}.{part} must be {list(shape)} float32; found {found}")
            if not tensor.isfinite().all():
                raise UserError(f"{path} is damaged: {name}.{part} must be finite")
