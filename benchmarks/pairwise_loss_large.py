"""The pairwise loss of all pairs of a training set of NUS-WIDE's size or more, against float64: is the mean right?

    python benchmarks/pairwise_loss_large.py                 # 59,000 x 59,000; minutes; writes results/
    python benchmarks/pairwise_loss_large.py --items 5000 --out /tmp/mine.csv

A batch of all items against itself in float32, with the error-aware term. float64 is the closed form, block by block of
rows. The bar for loss and parts is 1e-6, relative, for the gradient 1e-6 in relative norm.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from _measure import RESULTS, machine, write_csv
from tqdm import tqdm

import rdh_ext
from rdh_ext.ops.pairwise_loss import pairwise_loss_with_parts

BAR = 1e-6


def in_float64(h: torch.Tensor, labels: torch.Tensor, eta: float) -> tuple[float, float, torch.Tensor]:
    """Both parts and the gradient, by blocks of 256 rows."""
    wide = h.double()
    bit = torch.sign(wide)
    grad = torch.empty_like(wide)
    likelihood = quantization = 0.0
    pairs = len(h) ** 2
    for rows in tqdm(torch.arange(len(h)).split(256), unit="block", desc="float64"):
        x, b = wide[rows], bit[rows]
        s = (labels[rows][:, None] == labels).double()
        theta = 0.5 * (x @ wide.T)
        likelihood += float((torch.nn.functional.softplus(theta, threshold=50) - s * theta).sum())
        selected = 0.5 * (b.abs() * bit.abs().sum(0) + b * ((2 * s - 1) @ bit))
        quantization += float((selected * (x - b).square()).sum())
        # theta and S are symmetric: both roles are twice the one
        grad[rows] = ((torch.sigmoid(theta) - s) @ wide) / pairs + 2 * eta * selected * (x - b) / (pairs * h.size(1))
    return likelihood / pairs, quantization / (pairs * h.size(1)), grad


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=59_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS / "pairwise_loss_large_cpu.csv")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    eta = 0.1
    h = torch.tanh(torch.randn(arguments.items, arguments.bits)).requires_grad_()
    labels = torch.randint(0, 21, (arguments.items,))
    start = time.perf_counter()
    loss, parts = pairwise_loss_with_parts(h, labels, eta=eta)
    (grad,) = torch.autograd.grad(loss, h)
    seconds = time.perf_counter() - start
    loss = loss.detach()
    likelihood, quantization, true_grad = in_float64(h.detach(), labels, eta)
    true_loss = likelihood + eta * quantization
    errors = {
        "loss": abs(float(loss) - true_loss) / abs(true_loss),
        "likelihood": abs(float(parts[0]) - likelihood) / likelihood,
        "quantization": abs(float(parts[1]) - quantization) / quantization,
        "gradient": float((grad.double() - true_grad).norm() / true_grad.norm()),
    }
    print(
        f"{arguments.items:,} x {arguments.items:,}, {arguments.bits} bits: {seconds:.1f} s, "
        f"rdh_ext {rdh_ext.__version__}"
    )
    for name, error in errors.items():
        print(f"  {name:12s} error {error:.2e}, bar {BAR}: {'held' if error <= BAR else 'MISSED'}")
    row = {"items": str(arguments.items), "bits": str(arguments.bits), "seconds": f"{seconds:.2f}"}
    row |= {f"{name}_error": f"{error:.2e}" for name, error in errors.items()}
    write_csv(arguments.out, [{**row, **machine()}])
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
