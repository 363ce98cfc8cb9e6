"""One batch from the batches of all ranks, for losses over pairs: torch.distributed, started by torchrun."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _checks as checks
from ._labels import normalize_labels

if TYPE_CHECKING:  # a PyTorch without torch.distributed does not have it
    from torch.distributed import ProcessGroup

__all__ = ["gather_batch"]

_OP = "gather_batch"


@overload
def gather_batch(
    h: Tensor, labels: Tensor, *others: Tensor, group: ProcessGroup | None = None
) -> tuple[Tensor, ...]: ...


@overload
def gather_batch(h: Tensor, labels: None, *others: Tensor, group: ProcessGroup | None = None) -> tuple[Any, ...]: ...


def gather_batch(
    h: Tensor, labels: Tensor | None, *others: Tensor, group: ProcessGroup | None = None
) -> tuple[Tensor | None, ...]:
    r"""The joint batch: the rows of all ranks of a process group in the order of ranks, the same on every rank.

    A loss over pairs of ``B`` rows on each of ``R`` ranks sees ``R B^2`` pairs; gathered first it sees all
    ``(R B)^2``, as one process with the joint batch would::

        h, labels, index = rdh_ext.distributed.gather_batch(model(x), labels, index)
        bank.update(index, h)  # where there is a CodeBank: the same rows on every rank
        criterion(h, labels, bank.outputs, bank.labels).backward()

    **Gradient.** With :math:`L_s` the loss of rank :math:`s`, rank :math:`r` gets for its own rows the *sum*

    .. math:: \frac{\partial}{\partial h_r} \sum_s L_s ,

    and the mean that DDP takes over the ranks makes of it the gradient of :math:`\frac{1}{R} \sum_s L_s` with respect
    to the parameters. So where every rank computes the whole loss of the joint batch, parameters get exactly the
    gradient of one process with that batch, also with unequal batches; and where each rank computes a part of its own,
    that of the mean of the parts (multiply by ``R`` for their sum). Without DDP, take the mean over ranks of
    ``parameter.grad``, not the sum. Layers that look at other rows (BatchNorm) still see those of their rank.

    Args:
        h: activations ``[B_r, K]``, any floating dtype; ``B_r`` may differ between ranks, and be 0.
        labels: class ids ``[B_r]`` or multi-hot rows ``[B_r, C]``, as in :func:`rdh_ext.pairwise_loss`; or None.
        others: more tensors ``[B_r, ...]`` of any dtype with a row for each item, such as positions in the training set
            (``index``) for :class:`rdh_ext.nn.CodeBank`.
        group: process group, by default that of all ranks; gloo, NCCL or any other that serves the tensors' device.

    Returns:
        ``(h, labels, *others)`` of all ranks: ``[sum B_r, ...]``, dtypes unchanged, bit for bit. Every tensor that
        requires a gradient gets it as above; half precision is summed in float32. In a group of one rank, and where
        torch.distributed has not been initialised, the very tensors that came in.

    Raises:
        TypeError: not a tensor, or of a dtype or layout that does not fit; ``group`` is not a process group.
        ValueError: a shape or device that does not fit; a group that this rank is not in; tensors whose number, dtype,
            dimensions, columns, kind of device or requires_grad differ between ranks.

        What is wrong with the tensors of one rank is raised by every rank of the group: none is left waiting.

    Every rank of the group has to call this, and to run backward through the result if one of them does.

    Cost: two collectives: 16 bytes per rank, then all tensors as one message, padded to the longest batch (with equal
    batches nothing is padded); memory ``2 R max(B_r)`` rows. The host waits for the sizes, which synchronises with a
    CUDA device where the group has no CPU backend (NCCL alone), and cannot be captured in a CUDA graph. Backward: one
    all-reduce of ``[sum B_r, K]``. torch.compile breaks the graph here if there is more than one rank. Deterministic
    for a given number of ranks, as far as the backend's all-reduce is. No second derivatives.

    Example:
        >>> h, labels = torch.randn(4, 16, requires_grad=True), torch.tensor([0, 1, 0, 2])
        >>> joint, joint_labels = rdh_ext.distributed.gather_batch(h, labels)  # in every process of torchrun
        >>> rdh_ext.pairwise_loss(joint, joint_labels).backward()
        >>> joint.shape  # here there is one process
        torch.Size([4, 16])
    """
    if not _has_peers(group):
        _check_tensors(h, labels, others)
        return h, labels, *others
    if torch.compiler.is_compiling():  # the sizes of other ranks are data, no compiler can know them
        outside: Callable[..., tuple[Tensor | None, ...]] = torch.compiler.disable(_gather, reason=f"{_OP}: sizes")
        return outside(h, labels, others, group)
    return _gather(h, labels, others, group)


def _has_peers(group: Any) -> bool:
    """Whether there are other ranks."""
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        if dist.is_available() and group is dist.GroupMember.NON_GROUP_MEMBER:
            checks.fail_value(_OP, "group", "one that this rank is in", group)
        checks.fail_type(_OP, "group", "a torch.distributed.ProcessGroup or None", group)
    if not (dist.is_available() and dist.is_initialized()):
        return False
    ranks = dist.get_world_size(group)
    if ranks < 1:
        checks.fail_value(_OP, "group", "one that this rank is in", group)
    return ranks > 1


def _check_tensors(h: Any, labels: Any, others: tuple[Any, ...]) -> None:
    checks.check_tensor(_OP, "h", h, ndim=2)
    if labels is not None:
        normalize_labels(_OP, "labels", labels, h.size(0), h.device, check_values=False)
    for position, other in enumerate(others):
        argument = f"others[{position}]"
        if not isinstance(other, Tensor):
            checks.fail_type(_OP, argument, "a torch.Tensor", other)
        checks.check_dense(_OP, argument, other)
        if other.dim() == 0 or other.size(0) != h.size(0):
            checks.fail_value(_OP, argument, f"a tensor with a row for each of the {h.size(0)} of h", other)
        if other.device != h.device:
            checks.fail_value(_OP, argument, f"on the device of h ({h.device})", other)


def _gather(h: Any, labels: Any, others: tuple[Any, ...], group: Any) -> tuple[Tensor | None, ...]:
    """:func:`gather_batch` where there are other ranks: from here on none may raise before all know of it."""
    served = _served_devices(group)
    problem: TypeError | ValueError | None = None
    rows, description = -1, {}
    try:
        _check_tensors(h, labels, others)
        if h.device.type not in served:
            checks.fail_value(_OP, "h", f"on a device that the process group serves ({', '.join(served)})", h)
        rows, description = h.size(0), _describe(h, labels, others)
    except (TypeError, ValueError) as error:
        problem = error
    if "cpu" in served:
        header_device = torch.device("cpu")
    else:
        header_device = h.device if problem is None else torch.device(served[0])
    sizes = _exchange_sizes(rows, description, header_device, group)
    if sizes is None:
        _explain(problem, description, group)
    tensors = (h, *others) if labels is None else (h, labels, *others)
    joint_h, *rest = _Gather.apply(group, sizes, *tensors)
    return (joint_h, None, *rest) if labels is None else (joint_h, *rest)


def _served_devices(group: Any) -> list[str]:
    """Kinds of devices of ``"cpu:gloo,cuda:nccl"``."""
    return [part.split(":")[0] for part in dist.get_backend_config(group).split(",")]


def _describe(h: Tensor, labels: Tensor | None, others: tuple[Tensor, ...]) -> dict[str, str]:
    """What has to be alike on all ranks, in words."""
    named = {"h": h, "labels": labels, **{f"others[{i}]": other for i, other in enumerate(others)}}
    return {name: "None" if tensor is None else _describe_tensor(tensor) for name, tensor in named.items()}


def _describe_tensor(tensor: Tensor) -> str:
    shape = ", ".join(["B", *map(str, tensor.shape[1:])])
    gradient = " with gradient" if tensor.requires_grad and torch.is_grad_enabled() else ""
    return f"{str(tensor.dtype).removeprefix('torch.')} [{shape}] on {tensor.device.type}{gradient}"


def _exchange_sizes(rows: int, description: dict[str, str], device: torch.device, group: Any) -> list[int] | None:
    """Numbers of rows of all ranks; None, on every rank, where one has a problem or they do not fit together."""
    digest = hashlib.blake2b(repr(description).encode(), digest_size=8).digest()
    own = torch.tensor([rows, int.from_bytes(digest, "little", signed=True)], dtype=torch.int64, device=device)
    everyone = torch.empty(2 * dist.get_world_size(group), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(everyone, own, group=group)
    headers = everyone.view(-1, 2).tolist()
    sizes = [size for size, _ in headers]
    return sizes if min(sizes) >= 0 and len({digest for _, digest in headers}) == 1 else None


def _explain(problem: TypeError | ValueError | None, description: dict[str, str], group: Any) -> NoReturn:
    """Raises the same on every rank: the problem of the first rank that has one, else the first difference."""
    own = (None if problem is None else (type(problem), str(problem)), description)
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, own, group=group)
    for rank, (told, _) in enumerate(everyone):
        if told is not None:
            kind, message = told
            raise kind(f"{message} (rank {rank})") from None
    first = everyone[0][1]
    for rank, (_, other) in enumerate(everyone):
        for argument in {**first, **other}:
            a, b = (words.get(argument, "nothing") for words in (first, other))
            if a != b:
                got = f"{a} (rank 0) and {b} (rank {rank})"
                raise ValueError(f"{_OP}: {argument} must be alike on all ranks, got {got}")
    raise AssertionError("equal descriptions have equal digests")


class _Gather(torch.autograd.Function):
    """Rows of all ranks; backward sums what the ranks have for this one's rows."""

    @staticmethod
    def forward(ctx: Any, group: Any, sizes: list[int], *tensors: Tensor) -> tuple[Tensor, ...]:
        joint = _exchange_rows([tensor.detach() for tensor in tensors], sizes, group)
        ctx.group, ctx.sizes = group, sizes
        ctx.like = [tensor.to("meta") for tensor in joint]
        ctx.device = joint[0].device
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(tensor for tensor, needed in zip(joint, ctx.needs_input_grad[2:], strict=True) if not needed)
        )
        return tuple(joint)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        rank = dist.get_rank(ctx.group)
        first = sum(ctx.sizes[:rank])
        results: list[Tensor | None] = []
        for grad, like, needed in zip(grads, ctx.like, ctx.needs_input_grad[2:], strict=True):
            if not needed:
                results.append(None)
                continue
            wide = torch.promote_types(like.dtype, torch.float32)
            if grad is None:  # not used on this rank, perhaps on another
                total = torch.zeros(like.shape, dtype=wide, device=ctx.device)
            else:
                total = grad.to(wide, copy=True, memory_format=torch.contiguous_format)
            if total.numel():
                dist.all_reduce(total, group=ctx.group)
            results.append(total[first : first + ctx.sizes[rank]].to(like.dtype))
        return None, None, *results


