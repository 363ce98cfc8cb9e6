"""The pairwise loss of a whole training set with itself, on a GPU: rdh_ext and chunked peers at each precision.

Peers cannot have S, nor theta, as a matrix (59,000 x 59,000 float32 is 14 GB): they go over blocks of rows, compare
class ids there, and use that S is symmetric: the row's role, with twice its gradient. Times are between CUDA events,
the second-level cache overwritten before each; the floor is not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from _measure import machine, write_csv
from _pairwise_peers import ETA, SCALE, gradient_error, relative
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

import rdh_ext

BITS, CLASSES = 64, 10
PRECISIONS = ("highest", "high", "medium")
BAR_MS = 6.0
FLUSH_BYTES = 1 << 28

Step = Callable[[], tuple[Tensor, Tensor]]  # loss and dL/dh


def chunk_rows(items: int) -> int:
    """The largest divisor of ``items`` up to 1,024: all blocks alike, one compilation."""
    return next(rows for rows in range(min(items, 1024), 0, -1) if items % rows == 0)


def block_loss(rows: Tensor, row_labels: Tensor, agreement: Tensor, v: Tensor, labels: Tensor) -> Tensor:
    """What a block of rows adds to the loss; ``v`` is all of h, a constant here."""
    pairs = v.size(0) * v.size(0)
    s = (row_labels[:, None] == labels[None, :]).to(rows.dtype)
    half = binary_cross_entropy_with_logits((SCALE * rows) @ v.T, s, reduction="sum") / pairs
    bit = torch.sign(rows.detach())
    selected = 0.5 * (bit.abs() * torch.sign(v).abs().sum(0) + bit * agreement)
    quantization = (selected * (rows - bit).square()).sum() / (pairs * v.size(1))
    return 2 * half - half.detach() + ETA * quantization  # value once, gradient of both roles


def chunked(block: Callable[..., Tensor], h: Tensor, labels: Tensor) -> Step:
    """Loss and gradient over blocks of rows, ``sum_j (2 S - 1) sign v_j`` from class sums."""
    size = chunk_rows(h.size(0))

    def step() -> tuple[Tensor, Tensor]:
        v = h.detach()
        sums = one_hot(labels, CLASSES).to(v.dtype).T @ torch.sign(v)  # of 1 and -1: exact at every precision
        agreement = 2 * sums[labels] - sums.sum(0)
        total, grad = v.new_zeros(()), torch.empty_like(v)
        for start in range(0, v.size(0), size):
            rows = v[start : start + size].requires_grad_()
            part = slice(start, start + size)
            loss = block(rows, labels[part], agreement[part], v, labels)
            (grad[part],) = torch.autograd.grad(loss, rows)
            total += loss.detach()
        return total, grad

    return step


def ours(h: Tensor, labels: Tensor) -> Step:
    leaf = h.detach().requires_grad_()

    def step() -> tuple[Tensor, Tensor]:
        loss = rdh_ext.pairwise_loss(leaf, labels, scale=SCALE, eta=ETA)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    return step


def milliseconds(step: Step, flush: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()
    start.record()
    step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def run_cuda(out: Path, *, items: int, rounds: int) -> None:
    """Measures, prints, writes."""
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is available to PyTorch")
    torch.manual_seed(0)
    labels = torch.randint(0, CLASSES, (items,), device="cuda")
    h = torch.tanh(torch.randn(items, BITS, device="cuda"))
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    true_loss, true_grad = chunked(block_loss, h.double(), labels)()
    providers = {
        "rdh_ext": ours(h, labels),
        "eager": chunked(block_loss, h, labels),
        "compiled": chunked(torch.compile(block_loss, fullgraph=True, dynamic=False), h, labels),
    }
    facts = {**machine(), "device": torch.cuda.get_device_name(), "level": "cuda"}
    print(f"{items:,} x {items:,}, with itself, {BITS} bits, {CLASSES} classes, on {facts['device']}")
    rows = []
    for precision in PRECISIONS:
        torch.set_float32_matmul_precision(precision)
        errors, peaks = {}, {}
        for name, step in providers.items():
            step()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            loss, grad = step()
            errors[name] = relative(loss.item(), true_loss.item()), gradient_error(grad, true_grad)
            peaks[name] = torch.cuda.max_memory_allocated() - before
            del grad
        samples: dict[str, list[float]] = {name: [] for name in providers}
        for _ in range(rounds):
            for name, step in providers.items():
                samples[name].append(milliseconds(step, flush))
        for name, values in samples.items():
            cuts = statistics.quantiles(values, n=5)
            p50 = statistics.median(values)
            ratio = statistics.median(a / b for a, b in zip(values, samples["rdh_ext"], strict=True))
            verdict = "" if name != "rdh_ext" else f"   bar <= {BAR_MS:g} ms: {'held' if p50 <= BAR_MS else 'MISSED'}"
            print(f"  {precision:8s} {name:10s} {p50:9.2f} ms {ratio:7.2f} x   gradient {errors[name][1]:.1e}{verdict}")
            rows.append(
                {
                    "op": "pairwise_loss",
                    "mode": "forward+backward",
                    "shape": f"{items}x{items}",
                    "bits": str(BITS),
                    "labels": "class ids",
                    "precision": precision,
                    "provider": name,
                    "p20_ms": f"{cuts[0]:.3f}",
                    "p50_ms": f"{p50:.3f}",
                    "p80_ms": f"{cuts[3]:.3f}",
                    "times_rdh_ext": f"{ratio:.3f}",
                    "loss_error": f"{errors[name][0]:.2e}",
                    "gradient_error": f"{errors[name][1]:.2e}",
                    "extra_bytes": str(peaks[name]),
                    **facts,
                }
            )
    write_csv(out, rows)
    print(f"written: {out}")
