"""One training step of a stack of replicas, on any device; on CUDA captured once as a graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.contracts.strategy import Step, Strategy, effective_weights, uniform
from mtlbench.engine.gradients import TaskGradients
from mtlbench.engine.network import Network

EVALUATION_CHUNK = 1_000
GRAPH_WARM_UP = 3
FURTHER_BATCHES = 1 << 20  # number of their first draw in a step, beyond those of any strategy


class Trainer:
    """K replicas of a setup's network under one strategy, and everything that changes while they learn.

    `traces` holds what the steps of the current epoch recorded, `[S, K, ...]` each: `losses`, `weights` (the
    effective ones) and, where the strategy asked for it, `gramian`.

    Args:
        setup: tasks and shape of the network.
        build: makes the strategy for a shape (K, T).
        seeds: one replica each; a seed fixes initial weights, data order and the strategy's random numbers.
        samples: the training split.
        batch_size: B; what is left over at the end of a pass is not used in that pass.
        lr: Adam's learning rate, of the network and of a strategy's parameters if it does not set its own.
        device: where everything lies.
        dtype: of parameters, activations and the strategy.
    """

    def __init__(
        self,
        setup: Setup,
        build: Callable[[tuple[int, int]], Strategy],
        seeds: Sequence[int],
        samples: Split,
        *,
        batch_size: int,
        lr: float,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._setup, self._seeds, self._batch, self._device, self._dtype = (
            setup,
            seeds,
            batch_size,
            device,
            dtype,
        )
        columns = [task.columns for task in setup.tasks]
        self.network = Network(
            seeds, setup.widths, columns, convolutions=setup.convolutions, device=device, dtype=dtype
        )
        self.network.parameters.grad = self.network.grad
        self.strategy = build((len(seeds), len(setup.tasks)))
        self.strategy.allocate(sum(self.network.trunk_sizes))
        self.strategy.to(device, dtype)
        self._own = list(self.strategy.parameters())
        self._sees_losses_after = self.strategy.overrides("after_update")
        self._optimizer, self._moments = self._make_optimizer(lr)
        self._samples = samples.to(device)
        self.steps_per_epoch = setup.passes * (len(samples) // batch_size)
        shape = (self.steps_per_epoch, len(seeds), batch_size)
        self._order = torch.zeros(shape, dtype=torch.int64, device=device)
        self._seed_tensor = torch.tensor(list(seeds), dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._index = torch.zeros((), dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._losses_after = torch.zeros(len(seeds), len(columns), device=device, dtype=dtype)
        self.traces: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def replicas(self) -> int:
        """K."""
        return len(self._seeds)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order of the last dimension of `traces`."""
        return self._setup.tasks

    @property
    def state(self) -> dict[str, Tensor]:
        """All that decides how training goes on from the end of an epoch, as the live tensors.

        Parameters, the optimizer's moments, the strategy's own state and the number of updates made.
        """
        strategy = {f"strategy.{name}": tensor for name, tensor in self.strategy.state_dict().items()}
        return {"parameters": self.network.parameters, "index": self._index, **self._moments, **strategy}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that was read off a trainer of the same setup, strategy and seeds.

        Raises:
            ValueError: names or shapes are others.
        """
        mine = self.state
        if {name: t.shape for name, t in mine.items()} != {name: t.shape for name, t in state.items()}:
            raise ValueError("the state is not one of this trainer")
        for name, tensor in mine.items():
            tensor.copy_(state[name])

    def start_epoch(self, epoch: int) -> None:
        """Lay out the order of the epoch's samples, one permutation per seed and pass."""
        used = self.steps_per_epoch // self._setup.passes * self._batch
        orders = [_permutations(seed, epoch, len(self._samples), self._setup.passes)[:, :used] for seed in self._seeds]
        order = torch.from_numpy(np.stack(orders)).view(len(self._seeds), self.steps_per_epoch, self._batch)
        self._order.copy_(order.transpose(0, 1))
        self._position.zero_()
        self._epoch.fill_(epoch)

    @torch.no_grad()
    def step(self) -> None:
        """Train on the next batch of the epoch. On CUDA nothing here waits for the device, unless the strategy does."""
        if self._device.type == "cuda" and not self.strategy.waits:
            if self._graph is None:
                self._graph = self._capture()
            self._graph.replay()
        else:
            self._train_step()
        if self._sees_losses_after:
            self.strategy.after_update(self._losses_after)

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Tell the strategy the epoch's mean losses."""
        self.strategy.epoch_end(self.traces["losses"].mean(0))

    @torch.no_grad()
    def evaluate(self, split: Split) -> tuple[Tensor, Tensor]:
        """Losses and scores of every replica on a split, `[K, T]` each, on the host."""
        samples = split.to(self._device)
        replicas, tasks = len(self._seeds), len(self._setup.tasks)
        total = torch.zeros(2, replicas, tasks, device=self._device, dtype=self._dtype)
        # Patches take many times the memory of their images: no more than in a step.
        chunk = min(EVALUATION_CHUNK, self._batch) if self._setup.convolutions else EVALUATION_CHUNK
        for start in range(0, len(samples), chunk):
            inputs = samples.inputs[start : start + chunk]
            targets = samples.targets[start : start + chunk].expand(replicas, -1, -1)
            outputs = self.network.forward(self._seen(inputs).expand(replicas, -1, -1)).outputs
            total[0] += len(inputs) * self._task_losses(outputs, targets)
            total[1] += len(inputs) * self._task_scores(outputs, targets)
        losses, scores = (total / len(samples)).cpu()
        return losses, scores

    def _train_step(self) -> None:
        rows = self._order.index_select(0, self._position).flatten()  # [K * B]
        inputs, targets, losses, gradients = self._differentiate(rows)
        step = Step(
            losses.requires_grad_(),
            gradients,
            index=self._index,
            epoch=self._epoch,
            seeds=self._seed_tensor,
        )
        weights = effective_weights(self.strategy, step)
        gradients.write(weights, self.strategy.heads, step)
        self._optimizer.step()
        self.strategy.project()
        if self._sees_losses_after:
            outputs = self.network.forward(inputs).outputs
            self._losses_after.copy_(self._task_losses(outputs, targets))
        self._record("losses", step.losses.detach())
        self._record("weights", weights)
        if step.seen_gramian is not None:
            self._record("gramian", step.seen_gramian)
        self._position += 1
        self._index += 1

    def _differentiate(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, TaskGradients]:
        """Inputs `[K, B, F]`, targets `[K, B, T]`, losses `[K, T]` and task gradients of samples `[K * B]`."""
        shape = (len(self._seeds), self._batch, -1)
        inputs = self._seen(self._samples.inputs.index_select(0, rows)).view(shape)
        targets = self._samples.targets.index_select(0, rows).view(shape)
        tape = self.network.forward(inputs)
        with torch.enable_grad():
            outputs = tape.outputs.detach().requires_grad_()
            losses = self._task_losses(outputs, targets)
            (output_delta,) = torch.autograd.grad(losses.sum(), outputs)
        draws = count(FURTHER_BATCHES)
        gradients = TaskGradients(self.network, tape, output_delta, lambda: self._further_batch(next(draws)))
        return inputs, targets, losses.detach(), gradients

    def _further_batch(self, draw: int) -> TaskGradients:
        """The task gradients of a batch drawn from the whole split, each sample independently."""
        shares = uniform(self._seed_tensor, self._index, draw, self._batch).flatten()
        return self._differentiate((shares * len(self._samples)).long())[-1]

    def _seen(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._dtype, copy=True).mul_(self._setup.scale).add_(self._setup.shift)

    def _task_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(self._setup.tasks, self.network.split_outputs(outputs), targets.unbind(-1), strict=True)
        return torch.stack([task.loss(out, target) for task, out, target in parts], dim=-1)

    def _task_scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(self._setup.tasks, self.network.split_outputs(outputs), targets.unbind(-1), strict=True)
        return torch.stack([task.score(out, target) for task, out, target in parts], dim=-1)

    def _record(self, name: str, value: Tensor) -> None:
        if name not in self.traces:
            self.traces[name] = value.new_zeros(self.steps_per_epoch, *value.shape)
        self.traces[name].index_copy_(0, self._position, value.unsqueeze(0))

    def _make_optimizer(self, lr: float) -> tuple[torch.optim.Adam, dict[str, Tensor]]:
        """The optimizer, and its moments by name: made here, since torch would make them within the first step."""
        groups: list[dict[str, object]] = [{"params": [self.network.parameters]}]
        if self._own:
            own_lr = lr if self.strategy.lr is None else self.strategy.lr
            groups.append({"params": self._own, "lr": own_lr})
        fused = self._device.type != "meta"
        optimizer = torch.optim.Adam(groups, lr=lr, fused=fused, capturable=self._device.type == "cuda")
        moments: dict[str, Tensor] = {}
        for i, parameter in enumerate([self.network.parameters, *self._own]):
            made = {
                "step": torch.zeros((), dtype=torch.float32, device=self._device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            optimizer.state[parameter] = made
            moments |= {f"adam.{i}.{name}": tensor for name, tensor in made.items()}
        return optimizer, moments

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture a step, leaving the state as it was before."""
        state = [*self.state.values(), self._position]
        saved = [tensor.clone() for tensor in state]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(GRAPH_WARM_UP):
                self._train_step()
                self._position.zero_()
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, before in zip(state, saved, strict=True):
            tensor.copy_(before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._train_step()
        return graph


def _permutations(seed: int, epoch: int, size: int, passes: int) -> NDArray[np.int64]:
    """A seed's orders of an epoch, `[passes, size]`."""
    generator = np.random.default_rng((seed, 1 + epoch))
    return np.stack([generator.permutation(size) for _ in range(passes)])
