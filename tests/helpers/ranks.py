"""What one of several gloo processes does in the tests of a Balancer on several ranks."""

from __future__ import annotations

import datetime
import typing
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlbench import Balancer
from mtlbench.errors import UserError
from tests.helpers.loops import NAMES, Net

SAMPLES, STEPS = 8, {2: 20, 4: 4}  # by ranks; more on four cost minutes
MODES: dict[str, dict[str, typing.Any]] = {
    "outside": {},
    "inside": {},
    "outside, unused": {"find_unused_parameters": True},
    "inside, static": {"static_graph": True},
    "outside, no_sync": {},
    "inside, unused": {"find_unused_parameters": True},
}


class Double(Net):
    def losses(self, features: Tensor) -> list[Tensor]:
        return [(head(features.flatten(1)) - t).square().mean() + 0.1 for t, head in enumerate(self.heads)]


class Outside(nn.Module):
    """A network whose output goes to a Balancer."""

    def __init__(self, net: Double) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.net.trunk(x)
        return features, self.net.losses(features)


class Inside(Outside):
    """A network with its Balancer, whose output is the scalar."""

    def __init__(self, net: Double, balance: Balancer) -> None:
        super().__init__(net)
        self.balance = balance

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, losses = super().forward(x)
        further = count(1)
        return self.balance(losses, features, further=lambda: Outside.forward(self, x.roll(next(further), -1))[1])


def trained(
    name: str, group: str | None, mode: str, steps: int, part: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Balancer]:
    """The gradients in each step of a training on a part of each batch, flat, and the Balancer."""
    net = Double(3)
    balance = Balancer(name, tasks=3, shared=net.trunk, group=typing.cast("typing.Any", group))
    whole: typing.Any = Inside(net, balance) if mode.startswith("inside") else Outside(net)
    ddp = whole if group is None else DistributedDataParallel(whole, **MODES[mode])
    twice = mode.endswith("no_sync") and not balance.strategy.overrides("after_update")
    generator, found = torch.Generator().manual_seed(1), list[Tensor]()
    x = torch.empty(0)
    for step in range(steps):
        net.zero_grad()
        for last in (False, True) if twice else (True,):
            x = part(torch.randn(SAMPLES, 1, 6, 6, dtype=torch.float64, generator=generator))
            with nullcontext() if last or group is None else ddp.no_sync():
                if mode.startswith("inside"):
                    ddp(x).backward()
                else:
                    (features, losses), rolls = ddp(x), count(1)
                    balance(losses, features, further=lambda x=x, r=rolls: ddp(x.roll(next(r), -1))[1]).backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.01)
        balance.after_update(lambda x=x: Outside.forward(whole, x)[1])
        if step % 5 == 4:
            balance.epoch_end()
    return found, balance


def refusal(function: Callable[[], object]) -> str:
    try:
        function()
    except UserError as error:
        return str(error)
    return ""


def static_outside() -> object:
    net = Double(3)
    wrapped = DistributedDataParallel(Outside(net), static_graph=True)
    features, losses = wrapped(net.x)
    return Balancer("mgda", tasks=3, shared=net.trunk)(losses, features)


def sharded(name: str) -> Callable[[], object]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def step() -> object:
        net = Double(3)
        whole = Outside(net)
        fully_shard(whole, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        _, losses = whole(net.x)
        return Balancer(name, tasks=3, shared=net.trunk)(losses).backward()

    return step


def rank(number: int, size: int, file: str) -> None:
    """Write what was found to `file.NUMBER`."""
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=number, world_size=size, timeout=limit)
    errors, states = dict[str, float](), dict[str, bytes]()
    for turn, name in enumerate(NAMES):
        mode = list(MODES)[(turn + size) % len(MODES)]
        found, balance = trained(name, "default", mode, STEPS[size], lambda x: x.chunk(size)[number])
        states[name] = b"".join(tensor.numpy().tobytes() for tensor in balance.state_dict().values())
        if turn % size == number:  # each rank compares some
            expected, _ = trained(name, None, mode, STEPS[size], lambda x: x)
            pairs = zip(found, expected, strict=True)
            errors[f"{name}, {mode}"] = max(float((a - b).abs().max()) for a, b in pairs)
    net = Double(3)
    lines = {
        "static": refusal(static_outside),
        "seeds": refusal(lambda: Balancer("rlw", tasks=3, seed=number)(net.losses(net.trunk(net.x)))),
        "group": refusal(
            lambda: Balancer("rlw", tasks=3, group=typing.cast("typing.Any", 3))(net.losses(net.trunk(net.x)))
        ),
        "sharded, losses": refusal(sharded("uncertainty")),
        "sharded, gradients": refusal(sharded("mgda")),
    }
    torch.save((errors, states, lines), f"{file}.{number}")
    dist.destroy_process_group()
