"""Training steps of a stack of replicas on any device; on CUDA a step is captured once as a graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.random_numbers import uniform
from mtlbench.contracts.setup import Setup, Split
from mtlbench.contracts.strategy import Step, Strategy, effective_weights
from mtlbench.engine.gradients import TaskGradients
from mtlbench.engine.network import Network
from mtlbench.engine.products import Products

EVALUATION_CHUNK = 1_000
GRAPH_WARM_UP = 3
FURTHER_BATCHES = 1 << 20  # number of their first random draw in a step, greater than those of any strategy


class Trainer:
    """K replicas of a setup's network under one strategy, with all state that changes in training.

    `replicas` is K. `traces` holds what the S steps of the current epoch recorded, `[S, K, ...]` each: `losses` and
    effective `weights`, in the order of `tasks`, and, if the strategy asked for it, `gramian`.

    `build` makes the strategy for a shape (K, T). Each seed fixes one replica's initial weights, data order and random
    numbers of the strategy. `samples` is the training split; those left over at the end of a pass, after the last whole
    batch, are not used in that pass. `lr` is Adam's learning rate for the network, and for the strategy's parameters
    unless the strategy sets its own. `dtype` is that of parameters, activations and the strategy; `products` says how
    matrices are multiplied.
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
        products: Products | None = None,
    ) -> None:
        self.replicas, self.tasks = len(seeds), setup.tasks
        self._setup, self._seeds, self._batch = setup, seeds, batch_size
        self._device, self._dtype = device, dtype
        columns, convolutions = [task.columns for task in setup.tasks], setup.convolutions
        self.network = Network(
            seeds, setup.widths, columns, convolutions=convolutions, device=device, dtype=dtype, products=products
        )
        self.strategy = build((len(seeds), len(setup.tasks)))
        self.strategy.allocate(sum(self.network.trunk_sizes))
        self.strategy.to(device, dtype)
        self._sees_losses_after = self.strategy.overrides("after_update")
        self._optimizer, self._moments = self._make_optimizer(lr)
        self._samples = samples.to(device)
        self.steps_per_epoch = setup.passes * (len(samples) // batch_size)
        self._order = torch.zeros(self.steps_per_epoch, len(seeds), batch_size, dtype=torch.int64, device=device)
        self._seed_tensor = torch.tensor(list(seeds), dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)  # steps taken in this epoch
        self._index, self._epoch = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._losses_after = torch.zeros(len(seeds), len(columns), device=device, dtype=dtype)
        self.traces: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors, not copied, that training continues from: parameters, moments, the strategy's, updates made."""
        strategy = {f"strategy.{name}": tensor for name, tensor in self.strategy.state_dict().items()}
        return {"parameters": self.network.parameters, "index": self._index, **self._moments, **strategy}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a trainer's state of the same setup, strategy and seeds; a ValueError if it does not fit."""
        tensors = self.state
        if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in state.items()}:
            raise ValueError("the state does not fit this trainer: its names or shapes differ")
        for name, tensor in tensors.items():
            tensor.copy_(state[name])

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of the epoch's samples, one permutation per seed and pass."""
        size, passes = len(self._samples), self._setup.passes
        used = self.steps_per_epoch // passes * self._batch
        generators = [np.random.default_rng((seed, 1 + epoch)) for seed in self._seeds]
        orders = [generator.permutation(size)[:used] for generator in generators for _ in range(passes)]
        order = torch.from_numpy(np.stack(orders)).view(self.replicas, self.steps_per_epoch, self._batch)
        self._order.copy_(order.transpose(0, 1))
        self._position.zero_()
        self._epoch.fill_(epoch)

    @torch.no_grad()
    def step(self) -> None:
        """Train on the next batch of the epoch. On CUDA this does not wait for the device unless the strategy does."""
        if self._device.type == "cuda" and not self.strategy.waits:
            if self._graph is None:
                self._graph = self._capture()
            self._graph.replay()
        else:
            self._train_step()
        if self._sees_losses_after:
            self.strategy.after_update(self._losses_after)

    def train(self, steps: int) -> None:
        """Train on the next batches of the epoch."""
        for _ in range(steps):
            self.step()

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Call the strategy's `epoch_end` with the epoch's mean losses."""
        self.strategy.epoch_end(self.traces["losses"].mean(0))

    @torch.no_grad()
    def evaluate(self, split: Split) -> tuple[Tensor, Tensor]:
        """Losses and scores of every replica on a split, `[K, T]` each, as tensors on the host."""
        samples = split.to(self._device)
        total = torch.zeros(2, self.replicas, len(self.tasks), device=self._device, dtype=self._dtype)
        # Patches take many times the memory of their images, so a chunk is no larger than a batch.
        chunk = min(EVALUATION_CHUNK, self._batch) if self._setup.convolutions else EVALUATION_CHUNK
        for start in range(0, len(samples), chunk):
            inputs = samples.inputs[start : start + chunk]
            targets = samples.targets[start : start + chunk].expand(self.replicas, -1, -1)
            outputs = self.network.forward(self._scaled(inputs).expand(self.replicas, -1, -1)).outputs
            total[0] += len(inputs) * self._task_losses(outputs, targets)
            total[1] += len(inputs) * self._per_task([task.score for task in self.tasks], outputs, targets)
        losses, scores = (total / len(samples)).cpu()
        return losses, scores

    def _train_step(self) -> None:
        rows = self._order.index_select(0, self._position).flatten()  # [K * B]
        inputs, targets, losses, gradients = self._differentiate(rows)
        losses.requires_grad_()
        step = Step(losses, gradients, index=self._index, epoch=self._epoch, seeds=self._seed_tensor)
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
        shape = (self.replicas, self._batch, -1)
        inputs = self._scaled(self._samples.inputs.index_select(0, rows)).view(shape)
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
        """The task gradients of a batch whose samples are drawn independently from the whole split."""
        shares = uniform(self._seed_tensor, self._index, draw, self._batch).flatten()
        return self._differentiate((shares * len(self._samples)).long())[-1]

    def _scaled(self, inputs: Tensor) -> Tensor:
        return inputs.to(self._dtype, copy=True).mul_(self._setup.scale).add_(self._setup.shift)

    def _task_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._per_task([task.loss for task in self.tasks], outputs, targets)

    def _per_task(
        self, measures: Sequence[Callable[[Tensor, Tensor], Tensor]], outputs: Tensor, targets: Tensor
    ) -> Tensor:
        parts = zip(measures, self.network.split_outputs(outputs), targets.unbind(-1), strict=True)
        return torch.stack([measure(out, target) for measure, out, target in parts], dim=-1)  # [K, T]

    def _record(self, name: str, value: Tensor) -> None:
        if name not in self.traces:
            self.traces[name] = value.new_zeros(self.steps_per_epoch, *value.shape)
        self.traces[name].index_copy_(0, self._position, value.unsqueeze(0))

    def _make_optimizer(self, lr: float) -> tuple[torch.optim.Adam, dict[str, Tensor]]:
        """The optimizer and its moments by name, which torch would otherwise create only in the first step."""
        groups: list[dict[str, object]] = [{"params": self.network.pieces}]
        if strategy_parameters := list(self.strategy.parameters()):
            groups.append({"params": strategy_parameters, "lr": lr if self.strategy.lr is None else self.strategy.lr})
        fused = self._device.type != "meta"
        optimizer = torch.optim.Adam(groups, lr=lr, fused=fused, capturable=self._device.type == "cuda")
        moments: dict[str, Tensor] = {}
        for i, parameter in enumerate([*self.network.pieces, *strategy_parameters]):
            state = {
                "step": torch.zeros((), dtype=torch.float32, device=self._device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            optimizer.state[parameter] = state
            moments |= {f"adam.{i}.{name}": tensor for name, tensor in state.items()}
        return optimizer, moments

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture a step as a CUDA graph; the state is left as it was before."""
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
