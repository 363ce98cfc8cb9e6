"""What a training step is made of without rdh_ext: activation and loss of a method in plain torch, in several forms.

Every form is told what a method of ``rdh_ext.hashing.methods`` is set to, and uses nothing of rdh_ext to compute it.
All of them make S themselves, since it is of other items in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

from rdh_ext.hashing.methods import DHN, DPSH, HashingMethod, HashNet

TITLES: dict[str, type[HashingMethod]] = {"DPSH": DPSH, "HashNet": HashNet, "DHN": DHN}
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A method, with or without RDH."""

    title: str
    rdh: bool

    def method(self, bits: int) -> HashingMethod:
        return TITLES[self.title](bits, rdh=self.rdh)

    @property
    def label(self) -> str:
        return self.title + (" + RDH" if self.rdh else "")


CASES = tuple(Case(title, rdh) for title in TITLES for rdh in (False, True))


class Items(NamedTuple):
    """What a loss is told of a batch: class ids ``[B]`` or multi-hot rows ``[B, C]``, the same as one-hot rows in
    float32, and positions ``[B]``."""

    labels: Tensor
    one_hot: Tensor
    index: Tensor


class Bank(NamedTuple):
    """Outputs ``[N, K]`` of all training items, which a loss updates; their labels in the forms that peers want."""

    rows: Tensor
    labels: Tensor
    one_hot: Tensor
    classes: Tensor  # [C, N]: the transposed

    @classmethod
    def of(cls, rows: Tensor, labels: Tensor) -> Bank:
        hot = hot_rows(labels)
        return cls(rows, labels, hot, hot.T.contiguous())


def hot_rows(labels: Tensor) -> Tensor:
    """Labels as rows of 0 and 1 in float32."""
    return labels.float() if labels.dim() == 2 else one_hot(labels, CLASSES).float()


Loss = Callable[[Tensor, Items], Tensor]  # logits [B, K] -> scalar
Form = Callable[[HashingMethod, Bank | None], Loss]


class _Amplified(torch.autograd.Function):
    """tanh and Eq. 3 by hand, from the saved h."""

    @staticmethod
    def forward(ctx, logits, tau):
        h = torch.tanh(logits)
        ctx.save_for_backward(h)
        ctx.tau = tau
        return h

    @staticmethod
    def backward(ctx, grad):
        (h,) = ctx.saved_tensors
        dead = (h.abs() >= ctx.tau) & (torch.sign(h) == torch.sign(grad))
        return torch.where(dead, grad / (1 - ctx.tau**2), grad) * (1 - h * h), None


def activate(method: HashingMethod, logits: Tensor) -> Tensor:
    return _Amplified.apply(logits, method.tau) if method.amplifier else torch.tanh(logits)


def pair_weights(s: Tensor) -> Tensor:
    """Of HashNet: |S| / |S1| for similar and |S| / |S0| for dissimilar pairs."""
    similar = s.sum()
    return torch.where(s > 0, s.numel() / similar, s.numel() / (s.numel() - similar))


def own_quantization(method: HashingMethod, h: Tensor) -> Tensor | float:
    """The term that a method has without RDH."""
    if method.quantization == "l2":
        return (h - torch.sign(h.detach())).square().mean()
    return torch.log(torch.cosh(h.abs() - 1)).mean() if method.quantization == "log_cosh" else 0.0


def error_aware_by_mask(h: Tensor, v: Tensor, s: Tensor) -> Tensor:
    """Eq. 4 by a mask ``[B, N, K]``."""
    bit = torch.sign(h.detach())
    delta = bit[:, None, :] * torch.sign(v.detach())[None, :, :]
    selected = (2 * s - 1)[:, :, None] * delta == 1
    return (selected * (h - bit).square()[:, None, :]).mean()


def error_aware_by_products(h: Tensor, v: Tensor, agreement: Callable[[Tensor], Tensor]) -> Tensor:
    """Eq. 4 in closed form: how many columns select a bit, from ``agreement(sign v) = (2 S - 1) sign v``."""
    bit, signs = torch.sign(h.detach()), torch.sign(v.detach())
    selected = 0.5 * (bit.abs() * signs.abs().sum(0) + bit * agreement(signs))
    return (selected * (h - bit).square()).sum() / (h.numel() * v.size(0))


def obvious(method: HashingMethod, bank: Bank | None) -> Loss:
    """Line by line as in the papers, the way public code is written: S from one-hot rows, a term a line, masks."""

    def loss(logits: Tensor, items: Items) -> Tensor:
        h = activate(method, logits)
        if bank is None:
            v, theirs = h, items.one_hot
        else:
            bank.rows[items.index] = h.detach()
            v, theirs = bank.rows, bank.one_hot
        s = (items.one_hot @ theirs.T > 0).float()
        theta = method.scale * (h @ v.T)
        pairs = softplus(theta) - s * theta
        if method.pair_weights == "balanced":
            pairs = pair_weights(s) * pairs
        term = error_aware_by_mask(h, v, s) if method.error_aware else own_quantization(method, h)
        return pairs.mean() + method.eta * term

    return loss


def products(method: HashingMethod, bank: Bank | None) -> Loss:
    """The same with matrices ``[B, N]`` at most: S by comparison (of multi-hot rows by a product), one fused function
    for the pairs, Eq. 4 in closed form."""

    def loss(logits: Tensor, items: Items) -> Tensor:
        h = activate(method, logits)
        if bank is None:
            v, theirs, hot = h, items.labels, items.one_hot
        else:
            bank.rows[items.index] = h.detach()
            v, theirs, hot = bank.rows, bank.labels, bank.one_hot
        same = items.labels[:, None] == theirs if theirs.dim() == 1 else items.one_hot @ hot.T > 0
        s = same.to(h.dtype)
        weight = pair_weights(s) if method.pair_weights == "balanced" else None
        total = binary_cross_entropy_with_logits((method.scale * h) @ v.T, s, weight=weight)
        if method.error_aware:
            return total + method.eta * error_aware_by_products(h, v, lambda signs: (2 * s - 1) @ signs)
        return total + method.eta * own_quantization(method, h)

    return loss


def class_sums(method: HashingMethod, bank: Bank | None) -> Loss:
    """The same without S: what it is multiplied with is summed per class first. For class ids and a bank."""
    assert bank is not None

    def loss(logits: Tensor, items: Items) -> Tensor:
        h = activate(method, logits)
        bank.rows[items.index] = h.detach()
        scaled = method.scale * h
        likelihood = softplus(scaled @ bank.rows.T).sum() - (scaled * (bank.classes @ bank.rows)[items.labels]).sum()
        total = likelihood / (h.size(0) * bank.rows.size(0))

        def agreement(signs: Tensor) -> Tensor:
            sums = bank.classes @ signs
            return 2 * sums[items.labels] - sums.sum(0)

        if method.error_aware:
            return total + method.eta * error_aware_by_products(h, bank.rows, agreement)
        return total + method.eta * own_quantization(method, h)

    return loss


def compiled(form: Form) -> Form:
    """torch.compile of activation, update of the bank and loss as one graph."""
    return lambda method, bank: torch.compile(form(method, bank), fullgraph=True, dynamic=False)


def forms(with_bank: bool) -> dict[str, Form]:
    """Name -> how a method is written without rdh_ext."""
    found: dict[str, Form] = {"obvious": obvious, "eager": products, "compiled": compiled(products)}
    if with_bank:
        found |= {"eager class sums": class_sums, "compiled class sums": compiled(class_sums)}
    return found
