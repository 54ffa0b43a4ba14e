"""What of a notebook a function needs that reads pickles: the classes and functions that a file may name.

A pickle has of a class of `__main__` its name only, and a function that reads the file need not name it. So all that
are small go along with such a function, as far as they can be sent.
"""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Callable, Collection
from typing import Any

_READ = frozenset({"load", "loads", "read_pickle", "Unpickler"})
_READERS = frozenset({"pickle", "_pickle", "joblib", "cloudpickle", "dill", "pandas", "torch"})

_LARGEST = 256 * 1024
"""Bytes of what goes along unasked."""

_VALID = 2.0
"""Seconds for which it is known what can be sent: calls of one function are submitted one after the other."""


def reads_pickles(names: Collection[str], namespace: dict[str, Any]) -> bool:
    """Whether code that mentions these names seems to read pickles.

    Examples
    --------
    >>> reads_pickles({"pickle", "load", "path"}, {})
    True
    >>> reads_pickles({"json", "load"}, {})
    False
    """
    if _READ.isdisjoint(names):  # as of nearly all, and this is asked at each submission
        return False
    names = set(names)
    modules = {_top_of(namespace[name]) for name in names if name in namespace}
    return not _READERS.isdisjoint(names | modules)


def _top_of(value: Any) -> str:
    if not isinstance(value, types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type):
        return ""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return name.partition(".")[0] if isinstance(name, str) else ""


class StoredNames:
    """Finds the classes and functions of a namespace that pickles name, and that can be sent.

    Parameters
    ----------
    size_of : callable
        The bytes of what is sent of an object; None if it cannot be.
    """

    def __init__(self, size_of: Callable[[Any], int | None]) -> None:
        self._size_of = size_of
        self._known: dict[str, Any] = {}
        self._until = float("-inf")
        self._is_looking = False
        self._lock = threading.RLock()

    def find(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """They, by their names; nothing while it looks itself."""
        with self._lock:
            if self._is_looking:
                return {}
            if time.monotonic() > self._until:
                self._is_looking = True
                try:
                    self._known = {name: one for name, one in list(namespace.items()) if self._is_wanted(name, one)}
                finally:
                    self._is_looking = False
                self._until = time.monotonic() + _VALID
            return {name: value for name, value in self._known.items() if namespace.get(name) is value}

    def _is_wanted(self, name: str, value: Any) -> bool:
        if not isinstance(value, type | types.FunctionType):
            return False
        if (value.__module__, value.__qualname__) != ("__main__", name):
            return False
        size = self._size_of(value)
        return size is not None and size <= _LARGEST
