r"""Discrete codes learned beside a network: ridge regression to the labels, and coordinate descent over bits.

What DSDH and DAGH share. With codes ``B`` ``[N, K]`` of -1 and +1, labels ``Y`` ``[N, C]`` of 0 and 1, weights ``W``
``[K, C]`` and a pull ``Q`` ``[N, K]``, both steps decrease, or leave as it is,

.. math:: J(B, W) = \|Y - B W\|^2 + \rho \|W\|^2 - 2 \langle B, Q \rangle

(:func:`objective`): :func:`ridge_weights` finds the best ``W`` for ``B``, :func:`coordinate_descent` goes from ``B`` to
better codes for ``W``. Rows are items throughout; papers have columns.

Everything is computed in float64, in blocks of items, so that besides arguments and result only a few blocks of 8 MiB
are in memory. No gradients. The same input gives the same result, on a device and for a number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Values of a block of items."""
BITS = 16
"""Bits that share a matrix product; among themselves they are kept up to date one by one."""


def compact_labels(labels: Tensor) -> tuple[Tensor, int]:
    """Labels as the functions below take them, and ``C``: int64 ids in ``[0, C)`` without gaps, or bool ``[N, C]``.

    Class ids may be any integers: the ids that occur are numbered in their order.

    Example:
        >>> from rdh_ext.hashing.methods.discrete import compact_labels
        >>> compact_labels(torch.tensor([7, 1000000, 7]))
        (tensor([0, 1, 0]), 2)
    """
    if labels.dim() == 1:
        ids, compact = torch.unique(labels, return_inverse=True)
        return compact, ids.numel()
    return labels != 0, labels.size(1)


@torch.no_grad()
def ridge_weights(codes: Tensor, labels: Tensor, classes: int, ridge: float) -> Tensor:
    r"""The weights that fit the labels best, :math:`W = (B^\top B + \rho I)^{-1} B^\top Y`.

    Args:
        codes: ``B`` ``[N, K]`` of -1 and +1, of any dtype. A row of zeros, for an item without a code, counts nowhere.
        labels: of all items, from :func:`compact_labels`.
        classes: ``C``.
        ridge: :math:`\rho`, > 0; at least ``N K`` roundings of 1, so that codes with equal bits have a solution, too.

    Returns:
        ``W`` float64 ``[K, C]``, on the device of the codes.

    Cost: ``N K (K + C)`` multiply-adds (``N K^2`` for class ids), and a Cholesky factorisation of ``K x K``. The sums
    over items are of whole numbers, exact in any order.

    Source: Shen, Shen, Liu, Shen, "Supervised Discrete Hashing" (CVPR 2015).

    Example:
        >>> from rdh_ext.hashing.methods.discrete import ridge_weights
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]])
        >>> ridge_weights(codes, torch.tensor([0, 0, 1, 1]), classes=2, ridge=4.0)
        tensor([[ 0.2500, -0.2500],
                [ 0.0000,  0.0000]], dtype=torch.float64)
    """
    items, bits = codes.shape
    gram = codes.new_zeros(bits, bits, dtype=torch.float64)
    fit = codes.new_zeros(classes, bits, dtype=torch.float64)
    for rows in _blocks(items, max(bits, classes)):
        b = codes[rows].double()
        gram.addmm_(b.T, b)
        if labels.dim() == 1:
            fit.index_add_(0, labels[rows], b)
        else:
            fit.addmm_(labels[rows].double().T, b)
    gram.diagonal().add_(max(ridge, items * bits * torch.finfo(torch.float64).eps))
    return torch.cholesky_solve(fit.T, torch.linalg.cholesky(gram))


