"""Lightning without its notices, and with interrupts that arrive."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's notices (devices found, loader workers, tips); warnings of others still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def interruptible(fit: Callable[[], None]) -> None:
    """Lets an interrupt through: Lightning turns it into ``exit(1)`` and leaves SIGINT ignored."""
    on_main_thread = signal.getsignal(signal.SIGINT)
    try:
        fit()
    except SystemExit as error:
        if on_main_thread is not None:
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                signal.signal(signal.SIGINT, on_main_thread)
        raise KeyboardInterrupt from error
