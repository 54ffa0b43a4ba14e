"""The bell of a worker: it rings when somebody submits something."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Any

from nbqueue.store import keys
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.store import Store
from nbqueue.worker.identity import Identity

BLOCKING = 2.0
"""Seconds that a blocking wait for work takes at most."""


class Bell:
    """A connection that blocks until there is a token, which one of those that wait gets.

    Parameters
    ----------
    who : Identity
    store : Store
    selector : selectors.BaseSelector
        The event loop's.
    on_token : callable
        Called when it has got the token.
    """

    def __init__(
        self, who: Identity, store: Store, selector: selectors.BaseSelector, on_token: Callable[[], None]
    ) -> None:  # fmt: skip
        self._keys = [store.key(keys.wake(queue, who.environment)) for queue in who.options.queues]
        self._on_token = on_token
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
            self._waits.run("BLPOP", *self._keys, BLOCKING, callback=self._on_answer)

    def _on_answer(self, token: Any) -> None:
        self.is_waiting = False
        self.rings += 1
        if isinstance(token, list):
            self._on_token()
