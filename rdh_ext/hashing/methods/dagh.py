"""DAGH: Deep Supervised Hashing with Anchor Graph (Chen et al., ICCV 2019), a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _checks as checks
from ..._labels import similarity_tile
from ...nn import CodeBank
from .base import HashingMethod, MethodLoss
from .discrete import BLOCK, compact_labels, coordinate_descent, objective, ridge_weights

DRAWS = 10
"""Of codes of classes, until no two are the same, at most."""


class DAGH(HashingMethod):
    r"""DAGH, **a reconstruction**: outputs ``h`` of anchors meet learned codes ``b`` of the entire training set.

    The authors' code was not to be had, and a public "DAGH" is another, unsupervised method. This follows the published
    idea: codes of all items are learned from features and labels together through an anchor graph, and the network,
    which sees the anchors only, has its feedback from linear combinations of learned codes. Weights, first codes and
    schedule are ours, so results are those of this reconstruction. With ``M`` anchors, labels ``Y`` ``[N, C]`` and
    weights ``W`` ``[K, C]``:

    .. math:: \min_{h, B, W} \; \frac{N}{M} \sum_{i=1}^{M} \Big( \sum_{j=1}^{N} a_{ij} \|h_i - b_j\|^2 + \eta \,
              \|h_i - b_i\|^2 \Big) + \lambda \|Y - B W\|^2 + \mu \|W\|^2, \qquad b_{jk} \in \{-1, 1\}

    ``a_ij = 1 / n_i`` for the ``n_i`` items ``j`` that share a label with anchor ``i``, 0 for others: an anchor graph
    whose rows sum to 1. The first part, divided by ``N K``, is the network's loss, of the anchors in a batch:

    .. math:: L = \mathrm{mean}_{ik} \sum_j a_{ij} (h_{ik} - b_{jk})^2 + \eta \, \mathrm{mean}_{ik} (h_{ik} - b_{ik})^2

    so ``h_i`` is drawn by :math:`\sum_j a_{ij} (h_i - b_j)`, towards the mean code of the items like it. With
    ``error_aware`` the term with ``eta`` is that of Eq. 4 over the pairs of anchors and codes: the mean over all
    ``(i, j, k)`` of :math:`(h_{ik} - \mathrm{sign}\, h_{ik})^2` where :math:`(2 S_{ij} - 1) \, \mathrm{sign}(h_{ik}) \,
    b_{jk} = 1`, and no part of what codes are learned by.

    **Anchors.** Published, each epoch samples anchors and trains on them: with the epochs all items have their turn.
    Here batches come from all of the training set. With ``anchors=None`` every item is an anchor, and those of a batch
    are the ones sampled for its step: no work is lost, and an epoch sees all rows of the graph. With a number, so many
    items are sampled for each epoch, as balanced over classes as there are items; only they enter the loss and draw
    codes, so train on batches of :attr:`anchors` alone then: a batch without any has the loss 0.

    **Codes.** Learned by W-steps, ridge regression, and B-steps, discrete cyclic coordinate descent
    (:mod:`.discrete`), over all items: one of each before every epoch but the first, with the latest outputs of the
    anchors; neither increases the objective. Items that no anchor is like follow their labels alone. The first codes,
    made in :meth:`begin`, are random and balanced: half of the classes, drawn for each bit, have +1, and an item has
    what most of its classes have, or tossed coins where they are even, the same for equal labels. Signs of the
    network's first outputs would be no start: untrained it gives most items the same ones, and nothing in ``L`` keeps
    classes apart but their codes.

    All of it depends on label sets, of which there are ``C`` for class ids, and with multi-hot labels as many as
    different rows; there is no ``M x N`` or ``N x N`` matrix. Items without any label are like none, themselves
    included: as anchors they have the quantization term alone.

    Args:
        bits, rdh, amplifier, error_aware, tau: as in :class:`HashingMethod`.
        eta: weight of the quantization term, whichever it is, >= 0; 0.1 where it is None.
        anchors: how many, 1 to N; None for all items.
        lam: lambda, weight of the labels' fit, > 0. What holds a bit against outputs that would turn it is of the order
            of ``lam C / K^2``. Outputs of the first epochs know little yet, and where they overrule labels, with small
            ``lam`` and many bits, classes come to share codes. With 100 codes of class ids hardly change after
            :meth:`begin`.
        mu: weight of ``|W|^2``, > 0.
        sweeps: of coordinate descent in a B-step, at most; it ends when one changes nothing.
        seed: of anchors and first codes.

    Attributes:
        bank: :class:`rdh_ext.nn.CodeBank` of latest outputs; None before :meth:`begin`, which makes all of these.
        anchors: int64 ``[M]``, positions in the training set, in order.
        codes: int8 ``[N, K]``, -1 and +1.
        weights: ``W``, float64 ``[K, C]``; for class ids, ``C`` is how many occur.

    Cost: a step O(B K). An epoch ``N K (K + C)`` multiply-adds for ``W`` and ``N K (C + K sweeps)`` for the codes, and
    ``2 L^2 (C + K)`` for multi-hot labels with ``L`` different rows. Memory: the bank, ``N K`` bytes of codes, twice
    ``L K`` float64 of their sums, all of them in ``state_dict``.

    Source: Chen, Lai, Ding, Lin, Wong, "Deep Supervised Hashing with Anchor Graph" (ICCV 2019); anchor graphs: Liu,
    Wang, Kumar, Chang, "Hashing with Graphs" (ICML 2011).

    Example:
        >>> from rdh_ext.hashing.methods import DAGH
        >>> features, labels = torch.randn(100, 64), torch.arange(100) % 10
        >>> network, method = torch.nn.Linear(64, 16), DAGH(bits=16, rdh=True)
        >>> method.begin(labels, steps=10)
        >>> for epoch in range(2):
        ...     method.begin_epoch(epoch)
        ...     for index in torch.randperm(100).split(20):
        ...         method.loss(method(network(features[index])), labels[index], index).total.backward()
        >>> method.codes.unique(), method.anchors.shape
        (tensor([-1,  1], dtype=torch.int8), torch.Size([100]))
    """

    title = "DAGH"
    bank: CodeBank | None
    anchors: Tensor
    codes: Tensor
    weights: Tensor
    _is_anchor: Tensor
    _targets: Tensor
    _set_labels: Tensor
    _set_of: Tensor
    _alike: Tensor
    _mean_codes: Tensor
    _agreement: Tensor

    def __init__(
        self,
        bits: int,
        *,
        rdh: bool = False,
        amplifier: bool | None = None,
        error_aware: bool | None = None,
        tau: float = 0.99,
        eta: float | None = None,
        anchors: int | None = None,
        lam: float = 100.0,
        mu: float = 100.0,
        sweeps: int = 10,
        seed: int = 0,
    ) -> None:
        name = type(self).__name__
        if anchors is not None:
            expected = "a number of items >= 1, or None for all"
            anchors = checks.check_integer(name, "anchors", anchors, low=1, expected=expected)
        lam, mu = checks.check_positive(name, "lam", lam), checks.check_positive(name, "mu", mu)
        sweeps = checks.check_integer(name, "sweeps", sweeps, low=1, expected="a number of sweeps >= 1")
        seed = checks.check_integer(name, "seed", seed, low=0, high=2**31 - 1, expected="in [0, 2^31)")
        super().__init__(bits, rdh=rdh, amplifier=amplifier, error_aware=error_aware, tau=tau, eta=eta)
        self.anchor_count, self.lam, self.mu, self.sweeps, self.seed = anchors, lam, mu, sweeps, seed
        self.register_module("bank", None)

    def begin(self, labels: Tensor, steps: int) -> None:
        """Empty bank, anchors, and first codes, for items with these labels ``[N]`` or ``[N, C]``, on their device.

        Raises:
            ValueError: fewer items than anchors.
        """
        bank = CodeBank(len(labels), self.bits, labels=labels)
        if self.anchor_count is not None and self.anchor_count > bank.length:
            expected = f"at most the number of items, {bank.length}"
            checks.fail_value(type(self).__name__, "anchors", expected, self.anchor_count)
        self.bank = bank
        targets, classes = compact_labels(bank.labels)
        set_labels, set_of = targets.unique(dim=0, return_inverse=True)
        # not in a checkpoint: all of it follows from labels, which the bank has
        for name, tensor in (("_targets", targets), ("_set_labels", set_labels), ("_set_of", set_of)):
            self.register_buffer(name, tensor, persistent=False)
        alike = self._over_alike(set_of.bincount().double().unsqueeze(1))
        self.register_buffer("_alike", alike.long(), persistent=False)  # whole in any dtype of the module
        self._sample_anchors(0)
        codes = _first_codes(set_labels.cpu(), self.bits, self._generator(0)).to(targets.device)[set_of]
        weights = ridge_weights(codes, targets, classes, self.mu / self.lam)
        means, agreement = self._summarize(codes)
        state = {"codes": codes, "weights": weights, "_mean_codes": means, "_agreement": agreement}
        for name, tensor in state.items():
            self.register_buffer(name, tensor)

    def begin_epoch(self, epoch: int) -> None:
        """W-step and B-step with the latest outputs of the anchors so far; then the anchors of this epoch."""
        if self.bank is None:
            return
        if bool(self.bank.filled.any()):
            self._learn_codes()
        if self.anchor_count is not None:
            self._sample_anchors(epoch)

    def loss(self, h: Tensor, labels: Tensor, index: Tensor | None = None) -> MethodLoss:
        """The loss of the anchors in a batch against all codes; the batch is written into the bank.

        Args:
            h: ``[B, K]``, what :meth:`forward` gave.
            labels: not looked at: :meth:`begin` had those of all items.
            index: int64 ``[B]``, positions of the items in the training set.

        Raises:
            ValueError: no ``index``; :meth:`begin` was not called.
        """
        if self.bank is None:
            raise ValueError(f"{type(self).__name__}: begin must be called with the labels of all items before loss")
        if index is None:
            raise ValueError(f"{type(self).__name__}: index must be the positions [B] in the training set, got None")
        self.bank.update(index, h)
        x = h if h.dtype == torch.float64 else h.float()
        index = index.long()
        label_set = self._set_of[index]
        is_anchor = self._is_anchor[index].unsqueeze(1)
        share = is_anchor.to(x.dtype) / (is_anchor.sum().clamp(min=1) * self.bits)  # of a bit in the mean over anchors
        mean = self._mean_codes[label_set].to(x.dtype)
        # sum_j a_ij (h - b_j)^2: the squares of codes are 1, and so is the sum of a_ij, where anything is like i
        squares = ((x - mean).square() + (1 - mean.square())) * (self._alike[label_set] > 0)
        similarity = (share * squares).sum()
        if self.error_aware:
            sign = torch.sign(x.detach())
            # of the pairs, what part selects a bit; where h is 0 none does, and the square is 0
            selected = 0.5 * (1 + sign * self._agreement[label_set].to(x.dtype))
            quantization = (share * selected * (x - sign).square()).sum()
        else:
            quantization = (share * (x - self.codes[index].to(x.dtype)).square()).sum()
        return MethodLoss(similarity + self.eta * quantization, similarity.detach(), quantization.detach())

    @torch.no_grad()
    def discrete_objective(self) -> Tensor:
        """The objective, with the outputs in the bank: what W-step and B-step decrease. float64 ``[]``.

        Anchors without an output yet, and the error-aware term, are left out.
        """
        if self.bank is None:
            raise ValueError(f"{type(self).__name__}: begin must be called before discrete_objective")
        ridge, weight = self.mu / self.lam, 1 / self.lam
        fit = objective(self.codes, self.weights, self._targets, self._pull(), ridge=ridge, pull_weight=weight)
        seen = self.anchors[self.bank.filled[self.anchors]]
        squares = self.bank.outputs[seen].double().square().sum(1, keepdim=True) + self.bits
        parts = (self._alike[self._set_of[seen]] > 0).double() + self._own_weight
        return self.lam * fit + self._per_anchor * (squares * parts).sum()

    @property
    def _per_anchor(self) -> float:
        """N / M."""
        return self._is_anchor.numel() / self.anchors.numel()

    @property
    def _own_weight(self) -> float:
        """Weight of ``|h_i - b_i|^2``: only without RDH has the loss such a term."""
        return 0.0 if self.error_aware else self.eta

    @torch.no_grad()
    def _learn_codes(self) -> None:
        ridge, weight, pull = self.mu / self.lam, 1 / self.lam, self._pull()
        weights = ridge_weights(self.codes, self._targets, self.weights.size(1), ridge)
        codes = coordinate_descent(self.codes, weights, self._targets, pull, pull_weight=weight, sweeps=self.sweeps)
        self.weights.copy_(weights)
        self.codes.copy_(codes)
        for kept, new in zip((self._mean_codes, self._agreement), self._summarize(codes), strict=True):
            kept.copy_(new)

    def _pull(self) -> Tensor:
        """``N / M (sum_i a_ij h_i + eta h_j)`` for all items ``j``, ``[N, K]``; an output not known yet is 0."""
        assert self.bank is not None
        outputs, label_set = self.bank.outputs[self.anchors].double(), self._set_of[self.anchors]
        # sums by label set in an order of their own, not in that of atomic additions
        order, lengths = label_set.argsort(stable=True), label_set.bincount(minlength=self._alike.size(0))
        sums = torch.segment_reduce(outputs[order], "sum", lengths=lengths, unsafe=True, initial=0.0)
        pull = self._over_alike(sums / self._alike.clamp(min=1))[self._set_of]
        pull.index_add_(0, self.anchors, outputs, alpha=self._own_weight)
        return pull * self._per_anchor

    def _summarize(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss needs of the codes, for each label set ``[L, K]``: the mean code of the items like it, and
        the mean over all items of ``(2 S_ij - 1) b_jk``. Whole numbers until divided, exact in any order."""
        sums = codes.new_zeros(self._alike.size(0), self.bits, dtype=torch.float64)
        sums.index_add_(0, self._set_of, codes.double())
        alike = self._over_alike(sums)
        return alike / self._alike.clamp(min=1), (2 * alike - sums.sum(0)) / codes.size(0)

    def _over_alike(self, values: Tensor) -> Tensor:
        """Sums ``[L, n]`` of values ``[L, n]`` over the label sets that share a label with each, in tiles."""
        if self._set_labels.dim() == 1:
            return values
        result = torch.empty_like(values)
        step = max(1, BLOCK // max(1, len(values)))
        for rows in (slice(start, start + step) for start in range(0, len(values), step)):
            result[rows] = similarity_tile(self._set_labels[rows], self._set_labels).to(values.dtype) @ values
        return result

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(
            (self.seed + 0x9E3779B1 * stream) % 2**32
        )  # all of a seed that it looks at

    def _sample_anchors(self, epoch: int) -> None:
        """All items; or so many of them, one of each class in turn, an item counting for the rarest of its classes."""
        targets = self._targets.cpu()
        items = len(targets)
        anchors = torch.arange(items)
        if self.anchor_count is not None:
            anchors = _sample(targets, self.anchor_count, self._generator(1 + epoch))
        is_anchor = torch.zeros(items, dtype=torch.bool)
        is_anchor[anchors] = True
        for name, tensor in (("anchors", anchors), ("_is_anchor", is_anchor)):
            self.register_buffer(name, tensor.to(self._targets.device))


def _first_codes(set_labels: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """int8 ``[L, K]`` for label sets, from codes of their classes; no two classes have the same if that can be had."""
    classes = len(set_labels) if set_labels.dim() == 1 else set_labels.size(1)
    for _ in range(DRAWS):
        place = torch.rand(classes, bits, generator=generator).argsort(0).argsort(0)
        larger_half = torch.randint(2, (bits,), generator=generator)
        of_class = torch.where(place < (classes + larger_half) // 2, 1, -1).to(torch.int8)
        if len(of_class.unique(dim=0)) == classes:
            break
    if set_labels.dim() == 1:
        return of_class
    coins = 2 * torch.randint(2, (len(set_labels), bits), generator=generator, dtype=torch.int8) - 1
    majority = set_labels.double() @ of_class.double()
    return torch.where(majority == 0, coins, majority.sign().to(torch.int8))


def _sample(targets: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Positions of ``number`` items in order, classes in turn; items without a label come after all others."""
    order = torch.randperm(len(targets), generator=generator)
    targets = targets[order]
    if targets.dim() == 1:
        stratum, unlabelled = targets, torch.zeros(len(targets), dtype=torch.bool)
    else:
        count = torch.where(targets, targets.sum(0), len(targets) + 1)  # [N, C], the size of each of its classes
        stratum, unlabelled = count.argmin(1), ~targets.any(1)
    sizes = stratum.bincount()
    turn = torch.empty_like(stratum)
    turn[stratum.argsort(stable=True)] = torch.arange(len(stratum)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    turn[unlabelled] = len(turn)
    return order[turn.argsort(stable=True)[:number]].sort().values