def _exchange_rows(tensors: list[Tensor], sizes: list[int], group: Any) -> list[Tensor]:
    """All tensors as one message of bytes: one collective, and no dtype that a backend does not know."""
    widths = [tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors]
    message = torch.cat([_bytes(tensor, width) for tensor, width in zip(tensors, widths, strict=True)], 1)
    longest = max(sizes)
    padded = torch.nn.functional.pad(message, (0, 0, 0, longest - message.size(0)))
    everyone = message.new_empty(len(sizes) * longest, sum(widths))
    if everyone.numel():
        dist.all_gather_into_tensor(everyone, padded, group=group)
    if min(sizes) < longest:
        by_rank = everyone.view(len(sizes), longest, sum(widths))
        everyone = torch.cat([rows[:size] for rows, size in zip(by_rank, sizes, strict=True)])
    joint = []
    for part, tensor in zip(everyone.split(widths, 1), tensors, strict=True):
        own_memory = part.clone(memory_format=torch.contiguous_format).flatten()  # aligned for any dtype
        joint.append(own_memory.view(tensor.dtype).view(sum(sizes), *tensor.shape[1:]))
    return joint


def _bytes(tensor: Tensor, width: int) -> Tensor:
    """``tensor`` ``[B, ...]`` as uint8 ``[B, width]``. A copy, as the strides of an empty tensor may be anything."""
    return tensor.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).view(tensor.size(0), width)
