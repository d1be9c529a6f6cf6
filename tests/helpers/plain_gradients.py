"""Methods on gradients as plain torch for one network of two tasks: autograd's gradients, closed forms for T = 2."""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from tests.helpers.plain import Plain, PlainStep, Surgery, Weighted, halves, on_simplex, pair, zeros


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
