"""The functions of one client, pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.payload.functions import Code, pack_code, parts_of

_LARGE = 64 * 1024
"""Bytes of a function that is sent only if Redis says that it does not have it."""
_MOST_ACCEPTED = 10_000


class Codes:
    """The functions of one client, pickled; which of them Redis has been given."""

    def __init__(self, backend: Backend) -> None:
        self._seal = backend.seal
        self._records: dict[bytes, bytes] = {}
        self._packed: dict[int, tuple[tuple[Any, ...], Code]] = {}
        self._accepted: set[bytes] = set()

    def pack(self, function: Any) -> Code:
        """Pickle a function; anew where what it refers to may have changed."""
        if not callable(function):
            raise errors.UsageError(
                f"{function!r:.80} is not callable: give the function itself and its arguments, "
                "as in q.enqueue(func, 1, 2), not the result of calling it"
            )
        parts = parts_of(function)
        if parts is not None:
            known = self._packed.get(id(function))
            if known and len(known[0]) == len(parts) and all(a is b for a, b in zip(known[0], parts, strict=True)):
                return known[1]
        code = pack_code(self._seal, function)
        if parts is not None:
            while len(self._packed) > 200:
                self._packed.pop(next(iter(self._packed)))
            self._packed[id(function)] = (parts, code)
        if code.digest not in self._records:
            while len(self._records) > 500:
                self._records.pop(next(iter(self._records)))
            self._records[code.digest] = code.sealed(self._seal)
        return code

    def to_send(self, digest: bytes) -> bytes:
        """The record of a function, where Redis is not known to have it; empty if it is, or to ask before so much is
        sent."""
        record = self._records[digest]
        return b"" if digest in self._accepted or len(record) > _LARGE else record

    def accepted(self, digests: Iterable[bytes]) -> None:
        """Redis has them now."""
        if len(self._accepted) > _MOST_ACCEPTED:
            self._accepted.clear()
        self._accepted.update(digests)

    def record(self, digest: bytes) -> bytes:
        """The signed record of a function that was packed."""
        return self._records[digest]
