"""The functions of one client, packed, and which of them are kept."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.client.callback import Callback
from nbqueue.client.local_modules import LocalModules
from nbqueue.client.options import NOTHING, Attached
from nbqueue.client.sizes import Sizes
from nbqueue.payload.explain import sizes_of_parts
from nbqueue.payload.functions import Code, name_of, pack_code, parts_of
from nbqueue.payload.records import DIGEST_SIZE, Blob, pieces_of
from nbqueue.payload.serializers import STORED, Encoding, name_of_importable
from nbqueue.payload.surroundings import Collector
from nbqueue.payload.versions import PICKLING, versions_of
from nbqueue.store.keys import code_piece

K = TypeVar("K", bound=Hashable)

_LARGE = 64 * 1024
"""Bytes of a function that is sent only if Redis says that it does not have it."""

_SLOW = 2_000_000
"""Bytes of objects of Python that take some ten milliseconds to load."""

_MOST_ACCEPTED = 10_000
"""Functions of which it is remembered that Redis has them."""


class Codes:
    """Packs functions, and only those anew that have changed since they were packed last. Threads may share it."""

    def __init__(self, backend: Backend, local_modules: LocalModules) -> None:
        self._seal = backend.seal
        self._local = local_modules
        self._is_embedded = backend.embedded is not None
        self._settings = Collector()
        self.sizes = Sizes()
        self._told: set[str] = set()
        """Functions of which it was said that each call loads much."""
        self._attached: tuple[tuple[Code | None, Code | None], Attached] = (None, None), NOTHING
        self._accepted: set[bytes] = set()
        self._lock = threading.Lock()
        """Held while something is put into one of these."""
        self._by_digest = weakref.WeakValueDictionary[bytes, Code]()
        self._fixed = _Kept[int]()
        """Functions of which nothing can be changed in place, by their ids, with their parts."""
        self._values = _Kept[int]()
        """Large arguments by their ids, with a reference that tells whether they are still those."""
        self._last = _Kept[str]()
        """What was packed last under a name: the same function as a rule, or the same with another number in it."""

    def pack(self, function: Any, *, share: bool = False) -> Code:
        """The code of a function, with all that it refers to as it is now.

        Parameters
        ----------
        function : callable
        share : bool
            Calls share it: nothing needs to be said of how long it takes to load.

        Raises
        ------
        CannotPickle, ServerFull
            See `pack_code`.
        """
        parts = parts_of(function)
        if parts is not None and (fixed := self._fixed.get(id(function))) is not None:
            before, code = fixed
            is_same = len(before) == len(parts) and all(a is b for a, b in zip(before, parts, strict=True))
            if is_same and code.is_there:
                return code
        name = name_of(function)
        last = self._last.get(name)
        known = None if last is None else last[1]
        code = pack_code(self._seal, function, known)
        if code is not known:
            self.sizes.look(f"{name}()", function, code.size)
        if code is not known and parts is None and not share and code.plain > _SLOW:
            self._tell_of_loading(function, code)
        with self._lock:
            if code is not known:
                code = self._by_digest.setdefault(code.digest, code)
                self._last.put(name, (), code)
            if parts is not None:
                self._fixed.put(id(function), parts, code)
        return code

    def _tell_of_loading(self, function: Any, code: Code) -> None:
        """Say once that each call of a function loads much that is no array."""
        if code.name in self._told:
            return
        self._told.add(code.name)
        largest = max(sizes_of_parts(code.name, function), key=lambda part: part[1], default=(code.name, 0))[0]
        warnings.warn(
            f"{code.name}() refers to {code.plain / 1e6:,.0f} MB of objects that can be changed ({largest}), and each "
            "call loads them anew. If calls do not change them, share=True loads them once a process",
            errors.LoadingWarning,
            stacklevel=5,
        )

    def pack_value(self, what: str, value: Any, known: Code | None) -> Code:
        """An argument as a record of its own; `known` if it is pickled as it was in that.

        Raises
        ------
        CannotPickle, ServerFull
        """
        before = self._values.get(id(value))
        if known is None and before is not None and before[0][0]() is value:
            known = before[1]
        code = pack_code(self._seal, value, known, what=what)
        with self._lock:
            if code is not known:
                code = self._by_digest.setdefault(code.digest, code)
            with contextlib.suppress(TypeError):  # not all objects can be referred to weakly
                self._values.put(id(value), (weakref.ref(value),), code)
        return code

    def encoding(self, serializer: Any) -> tuple[Encoding, Code | None]:
        """A serializer of the user's in use, and its code as it is now, where workers do not find it by its name.

        Raises
        ------
        CannotPickle, ServerFull
        """
        name = name_of_importable(serializer)
        if name is not None:
            return Encoding(name, serializer), None
        code = self.pack_value("the serializer", serializer, None)
        return Encoding(STORED + code.digest.hex(), serializer), code

    def attached(
        self, imports: Collection[str], variables: Collection[str] = (), *, settings: bool = True,
        callbacks: Sequence[tuple[str, Callback]] = (),
    ) -> Attached:  # fmt: skip
        """The local modules and the settings that jobs find which are submitted now.

        Parameters
        ----------
        imports : collection of str
            Modules that are imported inside of functions.
        variables : collection of str
            The environment variables that go along to a server that is not the embedded one: it keeps them.
        settings : bool
            Whether settings go along.
        callbacks : sequence of (str, Callback)
            What is called after them, by the names of the options.

        Raises
        ------
        CannotPickle, ServerFull
        """
        packed = tuple((name, self.pack(callback.func), callback.timeout) for name, callback in callbacks)
        if packed:
            imports = {*imports, *(name for _, code, _ in packed for name in code.imports)}
            return replace(self.attached(imports, variables, settings=settings), callbacks=packed)
        modules = self._local.bundle(self._seal, imports)
        found = self._settings.pack(self._seal, None if self._is_embedded else variables) if settings else None
        before, attached = self._attached
        if before[0] is modules and before[1] is found:
            return attached
        with self._lock:  # the same content is one object for all who hold it
            known = [code and self._by_digest.setdefault(code.digest, code) for code in (modules, found)]
            attached = Attached(known[0], known[1])
            self._attached = (modules, found), attached
        return attached

    def versions(self, packages: Collection[str]) -> Mapping[str, str]:
        """The versions of packages of functions and arguments, to be compared where these run on other hosts."""
        return {} if self._is_embedded else versions_of({*packages, PICKLING})

    @property
    def compares_versions(self) -> bool:
        """Whether versions of packages may differ where functions run."""
        return not self._is_embedded

    @property
    def compiled(self) -> Collection[str]:
        """Local modules that cannot travel."""
        return self._local.compiled

    def to_send(self, digests: Iterable[bytes]) -> dict[bytes, Blob]:
        """The records of functions, by their digests, where Redis is not known to have them; empty if it is, or to ask
        before so much is sent. Those of very large ones are in pieces."""
        found: dict[bytes, Blob] = {}
        for digest, record in self.records(digests).items():
            found[digest] = b"" if digest[:DIGEST_SIZE] in self._accepted or len(record) > _LARGE else record
        return found

    def accepted(self, digests: Iterable[bytes]) -> None:
        """Redis has them now."""
        if len(self._accepted) > _MOST_ACCEPTED:
            self._accepted.clear()
        self._accepted.update(digests)

    def records(self, digests: Iterable[bytes]) -> dict[bytes, Blob]:
        """The records of codes that somebody holds, by their digests; those of very large ones in pieces."""
        return {
            code_piece(digest, number): piece
            for digest in digests
            if len(digest) == DIGEST_SIZE  # and is none of a piece
            for number, piece in enumerate(pieces_of(self._by_digest[digest].record))
        }


class _Kept(Generic[K]):
    """The codes that were put here last, as many as there is memory for; the very last one in any case.

    Parts are values that nobody can change, which are about as large as the code that is made from them.
    """

    _MOST = 250
    _MOST_BYTES = 32 * 2**20

    def __init__(self) -> None:
        self._codes: dict[K, tuple[tuple[Any, ...], Code]] = {}
        self._bytes = 0

    @staticmethod
    def _weight_of(code: Code) -> int:
        """Bytes of it; each that is in a file holds a descriptor, too."""
        return code.size if code.held is None else max(code.size, 2**20)

    def get(self, key: K) -> tuple[tuple[Any, ...], Code] | None:
        return self._codes.get(key)

    def put(self, key: K, parts: tuple[Any, ...], code: Code) -> None:
        size = self._weight_of(code)
        self._drop(key)
        while self._codes and (len(self._codes) >= self._MOST or self._bytes + size > self._MOST_BYTES):
            self._drop(next(iter(self._codes)))
        self._codes[key] = parts, code
        self._bytes += size

    def _drop(self, key: K) -> None:
        if key in self._codes:
            self._bytes -= self._weight_of(self._codes.pop(key)[1])
