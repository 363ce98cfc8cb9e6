"""Shapes and inputs of the pairwise benchmark, what people would use without rdh_ext, and the truth in float64.

Everybody gets S for nothing: as a float32 matrix, as ``2 S - 1``, and as one-hot labels where those help. What depends
on the bank, its signs included, is computed in every call: the bank changes with every step of a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

SCALE = 0.5
ETA = 0.1
FASTEST = "fastest peer"  # in bars and tables: the best of all that are not Eq. 4 written literally


@dataclass(frozen=True)
class Shape:
    """One problem: ``rows`` activations against ``columns`` of a bank, or against themselves."""

    name: str
    rows: int
    columns: int
    bits: int = 64
    classes: int = 10
    multi_hot: bool = False
    with_itself: bool = False
    literal: bool = False  # small enough for a mask [B, N, K]
    two_threads: bool = False

    @property
    def pairs(self) -> int:
        return self.rows * self.columns

    @property
    def title(self) -> str:
        kind = f"{self.classes} labels, multi-hot" if self.multi_hot else f"{self.classes} classes"
        itself = ", with itself" if self.with_itself else ""
        return f"{self.rows:,} x {self.columns:,}{itself}, {self.bits} bits, {kind}"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("128x5000", 128, 5000, literal=True),
        Shape("1024x10500", 1024, 10500, two_threads=True),
        Shape("128x128", 128, 128, with_itself=True, literal=True),
        Shape("128x10000-multi-hot", 128, 10000, classes=80, multi_hot=True),
    )
}


class Inputs(NamedTuple):
    """Arguments of rdh_ext (``bank`` None for a batch with itself), and what the peers get for nothing."""

    h: Tensor  # [B, K], a leaf that wants its gradient
    bank: Tensor | None  # [N, K]
    labels: Tensor
    bank_labels: Tensor | None
    s: Tensor  # [B, N] float32
    toward: Tensor  # 2 S - 1
    row_classes: Tensor | None  # one-hot [B, C] float32; None for multi-hot labels
    column_classes: Tensor | None  # transposed: [C, N]


def coco_like_labels(items: int, classes: int = 80) -> Tensor:
    """Multi-hot rows like those of MS-COCO: one class in 54 % of the items, the others from 12 % falling geometrically
    to 0.2 %, independent of each other; 2.9 labels per item, at least one."""
    rest = 0.12 * torch.exp(-0.05137 * torch.arange(classes - 1))
    share = torch.cat((torch.tensor([0.54]), rest))
    rows = torch.rand(items, classes) < share
    empty = ~rows.any(1)
    rows[empty, torch.multinomial(share, items, replacement=True)[empty]] = True
    return rows


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """S ``[B, N]`` float32."""
    return (a[:, None] == b[None, :]).float() if a.dim() == 1 else (a.float() @ b.float().T > 0).float()


def make_inputs(shape: Shape, *, trained: bool = False) -> Inputs:
    """Random activations in (-1, 1); or ``trained``: saturated ones, near a code of their own class."""

    def labels_of(items: int) -> Tensor:
        return coco_like_labels(items, shape.classes) if shape.multi_hot else torch.randint(0, shape.classes, (items,))

    centers = torch.randn(shape.classes, shape.bits)

    def activations(labels: Tensor) -> Tensor:
        noise = torch.randn(len(labels), shape.bits)
        if not trained:
            return torch.tanh(noise)
        center = labels.float() @ centers if shape.multi_hot else centers[labels]
        return torch.tanh(2 * center + noise)

    labels = labels_of(shape.rows)
    h = activations(labels).requires_grad_()
    bank_labels = None if shape.with_itself else labels_of(shape.columns)
    bank = None if bank_labels is None else activations(bank_labels)
    column_labels = labels if bank_labels is None else bank_labels
    s = similarity(labels, column_labels)
    classes = None if shape.multi_hot else [one_hot(ids, shape.classes).float() for ids in (labels, column_labels)]
    return Inputs(
        h,
        bank,
        labels,
        bank_labels,
        s,
        2 * s - 1,
        None if classes is None else classes[0],
        None if classes is None else classes[1].T.contiguous(),
    )


def _columns(x: Inputs) -> Tensor:
    return x.h if x.bank is None else x.bank


def by_softplus(theta: Tensor, x: Inputs) -> Tensor:
    """Eq. 1 as it is written, stable."""
    return (softplus(theta) - x.s * theta).mean()


def by_bce(theta: Tensor, x: Inputs) -> Tensor:
    """Eq. 1 as torch has it."""
    return binary_cross_entropy_with_logits(theta, x.s)


def by_matrix(signs: Tensor, x: Inputs) -> Tensor:
    """``sum_j (2 S_ij - 1) sign v_jk`` as a product, ``[B, K]``."""
    return x.toward @ signs


def by_class_sums(signs: Tensor, x: Inputs) -> Tensor:
    """The same from sums per class: O((B + N) K C) and small, for class ids."""
    assert x.row_classes is not None
    assert x.column_classes is not None
    sums = x.column_classes @ signs
    return 2 * (x.row_classes @ sums) - sums.sum(0)


Likelihood = Callable[[Tensor, Inputs], Tensor]
Agreement = Callable[[Tensor, Inputs], Tensor]
Loss = Callable[[Inputs], Tensor]


def _selected(x: Inputs, agreement: Agreement) -> tuple[Tensor, Tensor]:
    """sign h, and how many columns select each bit by Eq. 4, in closed form."""
    bit, signs = torch.sign(x.h.detach()), torch.sign(_columns(x).detach())
    return bit, 0.5 * (bit.abs() * signs.abs().sum(0) + bit * agreement(signs, x))


def closed_form(likelihood: Likelihood, agreement: Agreement) -> Loss:
    """Eq. 5 with Eq. 4 in closed form; the gradient is autograd's."""

    def loss(x: Inputs) -> Tensor:
        theta = (SCALE * x.h) @ _columns(x).T
        bit, selected = _selected(x, agreement)
        quantization = (selected * (x.h - bit).square()).sum() / (theta.numel() * x.h.size(1))
        return likelihood(theta, x) + ETA * quantization

    return loss


