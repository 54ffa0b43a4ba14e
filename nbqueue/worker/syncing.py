"""The embedded server leaves it to its workers to bring its file to the disk, once a second."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from nbqueue.server import embedded

_EVERY = 1.0
"""Seconds."""


@contextlib.contextmanager
def syncing(server: embedded.RunningServer | None) -> Iterator[None]:
    """In a thread while the block runs, if there is an embedded server."""
    if server is None:
        yield
        return
    directory, over = server.directory, threading.Event()

    def sync() -> None:
        while not over.wait(_EVERY):
            with contextlib.suppress(OSError):
                embedded.sync(directory)

    thread = threading.Thread(target=sync, name="nbqueue-sync", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
