"""What unpickled code has in common: the namespace that it takes for `__main__`, and the classes that came with it.

A call is loaded into a scope of its own, so that nothing that other calls have changed is found in it. Where there is
none, as in a notebook that reads results, functions get a namespace by pickle, and classes are looked up among those
that this process has sent or received.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any


class Scope:
    """A `__main__`, empty at first, and what was loaded into it.

    Parameters
    ----------
    caches : dict, optional
        Functions with `functools.cache`, by their ids, that outlive the scope.
    """

    __slots__ = ("caches", "classes", "is_touched", "main", "results", "stream", "values")

    def __init__(self, caches: dict[str, Any] | None = None) -> None:
        self.main = types.ModuleType("__main__")
        self.classes: dict[str, type] = {}
        self.caches: dict[str, Any] = {} if caches is None else caches
        self.is_touched = False
        """Something was loaded that belongs to it."""
        self.values: Callable[[bytes], Any] | None = None
        """Loads an argument that is stored by itself."""
        self.results: Callable[[Any], Any] | None = None
        """Gives the result of another job: see `values.ResultOf`."""
        self.stream: tuple[int, ...] | None = None
        """Where the random streams of generators that are loaded now begin, beside their states; None if they shall
        stay what they are."""

    def enter(self) -> None:
        """Load into it from now on; it is `__main__`."""
        _Entered.scope = self
        sys.modules["__main__"] = self.main

    def globals(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The namespace of functions of `__main__`; what is there already is not replaced."""
        self.is_touched = True
        return fill(self.main.__dict__, attributes)

    def take(self, other: Scope) -> None:
        """Have the names of another one, too, for who looks for them in `__main__`."""
        fill(self.main.__dict__, other.main.__dict__)


class _Entered:
    scope: Scope | None = None


def entered() -> Scope | None:
    """The scope that is loaded into; None if there is none."""
    return _Entered.scope


def fill(namespace: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A namespace with more names, of which those stay that it has."""
    for name, value in more.items():
        namespace.setdefault(name, value)
    return namespace
