"""The versions of packages that functions refer to: compared where they are submitted and where they run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping

PICKLING = "cloudpickle"
"""Its versions matter for every payload."""


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
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        distributions = _distributions().get(name, [])
    except ValueError:  # a name that none can have
        return ""
    return importlib.metadata.version(distributions[0]) if len(set(distributions)) == 1 else ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    import importlib.metadata

    return importlib.metadata.packages_distributions()
