"""Settings of the process that submits, on which results depend: what differs from those of a fresh interpreter.

Plain values only, so that a child can apply those of libraries that it has, and need not import the others.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nbqueue.payload.functions import Code
from nbqueue.payload.memory import MappedFile
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal

Settings = dict[str, Any]
"""By name: `environment`, `warnings`, `decimal`, `mpmath`, `numpy_errors`."""

_OF_KERNELS = re.compile(
    r"(JPY_|PYDEVD_|NBQUEUE_|COLUMNS$|LINES$|_$|PWD$|OLDPWD$|SHLVL$|MPLBACKEND$|CLICOLOR|FORCE_COLOR$|PAGER$|GIT_PAGER$|"
    r"TERM$|IPY|PYTEST_|PYTHONHASHSEED$|KERNEL_|KMP_DUPLICATE_LIB_OK$|KMP_INIT_AT_FORK$|CUDA_MODULE_LOADING$|"
    r"TF2_BEHAVIOR$)"
)
"""Variables that kernels, their surroundings and libraries that are imported set for themselves."""

_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")

_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""numpy's defaults."""

_PLAIN_FILTERS = [
    ("default", None, "builtins.DeprecationWarning", "__main__", 0),
    ("ignore", None, "builtins.DeprecationWarning", None, 0),
    ("ignore", None, "builtins.PendingDeprecationWarning", None, 0),
    ("ignore", None, "builtins.ImportWarning", None, 0),
    ("ignore", None, "builtins.ResourceWarning", None, 0),
]
"""Those of a fresh interpreter."""


class Collector:
    """Looks what differs. It is asked at each submission, so it compares with what it saw last."""

    def __init__(self) -> None:
        self._initial = _initial_environment()
        self._environment: dict[Any, Any] | None = None
        self._changes: dict[str, str | None] = {}
        self._filters: list[Any] | None = None
        self._plain_filters: list[Any] = []
        self._packed: tuple[Seal, Settings, Code] | None = None

    def pack(self, seal: Seal, variables: Collection[str] | None = None) -> Code | None:
        """The settings as they are now, as a record; None if there are none. See `collect`."""
        settings = self.collect(variables)
        if not settings:
            return None
        packed = self._packed
        if packed is None or packed[0] is not seal or packed[1] != settings or not packed[2].is_there:
            body = pickle.dumps(settings, 5)
            record, held = seal.close_stored(b"settings", [body])
            code = Code(record, "settings", held)
            packed = self._packed = seal, settings, code
        return packed[2]

    def collect(self, variables: Collection[str] | None = None) -> Settings:
        """The settings that are not those of a fresh interpreter.

        Parameters
        ----------
        variables : collection of str, optional
            The environment variables that may go along; all if it is not given.
        """
        found: Settings = {}
        environment = self.environment()
        if variables is not None:
            environment = {name: value for name, value in environment.items() if name in variables}
        if environment:
            found["environment"] = environment
        filters = self._warnings()
        if filters:
            found["warnings"] = filters
        for name, look in (("decimal", _decimal), ("mpmath", _mpmath), ("numpy", _numpy)):
            module = sys.modules.get(name)
            value = None if module is None else look(module)
            if value is not None:
                found["numpy_errors" if name == "numpy" else name] = value
        return found

    def environment(self) -> dict[str, str | None]:
        """Variables that were set, changed, or deleted (None), since this process began."""
        now = getattr(os.environ, "_data", None)
        if now is None:
            now = dict(os.environb)
        if self._environment != now:
            changes: dict[str, str | None] = {
                name: value
                for name, value in os.environ.items()
                if self._initial.get(name) != value and not _OF_KERNELS.match(name)
            }
            for name in self._initial.keys() - os.environ.keys():
                if not _OF_KERNELS.match(name):
                    changes[name] = None
            self._environment, self._changes = dict(now), changes
        return self._changes

    def _warnings(self) -> list[Any]:
        if warnings.filters != self._filters:
            self._filters = list(warnings.filters)
            plain = [_plain_filter(one) for one in warnings.filters]
            self._plain_filters = [] if plain == _PLAIN_FILTERS else plain
        return self._plain_filters


def unpack_settings(seal: Seal, digest: bytes, record: Blob | MappedFile) -> Settings:
    """The settings of a record.

    Raises
    ------
    SignatureError, CorruptPayload
    """
    opened = seal.open_stored(b"settings", digest, record, "the stored settings are not those that the batch names")
    settings: Settings = pickle.loads(opened.body)
    return settings


def _initial_environment() -> Mapping[str, str]:
    """The environment that this process was started with; where that is not known, as it is now."""
    try:
        data = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _plain_filter(one: Any) -> tuple[Any, ...]:
    action, text, kind, module, line = one
    return action, _pattern(text), f"{kind.__module__}.{kind.__qualname__}", _pattern(module), line


def _pattern(text: Any) -> str | None:
    return text if text is None or isinstance(text, str) else str(text.pattern)


def filters_from(plain: Collection[Any]) -> list[Any]:
    """Filters that warnings understand; those for kinds of warnings of libraries that are not imported are left out:
    they set them when they are."""
    found = []
    for action, text, name, module, line in plain:
        where, _, kind_name = name.rpartition(".")
        kind = getattr(sys.modules.get(where), kind_name, None)
        if isinstance(kind, type) and issubclass(kind, Warning):
            compiled = None if text is None else re.compile(text, re.IGNORECASE)
            found.append((action, compiled, kind, None if module is None else re.compile(module), line))
    return found


def _decimal(module: Any) -> dict[str, Any] | None:
    now, usual = module.getcontext(), module.DefaultContext
    if (
        now.prec == usual.prec
        and now.rounding == usual.rounding
        and now.traps == usual.traps
        and now.Emax == usual.Emax
    ):
        return None
    traps = [signal.__name__ for signal, is_set in now.traps.items() if is_set]
    return {**{name: getattr(now, name) for name in _DECIMAL}, "traps": traps}


def decimal_context(values: Mapping[str, Any]) -> Any:
    """The context of decimal that has these values."""
    import decimal

    traps = [getattr(decimal, name) for name in values["traps"] if hasattr(decimal, name)]
    return decimal.Context(**{**values, "traps": traps})


def _mpmath(module: Any) -> int | None:
    bits: int = module.mp.prec
    return None if bits == 53 else bits


def _numpy(module: Any) -> dict[str, str] | None:
    if not hasattr(module, "geterr"):  # it is being imported
        return None
    now: dict[str, str] = module.geterr()
    return None if now == _NUMPY_ERRORS else now
