"""That a call sends much is said once, with what of it is large."""

from __future__ import annotations

import threading
import warnings
from typing import Any

from nbqueue import errors
from nbqueue.payload.explain import sizes_of_parts

_MUCH = 50_000_000
"""Bytes."""

_NAMED = 3
"""Parts that are named."""


class Sizes:
    """Remembers of what it was said that it is large. Threads may share it."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def look(self, what: str, value: Any, size: int) -> None:
        """Warn, once for each `what`, if its payload is large.

        Parameters
        ----------
        what : str
            How it is called where people read it.
        value : object
        size : int
            Bytes.
        """
        if size <= _MUCH:
            return
        with self._lock:
            if what in self._told:
                return
            self._told.add(what)
        parts = sorted(sizes_of_parts(what, value), key=lambda part: -part[1])[:_NAMED]
        largest = ", ".join(f"{name} {bytes / 1e6:,.0f} MB" for name, bytes in parts if bytes > _MUCH / 100)
        which = f" ({largest})" if largest else ""
        warnings.warn(
            f"{what}: {size / 1e6:,.0f} MB go along to workers{which}. nbqueue.explain(func, *args) tells what is "
            "large; to leave out what is not needed is quicker, or the path of a file that workers can read",
            errors.LargeWarning,
            stacklevel=6,
        )
