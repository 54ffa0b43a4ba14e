"""What jobs call, and with what: from signed records to functions and arguments, each when its turn comes.

A call is loaded into a scope of its own: it finds what was submitted, not what other calls have made of it. A function
of which nothing can be changed is loaded once.

Unpickling imports modules, which is user code: it may raise anything, take for ever, or be stopped.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbqueue import errors, machine
from nbqueue.child.inputs import Inputs
from nbqueue.payload.calls import Calls
from nbqueue.payload.functions import Opened, is_constant, is_self_contained
from nbqueue.payload.memory import MappedFile, mapped_bytes
from nbqueue.payload.modules import Source, unpack_modules
from nbqueue.payload.records import Blob
from nbqueue.payload.scope import Scope
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import STORED, Encoded, Encoding, find_serializer
from nbqueue.payload.surroundings import Settings, unpack_settings
from nbqueue.payload.values import Results

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

_LARGE = 1_000_000
"""Bytes of a function that is not left to the garbage collector, which counts objects and knows no sizes."""

_MOST_GARBAGE = 32 * 2**20
"""Bytes by which this process may grow before what is left of such functions is collected."""

_MOST_MAPPED = 2**30
"""Bytes of mappings at which the same is done: they take no memory of this process's own, but may be the last of their
file."""

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A function that is called again and again."""

    function: Function
    scope: Scope
    is_self_contained: bool = False


