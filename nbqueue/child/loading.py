"""What jobs call, and with what: from signed records to functions and arguments, each when its turn comes.

Unpickling imports modules, which is user code: it may raise anything, take for ever, or be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbqueue import errors
from nbqueue.payload.calls import Calls
from nbqueue.payload.functions import unpack_code
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

Function = Callable[..., Any]


class Functions:
    """The functions that a child was given, kept from job to job once they are loaded."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._records: dict[bytes, bytes] = {}
        self._loaded: dict[bytes, Function] = {}

    def add(self, records: Iterable[tuple[bytes, bytes]], *, forget: bool) -> None:
        """More of them, by digest; `forget` those of before."""
        if forget:
            self._records.clear()
            self._loaded.clear()
        self._records.update(records)

    def loaded(self, digest: bytes) -> Function | None:
        """A function, if it is loaded."""
        return self._loaded.get(digest)

    def load(self, digest: bytes) -> Function:
        """A function, which is loaded if it is not."""
        function = self._loaded.get(digest)
        if function is None:
            record = self._records.get(digest)
            if not record:
                raise errors.CorruptPayload(
                    "the function of this job is not in Redis any more: it was deleted or evicted there. Submit the "
                    "call again, and Redis has the function again, also for `retry`"
                )
            function = self._loaded[digest] = unpack_code(self._seal, digest, record)
        return function


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
    """

    def __init__(
        self, functions: Functions, seal: Seal, batch: str, first: int, record: Blob | None, own: Mapping[str, Blob]
    ) -> None:  # fmt: skip
        self._functions, self._seal, self._batch, self._own = functions, seal, batch, own
        self._calls: Calls | None = None
        self._problem: Exception | None = None
        """What is wrong with all of its calls."""
        self.first = first
        self.function: Function | None = None
        """The function of all calls, where these have one atom each as their argument and it is loaded: to be called
        at once, with `atoms[index - first]`. Else each call is to be loaded."""
        self.atoms: list[Any] = []
        try:
            if record is not None:
                self._calls = Calls(seal, batch, first, record, once=True)
        except Exception as error:  # noqa: BLE001 - what is wrong with the record is the outcome of its jobs
            self._problem = error
        atoms = None if self._calls is None else self._calls.atoms()
        if self._calls is not None and atoms is not None:
            self.atoms = atoms
            self.function = functions.loaded(self._calls.digest())

    def load(self, index: int) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
        """A call: its function, positional and keyword arguments.

        Raises
        ------
        BaseException
            Whatever unpickling raises, or stops it; also again for each further call of an unpicklable function.
        """
        if self._problem is not None:
            raise self._problem
        if self.atoms:
            return self._load_function(), (self.atoms[index - self.first],), {}
        digest, args, kwargs = self._calls_of(index)[index]
        return self._functions.load(digest), args, kwargs

    def _load_function(self) -> Function:
        assert self._calls is not None
        try:
            self.function = self._functions.load(self._calls.digest())
        except Exception as error:
            self._problem = error
            raise
        return self.function

    def _calls_of(self, index: int) -> Calls:
        if self._calls is not None and not self._calls.is_elsewhere(index):
            return self._calls
        own = self._own.get(str(index))
        if own is None:
            raise errors.CorruptPayload(f"the call of job {self._batch}:{index} is not there any more")
        return Calls(self._seal, self._batch, index, own, once=True)
