"""The bell of a worker: it rings when somebody submits something, and may bring a job with it."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Any

from nbqueue.store import keys
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests.running import Claimed, read_handed
from nbqueue.store.store import Store
from nbqueue.worker.identity import Identity

BLOCKING = 2.0
"""Seconds that a blocking wait for work takes at most; `parking.lua` knows it."""

_MOST = 16
"""Elements that are taken at once: more than a job has."""


class Bell:
    """A connection that blocks until there is a token, which one of those that wait gets, or a job for this worker.

    Parameters
    ----------
    who : Identity
    store : Store
    selector : selectors.BaseSelector
        The event loop's.
    on_token : callable
        Called when it has got the token.
    on_handed : callable
        Called with a job that was leased to the worker while it was parked.
    """

    def __init__(
        self, who: Identity, store: Store, selector: selectors.BaseSelector, on_token: Callable[[], None],
        on_handed: Callable[[Claimed], None],
    ) -> None:  # fmt: skip
        self._handed = store.key(keys.handed(who.id))
        self._keys = [self._handed, *(store.key(keys.wake(queue, who.environment)) for queue in who.options.queues)]
        self._on_token = on_token
        self._on_handed = on_handed
        self._waits = Pipeline(store, selector, lambda: None)
        self.is_waiting = False
        self.rings = 0
        """How often a wait has ended, with or without a token."""

    def close(self) -> None:
        self._waits.close()

    def flush(self) -> None:
        self._waits.flush()

    def wait(self) -> None:
        """Wait for a token, if there is a connection; nothing if it waits already."""
        if not self.is_waiting and self._waits.is_connected:
            self.is_waiting = True
            self._waits.run(
                "BLMPOP", BLOCKING, len(self._keys), *self._keys, "LEFT", "COUNT", _MOST, callback=self._on_answer
            )

    def _on_answer(self, answer: Any) -> None:
        self.is_waiting = False
        self.rings += 1
        if isinstance(answer, list):
            key, elements = answer
            if key == self._handed:
                self._on_handed(read_handed(elements))
            else:
                self._on_token()
