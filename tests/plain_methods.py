"""Every method as plain torch for one network of two tasks, with autograd's gradients and closed forms for T = 2."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from tests.plain import Plain, PlainStep, Surgery, Weighted


def zeros() -> Tensor:
    return torch.zeros(2, dtype=torch.float64)


def halves() -> Tensor:
    return torch.full((2,), 0.5, dtype=torch.float64)


def pair(first: float | Tensor, second: float | Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in (first, second)])


def on_simplex(v: Tensor) -> Tensor:
    share = ((v[0] - v[1] + 1) / 2).clamp(0, 1)
    return pair(share, 1 - share)


class Fixed(Weighted):
    def __init__(self, weights: list[float]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def weigh(self, step: PlainStep) -> Tensor:
        return self.weights


class Uncertainty(Plain):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / self.s.exp() + 0.5 * self.s).sum(), None


class GradNorm(Plain):
    """Algorithm 1 of the paper with two backward passes per task."""

    lr = 0.025

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.first: Tensor | None = None

    def learned(self) -> list[nn.Parameter]:
        return [self.w]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        values = step.losses.detach()
        self.first = values if self.first is None else self.first
        last = list(step.network.trunk[-1].parameters())
        norms: list[Tensor] = []
        for task in range(2):
            grads = torch.autograd.grad(step.losses[task], last, retain_graph=True)
            norms.append(self.w[task] * torch.cat([g.flatten() for g in grads]).norm())
        weighted, rate = torch.stack(norms), values / self.first
        target = (weighted.mean() * (rate / rate.mean()) ** self.alpha).detach()
        return (self.w.detach() * step.losses).sum() + (weighted - target).abs().sum(), None

    def project(self) -> None:
        self.w.mul_(2 / self.w.sum())


class UncertaintySoftmax(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        return torch.softmax(1 / (20 * step.losses), 0)


class DWA(Weighted):
    def __init__(self) -> None:
        self.means: list[Tensor] = []

    def weigh(self, step: PlainStep) -> Tensor:
        if step.epoch < 2:
            return torch.ones(2, dtype=torch.float64)
        return 2 * torch.softmax(self.means[-1] / self.means[-2] / 2, 0)

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.means.append(mean_losses)


class RLW(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        radius = (-2 * torch.log1p(-step.drawn(0, 2))).sqrt()
        return torch.softmax(radius * torch.cos(2 * math.pi * step.drawn(1, 2)), 0)


class Dirichlet(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        exponential = -torch.log1p(-step.drawn(0, 2))
        return exponential / exponential.sum()


class Geometric(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.prod().sqrt(), None


class IMTLL(Plain):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (self.s.exp() * step.losses - self.s).sum(), None


class FAMO(Plain):
    def __init__(self) -> None:
        self.xi = nn.Parameter(zeros())
        self.optimizer = torch.optim.Adam([self.xi], lr=0.025, weight_decay=1e-3)

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        z, distances = self.xi.detach().softmax(0), step.losses + 1e-8
        c = 1 / (z / distances.detach()).sum()
        return c * (z * distances.log()).sum(), None

    def after_update(self, step: PlainStep) -> None:
        gains = (step.losses + 1e-8).log() - (step.again() + 1e-8).log()
        self.optimizer.zero_grad()
        with torch.enable_grad():
            self.xi.softmax(0).backward(gains.detach())
        self.optimizer.step()


class STCH(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / 2).exp().sum().log(), None


class WarmedSTCH(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        if step.epoch < 1:
            return step.losses.log().sum(), None
        return 2 * (step.losses / self.first).log().exp().sum().log(), None

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.first = getattr(self, "first", mean_losses)


class GO4Align(Weighted):
    def __init__(self) -> None:
        self.p = halves()

    def weigh(self, step: PlainStep) -> Tensor:
        losses = step.losses.detach()
        self.p = self.p * torch.exp(-1e-4 * losses)
        self.p = self.p / self.p.sum()
        return self.p * losses.sum() / losses


class MGDA(Surgery):
    def __init__(self, normalise: str = "none") -> None:
        self.normalise = normalise

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        losses, norms = step.losses.detach(), jacobian.norm(dim=1)
        size = {"none": losses**0, "l2": norms, "loss": losses, "loss+": losses * norms}[self.normalise]
        one, other = jacobian / size[:, None]
        share = (((other - one) @ other) / ((one - other) @ (one - other))).clamp(0, 1)
        return share * one + (1 - share) * other


class PCGrad(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = jacobian
        product = (one @ other).clamp_max(0)
        return one - product / (other @ other) * other + other - product / (one @ one) * one


class UPGrad(PCGrad):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        return super().direct(step, jacobian) / 2


class GradVac(Surgery):
    def __init__(self) -> None:
        self.usual = [0.0, 0.0]

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        cosine = float(torch.cosine_similarity(jacobian[0], jacobian[1], dim=0))
        total = torch.zeros_like(jacobian[0])
        for i, (g, other) in enumerate((jacobian, jacobian.flip(0))):
            p = self.usual[i]
            turned = g
            if cosine < p:
                turn = p * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - p**2)
                turned = g + g.norm() * turn / (other.norm() * math.sqrt(1 - p**2)) * other
            total = total + turned
            self.usual[i] = 0.99 * p + 0.01 * cosine
        return total


class CAGrad(Surgery):
    def __init__(self, c: float = 0.5) -> None:
        self.c = c

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = jacobian
        mean = (one + other) / 2
        radius = self.c * mean.norm()

        def slope(share: float) -> float:
            mixed = share * one + (1 - share) * other
            return float((one - other) @ mean + radius * ((one - other) @ mixed) / mixed.norm())

        if slope(0.0) >= 0:
            share = 0.0
        elif slope(1.0) <= 0:
            share = 1.0
        else:
            share = float(brentq(slope, 0.0, 1.0, xtol=1e-15, rtol=1e-15))
        mixed = share * one + (1 - share) * other
        return mean + radius * mixed / mixed.norm()


class IMTLG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        first, second = jacobian.norm(dim=1)
        return (second * jacobian[0] + first * jacobian[1]) / (first + second)


class IMTL(IMTLG):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        scaled = self.s.exp() * step.losses
        balance = (self.s.exp() * step.losses.detach() - self.s).sum()
        return step.losses.sum() + balance, self.direct(step, step.jacobian(scaled))


class NashMTL(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        jacobian = step.jacobian()
        cosine = torch.cosine_similarity(jacobian[0], jacobian[1], dim=0)
        return 1 / (jacobian.norm(dim=1) * (1 + cosine).sqrt())


class FairGrad(Weighted):
    def __init__(self, alpha: float) -> None:
        self.power = 1 / alpha

    def weigh(self, step: PlainStep) -> Tensor:
        (a, b), (_, d) = (step.jacobian() @ step.jacobian().T).tolist()

        def gap(log_ratio: float) -> float:  # with w_2 = ratio w_1 one equation is the other's
            ratio = math.exp(log_ratio)
            return (b + d * ratio) * ratio**self.power - (a + b * ratio)

        # Both products are positive for ratios within these bounds.
        low, high = (math.log(-b / d), math.log(-a / b)) if b < 0 else (-40.0, 40.0)
        ratio = math.exp(float(brentq(gap, low, high, xtol=1e-15, rtol=1e-15)))
        first = (a + b * ratio) ** (-1 / (1 + self.power))
        return pair(first, ratio * first)


class AlignedMTL(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(jacobian @ jacobian.T)
        return (values[0] / values).sqrt() * (vectors.sum(0) / 2) @ (vectors.T @ jacobian)


class DualProj(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        mean = jacobian.mean(0)
        for g in jacobian:  # of two tasks one at most objects to the mean
            mean = mean - (mean @ g).clamp_max(0) / (g @ g) * g
        return mean


class ConFIG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        units = jacobian / jacobian.norm(dim=1, keepdim=True)
        best = torch.linalg.pinv(units) @ torch.ones(2, dtype=torch.float64)
        best = best / best.norm()
        return (jacobian @ best).sum() * best


class DBMTL(Plain):
    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.average: Tensor | None = None

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        logs = (step.losses + 1e-8).log()
        rows = step.jacobian(logs)
        before = torch.zeros_like(rows) if self.average is None else self.average
        self.average = rows + self.beta / math.sqrt(step.index + 1) * (before - rows)
        lengths = self.average.norm(dim=1)
        factors = lengths.max() / lengths
        if not self.beta:
            return (factors * logs).sum(), None
        return logs.sum(), factors @ self.average


class MoCo(Surgery):
    def __init__(self) -> None:
        self.w, self.average = halves(), torch.zeros(())

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        slower = 1 / math.sqrt(step.index + 1)
        self.average = self.average + 0.5 * slower * (jacobian - self.average)
        self.w = on_simplex(self.w - 0.1 * slower * (self.average @ (self.w @ self.average)))
        return self.w @ self.average


class MoDo(Surgery):
    def __init__(self, gamma: float) -> None:
        self.gamma, self.w = gamma, halves()

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = (step.jacobian(step.further(draw)) for draw in range(2))
        self.w = on_simplex(self.w - self.gamma * (one @ (self.w @ other) + 0.1 * self.w))
        return self.w @ jacobian


class SDMGrad(Surgery):
    def __init__(self) -> None:
        self.v = halves()

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = (step.jacobian(step.further(draw)) for draw in range(2))
        products = one @ other.T
        products = products / (products.diag().clamp_min(0).sqrt().mean() ** 2 + 1e-8)
        v = nn.Parameter(self.v)
        optimizer = torch.optim.SGD([v], lr=10.0, momentum=0.5)
        for _ in range(20):
            v.grad = products @ (v.detach() + 0.3 / 2)
            optimizer.step()
            v.data = on_simplex(v.data)
        self.v = v.detach()
        return (self.v + 0.3 / 2) / 1.3 @ jacobian


class ExcessMTL(Weighted):
    def __init__(self, eta: float) -> None:
        self.eta, self.w = eta, torch.ones(2, dtype=torch.float64)
        self.squares, self.first = torch.zeros(()), torch.zeros(())

    def weigh(self, step: PlainStep) -> Tensor:
        squares = step.jacobian() ** 2
        self.squares = self.squares + squares
        risks = (squares / (self.squares + 1e-7).sqrt()).sum(1)
        if step.index:
            self.w = self.w * torch.exp(self.eta * risks / self.first)
            self.w = 2 * self.w / self.w.sum()
        else:
            self.first = risks
        return self.w


class GradDrop(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        rows = [torch.autograd.grad(loss, step.representation, retain_graph=True)[0] for loss in step.losses]
        # The stack's gradients are those that pass the ReLU.
        gradients = torch.stack(rows) * (step.representation > 0)  # [T, B, F]
        signs = gradients.sum(1)  # [T, F]
        total = signs.abs().sum(0)
        share = torch.where(total > 0, (1 + signs.sum(0) / total) / 2, 0.5)
        chosen = torch.where(step.drawn(0, len(share)) < share, 1.0, -1.0)
        kept = (gradients * (signs * chosen > 0)[:, None]).sum(0)
        trunk = list(step.network.trunk.parameters())
        grads = torch.autograd.grad(step.representation, trunk, kept, retain_graph=True)
        return step.losses.sum(), torch.cat([grad.flatten() for grad in grads])


PLAIN: dict[str, Callable[[], Plain]] = {
    "fixed": partial(Fixed, [1.0, 1.0]),
    "fixed:weights=[1,0.1]": partial(Fixed, [1.0, 0.1]),
    "single:above_five": partial(Fixed, [0.0, 1.0]),
    "uncertainty": Uncertainty,
    "uncertainty-softmax": UncertaintySoftmax,
    "dwa": DWA,
    "rlw": RLW,
    "rlw:dirichlet": Dirichlet,
    "geometric": Geometric,
    "imtl-l": IMTLL,
    "famo": FAMO,
    "stch": STCH,
    "stch:warm_up=1": WarmedSTCH,
    "go4align": GO4Align,
    "gradnorm": partial(GradNorm, 1.5),
    "gradnorm:alpha=0.12": partial(GradNorm, 0.12),
    "mgda": MGDA,
    "mgda:l2": partial(MGDA, "l2"),
    "mgda:loss": partial(MGDA, "loss"),
    "mgda:'loss+'": partial(MGDA, "loss+"),
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "cagrad": CAGrad,
    "cagrad:c=0.9": partial(CAGrad, 0.9),
    "imtl-g": IMTLG,
    "imtl": IMTL,
    "nashmtl": NashMTL,
    "fairgrad": partial(FairGrad, 2.0),
    "fairgrad:alpha=0.7": partial(FairGrad, 0.7),
    "aligned-mtl": AlignedMTL,
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "config": ConFIG,
    "db-mtl": partial(DBMTL, 0.9),
    "db-mtl:beta=0": partial(DBMTL, 0.0),
    "moco": MoCo,
    "modo": partial(MoDo, 1e-3),
    "modo:gamma=1": partial(MoDo, 1.0),
    "sdmgrad": SDMGrad,
    "excessmtl": partial(ExcessMTL, 0.01),
    "excessmtl:eta=1": partial(ExcessMTL, 1.0),
    "graddrop": GradDrop,
}
