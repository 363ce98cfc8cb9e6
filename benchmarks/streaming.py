"""Full mAP of a gallery on disk: time, rate and peak memory of `rdh evaluate`, against the same op in memory.

    python benchmarks/streaming.py                     # 1,000 queries x 100,000,000 codes of 64 bits; writes results/
    python benchmarks/streaming.py --items 5000000     # a smaller gallery, into build/
    python benchmarks/streaming.py --folder /data      # where the code sets are made (900 MB), by default build/

The gallery is a code set in one folder: 800 MB of random codes and 100 MB of class ids (10 classes, a byte each). It is
made once and used again. "disk" is the whole command in a process of its own, with the files dropped from the page
cache before; "cache" is the same without dropping them. "in memory" is rdh_ext.hamming_histogram on the first
10,000,000 codes, loaded before: its rate is what the others are held against. Turns are taken, round by round; a ratio
is of one round, and the median of the rounds is shown. Time of a command is of its evaluation, from opening the sets to
the result, and does not have the seconds that Python and PyTorch take to start; "whole" has them.

Before anything is timed the command's histogram of a part of the gallery is compared with that of the op, bit for bit.

Bars: at least 0.7 of the rate in memory, from the disk; no more memory than the plan says before it begins.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _measure import RESULTS, fresh_process, machine, write_csv

import rdh_ext
from rdh_ext.retrieval import CodeSet, CodeSetWriter, evaluate_sets, write_code_set

BUILD = Path(__file__).resolve().parent.parent / "build"
QUERIES, ITEMS, BITS, CLASSES = 1000, 100_000_000, 64, 10
IN_MEMORY = 10_000_000
AT_ONCE = 5_000_000


def make_sets(folder: Path, queries: int, items: int) -> tuple[Path, Path]:
    """The two code sets, made where they are not there."""
    query, gallery = folder / f"query-{queries}.npz", folder / f"gallery-{items}"
    random = torch.Generator().manual_seed(0)
    if not query.exists():
        codes = torch.randint(0, 256, (queries, BITS // 8), generator=random, dtype=torch.uint8)
        write_code_set(query, codes, torch.randint(0, CLASSES, (queries,), generator=random))
    if not gallery.exists():
        with CodeSetWriter(gallery, bits=BITS, label_dtype="uint8") as writer:
            for start in range(0, items, AT_ONCE):
                rows = min(AT_ONCE, items - start)
                codes = torch.randint(0, 256, (rows, BITS // 8), generator=random, dtype=torch.uint8)
                writer.add(codes, torch.randint(0, CLASSES, (rows,), generator=random))
    return query, gallery


def drop_from_cache(gallery: Path) -> None:
    for path in gallery.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def evaluate(query: str, gallery: str, threads: int) -> None:
    """In a process of its own: prints what it took as JSON."""
    torch.set_num_threads(threads)
    plans: list[Any] = []
    start = time.perf_counter()
    result = evaluate_sets(query, gallery, on_plan=plans.append)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # ru_maxrss has that of the process that started this one
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "plan": plans[0].total, "map": result.map}))


def command(query: Path, gallery: Path, threads: int) -> dict[str, float]:
    start = time.perf_counter()
    sets = {"query": str(query), "gallery": str(gallery)}
    measured = fresh_process("streaming.py", "evaluate", {}, **sets, threads=threads)
    return {**measured, "whole": time.perf_counter() - start}


class InMemory:
    """The op on the first codes of the gallery."""

    def __init__(self, query: Path, gallery: Path, items: int) -> None:
        q, q_labels = CodeSet(query).load()
        codes, labels = [], []
        for block in CodeSet(gallery).blocks():
            if block.first >= items:
                break
            part, of_part = CodeSet(gallery).read(block)
            codes.append(part)
            labels.append(of_part)
        self.items = min(items, sum(part.shape[0] for part in codes))
        of_items = torch.cat([part for part in labels if part is not None])[:items]
        assert q_labels is not None
        self.arguments = (q, torch.cat(codes)[:items], q_labels.long(), of_items.long())

    def histogram(self) -> torch.Tensor:
        """Of the op."""
        return rdh_ext.hamming_histogram(*self.arguments)

    def rate(self) -> float:
        """Pairs per second of the op."""
        start = time.perf_counter()
        self.histogram()
        return self.items * self.arguments[0].shape[0] / (time.perf_counter() - start)


def check(folder: Path, query: Path, gallery: Path) -> None:
    """The streamed histogram of a part is that of the op."""
    some = InMemory(query, gallery, 1_000_000)
    path = folder / "part"
    part = write_code_set(path, some.arguments[1], some.arguments[3], shard_items=300_000, overwrite=path.exists())
    if not torch.equal(evaluate_sets(query, part).histogram, some.histogram()):
        raise SystemExit("the histogram of the code set is not that of the op")


def main() -> None:
    if sys.argv[1:2] == ["evaluate"]:
        evaluate(**json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=BUILD / "streaming", help="of the code sets (%(default)s)")
    parser.add_argument("--queries", type=int, default=QUERIES, help="(%(default)s)")
    parser.add_argument("--items", type=int, default=ITEMS, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="(%(default)s, all there are)")
    parser.add_argument("--out", type=Path, help="default: results/, or build/ where it is not the whole measurement")
    options = parser.parse_args()
    whole = (options.queries, options.items) == (QUERIES, ITEMS)
    out = options.out or (RESULTS if whole else BUILD) / "streaming_cpu.csv"
    torch.set_num_threads(options.threads)
    query, gallery = make_sets(options.folder, options.queries, options.items)
    check(options.folder, query, gallery)
    memory = InMemory(query, gallery, min(IN_MEMORY, options.items))
    rounds = [take_round(memory, query, gallery, options.threads) for _ in range(options.rounds)]
    rows = summary(rounds, options, memory.items)
    for row in rows[1:]:
        print(sentence(row))
    write_csv(out, rows)
    print(f"written: {out}")


def take_round(memory: InMemory, query: Path, gallery: Path, threads: int) -> dict[str, Any]:
    """The op in memory, then the command from the disk, then from the page cache."""
    rate = memory.rate()
    drop_from_cache(gallery)
    one = {"rate": rate, "disk": command(query, gallery, threads), "cache": command(query, gallery, threads)}
    times = ", ".join(f"{name} {one[name]['seconds']:.2f} s" for name in ("disk", "cache"))
    print(f"in memory {rate / 1e9:.2f} Gpair/s, {times}")
    return one


def summary(rounds: list[dict[str, Any]], options: argparse.Namespace, in_memory: int) -> list[dict[str, str]]:
    """Medians, as rows."""
    pairs, rate = options.queries * options.items, median(one["rate"] for one in rounds)
    seconds_in_memory = options.queries * in_memory / rate
    facts = {**machine(), "threads": str(options.threads)}
    size = {"queries": str(options.queries), "items": str(options.items), "bits": str(BITS)}
    rows = [
        {
            **size,
            "items": str(in_memory),
            "provider": "in memory",
            "seconds": f"{seconds_in_memory:.3f}",
            "pairs_per_second": f"{rate:.4g}",
            "of_in_memory": "1",
            **dict.fromkeys(("whole_seconds", "peak_bytes", "planned_bytes"), ""),
            **facts,
        }
    ]
    for name in ("disk", "cache"):
        ones = [one[name] for one in rounds]
        seconds = median(one["seconds"] for one in ones)
        rows.append(
            {
                **size,
                "provider": name,
                "seconds": f"{seconds:.3f}",
                "pairs_per_second": f"{pairs / seconds:.4g}",
                "of_in_memory": f"{median(pairs / one[name]['seconds'] / one['rate'] for one in rounds):.4g}",
                "whole_seconds": f"{median(one['whole'] for one in ones):.3f}",
                "peak_bytes": str(max(int(one["peak"]) for one in ones)),
                "planned_bytes": str(min(int(one["plan"]) for one in ones)),
                **facts,
            }
        )
    return rows


def sentence(row: dict[str, str]) -> str:
    """What a row says of the bars."""
    rate, ratio = float(row["pairs_per_second"]) / 1e9, float(row["of_in_memory"])
    peak, planned = (int(row[name]) >> 20 for name in ("peak_bytes", "planned_bytes"))
    speed = f"{float(row['seconds']):.2f} s, {rate:.2f} Gpair/s, {ratio:.3f} of the rate in memory"
    kept = "held" if peak <= planned else "MISSED"
    verdict = "held" if ratio >= 0.7 else "MISSED"
    return f"{row['provider']}: {speed} (bar 0.7: {verdict}); peak {peak:,} MiB of {planned:,} planned ({kept})"


if __name__ == "__main__":
    main()
