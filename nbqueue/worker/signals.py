"""Signals as events of a loop."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable
from types import TracebackType

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """While it is entered, signals wake the loop, and those that end a process call `stop` instead.

    Parameters
    ----------
    selector : selectors.BaseSelector
        The event loop's; its keys carry a callable as data.
    stop : callable
    """

    def __init__(self, selector: selectors.BaseSelector, stop: Callable[[], None]) -> None:
        self._selector = selector
        self._stop = stop
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Signals:
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in (*_STOP, signal.SIGCHLD)}
        self._selector.register(self._reader, selectors.EVENT_READ, self._on_signals)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:  # fmt: skip
        signal.set_wakeup_fd(self._former_fd)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._selector.unregister(self._reader)
        self._reader.close()
        self._writer.close()

    def _on_signals(self) -> None:
        for number in self._reader.recv(256):
            if number in _STOP:
                self._stop()
        # SIGCHLD needs nothing but this turn of the loop.
