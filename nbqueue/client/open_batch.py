"""The batches that single calls are appended to: one for each queue and kind of call, closed after a while."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.client.codes import Codes
from nbqueue.client.depending import NO_DEPENDENCIES, Dependencies, deferred_in, unknown_dependency
from nbqueue.client.options import Attached, JobOptions
from nbqueue.client.packing import pack_call
from nbqueue.payload.calls import pack_entries, pack_items, pack_plain
from nbqueue.payload.functions import Code
from nbqueue.payload.records import INPUTS, Blob, size_of
from nbqueue.payload.serializers import Encoding
from nbqueue.payload.values import ResultOf
from nbqueue.payload.versions import packages_of
from nbqueue.store.keys import new_id, new_token
from nbqueue.store.requests import submitting
from nbqueue.store.requests.request import BULK
from nbqueue.store.requests.submitting import Deferred, Opening, Submitted

_MOST_JOBS, _SECONDS = 1000, 60.0
"""Jobs, and seconds since its first one, after which a batch is followed by another."""

_KEPT = 600
"""Seconds for which results are kept where it does not matter that their batch is closed a minute later."""

_MOST_OPEN = 100
"""Open batches of a client; the oldest one is not appended to any more."""

_TRIES = 4
"""Batches that one call is tried with: somebody may cancel or delete them meanwhile."""


Key = tuple[str, JobOptions, tuple[tuple[str, Code, float], ...]]
"""What calls of an open batch have in common: queue, options, and what is called after them."""


class OpenBatch:
    """The batch that single calls of one kind are appended to. For one thread at a time."""

    def __init__(
        self, backend: Backend, codes: Codes, queue: str, options: JobOptions, attached: Attached,
        packages: Set[str],
    ) -> None:  # fmt: skip
        self.id = new_id()
        self.lock = threading.Lock()
        """Held while a call is appended: indices are given in order, and this alone waits for the server."""
        self._store = backend.store
        self._seal = backend.seal
        self._codes = codes
        self._count = 0
        self._since = time.monotonic()
        self._made_at = _place()
        self._packages = packages
        self._stored: set[bytes] = set()
        self._attached = attached
        description = options.describe(
            "single calls",
            queue,
            is_single=True,
            attached=attached,
            compiled=codes.compiled,
            versions=codes.versions(packages),
        ).to_json()
        self._opening = Opening(
            self.id,
            new_token(),
            queue,
            backend.environment,
            1,
            description,
            options.priority,
            options.result_ttl,
            options.failure_ttl,
            options.ttl,
        )
        lifetimes = [seconds for seconds in (options.result_ttl, options.failure_ttl) if seconds is not None]
        is_kept = all(seconds < 0 or seconds > _KEPT for seconds in lifetimes)
        self._open_for = int(_SECONDS) if is_kept else 0
        self._at_front = options.at_front
        self._has_ttl = options.ttl is not None
        self._is_closed = False

    def is_over(self, attached: Attached, packages: Set[str]) -> bool:
        """Whether the next call goes into another one: also where calls have another directory, path to modules, other
        local modules or settings, or refer to packages whose versions are not told."""
        if not packages <= self._packages:
            return True
        is_full = self._count >= _MOST_JOBS or time.monotonic() - self._since > _SECONDS
        return self._is_closed or is_full or self._attached != attached or self._made_at != _place()

    def append(
        self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], due: str = "",
        depends: Dependencies = NO_DEPENDENCIES, encoding: Encoding | None = None,
    ) -> int | None:  # fmt: skip
        """Submit one call, which may start when it is due, and others have ended; returns its index, or None if the
        batch takes no more."""
        index = self._count
        record: Blob | None = None
        results: tuple[ResultOf, ...] = ()
        if encoding is None and not kwargs:
            if len(args) == 1:
                record = pack_items(self._seal, self.id, index, code.digest, args)
            record = record or pack_plain(self._seal, self.id, index, code.digest, [args])
        if record is None:
            entry, results = pack_call(0, args, kwargs, depends, encoding)
            self._codes.sizes.look(f"the arguments of {code.name}()", args, size_of(entry))
            header = [code.digest, INPUTS, *(one.reference() for one in results)] if results else [code.digest]
            record = pack_entries(self._seal, self.id, index, header, [entry])
        deferred = deferred_in(index, index + 1, depends, {index: results} if results else {})
        try:
            is_known = code.digest in self._stored
            if is_known and not (self._at_front or due or deferred or self._has_ttl) and len(record) < BULK:
                request = submitting.append(self.id, self._opening.token, index, code.digest, record)
                if self._store.call(request):
                    self._count += 1
                    return index
            functions: dict[bytes, Blob] = {code.digest: b""} if is_known else self._codes.records([code.digest])
            if not self._count:
                functions.update(self._codes.to_send(self._attached.digests()))
            answer = self._submit(index, functions, record, due, deferred)
            if answer.answer == "code":
                functions = self._codes.records(functions)
                answer = self._submit(index, functions, record, due, deferred)
        except BaseException:
            self._is_closed = True  # whether it was accepted is not known: this index is not used again
            raise
        if answer.answer == "unknown":
            raise unknown_dependency(answer.detail)
        if answer.answer != "ok":
            self._is_closed = True
            return None
        self._stored.add(code.digest)
        self._count += 1
        return index

    def _submit(
        self, index: int, functions: Mapping[bytes, Blob], record: Blob, due: str, deferred: Sequence[Deferred]
    ) -> Submitted:
        request = submitting.submit(
            self._opening,
            index,
            1,
            functions,
            [(f"b{index}", record)],
            is_last=True,
            open_for=self._open_for,
            at_front=self._at_front,
            due=due,
            deferred=deferred,
        )
        return self._store.call(request)


class OpenBatches:
    """The open batches of one client. Threads may share it."""

    def __init__(self, backend: Backend, codes: Codes) -> None:
        self._backend = backend
        self._codes = codes
        self._lock = threading.Lock()
        self._open: dict[Key, OpenBatch] = {}
        self._packages: dict[Key, Set[str]] = {}
        """The packages of calls in the last ones."""

    def append(
        self, queue: str, options: JobOptions, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any],
        serializer: Code | None = None,
    ) -> tuple[str, int]:  # fmt: skip
        """Submit one call; returns its batch and its index there. `serializer` is that of the options, if it is to be
        sent.

        Raises
        ------
        CannotPickle, ServerFull
        ServerError
        SubmitError
            Batches are canceled or deleted as soon as they are made.
        """
        if serializer is None:
            attached = self._codes.attached(code.imports, callbacks=options.callbacks)
        else:
            attached = self._codes.attached(code.imports | serializer.imports, callbacks=options.callbacks)
            attached = replace(attached, serializer=serializer)
        key = queue, options, attached.callbacks
        packages: Set[str] = frozenset()
        if self._codes.compares_versions:
            packages = {*code.packages, *packages_of((*args, *kwargs.values()))}
        for _ in range(_TRIES):
            batch = self._open.get(key) or self._make(key, attached, packages)
            with batch.lock:
                index = None
                if not batch.is_over(attached, packages):
                    index = batch.append(code, args, kwargs, options.due, options.depends, options.encoding)
            if index is not None:
                return batch.id, index
            self._forget(key, batch)
        raise errors.SubmitError(
            "the job was not accepted: its batches are canceled or deleted as soon as they are made"
        )

    def _make(self, key: Key, attached: Attached, packages: Set[str]) -> OpenBatch:
        with self._lock:
            if key not in self._open:
                while len(self._open) >= _MOST_OPEN:
                    self._open.pop(next(iter(self._open)))
                while len(self._packages) >= _MOST_OPEN:
                    self._packages.pop(next(iter(self._packages)))
                packages |= self._packages.get(key, frozenset())  # two that alternate share one
                self._packages[key] = packages
                self._open[key] = OpenBatch(self._backend, self._codes, key[0], key[1], attached, packages)
            return self._open[key]

    def _forget(self, key: Key, batch: OpenBatch) -> None:
        """Append no more to a batch."""
        with self._lock:
            if self._open.get(key) is batch:
                del self._open[key]


def _place() -> tuple[str, list[str]]:
    """The directory and the path to modules that calls are made with now."""
    try:
        return os.getcwd(), sys.path.copy()  # noqa: PTH109 - for each call; `Path.cwd` takes ten times as long
    except OSError:  # it was deleted
        return "", sys.path.copy()
