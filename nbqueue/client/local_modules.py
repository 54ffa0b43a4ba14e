"""Which local modules go along with what is submitted: those that are imported here, and those that these import."""

from __future__ import annotations

import functools
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbqueue import errors
from nbqueue.payload.functions import Code
from nbqueue.payload.modules import Source, is_installed, local_path, pack_modules
from nbqueue.payload.seal import Seal

_FRESH = 0.05
"""Seconds: a file that was changed less than that before it was read may be changed once more without showing it."""

_MOST_FILES = 2000
"""Files of a package; of larger ones those go along that are imported."""

Choice = bool | Sequence[str]
"""Of local modules: all, none, or names of further packages that go along; of those with '-' in front that do not."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read."""

    stamp: tuple[int, int, int]
    at: float
    source: Source


class LocalModules:
    """Bundles the local modules of this process. Threads may share it.

    Parameters
    ----------
    choice : bool or sequence of str

    Raises
    ------
    WrongType
    """

    def __init__(self, choice: Choice = True) -> None:
        if isinstance(choice, str) or not (
            isinstance(choice, bool)
            or (isinstance(choice, Iterable) and all(isinstance(name, str) and name.strip("-") for name in choice))
        ):
            raise errors.WrongType(
                f"local_modules={choice!r}: True, False, or a list of names is accepted: of packages that are "
                "installed and shall travel all the same, or with '-' in front of local ones that shall not"
            )
        names = [] if isinstance(choice, bool) else list(choice)
        self._is_on = choice is not False
        self._added = {name for name in names if not name.startswith("-")}
        self._left_out = {name[1:] for name in names if name.startswith("-")}
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        """Modules that functions have asked for, which may not be imported here."""
        self._scanned: tuple[int, list[str], int] | None = None
        self._files: dict[str, tuple[str, bool]] = {}
        """Path of each module, and whether it is a package ('' for one without a file)."""
        self._read: dict[str, _Read] = {}
        self._packed: tuple[Seal, dict[str, Source], Code] | None = None
        self.compiled: dict[str, str] = {}
        """Local modules that are no Python sources, with their paths: they cannot travel."""

    def bundle(self, seal: Seal, imports: Collection[str]) -> Code | None:
        """The local modules as they are now, packed; None if there are none.

        Parameters
        ----------
        imports : collection of str
            Modules that are imported inside of functions.
        """
        if not self._is_on:
            return None
        with self._lock:
            self._asked |= set(imports)
            self._scan()
            if not self._files:
                return None
            sources = self._sources()
            if self._scanned is None:  # one was edited, and may import others now
                self._scan()
                sources = self._sources()
            packed = self._packed
            if packed is None or packed[0] is not seal or packed[1] != sources or not packed[2].is_there:
                packed = self._packed = seal, sources, pack_modules(seal, sources)
            return packed[2]

    # Which

    def _scan(self) -> None:
        """Look which modules there are, if any has come or gone since the last time."""
        now = len(sys.modules), sys.path, len(self._asked)
        if self._scanned == now and all(self._is_there(name) for name in self._files):
            return
        self._scanned = len(sys.modules), sys.path.copy(), len(self._asked)
        self._files, self.compiled = {}, {}
        for name, module in sys.modules.copy().items():
            if module is None or self._is_left_out(name):
                continue
            path = getattr(module, "__file__", None) if self._is_added(name) else _local_path_of(name, module)
            if path is not None:
                self._add(name, path, list(getattr(module, "__path__", ())))
        looked: set[str] = set()
        while wanted := self._wanted() - looked:
            looked |= wanted
            for name in sorted(wanted):
                if name not in self._files and name not in sys.modules and not self._is_left_out(name):
                    self._find(name)

        tops = {name.partition(".")[0] for name in self.compiled}
        for name in [name for name in self._files if name.partition(".")[0] in tops]:
            del self._files[name]  # a package that is compiled in part has to be installed as a whole

    def _wanted(self) -> set[str]:
        """Modules that functions and the modules that were found import."""
        return self._asked.union(*(_imported_by(path) for path, _ in self._files.values() if path))

    def _is_there(self, name: str) -> bool:
        """Whether a module that was found is still the one that is imported."""
        module = sys.modules.get(name)
        return module is None or (getattr(module, "__file__", None) or "") == self._files[name][0]

    def _is_left_out(self, name: str) -> bool:
        return name in self._left_out or name.partition(".")[0] in self._left_out

    def _is_added(self, name: str) -> bool:
        return name in self._added or name.partition(".")[0] in self._added

    def _add(self, name: str, path: str, places: Sequence[str]) -> None:
        if path and not path.endswith(".py"):
            if path.endswith((".so", ".pyd")):
                self.compiled[name] = path
            return
        self._files[name] = path, bool(places)
        for place in places:
            self._add_tree(name, Path(place))

    def _add_tree(self, package: str, directory: Path) -> None:
        """All of a package: what is not imported yet may be imported in a job."""
        found = list(itertools.islice(_modules_in(package, directory), _MOST_FILES + 1))
        if len(found) > _MOST_FILES:
            return
        compiled = {name: path for name, path, _ in found if not path.endswith(".py")}
        self.compiled.update(compiled)
        if not compiled:
            self._files.update((name, (path, is_package)) for name, path, is_package in found)

    def _find(self, name: str) -> None:
        """A module that is imported in a function or a module, where it would be found here."""
        for entry in sys.path:
            directory = Path(entry or ".").absolute()
            for path, is_package in ((directory / name / "__init__.py", True), (directory / f"{name}.py", False)):
                if path.is_file():
                    if not is_installed(str(path)) or name in self._added:
                        self._add(name, str(path), [str(path.parent)] if is_package else [])
                    return

    # What they contain

    def _sources(self) -> dict[str, Source]:
        sources = {}
        for name, (path, is_package) in list(self._files.items()):
            travelled = getattr(getattr(sys.modules.get(name), "__loader__", None), "travelled", None)
            if isinstance(travelled, bytes):  # this is a job, which hands on what it was given
                sources[name] = Source(path, is_package, travelled)
            elif not path:
                sources[name] = Source("", True, b"")
            elif (source := self._source(path, is_package)) is not None:
                sources[name] = source
        return sources

    def _source(self, path: str, is_package: bool) -> Source | None:
        try:
            stat = os.stat(path)  # noqa: PTH116 - for each file and submission; `Path` takes twice as long
        except OSError:  # it is imported here, and was deleted
            return None
        known = self._read.get(path)
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        if known is not None and known.stamp == stamp and known.at - stat.st_mtime > _FRESH:
            return known.source
        at = time.time()
        try:
            text = Path(path).read_bytes()
        except OSError:
            return None
        if known is not None and known.source.text != text:
            self._scanned = None
        source = Source(path, is_package, text)
        self._read[path] = _Read(stamp, at, source)
        return source


