"""The versions of packages that functions refer to: compared where they are submitted and where they run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from typing import Any

PICKLING = "cloudpickle"
"""Its versions matter for every payload."""

_MOST_SEEN = 100
"""Values whose types are looked at."""


def packages_of(values: Iterable[Any], depth: int = 2) -> Set[str]:
    """The top names of the modules that the types of values are of, and of those in lists, tuples and dictionaries.

    Examples
    --------
    >>> from fractions import Fraction
    >>> sorted(packages_of([1, [Fraction(1, 2)]]))
    ['builtins', 'fractions']
    """
    found = set()
    for value in islice(values, _MOST_SEEN):
        kind = type(value)
        found.add((value if isinstance(value, type) else kind).__module__.partition(".")[0])
        if depth and kind in (list, tuple, dict):
            found |= packages_of(value.values() if kind is dict else value, depth - 1)
    return found


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of installed packages, by the names that they are imported by, in order; of others, nothing.

    Examples
    --------
    >>> list(versions_of(["os", "cloudpickle", "nbqueue_no_such_package"]))
    ['cloudpickle']
    """
    found = ((name, _version_of(name)) for name in sorted(packages) if name not in sys.stdlib_module_names)
    return {name: version for name, version in found if version}


def differences(versions: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Packages that are not here in these versions: name, that version, the one here ('' if there is none)."""
    here = ((name, there, _version_of(name)) for name, there in versions.items())
    return [(name, there, version) for name, there, version in here if version != there]


@functools.cache
def _version_of(name: str) -> str:
    import importlib.metadata  # takes ten milliseconds, and only those need it who use a URL

    try:
        try:
            return importlib.metadata.version(name) or ""
        except importlib.metadata.PackageNotFoundError:
            found = {distribution for distribution in _distributions().get(name, ()) if distribution}
            return (importlib.metadata.version(found.pop()) or "") if len(found) == 1 else ""
    except Exception:  # noqa: BLE001 - what a broken installation has left of a package raises anything
        return ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    import importlib.metadata

    return importlib.metadata.packages_distributions()
