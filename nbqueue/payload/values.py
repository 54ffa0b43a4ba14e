"""What stands for values: for arguments that are stored once, for results of other jobs, for what a cell gave."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nbqueue.payload.scope import entered


class StandsFor:
    """What a job returned where its result is a part of that."""

    __slots__ = ()

    def value(self) -> Any:
        """The result."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SharedValue:
    """Stands for an argument in a pickled call: stored once, and named where it is needed."""

    digest: bytes
    """Of its record, which is one like that of a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _value, (self.digest,)


def _value(digest: bytes) -> Any:
    scope = entered()
    return SharedValue(digest) if scope is None or scope.values is None else scope.values(digest)


_REFERENCE = struct.Struct("<8sQ")
_WHOLE = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ResultOf:
    """Stands for the result of a job, or for the list of those of a batch."""

    batch: str
    index: int | None = None
    """The job; None: all of the batch."""
    may_fail: bool = False
    """In the place of a result that is not there comes the error."""

    def __reduce__(self) -> tuple[Any, ...]:
        return result_of, (self.batch, self.index, self.may_fail)

    def reference(self) -> bytes:
        """Its name in the header of a record: see `records.inputs_of`."""
        return _REFERENCE.pack(self.batch.encode(), _WHOLE if self.index is None else self.index)

    @classmethod
    def referred(cls, reference: bytes) -> ResultOf:
        """What a reference names."""
        batch, index = _REFERENCE.unpack(reference)
        return cls(batch.rstrip(b"\0").decode(), None if index == _WHOLE else index)


Results = Callable[[ResultOf], Any]


class _Given:
    results: Results | None = None


@contextlib.contextmanager
def giving(results: Results) -> Iterator[None]:
    """Have what calls are unpickled get the results of other jobs from a function, where there is no scope."""
    before, _Given.results = _Given.results, results
    try:
        yield
    finally:
        _Given.results = before


def result_of(batch: str, index: int | None = None, may_fail: bool = False) -> Any:
    """The result of a job where calls are unpickled."""
    scope = entered()
    results = _Given.results if scope is None or scope.results is None else scope.results
    one = ResultOf(batch, index, may_fail)
    return one if results is None else results(one)
