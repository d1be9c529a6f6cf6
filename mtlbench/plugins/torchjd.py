"""Methods of TorchJD as strategies, `torchjd:NAME`, so that they stand in one table with ours.

They take part only where they are asked for, and nothing else imports TorchJD.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from inspect import Parameter, Signature
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchjd import aggregation, scalarization
from torchjd.aggregation import GramianWeightedAggregator, WeightedAggregator
from torchjd.linalg import DualConeProjector, QuadprogProjector
from torchjd.scalarization import Scalarizer

from mtlbench.contracts.strategy import Step, Strategy

Signal = Literal["losses", "gramian", "jacobian", "independent_gramian"]

SIGNALS: dict[Signal, str] = {
    "losses": "the losses",
    "gramian": "the Gramian of the task gradients",
    "jacobian": "the task gradients",
    "independent_gramian": "products between the task gradients of two further batches",
}
INDEPENDENT = ("MoDo", "SDMGrad")  # weightings of products between the gradients of two further batches
SMOOTHED = "CRMOGM"  # a weighting around another one
TASKS = ("shape", "n_tasks")  # arguments that are T

# NashMTL's problem is compiled anew for each replica, which cvxpy says each time.
warnings.filterwarnings("ignore", "You are solving a parameterized problem that is not DPP")


class TorchJD(Strategy):
    """A method of TorchJD: one instance of it for each replica, called one after the other.

    It is not batched, and as most methods take numbers to the host, a step waits for the device and is not captured
    on CUDA. Two more things of the contract do not hold. Parameters are K of shape `[T]` (those of `UW` and `IMTLL`,
    trained like any strategy's; `FAMO` trains its own). And `state_dict` is not the whole state, of which TorchJD keeps
    a part in attributes.

    TorchJD draws from torch's global generator: it is seeded anew, for each replica and step, from the seed's stream.

    Args:
        shape: (K, T).
        arguments: those of TorchJD's class, by keyword; lists become tensors.

    Raises:
        ValueError: an argument without a default is missing. What TorchJD raises when the method is made, or when it
            is first called with T tasks, is raised here, too.
    """

    waits = True
    method: ClassVar[type[nn.Module]]
    signal: Signal

    def __init__(self, shape: tuple[int, int], **arguments: object) -> None:
        super().__init__(shape)
        replicas, tasks = shape
        with torch.random.fork_rng([]):
            make(self.method, tasks, arguments)(torch.ones(tasks) if self.signal == "losses" else torch.eye(tasks))
        self.instances = nn.ModuleList(make(self.method, tasks, arguments) for _ in range(replicas))

    def values(self, step: Step) -> Tensor:
        """What the instances make of their replicas' signals, stacked."""
        seen = step.losses if self.signal == "losses" else typing.cast("Tensor", getattr(step, self.signal)())
        streams = typing.cast("list[list[int]]", (step.rand(2) * 2**24).long().tolist())
        found: list[Tensor] = []
        with torch.random.fork_rng([seen.device] if seen.is_cuda else []):
            for instance, one, (high, low) in zip(self.instances, seen, streams, strict=True):
                torch.manual_seed((high << 24) + low)
                found.append(instance(one))
        return torch.stack(found)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchJD:
        # Weights and preferences that TorchJD was given are plain attributes, which do not move with a module.
        for module in self.instances.modules():
            vars(module).update({key: fn(value) for key, value in vars(module).items() if isinstance(value, Tensor)})
        return super()._apply(fn, recurse)


class Weighted(TorchJD):
    """Weights from the Gramian, the task gradients, or the products between those of further batches."""

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        return (self.values(step).detach() * step.losses).sum(-1)


class Smoothed(Weighted):
    """Weights from another method, averaged over the steps."""

    def __init__(self, shape: tuple[int, int], **arguments: object) -> None:
        super().__init__(shape, **arguments)
        self.signal = _weighting(str(arguments["weighting"])).signal


class Directed(TorchJD):
    """A direction that is no weighting of the task gradients it is made of; recorded weights are the heads', 1."""

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        step.descend(self.values(step))
        return step.losses.sum(-1)


class Scalarized(TorchJD):
    """A function of the losses."""

    def forward(self, step: Step) -> Tensor:
        return self.values(step)

    def epoch_end(self, mean_losses: Tensor) -> None:
        for instance in self.instances:
            if isinstance(instance, scalarization.DWA):
                instance.step()


class Updated(Scalarized):
    """A function of the losses that is told what the update made of them."""

    def after_update(self, losses_after: Tensor) -> None:
        for instance, losses in zip(self.instances, losses_after, strict=True):
            typing.cast("scalarization.FAMO", instance).update(losses)


@cache
def methods() -> dict[str, type[TorchJD]]:
    """A strategy for each method of TorchJD, by its name there without `Weighting`.

    Where a scalarizer and an aggregator share a name (`Constant`, `Mean`, `Random`, `Sum`), it is the scalarizer: its
    weights are the same and need no gradient.
    """
    there: dict[str, type[nn.Module]] = {}
    for module in (scalarization, aggregation):
        for name in module.__all__:
            there.setdefault(name, getattr(module, name))
    for name in (*INDEPENDENT, SMOOTHED):
        there[name] = there[f"{name}Weighting"]
    bases = (GramianWeightedAggregator, WeightedAggregator)
    return {
        name: _strategy(name, cls)
        for name, cls in sorted(there.items(), key=lambda item: item[0].lower())
        if not inspect.isabstract(cls) and cls not in bases and not name.endswith("Weighting")
    }


def make(cls: type[nn.Module], tasks: int, arguments: Mapping[str, object]) -> nn.Module:
    """An instance of a class of TorchJD for T tasks: of an aggregator its weighting, if it has one."""
    missing = [
        key
        for key, parameter in hyper_parameters(cls).items()
        if parameter.default is Parameter.empty and key not in arguments
    ]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given, as there is no default")
    given = {
        key: torch.tensor(value, dtype=torch.get_default_dtype()) if isinstance(value, list | tuple) else value
        for key, value in arguments.items()
    }
    there = inspect.signature(cls).parameters
    given |= dict.fromkeys(there.keys() & set(TASKS), tasks)
    if "projector" in there:
        own: dict[str, Any] = {key: given.pop(key) for key in hyper_parameters(QuadprogProjector) if key in given}
        given["projector"] = QuadprogProjector(**own)
    if "weighting" in there:
        given["weighting"] = make(_weighting(str(given["weighting"])).method, tasks, {})
    made = typing.cast("Any", cls)(**given)
    if isinstance(made, GramianWeightedAggregator):
        return made.gramian_weighting
    return made.weighting if isinstance(made, WeightedAggregator) else made


def hyper_parameters(cls: type) -> dict[str, Parameter]:
    """The arguments of a class of TorchJD, by keyword and with types that can be written on a command line.

    A projector stands for its own arguments, a weighting for a name. What is T, and functions, are left out.
    """
    hints = typing.get_type_hints(cls.__init__)
    found: dict[str, Parameter] = {}
    for key, parameter in inspect.signature(cls).parameters.items():
        annotation = hints.get(key)
        if annotation == DualConeProjector | None:
            found |= hyper_parameters(QuadprogProjector)
        elif key not in TASKS and annotation is not None and annotation is not Callable:
            written = str if key == "weighting" else _writable(annotation)
            found[key] = Parameter(key, Parameter.KEYWORD_ONLY, default=parameter.default, annotation=written)
    return found


def _writable(annotation: object) -> object:
    """The type with a list of numbers in place of a tensor."""
    numbers: dict[object, object] = {
        Tensor: Sequence[float],
        Tensor | None: Sequence[float] | None,
        float | Tensor: float | Sequence[float],
    }
    return numbers.get(annotation, annotation)


def _weighting(name: str) -> type[Weighted]:
    cls = methods().get(name)
    if cls is None or not issubclass(cls, Weighted):
        known = ", ".join(key for key, other in methods().items() if issubclass(other, Weighted) and key != SMOOTHED)
        raise ValueError(f"weighting must be one of {known}, not {name}")
    return cls


def _strategy(name: str, cls: type[nn.Module]) -> type[TorchJD]:
    base, signal = _kind(name, cls)
    shape = Parameter("shape", Parameter.POSITIONAL_ONLY, annotation=tuple[int, int])
    contents = {
        "__doc__": f"From {SIGNALS[signal]}: {cls.__name__} of TorchJD {version('torchjd')}.\n\n{inspect.getdoc(cls)}",
        "__signature__": Signature([shape, *hyper_parameters(cls).values()]),
        "name": f"torchjd:{name}",
        "method": cls,
        "signal": signal,
    }
    return typing.cast("type[TorchJD]", type(name, (base,), contents))


def _kind(name: str, cls: type[nn.Module]) -> tuple[type[TorchJD], Signal]:
    if issubclass(cls, Scalarizer):
        return Updated if issubclass(cls, scalarization.FAMO) else Scalarized, "losses"
    if name == SMOOTHED:
        return Smoothed, "gramian"
    if name in INDEPENDENT:
        return Weighted, "independent_gramian"
    if issubclass(cls, GramianWeightedAggregator):
        return Weighted, "gramian"
    return Weighted if issubclass(cls, WeightedAggregator) else Directed, "jacobian"