def _local_path_of(name: str, module: object) -> str | None:
    try:
        return local_path(name, module)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - anything can be in `sys.modules`, also what runs code when it is looked at
        return None


def _modules_in(package: str, directory: Path) -> Iterator[tuple[str, str, bool]]:
    """Name, path, and whether it is a package, of all modules in the directory of a package."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        stem, _, suffix = entry.name.partition(".")
        if entry.is_dir():
            if stem.isidentifier() and not suffix and stem != "__pycache__":
                inner = Path(entry.path) / "__init__.py"
                if inner.is_file():
                    yield f"{package}.{stem}", str(inner), True
                yield from _modules_in(f"{package}.{stem}", Path(entry.path))
        elif stem != "__init__" and stem.isidentifier() and (suffix == "py" or entry.name.endswith((".so", ".pyd"))):
            yield f"{package}.{stem}", entry.path, False


def _imported_by(path: str) -> frozenset[str]:
    try:
        stat = os.stat(path)  # noqa: PTH116
        return _names_imported(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        return frozenset()


@functools.lru_cache(4000)
def _names_imported(path: str, changed: int, size: int) -> frozenset[str]:
    return imported_names(Path(path).read_bytes())


def imported_names(source: bytes | str) -> frozenset[str]:
    """The top names of the modules that a source imports, and of some that are named like that in a text of it."""
    text = source if isinstance(source, str) else source.decode("utf-8", "replace")
    names = set()
    for found in _IMPORT.finditer(text):
        if found[1]:
            names.add(found[1])
        else:
            names |= {part.strip().partition(" ")[0].partition(".")[0] for part in found[2].split(",")}
    return frozenset(name for name in names if name.isidentifier() and name not in sys.stdlib_module_names)


_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([^#;\n]+))", re.MULTILINE)
"""What a line imports. To parse the sources takes fifty times as long."""
