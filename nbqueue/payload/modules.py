"""Local modules: sources that travel with jobs, because they are installed nowhere.

A module is local if it was loaded from a Python file that belongs neither to the standard library nor to an
installation (`site-packages`): one beside the notebook, in a directory on `sys.path`, or installed as editable.
"""

from __future__ import annotations

import functools
import os
import pickle
import site
import sysconfig
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbqueue import errors
from nbqueue.payload.functions import Code
from nbqueue.payload.memory import MappedFile
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal

_OWN = errors.__name__.partition(".")[0]

_DEBUGGERS = ("pydevd", "_pydev", "pydev_", "debugpy")
"""How modules begin that an editor brings into the processes that it starts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module as it was when it was submitted."""

    path: str
    """Where it lies on the host that submitted it."""
    is_package: bool
    text: bytes


def pack_modules(seal: Seal, sources: Mapping[str, Source]) -> Code:
    """Modules by their names, as a record: the same sources make the same one."""
    plain = [(name, source.path, source.is_package, source.text) for name, source in sorted(sources.items())]
    body = pickle.dumps(plain, 5)
    record, held = seal.close_stored(b"modules", [body])
    return Code(record, "local modules", held)


def unpack_modules(seal: Seal, digest: bytes, record: Blob | MappedFile) -> dict[str, Source]:
    """The modules of a record.

    Raises
    ------
    SignatureError, CorruptPayload
    """
    opened = seal.open_stored(b"modules", digest, record, "the stored modules are not those that the batch names")
    return {name: Source(*source) for name, *source in pickle.loads(opened.body)}


def local_path(name: str, module: types.ModuleType) -> str | None:
    """The file of a local module; '' for a directory without `__init__.py`. None if it is not local."""
    if name in ("__main__", "__mp_main__") or name.partition(".")[0] == _OWN or name.startswith(_DEBUGGERS):
        return None
    path = getattr(module, "__file__", None)
    if path is None:
        entries = list(getattr(module, "__path__", ()))
        return "" if entries and all(isinstance(entry, str) and not is_installed(entry) for entry in entries) else None
    if not isinstance(path, str) or not os.path.isabs(path) or is_installed(path):  # noqa: PTH117 - for each module
        return None
    return path


def is_installed(path: str) -> bool:
    """Whether a file belongs to the interpreter or its packages."""
    if path.startswith(_installation()):
        return True
    return f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path


@functools.cache
def _installation() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    places |= {str(Path(place).resolve()) for place in places}
    editors = Path("~/.vscode"), Path("~/.vscode-server"), Path("~/.cursor")  # what they bring with them
    return tuple(f"{place}{os.sep}" for place in places) + tuple(str(place.expanduser()) for place in editors)
