"""Two tasks, each with data of its own: loaders of different lengths and batch sizes.

python docs/examples/two_loaders.py --strategy mgda --epochs 5
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mtlbench import Balancer


def again_and_again(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches without end: a new pass, in another order, begins after each."""
    while True:
        yield from loader


def main() -> None:
    """Train on random samples and print the losses of the last epoch, then the weights of the last step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default="mgda")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    kinds, sizes = torch.randn(512, 8), torch.randn(192, 8)
    kind_loader = DataLoader(TensorDataset(kinds, kinds[:, :4].argmax(-1)), batch_size=64, shuffle=True)
    size_loader = DataLoader(TensorDataset(sizes, sizes.sum(-1)), batch_size=16, shuffle=True)

    trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    kind_head, size_head = nn.Linear(16, 4), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*trunk.parameters(), *kind_head.parameters(), *size_head.parameters()], lr=1e-2)
    balance = Balancer(arguments.strategy, tasks=["kind", "size"], shared=trunk)

    def losses_of(kind_batch: list[Tensor], size_batch: list[Tensor]) -> dict[str, Tensor]:
        """Each loss is the mean over its own batch, so the sizes of the batches do not weight the tasks."""
        (x, kind), (y, size) = kind_batch, size_batch
        return {
            "kind": F.cross_entropy(kind_head(trunk(x)), kind),
            "size": F.mse_loss(size_head(trunk(y))[:, 0], size),
        }

    shorter = again_and_again(size_loader)
    means = torch.zeros(2)
    for _ in range(arguments.epochs):  # an epoch is a pass over the longer loader
        means.zero_()
        for kind_batch in kind_loader:
            size_batch = next(shorter)
            losses = losses_of(kind_batch, size_batch)
            optimizer.zero_grad()
            balance(losses, further=lambda: losses_of(next(iter(kind_loader)), next(shorter))).backward()
            optimizer.step()
            means += torch.stack([*losses.values()]).detach() / len(kind_loader)
            # The same batches again: lambdas look names up when they are called, so the batches are bound here.
            balance.after_update(lambda kind=kind_batch, size=size_batch: losses_of(kind, size))
        balance.epoch_end()
    print("kind {:.3f}, size {:.3f}, weights {:.3f} {:.3f}".format(*means.tolist(), *balance.weights.tolist()))


if __name__ == "__main__":
    main()