class Functions:
    """The functions that a child was given, by digest."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._records: dict[bytes, Blob | MappedFile] = {}
        """Those that nobody has asked for yet."""
        self._opened: dict[bytes, Opened] = {}
        self._modules: dict[bytes, dict[str, Source]] = {}
        self._settings: dict[bytes, Settings] = {}
        self._constant: dict[bytes, Loaded] = {}
        self._shared: dict[bytes, Loaded] = {}
        """Those of a batch whose calls shall find what others of it have left, as far as they ran in this process."""
        self._shared_scope: Scope | None = None
        self._caches: dict[bytes, dict[str, Any]] = {}
        self.results: Results | None = None
        """Gives the results of other jobs."""
        self._serializer: Any = None
        """One that is stored, for the call that was loaded last."""
        self._batch = ""
        self.instead: bytes | None = None
        """The digest of the function that calls of the present run are made with, if it is not their own."""
        self._is_single = False
        self._memory = 0

    def add(self, records: Iterable[tuple[bytes, Blob | MappedFile]], *, forget: bool) -> None:
        """More of them, by digest; `forget` those of before."""
        if forget:
            for kept in (self._records, self._opened, self._constant, self._modules, self._settings):
                kept.clear()
        self._records.update(records)

    def modules(self, digest: str) -> Mapping[str, Source]:
        """The local modules of this digest.

        Raises
        ------
        CorruptPayload, SignatureError
        """
        return self._attached(self._modules, digest, unpack_modules, "local modules")

    def settings(self, digest: str) -> Settings:
        """The settings of this digest.

        Raises
        ------
        CorruptPayload, SignatureError
        """
        return self._attached(self._settings, digest, unpack_settings, "settings")

    def _attached(
        self, kept: dict[bytes, dict[str, Any]], digest: str,
        unpack: Callable[[Seal, bytes, Blob | MappedFile], dict[str, Any]], what: str,
    ) -> dict[str, Any]:  # fmt: skip
        """What jobs of a batch find beside their functions, unpacked once; empty if there is nothing."""
        if not digest:
            return {}
        key = bytes.fromhex(digest)
        if key not in kept:
            record = self._records.get(key)
            if not record:
                raise errors.CorruptPayload(
                    f"the {what} of this job are not in Redis any more: they were deleted or evicted there. Submit the "
                    "call again"
                )
            kept[key] = unpack(self._seal, key, record)
            del self._records[key]
        return kept[key]

    def begin(
        self, batch: str, *, share: bool, is_single: bool, has_modules: bool, function: bytes | None = None
    ) -> None:
        """Calls of this batch follow; of what those of another have left, nothing is found.

        Parameters
        ----------
        has_modules : bool
            Modules may be other ones than those of the batch before.
        function : bytes, optional
            The digest of that which they run with, if it is not that of their calls.
        """
        if (batch, function) != (self._batch, self.instead):
            self.leave()
            if mapped_bytes() > _MOST_GARBAGE:
                gc.collect()
            if has_modules:
                self._constant.clear()
            self._batch, self._is_single, self.instead = batch, is_single, function
        if share and self._shared_scope is None:
            self._shared_scope = Scope()

    def leave(self) -> None:
        """Nothing of the batch is needed any more."""
        self._batch = ""
        self._shared_scope = None
        self._shared.clear()
        self._caches.clear()

    def scope(self) -> Scope:
        """Where the next call is loaded, its arguments first."""
        scope = self._shared_scope or Scope()
        scope.values, scope.results = self._load_value, self.results
        scope.enter()
        self._serializer = None
        return scope

    def _load_value(self, digest: bytes) -> Any:
        """An argument that is stored by itself, for one call."""
        return self._open(digest).load()

    def serializer(self, name: str) -> Any:
        """A serializer that is stored, for one call: it finds the classes of that."""
        if self._serializer is None:
            self._serializer = self._load_value(bytes.fromhex(name.removeprefix(STORED)))
        return self._serializer

    def encode(self, name: str, value: Any) -> Encoded:
        """What the call has returned that was loaded last, as the serializer of its batch makes it.

        Raises
        ------
        CannotPickle
        """
        return Encoding(name, find_serializer(name, self.serializer)).encode_result(value)

    def constant(self, digest: bytes) -> Loaded | None:
        """A function that is loaded and can be called again and again, to be called next; None if it is not that."""
        kept = self._constant.get(digest) or self._shared.get(digest)
        if kept is not None:
            kept.scope.enter()
        return kept

    def is_self_contained(self, digest: bytes) -> bool:
        """Whether a function that was loaded can be seen to do nothing to this process if its arguments are plain."""
        kept = self._constant.get(digest)
        return kept is not None and kept.is_self_contained

    def load(self, digest: bytes, scope: Scope, index: int) -> Function:
        """A function for the call of this index, whose arguments were loaded into a scope."""
        kept = self._constant.get(digest) or self._shared.get(digest)
        if kept is not None:
            if not scope.is_touched:
                kept.scope.enter()
            elif kept.scope is not scope:
                scope.take(kept.scope)
            return kept.function
        opened = self._open(digest)
        is_own = not scope.is_touched
        scope.caches = self._caches.setdefault(digest, {})
        scope.stream = self._stream(index)
        try:
            function: Function = opened.load()
        finally:
            scope.stream = None
        if self._shared_scope is not None:
            self._shared[digest] = Loaded(function, scope)
        elif is_constant(function):
            self._keep(digest, opened, function, scope if is_own else None)
        scope.enter()
        return function

    def _stream(self, index: int) -> tuple[int, ...]:
        """Where random streams begin of generators that the function refers to: elsewhere for each call."""
        if self._shared_scope is not None:
            return (int.from_bytes(os.urandom(8), "little"),)
        if self._is_single:  # whose index depends on what else was submitted
            return (int.from_bytes(hashlib.sha256(f"{self._batch}:{index}".encode()).digest()[:8], "little"),)
        return (index,)

    def _keep(self, digest: bytes, opened: Opened, function: Function, scope: Scope | None) -> None:
        """A constant function is needed as an object only; in a scope that is free of the arguments of a call."""
        if scope is None:
            scope = Scope()
            scope.enter()
            function = opened.load()
        self._constant[digest] = Loaded(function, scope, is_self_contained(function))

    def _open(self, digest: bytes) -> Opened:
        opened = self._opened.get(digest)
        if opened is None:
            record = self._records.get(digest)
            if not record:
                raise errors.CorruptPayload(
                    "the function of this job is not in Redis any more: it was deleted or evicted there. Submit the "
                    "call again, and Redis has the function again, also for `retry`"
                )
            opened = self._opened[digest] = Opened(self._seal, digest, record)
            del self._records[digest], record
        if opened.size > _LARGE:
            self._collect()
        return opened

    def _collect(self) -> None:
        """Free what is left of large functions, which hold themselves, if that is much."""
        if machine.own_memory() - self._memory > _MOST_GARBAGE or mapped_bytes() > _MOST_MAPPED:
            gc.collect()
            self._memory = machine.own_memory()


class Block:
    """The calls of one block of a batch.

    Parameters
    ----------
    functions : Functions
    seal : Seal
    batch : str
    first : int
        The index of its first call.
    record : Blob, optional
        Of its calls, but those that have records of their own.
    own : mapping
        Records of single calls, by index.
    problem : Exception, optional
        What is wrong with its batch.
    inputs : Inputs, optional
        The results of other jobs.
    part : range
        Of its calls, those that are made.
    """

    def __init__(
        self, functions: Functions, seal: Seal, batch: str, first: int, record: Blob | None, own: Mapping[str, Blob],
        problem: Exception | None = None, inputs: Inputs | None = None, part: range = range(0),
    ) -> None:  # fmt: skip
        self._functions, self._seal, self._batch, self._own = functions, seal, batch, own
        self._calls: Calls | None = None
        self._problem = problem
        """What is wrong with all of its calls."""
        self.first = first
        self.function: Function | None = None
        """The function of all calls, where these have one atom each as their argument, and it is loaded once: to be
        called at once, with `atoms[index - first]`. Else each call is to be loaded."""
        self.is_self_contained = False
        """It does nothing to this process."""
        self.leaves_nothing = False
        """The call that was loaded last can be seen to do nothing to this process."""
        self.atoms: list[Any] = []
        try:
            if record is not None:
                self._calls = Calls(seal, batch, first, record, once=True, find=functions.serializer)
            if self._calls is not None and self._calls.follows is not None and inputs is not None:
                atoms = inputs.atoms(self._calls.follows, first, part)
            else:
                atoms = None if self._calls is None else self._calls.atoms(part)
        except Exception as error:  # noqa: BLE001 - what is wrong with a record is the outcome of its jobs
            self._problem, atoms = error, None
        if self._calls is not None and atoms is not None and self._problem is None:
            self.atoms = atoms
            self._look_for_constant()

    def load(self, index: int) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
        """A call: its function, positional and keyword arguments.

        Raises
        ------
        BaseException
            Whatever unpickling raises, or stops it; also again for each further call of an unpicklable function.
        """
        if self._problem is not None:
            raise self._problem
        scope = self._functions.scope()
        if self.atoms:
            return self._load_function(scope, index), (self.atoms[index - self.first],), {}
        calls = self._calls_of(index)
        digest, args, kwargs = calls[index]
        digest = self._functions.instead or digest
        function = self._functions.load(digest, scope, index)
        self.leaves_nothing = calls.is_plain and self._functions.is_self_contained(digest)
        return function, args, kwargs

    def _load_function(self, scope: Scope, index: int) -> Function:
        try:
            function = self._functions.load(self._digest(), scope, index)
        except Exception as error:
            self._problem = error
            raise
        self._look_for_constant()
        return function

    def _digest(self) -> bytes:
        """Of the function of all calls."""
        assert self._calls is not None
        return self._functions.instead or self._calls.digest()

    def _look_for_constant(self) -> None:
        loaded = self._functions.constant(self._digest())
        if loaded is not None:
            self.function, self.is_self_contained = loaded.function, loaded.is_self_contained

    def _calls_of(self, index: int) -> Calls:
        if self._calls is not None and not self._calls.is_elsewhere(index):
            return self._calls
        own = self._own.get(str(index))
        if own is None:
            raise errors.CorruptPayload(f"the call of job {self._batch}:{index} is not there any more")
        return Calls(self._seal, self._batch, index, own, once=True, find=self._functions.serializer)
