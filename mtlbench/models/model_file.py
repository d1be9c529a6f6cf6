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
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtlbench import __version__, files
from mtlbench.contracts.convolutions import Convolutions
from mtlbench.contracts.metrics import named_score
from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.engine.network import Network
from mtlbench.errors import UserError, first_line
from mtlbench.models.framing import SIDE, Framing, framing_of
from mtlbench.records.history import Evaluation, Result
from mtlbench.records.records import Record, Settings, Spec

Kind = Literal["classification", "binary", "regression", "other"]
"""What a task's outputs are: a logit per class, the logit of yes, the value itself, or not for us to say."""

FORMAT = 1
FRAMED_SAMPLES = 1_000  # looked at to see how figures lie
CARD = "mtlbench"  # where the card is among a file's metadata


class LossAndScore(Record):
    """Loss and score of a task on a split."""

    loss: float
    score: float


class TaskCard(Record):
    """A task that was trained: its outputs, and how well it does. Losses are without the strategy's weights."""

    name: str
    kind: Kind
    columns: int
    metric: str
    validation: LossAndScore
    test: LossAndScore

    def text(self, score: LossAndScore) -> str:
        """The score as it is shown."""
        return named_score(score.score, self.metric)


class Card(Record):
    """What stands beside the tensors of a model: weights `[out, in]` and biases `[out]`, float32.

    An input v is seen by the network as `v * scale + shift`; `widths` are the features that the linear layers of the
    trunk are given and those of each of them, `convolutions` what stands before them, with kernels
    `[out, in, k, k]`. `pictures` says whether inputs are grey images of 28 x 28 unsigned bytes, `framing` how figures
    lie in them, None if not all alike. `strategy` is the label with its hyper-parameters.
    """

    format: Literal[1] = FORMAT
    version: str
    setup: str
    strategy: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
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
            raise ValueError("widths do not begin with what the convolutions leave")
        if self.pictures and self.inputs != SIDE**2:
            raise ValueError(f"it is for images of {SIDE} x {SIDE}, but has {self.inputs} inputs")
        return self

    @property
    def inputs(self) -> int:
        """F, the values of one sample."""
        return self.convolutions.inputs if self.convolutions else self.widths[0]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each layer's weight by the layer's name: of the trunk in their order, then of the heads."""
        convolved = self.convolutions.each() if self.convolutions else []
        kernels = [(conv.channels, image[0], conv.kernel, conv.kernel) for conv, image in convolved]
        matrices = [(out, into) for into, out in itertools.pairwise(self.widths)]
        names = trunk_names(len(kernels), len(matrices))
        heads = {head_name(task.name): (task.columns, self.widths[-1]) for task in self.tasks}
        return {**dict(zip(names, [*kernels, *matrices], strict=True)), **heads}


@dataclass(frozen=True)
class Model:
    """A network of one replica, by the names that its tensors have in the file."""

    card: Card
    tensors: Mapping[str, Tensor]

    def outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Each task's outputs `[N, columns]` for inputs `[N, F]` as the setup has them, not yet scaled."""
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
    """What the outputs of a task are, by its classes and columns."""
    if task.classes is None:
        return "regression" if task.columns == 1 else "other"
    if task.columns == task.classes:
        return "classification"
    return "binary" if (task.columns, task.classes) == (1, 2) else "other"


def trunk_names(convolutions: int, linear: int) -> list[str]:
    """The trunk's layers with weights, as in an `nn.Sequential`.

    A linear layer is followed by its ReLU: `trunk.0`, `trunk.2`, ... Where there are convolutions, an `Unflatten`
    comes first, each is followed by its `MaxPool2d` and its ReLU (`trunk.1`, `trunk.4`, ...), and a `Flatten` stands
    before the linear layers.
    """
    first = 3 * convolutions + 2 if convolutions else 0
    places = [3 * layer + 1 for layer in range(convolutions)] + [first + 2 * layer for layer in range(linear)]
    return [f"trunk.{place}" for place in places]


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
            for task in trained
        ],
    )
    return Model(card, _tensors(network, card, setup.task_names))


def _tensors(network: Network, card: Card, tasks: Sequence[str]) -> dict[str, Tensor]:
    """The first replica's parameters on the host: all trunk layers, and of the heads of `tasks` those on the card."""
    layers = [(layer.weight[0], layer.bias[0]) for layer in network.trunk]
    found = dict(zip(card.shapes, layers, strict=False))
    weights = network.split_outputs(network.heads.weight[0].mT)
    biases = network.split_outputs(network.heads.bias[0])
    for task, weight, bias in zip(tasks, weights, biases, strict=True):
        found[head_name(task)] = (weight.mT, bias)
    return {
        f"{name}.{part}": tensor.reshape(shape).cpu().contiguous().clone()
        for name, weight_shape in card.shapes.items()
        for part, tensor, shape in zip(("weight", "bias"), found[name], (weight_shape, weight_shape[:1]), strict=True)
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
        where = _what_is_wrong(error) if isinstance(error, ValidationError) else "its JSON"
        raise UserError(f"{path} is damaged: what it says of the model cannot be read ({where})") from None


def _what_is_wrong(error: ValidationError) -> str:
    """The first entry that cannot be read, or what does not fit, if that is said."""
    first = error.errors()[0]
    return first["msg"] if first["type"] == "value_error" else ".".join(map(str, first["loc"]))


def _check(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    for name, weight in card.shapes.items():
        for part, shape in (("weight", weight), ("bias", weight[:1])):
            tensor = tensors.get(f"{name}.{part}")
            if tensor is None:
                raise UserError(f"{path} is damaged: it lacks {name}.{part}")
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
                found = f"{list(tensor.shape)} {tensor.dtype}"
                raise UserError(f"{path} is damaged: {name}.{part} is {found}, not {list(shape)} {torch.float32}")
            if not tensor.isfinite().all():
                raise UserError(f"{path} is damaged: {name}.{part} has numbers that are not finite")
