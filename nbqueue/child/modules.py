"""The local modules of the batch that runs: they are found before all others, and those of other batches are not."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import linecache
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from nbqueue.payload.modules import Source, local_path

_MOST_KEPT = 4
"""Batches whose modules are kept, while runs of several batches take turns."""

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""


class Modules:
    """Puts the modules of a batch in the place of those of another one.

    What a module keeps in its globals lasts as long as the batch.
    """

    def __init__(self) -> None:
        self._finder = _Finder()
        sys.meta_path.insert(0, self._finder)
        self._batch = ""
        self._kept: dict[str, dict[str, types.ModuleType]] = {}
        self._covered: dict[str, types.ModuleType] = {}
        """Installed modules in whose place the batch has its own."""
        self._scanned = (0, False)
        """How many modules there were, and whether any was local."""

    def use(self, batch: str, sources: Mapping[str, Source]) -> bool:
        """Jobs of this batch follow, with these modules; False if no local module was there, or is."""
        if batch == self._batch:
            return bool(sources)
        left = self._leave()
        self._finder.sources = sources
        self._batch = batch
        for name in sources:
            module = sys.modules.pop(name, None)
            if module is not None:
                self._covered[name] = module
        sys.modules.update(self._kept.pop(batch, {}))
        return left or bool(sources)

    def _leave(self) -> bool:
        """Take the local modules away that there are."""
        self._finder.sources = {}
        if self._scanned == (len(sys.modules), False):
            return False
        local = {name: module for name, module in sys.modules.copy().items() if self._is_local(name, module)}
        compiled = {name.partition(".")[0] for name, module in local.items() if _is_compiled(module)}
        local = {name: module for name, module in local.items() if name.partition(".")[0] not in compiled}
        for name in local:
            del sys.modules[name]
        if self._batch and local:
            self._kept[self._batch] = local
            while len(self._kept) > _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        sys.modules.update(self._covered)
        self._covered = {}
        self._scanned = len(sys.modules), False
        return bool(local)

    @staticmethod
    def _is_local(name: str, module: Any) -> bool:
        if type(getattr(module, "__loader__", None)) is _Loader:
            return True
        try:
            return local_path(name, module) is not None
        except Exception:  # noqa: BLE001 - anything can be in `sys.modules`
            return False


def _is_compiled(module: types.ModuleType) -> bool:
    """Whether it cannot be loaded a second time in one process, nor what belongs to it."""
    return str(getattr(module, "__file__", None) or "").endswith((".so", ".pyd"))


class _Finder:
    """Finds modules among the sources of a batch."""

    def __init__(self) -> None:
        self.sources: Mapping[str, Source] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        source = self.sources.get(name)
        if source is None:
            return None
        if not source.path:  # a directory without `__init__.py`
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
        loader = _Loader(name, source.path, source.text)
        spec = importlib.machinery.ModuleSpec(name, loader, origin=source.path, is_package=source.is_package)
        spec.has_location = True
        if source.is_package:
            spec.submodule_search_locations = [source.path.rpartition("/")[0]]
        return spec

    def invalidate_caches(self) -> None:
        """There are none."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a source that came with the batch, as if it were in its file."""

    def __init__(self, name: str, path: str, text: bytes) -> None:
        super().__init__(name, path)
        self.travelled = text
        """The source, which a job that submits others hands on."""

    def get_data(self, path: str) -> bytes:
        return self.travelled if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> types.CodeType:
        code: types.CodeType = compile(self.travelled, self.path, "exec", dont_inherit=True)
        text = importlib.util.decode_source(self.travelled)
        # Tracebacks show what has run, not what the file has become.
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        return code