@torch.no_grad()
def coordinate_descent(
    codes: Tensor,
    weights: Tensor,
    labels: Tensor,
    pull: Tensor | None = None,
    *,
    pull_weight: float = 1.0,
    sweeps: int = 10,
) -> Tensor:
    r"""Discrete cyclic coordinate descent (DCC): better codes for given weights, one bit of all items after the other.

    With all other bits fixed the best bit ``k`` of item ``i`` is the sign of

    .. math:: v_{ik} = P_{ik} - \sum_{l \ne k} b_{il} \langle w_l, w_k \rangle, \qquad P = Y W^\top + Q ,

    and setting it takes :math:`4 |v_{ik}|` off :math:`J` where the bit changes. A sweep does so for bits 1 to ``K``,
    each with the bits before it as they are by then; sweeps end when one has changed nothing, and then no single bit
    could be better. Where ``v`` is 0, or so close to it that rounding decides its sign, the bit stays as it is: so
    :math:`J` never increases, what is optimal stays, and sweeps cannot go in circles. So does a bit whose ``v`` is not
    finite.

    Args:
        codes: ``B`` ``[N, K]`` of -1 and +1, where to start; of any signed dtype; left as they are.
        weights: ``W`` ``[K, C]``.
        labels: of these ``N`` items, from :func:`compact_labels`.
        pull: ``Q / pull_weight`` ``[N, K]``, floating; None for 0.
        pull_weight: what ``pull`` is multiplied by; eta / mu in DSDH.
        sweeps: how many at most.

    Returns:
        New codes ``[N, K]``, in the dtype of ``codes``.

    Cost: ``N K (C + K sweeps)`` multiply-adds in matrix products (``C`` only with multi-hot labels), and per sweep
    about ``N K (BITS / 2 + 8)`` beside them. Items do not depend on each other. On CUDA the host waits once per sweep
    and block.

    Source: Shen, Shen, Liu, Shen, "Supervised Discrete Hashing" (CVPR 2015), Section 3.

    Example:
        >>> from rdh_ext.hashing.methods.discrete import coordinate_descent
        >>> codes, weights = torch.tensor([[1, 1], [1, 1]]), torch.tensor([[0.5, -0.5], [0.0, 0.0]])
        >>> coordinate_descent(codes, weights, torch.tensor([0, 1]))  # nothing depends on bit 1: it stays
        tensor([[ 1,  1],
                [-1,  1]])
    """
    items, bits = codes.shape
    w = weights.double()
    inner = w @ w.T
    inner.fill_diagonal_(0.0)
    # what v can be wrong by, in units of the roundings of its terms: a sum of K + C products, and what they are made of
    size = w.abs()
    terms = (size.sum(1) + (size @ size.T).sum(1)).unsqueeze(1)
    rounding = 2 * (bits + w.size(1)) * torch.finfo(torch.float64).eps
    result = torch.empty_like(codes)
    for rows in _blocks(items, max(bits, w.size(1))):
        linear = _scores(w, labels[rows])
        slack = terms.expand_as(linear)
        if pull is not None:
            pulled = pull[rows].T.double() * pull_weight
            linear, slack = linear + pulled, slack + pulled.abs()
        b = codes[rows].T.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        _descend(b, linear, inner, slack * rounding, sweeps)
        result[rows] = b.T.to(codes.dtype)
    return result


@torch.no_grad()
def objective(
    codes: Tensor,
    weights: Tensor,
    labels: Tensor,
    pull: Tensor | None = None,
    *,
    ridge: float,
    pull_weight: float = 1.0,
) -> Tensor:
    r"""What both steps decrease, :math:`J = \|Y - B W\|^2 + \rho \|W\|^2 - 2 \langle B, Q \rangle`; float64 ``[]``.

    Args: as in :func:`ridge_weights` and :func:`coordinate_descent`. A row of zeros in ``codes`` is left out.

    Cost: ``N K C`` multiply-adds.

    Example:
        >>> from rdh_ext.hashing.methods.discrete import objective
        >>> codes, weights = torch.tensor([[1, 1], [-1, 1]]), torch.tensor([[0.5, -0.5], [0.0, 0.0]])
        >>> objective(codes, weights, torch.tensor([0, 1]), ridge=1.0)
        tensor(1.5000, dtype=torch.float64)
    """
    w = weights.double()
    total = ridge * w.square().sum()
    for rows in _blocks(codes.size(0), max(codes.size(1), w.size(1))):
        b = codes[rows].double()
        fitted = b @ w
        target = torch.zeros_like(fitted)
        if labels.dim() == 1:
            target.scatter_(1, labels[rows].unsqueeze(1), 1.0)
        else:
            target += labels[rows]
        coded = (b != 0).any(1, keepdim=True)
        total += ((target - fitted) * coded).square().sum()
        if pull is not None:
            total -= 2 * pull_weight * (b * pull[rows].double()).sum()
    return total


def _blocks(items: int, width: int) -> Iterator[slice]:
    """Slices of all items, each of about ``BLOCK`` values where an item has ``width``."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, items, step):
        yield slice(start, min(start + step, items))


def _scores(w: Tensor, labels: Tensor) -> Tensor:
    """``W Y'`` ``[K, n]``: for class ids, columns of ``W``."""
    if labels.dim() == 1:
        return w.index_select(1, labels)
    return w @ labels.T.to(w.dtype)


def _descend(b: Tensor, linear: Tensor, inner: Tensor, slack: Tensor, sweeps: int) -> None:
    """Sweeps over the bits of ``b`` ``[K, n]``, in place; ``inner`` ``[K, K]`` is ``W W'`` with 0 on its diagonal.

    A bit alone would read all of ``b``. Several together share one product, and each then tells those after it by how
    much it has changed.
    """
    bits = b.size(0)
    for _ in range(sweeps):
        before = b.clone()
        for start in range(0, bits, BITS):
            group = slice(start, min(start + BITS, bits))
            value = linear[group] - inner[group] @ b
            for k in range(start, group.stop):
                v, margin = value[k - start], slack[k]
                new = torch.where(v > margin, 1.0, torch.where(v < -margin, -1.0, b[k]))
                behind = slice(k + 1, group.stop)
                value[k + 1 - start :].addr_(inner[behind, k], new - b[k], alpha=-1)
                b[k] = new
        if torch.equal(b, before):
            return