def by_hand(agreement: Agreement) -> Loss:
    """Value and gradient of the closed form in one compiled function, exp(-|theta|) shared by both."""

    def compute(x: Inputs) -> tuple[Tensor, Tensor]:
        columns = _columns(x)
        z = -x.toward * ((SCALE * x.h) @ columns.T)
        e = torch.exp(-z.abs())
        likelihood = (z.clamp_min(0) + torch.log1p(e)).sum()
        derivative = -x.toward * torch.where(z >= 0, 1.0, e) / (1 + e)
        bit, selected = _selected(x, agreement)
        distance = x.h - bit
        weighted = selected * distance
        pairs, roles = z.numel(), 2 if x.bank is None else 1  # S is symmetric: both roles get the same
        value = likelihood / pairs + (ETA / (pairs * x.h.size(1))) * (weighted * distance).sum()
        return value, (roles * SCALE / pairs) * (derivative @ columns) + (2 * ETA / (pairs * x.h.size(1))) * weighted

    compiled = torch.compile(compute, fullgraph=True, dynamic=False)

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h, x):
            value, grad = compiled(x._replace(h=h.detach()))
            ctx.save_for_backward(grad)
            return value

        @staticmethod
        def backward(ctx, grad_out):
            return ctx.saved_tensors[0] * grad_out, None

    return lambda x: Loss.apply(x.h, x)


def literal(x: Inputs) -> Tensor:
    """Eq. 4 the way the paper prints it: cases, by a mask ``[B, N, K]``."""
    bit = torch.sign(x.h.detach())
    delta = bit[:, None, :] * torch.sign(_columns(x).detach())[None, :, :]
    selected = ((-1.0) ** x.s)[:, :, None] * delta == -1
    squares = (x.h - bit).square()[:, None, :]
    return by_bce((SCALE * x.h) @ _columns(x).T, x) + ETA * torch.where(selected, squares, 0.0).mean()


def literal_product(x: Inputs) -> Tensor:
    """The same with as little as possible done to ``[B, N, K]``."""
    bit = torch.sign(x.h.detach())
    delta = bit[:, None, :] * torch.sign(_columns(x).detach())[None, :, :]
    selected = x.toward[:, :, None] * delta == 1
    squares = (x.h - bit).square()[:, None, :]
    return by_bce((SCALE * x.h) @ _columns(x).T, x) + ETA * (selected * squares).mean()


def peers(shape: Shape) -> dict[str, Loss]:
    """Name -> loss, of everything without rdh_ext."""

    def compiled(loss: Loss) -> Loss:
        return torch.compile(loss, fullgraph=True, dynamic=False)

    found = {
        "eager": closed_form(by_softplus, by_matrix),
        "eager BCE": closed_form(by_bce, by_matrix),
        "compiled": compiled(closed_form(by_softplus, by_matrix)),
        "compiled BCE": compiled(closed_form(by_bce, by_matrix)),
        "compiled by hand": by_hand(by_matrix),
    }
    if not shape.multi_hot:
        found |= {
            "compiled class sums": compiled(closed_form(by_softplus, by_class_sums)),
            "compiled BCE class sums": compiled(closed_form(by_bce, by_class_sums)),
            "compiled by hand class sums": by_hand(by_class_sums),
        }
    if shape.literal:
        found |= {"literal": literal, "literal product": literal_product, "compiled literal": compiled(literal)}
    return found


class Truth(NamedTuple):
    """Loss, its two parts and dL/dh in float64."""

    loss: float
    likelihood: float
    quantization: float
    grad: Tensor


def truth(x: Inputs) -> Truth:
    """The closed form in float64, by hand, a block of rows at a time."""
    h = x.h.detach().double()
    columns = h if x.bank is None else x.bank.double()
    signs = torch.sign(columns)
    pairs, likelihood, quantization = h.size(0) * columns.size(0), 0.0, 0.0
    grad = torch.zeros_like(h)
    for start in range(0, h.size(0), 256):
        rows = slice(start, start + 256)
        s, block = x.s[rows].double(), h[rows]
        theta = SCALE * block @ columns.T
        likelihood += float((torch.logaddexp(theta, torch.zeros_like(theta)) - s * theta).sum()) / pairs
        derivative = (SCALE / pairs) * torch.where(s == 1, -torch.sigmoid(-theta), torch.sigmoid(theta))
        bit = torch.sign(block)
        selected = 0.5 * (bit.abs() * signs.abs().sum(0) + bit * ((2 * s - 1) @ signs))
        quantization += float((selected * (block - bit).square()).sum()) / (pairs * h.size(1))
        grad[rows] += derivative @ columns + (2 * ETA / (pairs * h.size(1))) * selected * (block - bit)
        if x.bank is None:
            grad += derivative.T @ block
    return Truth(likelihood + ETA * quantization, likelihood, quantization, grad)


def relative(value: float, true: float) -> float:
    return abs(value - true) / abs(true) if true and math.isfinite(value) else math.inf


def gradient_error(grad: Tensor, true: Tensor) -> float:
    """``|g - g64| / |g64|``; infinite where it is not a number."""
    error = float((grad.double() - true).norm() / true.norm())
    return error if math.isfinite(error) else math.inf
