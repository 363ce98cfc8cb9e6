"""What the tests of DSDH and DAGH share: labels, dense formulas in float64, and a small training loop."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from rdh_ext.hashing.methods import HashingMethod

N, K, C = 30, 5, 4


def labels_of(kind: str, items: int = N) -> Tensor:
    """Class ids; or multi-hot rows, some of them without any label."""
    g = torch.Generator().manual_seed(7)
    if kind == "ids":
        return torch.randint(C, (items,), generator=g)
    rows = torch.rand(items, C, generator=g) < 0.35
    rows[::9] = False
    return rows


def logits_of(items: int, seed: int) -> Tensor:
    """None of them saturated at tau = 0.99."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(items, K, generator=g, dtype=torch.float64).clamp(-2.6, 2.6)


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, C).double() if labels.dim() == 1 else labels.double()


def similarity(a: Tensor, b: Tensor) -> Tensor:
    return (one_hot(a) @ one_hot(b).T > 0).double()


def error_aware(h: Tensor, others: Tensor, s: Tensor) -> Tensor:
    """Eq. 4 over the explicit cube of pairs and bits."""
    sign = torch.sign(h.detach())
    agree = (2 * s - 1)[:, :, None] * sign[:, None, :] * torch.sign(others)[None, :, :] == 1
    return (agree * (h - sign).square()[:, None, :]).mean()


def literal_ridge(b: Tensor, y: Tensor, ridge: float) -> Tensor:
    return torch.linalg.inv(b.T @ b + ridge * torch.eye(b.size(1), dtype=torch.float64)) @ b.T @ y


def literal_descent(b: Tensor, w: Tensor, p: Tensor, sweeps: int) -> Tensor:
    """Bit by bit as papers have it; ties keep their bit."""
    b = b.clone()
    for _ in range(sweeps):
        for k in range(b.size(1)):
            others = [other for other in range(b.size(1)) if other != k]
            v = p[:, k] - b[:, others] @ w[others] @ w[k]
            b[:, k] = torch.where(v.abs() < 1e-12, b[:, k], torch.sign(v))
    return b


class Loop:
    """A linear network trained by the protocol of methods, on features in heaps, one for each class."""

    def __init__(self, method: HashingMethod, labels: Tensor, batch: int, lr: float) -> None:
        torch.manual_seed(0)
        self.method, self.labels, self.batch = method, labels, batch
        self.features = one_hot(labels).float() @ torch.randn(C, 16) + 0.03 * torch.randn(len(labels), 16)
        self.network = torch.nn.Linear(16, method.bits)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=lr, momentum=0.9)
        method.begin(labels, steps=100)

    def total(self, index: Tensor) -> Tensor:
        h = self.method(self.network(self.features[index]))
        return self.method.loss(h, self.labels[index], index).total

    def epoch(self, number: int) -> float:
        """The sum of its losses."""
        self.method.begin_epoch(number)
        g = torch.Generator().manual_seed(number)
        losses = 0.0
        for step, index in enumerate(torch.randperm(len(self.labels), generator=g).split(self.batch)):
            self.method.begin_step(step)
            loss = self.total(index)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses += float(loss.detach())
        return losses

    def codes(self) -> Tensor:
        with torch.no_grad():
            return torch.sign(self.method(self.network(self.features)))

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "method": self.method, "optimizer": self.optimizer}

    def copy_state_to(self, other: Loop) -> None:
        for name, part in other._parts().items():
            part.load_state_dict(copy.deepcopy(self._parts()[name].state_dict()))
