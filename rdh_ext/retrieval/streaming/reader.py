"""Blocks of a code set, read and checked by a thread while those before are worked on."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sets.code_set import Block, CodeSet


@dataclass(frozen=True)
class Piece:
    """A block on the device that works on it."""

    block: Block
    codes: Tensor
    """uint8 ``[items, ceil(K / 8)]``."""
    labels: Tensor | None
    """Class ids, or multi-hot rows packed like codes."""


@dataclass(frozen=True)
class _Buffer:
    codes: Tensor
    labels: Tensor | None


class BlockReader:
    """Reads ``blocks`` one after the other, up to ``ahead`` of them before they are asked for.

    Iterating gives pieces on ``device``. A piece is valid until the next is asked for: its memory is used again. On
    CUDA blocks are read into pinned memory and copied on a stream of their own, while the kernels of the piece before
    run.

    Memory: ``ahead + 1`` blocks; on CUDA two of them on the device, too.
    """

    def __init__(
        self, source: CodeSet, blocks: Sequence[Block], device: torch.device, *, ahead: int, labels: bool = True
    ) -> None:
        self._source, self._blocks, self._device = source, blocks, device
        self._free: queue.Queue[_Buffer | None] = queue.Queue()
        self._full: queue.Queue[tuple[Block, _Buffer] | BaseException | None] = queue.Queue()
        rows = max((block.items for block in blocks), default=0)
        label_width = source.labels.width if source.labels is not None and labels else None
        for _ in range(min(ahead + 1, len(blocks))):
            self._free.put(_Buffer(self._memory(rows, source.manifest.code_bytes), self._memory(rows, label_width)))
        self._thread = threading.Thread(target=self._read_all, name="rdh block reader", daemon=True)

    def _memory(self, rows: int, width: int | None) -> Tensor:
        pinned = self._device.type == "cuda"
        return torch.empty((rows, width or 0), dtype=torch.uint8, device="cpu", pin_memory=pinned)

    def _read_all(self) -> None:
        try:
            for block in self._blocks:
                buffer = self._free.get()
                if buffer is None:
                    return
                labels = buffer.labels.numpy() if buffer.labels is not None and buffer.labels.shape[1] else None
                self._source.read_into(block, buffer.codes.numpy(), labels)
                self._full.put((block, buffer))
            self._full.put(None)
        except BaseException as error:  # for the thread that asks
            self._full.put(error)

    def __enter__(self) -> BlockReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.put(None)
        while self._thread.is_alive():  # it may have read what nobody asked for
            with contextlib.suppress(queue.Empty):
                self._full.get(timeout=0.05)
            self._free.put(None)
        self._thread.join()

    def __iter__(self) -> Iterator[Piece]:
        pieces = self._on_cpu() if self._device.type == "cpu" else self._on_device()
        yield from pieces

    def _next(self) -> tuple[Block, _Buffer] | None:
        got = self._full.get()
        if isinstance(got, BaseException):
            raise got
        return got

    def _piece(self, block: Block, buffer: _Buffer) -> Piece:
        labels = buffer.labels[: block.items] if buffer.labels is not None and buffer.labels.shape[1] else None
        return Piece(block, buffer.codes[: block.items], None if labels is None else self._source.labels_of(labels))

    def _on_cpu(self) -> Iterator[Piece]:
        while (got := self._next()) is not None:
            block, buffer = got
            yield self._piece(block, buffer)
            self._free.put(buffer)

    def _on_device(self) -> Iterator[Piece]:
        """A piece is copied before the one before it is given away, so that the copy runs beside its kernels."""
        copies = torch.cuda.Stream(self._device)
        waiting: tuple[Piece, _Buffer, torch.cuda.Event] | None = None
        done: list[torch.cuda.Event] = []  # the kernels of the pieces given away
        while True:
            got = self._next()
            copied = None
            if got is not None:
                if len(done) > 1:  # or pieces would pile up on the device
                    done.pop(0).synchronize()
                block, buffer = got
                on_cpu = self._piece(block, buffer)
                with torch.cuda.stream(copies):
                    codes = on_cpu.codes.to(self._device, non_blocking=True)
                    labels = None if on_cpu.labels is None else on_cpu.labels.to(self._device, non_blocking=True)
                    event = torch.cuda.Event()
                    event.record(copies)
                copied = Piece(block, codes, labels), buffer, event
            if waiting is not None:
                piece, buffer, event = waiting
                stream = torch.cuda.current_stream(self._device)
                stream.wait_event(event)
                for tensor in (piece.codes, piece.labels):
                    if tensor is not None:
                        tensor.record_stream(stream)
                yield piece
                after = torch.cuda.Event()
                after.record(stream)
                done.append(after)
                event.synchronize()
                self._free.put(buffer)
            if copied is None:
                return
            waiting = copied
