"""The embedded server leaves its disk to its workers: what was written is brought there once a second, and large values
that nobody needs are removed once a minute."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.payload import files
from nbqueue.server import embedded
from nbqueue.store.store import Store

log = logging.getLogger("nbqueue.worker")

_SYNC_EVERY = 1.0
"""Seconds."""

_SWEEP_EVERY = 60.0
"""Seconds."""

_SETTLES = 2.0
"""Seconds after which a file is worth to be brought to the disk: many live shorter."""


@contextlib.contextmanager
def looked_after(backend: Backend) -> Iterator[None]:
    """In a thread while the block runs, if there is an embedded server."""
    if backend.embedded is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_look_after, args=(backend, backend.embedded, over), name="nbqueue-disk", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def _look_after(backend: Backend, server: embedded.RunningServer, over: threading.Event) -> None:
    synced_upto = 0.0
    sweep_at = time.monotonic()
    while not over.wait(_SYNC_EVERY):
        upto = time.time() - _SETTLES
        with contextlib.suppress(OSError):
            embedded.sync(server.directory)
            files.sync(server.files, synced_upto, upto)
            synced_upto = upto
        if time.monotonic() >= sweep_at:
            sweep_at = time.monotonic() + _SWEEP_EVERY
            sweep(server.files, backend.store.url)  # where it is now: it may have been started again


def sweep(directory: Path, url: str, grace: float = files.GRACE) -> None:
    """Remove the large values that nothing in the server there names any more; see `files.sweep`."""
    stores: dict[str, Store] = {}

    def known(namespace: str, names: list[str]) -> list[bool]:
        if namespace not in stores:
            stores[namespace] = Store(url, namespace)
        return stores[namespace].has_large(names)

    try:
        removed = files.sweep(directory, known, grace)
        if removed.number:
            log.info("removed %d large values (%.1f MB) that nobody needs", removed.number, removed.bytes / 1e6)
    except (errors.ServerError, OSError) as error:
        log.info("large values that nobody needs are not removed now: %s", error)
    finally:
        for store in stores.values():
            store.close()
