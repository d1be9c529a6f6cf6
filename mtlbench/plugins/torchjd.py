"""Methods of TorchJD as strategies `torchjd:NAME`, to compare them with ours in one table.

They are part of a bench only if asked for, and no other module imports TorchJD.
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
INDEPENDENT = ("MoDo", "SDMGrad")  # weightings from products between the gradients of two further batches
SMOOTHED = "CRMOGM"  # a weighting that wraps another one
POSITIVE = ("DWA", "FAMO", "GeometricMean", "IMTLL", "UW")  # scalarizers with logarithms or ratios of the losses
TASKS = ("shape", "n_tasks")  # arguments that are T

# NashMTL's problem is compiled again for each replica, and cvxpy warns each time.
warnings.filterwarnings("ignore", "You are solving a parameterized problem that is not DPP")


class TorchJD(Strategy):
    """A method of TorchJD, as one instance per replica, called in turn.

    It is not batched. As most methods move numbers to the host, a step synchronises with the device and is not captured
    on CUDA. Two more exceptions to the contract: parameters are K of shape `[T]` (those of `UW` and `IMTLL`, trained
    like any strategy's; `FAMO` trains its own), and `state_dict` is not the whole state, part of which TorchJD keeps in
    attributes.

    TorchJD draws from torch's global generator, which is seeded for each replica and step from the seed's stream.

    Args:
        shape: (K, T).
        arguments: of TorchJD's class, by keyword; lists become tensors.

    Raises:
        ValueError: an argument without a default is missing. Whatever TorchJD raises when it creates the method, or
            first calls it with T tasks, is raised here as well.
    """

    waits = True
    divisible = False
    method: ClassVar[type[nn.Module]]
    signal: Signal

    def __init__(self, shape: tuple[int, int], **arguments: object) -> None:
        super().__init__(shape)
        replicas, tasks = shape
        with torch.random.fork_rng([]):
            make(self.method, tasks, arguments)(torch.ones(tasks) if self.signal == "losses" else torch.eye(tasks))
        self.instances = nn.ModuleList(make(self.method, tasks, arguments) for _ in range(replicas))

    def values(self, step: Step) -> Tensor:
        """The instances' outputs for their replicas' signals, stacked."""
        signals = step.losses
        if self.signal != "losses":
            signals = typing.cast("Tensor", getattr(step, self.signal)()).to(step.losses.dtype)
        seeds = typing.cast("list[list[int]]", (step.rand(2) * 2**24).long().tolist())
        outputs: list[Tensor] = []
        with torch.random.fork_rng([signals.device] if signals.is_cuda else []):
            for instance, signal, (high, low) in zip(self.instances, signals, seeds, strict=True):
                torch.manual_seed((high << 24) + low)
                outputs.append(instance(signal))
        return torch.stack(outputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchJD:
        # TorchJD keeps weights and preferences in plain attributes, which do not move with a module.
        for module in self.instances.modules():
            vars(module).update({key: fn(value) for key, value in vars(module).items() if isinstance(value, Tensor)})
        return super()._apply(fn, recurse)


class Weighted(TorchJD):
    """Weights from the Gramian, the task gradients, or products between the gradients of further batches."""

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        return (self.values(step).detach() * step.losses).sum(-1)


class Smoothed(Weighted):
    """Weights from another method, averaged over the steps."""

    def __init__(self, shape: tuple[int, int], **arguments: object) -> None:
        super().__init__(shape, **arguments)
        self.signal = _weighting(str(arguments["weighting"])).signal


class Directed(TorchJD):
    """A direction that is not a weighting of the task gradients; the recorded weights are those of the heads, 1."""

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
    """A function of the losses that is also given the losses after the update."""

    def after_update(self, losses_after: Tensor) -> None:
        for instance, losses in zip(self.instances, losses_after, strict=True):
            typing.cast("scalarization.FAMO", instance).update(losses)


@cache
def methods() -> dict[str, type[TorchJD]]:
    """A strategy for each method of TorchJD, by its name in TorchJD without `Weighting`.

    If a scalarizer and an aggregator share a name (`Constant`, `Mean`, `Random`, `Sum`), it is the scalarizer's: the
    weights are the same and need no gradient.
    """
    classes = {name: getattr(module, name) for module in (aggregation, scalarization) for name in module.__all__}
    classes |= {name: classes[f"{name}Weighting"] for name in (*INDEPENDENT, SMOOTHED)}
    bases = (GramianWeightedAggregator, WeightedAggregator)
    return {
        name: _strategy(name, cls)
        for name, cls in sorted(classes.items(), key=lambda item: item[0].lower())
        if not inspect.isabstract(cls) and cls not in bases and not name.endswith("Weighting")
    }


def make(cls: type[nn.Module], tasks: int, arguments: Mapping[str, object]) -> nn.Module:
    """An instance of a class of TorchJD for T tasks; for an aggregator, its weighting if it has one."""
    required = [key for key, parameter in hyper_parameters(cls).items() if parameter.default is Parameter.empty]
    if missing := [key for key in required if key not in arguments]:
        raise ValueError(f"{', '.join(missing)} must be given, since there is no default")
    values: dict[str, Any] = {
        key: torch.tensor(value, dtype=torch.get_default_dtype()) if isinstance(value, list | tuple) else value
        for key, value in arguments.items()
    }
    parameters = inspect.signature(cls).parameters
    values |= dict.fromkeys(parameters.keys() & set(TASKS), tasks)
    if "projector" in parameters:
        of_projector = {key: values.pop(key) for key in hyper_parameters(QuadprogProjector) if key in values}
        values["projector"] = QuadprogProjector(**of_projector)
    if "weighting" in parameters:
        values["weighting"] = make(_weighting(str(values["weighting"])).method, tasks, {})
    instance = cls(**values)
    if isinstance(instance, GramianWeightedAggregator):
        return instance.gramian_weighting
    return instance.weighting if isinstance(instance, WeightedAggregator) else instance


def hyper_parameters(cls: type) -> dict[str, Parameter]:
    """The arguments of a class of TorchJD, by keyword and with types that can be written on a command line.

    A projector is replaced by its own arguments, a weighting by its name. Functions and the number of tasks are left
    out.
    """
    hints = typing.get_type_hints(cls.__init__)
    parameters: dict[str, Parameter] = {}
    for key, parameter in inspect.signature(cls).parameters.items():
        annotation = hints.get(key)
        if annotation == DualConeProjector | None:
            parameters |= hyper_parameters(QuadprogProjector)
        elif key not in TASKS and annotation is not None and annotation is not Callable:
            written = str if key == "weighting" else _writable(annotation)
            parameters[key] = Parameter(key, Parameter.KEYWORD_ONLY, default=parameter.default, annotation=written)
    return parameters


def _writable(annotation: object) -> object:
    """The type, with a list of numbers instead of a tensor."""
    numbers: dict[object, object] = {
        Tensor: Sequence[float],
        Tensor | None: Sequence[float] | None,
        float | Tensor: float | Sequence[float],
    }
    return numbers.get(annotation, annotation)


def _weighting(name: str) -> type[Weighted]:
    cls = methods().get(name)
    if cls is None or not issubclass(cls, Weighted):
        names = ", ".join(key for key, other in methods().items() if issubclass(other, Weighted) and key != SMOOTHED)
        raise ValueError(f"weighting must be one of {names}; found {name!r}")
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
        "losses": "positive" if name in POSITIVE else "any",
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
