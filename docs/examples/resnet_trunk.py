"""Two tasks on a small ResNet in plain PyTorch, with losses weighted by any strategy of the bench.

python docs/examples/resnet_trunk.py --strategy gradnorm:alpha=0.5 --steps 500 [--device cuda] [--precision bfloat16]
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import Balancer, data
from mtlbench.setups import MNIST


class Block(nn.Module):
    """Two convolutions with a shortcut connection."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        self.shortcut = nn.Conv2d(into, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, into, H, W]` to `[B, out, H / stride, W / stride]`, with a ReLU at the end."""
        inside = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inside)) + self.shortcut(x))


class Model(nn.Module):
    """A trunk shared by both tasks, and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        blocks = (Block(1, 16, 2), Block(16, 32, 2), Block(32, 64, 2))
        self.trunk = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.digit = nn.Linear(64, 10)
        self.above_five = nn.Linear(64, 1)


def losses_of(model: Model, features: Tensor, targets: Tensor) -> list[Tensor]:
    """Cross-entropies of the digit and of the question whether it is above five; `targets` has shape `[B, 2]`."""
    digit = F.cross_entropy(model.digit(features), targets[:, 0])
    above = F.binary_cross_entropy_with_logits(model.above_five(features)[:, 0], targets[:, 1].float())
    return [digit, above]


def samples(*, random: bool) -> tuple[Tensor, Tensor]:
    """Training images of MNIST `[N, 1, 28, 28]` and targets `[N, 2]`, or random ones for a quick trial."""
    if random:
        digits = torch.randint(10, (512,))
        return torch.randn(512, 1, 28, 28) + digits.view(-1, 1, 1, 1) / 3, torch.stack([digits, (digits > 5).long()], 1)
    data.fetch(data.MNIST, print)
    split, _ = MNIST.samples()
    return split.inputs.view(-1, 1, 28, 28).float() * MNIST.scale + MNIST.shift, split.targets


def main() -> None:
    """Train, and print losses and weights every 50 steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default="gradnorm")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--random", action="store_true", help="random images in place of MNIST")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    images, targets = (tensor.to(arguments.device) for tensor in samples(random=arguments.random))
    model = Model().to(arguments.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    autocast = torch.autocast(
        arguments.device, getattr(torch, arguments.precision), enabled=arguments.precision != "float32"
    )
    scaler = torch.amp.GradScaler(arguments.device, enabled=arguments.precision == "float16")
    balance = Balancer(arguments.strategy, tasks=["digit", "above_five"], shared=model.trunk, scaler=scaler)

    def draw() -> Tensor:
        return torch.randint(len(images), (arguments.batch,), device=arguments.device)

    def forward(rows: Tensor) -> tuple[list[Tensor], Tensor]:
        with autocast:
            features = model.trunk(images[rows])
            return losses_of(model, features, targets[rows]), features

    for step in range(arguments.steps):
        rows = draw()
        losses, features = forward(rows)
        optimizer.zero_grad()
        total = balance(losses, features, further=lambda: forward(draw())[0])  # in place of sum(losses)
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        balance.after_update(lambda rows=rows: forward(rows)[0])
        if (step + 1) % (len(images) // arguments.batch) == 0:
            balance.epoch_end()
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            values = ", ".join(
                f"{name} {loss.item():.3f} at weight {weight:.3f}"
                for name, loss, weight in zip(balance.task_names, losses, balance.weights.tolist(), strict=True)
            )
            print(f"step {step + 1}: {values}")


if __name__ == "__main__":
    main()
