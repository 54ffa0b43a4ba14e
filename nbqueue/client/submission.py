"""Submitting: calls become blocks, blocks become jobs of a batch. In the calling thread, with bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbqueue import errors, machine, settings
from nbqueue.backend import Connection
from nbqueue.payload import pickling
from nbqueue.payload.memory import Buffers
from nbqueue.payload.pickling import Blob, Code
from nbqueue.store import requests
from nbqueue.store.connection import held_interrupt
from nbqueue.store.requests import Opening, Request, Submitted
from nbqueue.store.store import Posted, new_id, new_token

_MOST_CALLS = 256
"""Calls in a block at most."""

_BLOCK_BYTES = 64 * 1024
"""Bytes of a block, about."""

_LARGE = 16 * 1024
"""Bytes of a call that is stored by itself."""

_MOST_WEIGHT = 4_000_000
"""Bytes of arguments that are not packed as one block, however small the first ones were."""

_LIGHT = frozenset({int, float, bool, complex, type(None)})
"""Types of which this is not asked."""

_SEND_BYTES = 1_000_000

_SEND_SECONDS = 0.05

_STALE = 0.25
"""Seconds for which calls of a slow iterable are kept back at most."""

_TOUCH = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one function; make it with `nbqueue.call`."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What is the same for all jobs of a batch."""

    label: str | None = None
    timeout: float | None = None
    result_ttl: int = 7 * 86400
    weight: float = 1.0
    at_front: bool = False
    meta: dict[str, Any] | None = None
    cell: dict[str, Any] | None = None
    """Of a cell that runs in the background: which one it is, and what comes back."""

    def about(self, name: str, **more: Any) -> str:
        """The description that workers and those who look read."""
        try:
            directory = str(Path.cwd())
        except OSError:  # it was deleted
            directory = ""
        about: dict[str, Any] = {"label": self.label or name, "function": name, "directory": directory,
                                 "host": machine.name(), "pid": os.getpid(), **more}  # fmt: skip
        if self.timeout is not None:
            about["timeout"] = self.timeout
        if self.meta is not None:
            about["meta"] = self.meta
        if self.cell is not None:
            about["cell"] = self.cell
        path = machine.added_path()
        if path:
            about["path"] = path
        notebook = settings.notebook()
        if notebook:
            about["notebook"] = notebook
        try:
            return json.dumps(about)
        except TypeError as error:
            raise errors.UsageError(f"meta: only what JSON can hold is accepted ({error})") from None


class Codes:
    """The functions of one client, pickled; which of them Redis has been given."""

    def __init__(self, connection: Connection) -> None:
        self._seal = connection.seal
        self._records: dict[bytes, bytes] = {}
        self._packed: dict[int, tuple[tuple[Any, ...], Code]] = {}

    def pack(self, function: Any) -> Code:
        """Pickle a function; anew where what it refers to may have changed."""
        if not callable(function):
            raise errors.UsageError(
                f"{function!r:.80} is not callable: give the function itself and its arguments, "
                "as in q.enqueue(func, 1, 2), not the result of calling it"
            )
        parts = pickling.parts_of(function)
        if parts is not None:
            known = self._packed.get(id(function))
            if known and len(known[0]) == len(parts) and all(a is b for a, b in zip(known[0], parts, strict=True)):
                return known[1]
        code = pickling.pack_code(self._seal, function)
        if parts is not None:
            while len(self._packed) > 200:
                self._packed.pop(next(iter(self._packed)))
            self._packed[id(function)] = (parts, code)
        if code.digest not in self._records:
            while len(self._records) > 500:
                self._records.pop(next(iter(self._records)))
            self._records[code.digest] = code.sealed(self._seal)
        return code

    def record(self, digest: bytes) -> bytes:
        return self._records[digest]


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring jobs that are submitted together."""

    first: int
    count: int
    functions: dict[bytes, bytes]
    fields: list[tuple[str, Blob]]
    is_last: bool


class Submission:
    """One batch being submitted.

    Parameters
    ----------
    connection : Connection
    queue : str
    options : JobOptions
    name : str
        Of the function, for the label.
    """

    def __init__(self, connection: Connection, codes: Codes, queue: str, options: JobOptions, name: str) -> None:
        self._store = connection.store
        self._seal = connection.seal
        self._codes = codes
        self._queue = queue
        self._environment = connection.environment
        self._options = options
        self._about = options.about(name)
        self._opening: Opening | None = None
        self.batch = new_id()
        while self._store.run("EXISTS", self._store.key(f"batch:{self.batch}")):
            self.batch = new_id()
        self._per_block = 0
        self._fields: list[tuple[str, Blob]] = []
        self._bytes = 0
        self._functions: dict[bytes, bytes] = {}
        self._packed = 0
        self.sent = 0
        """Jobs that Redis has accepted."""
        self._sent_at = time.monotonic()
        self._pending: list[Any] = []
        self._pending_since = 0.0
        self._pending_weight = 0
        self._lock = threading.RLock()
        self._problem: BaseException | None = None
        self._pid = os.getpid()
        self._posted: tuple[_Part, Posted[Submitted]] | None = None
        """What was sent and not answered yet."""

    def run(self, calls: Iterable[Any], pack: _Packer) -> str:
        """Submit all calls; returns the id of the batch.

        Raises
        ------
        SubmitError
            The iterable raised. What was submitted is canceled.
        CannotPickle, TooLarge
            One of the calls cannot be sent. What was submitted is canceled.
        """
        try:
            if isinstance(calls, Sized) and isinstance(calls, Sequence):
                self._run_fast(iter(calls), pack)
            else:
                self._run_steadily(iter(calls), pack)
            self._send(is_last=True)
        except BaseException as error:
            self._give_up(error)
            raise
        return self.batch

    def _run_fast(self, calls: Iterator[Any], pack: _Packer) -> None:
        first = list(itertools.islice(calls, 16))
        self._per_block = pack.calls_per_block(first)
        calls = itertools.chain(first, calls)
        while items := list(itertools.islice(calls, self._per_block)):
            self._add(items, pack, is_block=True)
            self._send_if_due()

    def _run_steadily(self, calls: Iterator[Any], pack: _Packer) -> None:
        """An iterable that may be slow: what it has given is not kept back while it thinks."""
        over = threading.Event()
        helper = threading.Thread(target=self._help, args=(over, pack), name="nbqueue-submit", daemon=True)
        try:
            with held_interrupt():
                helper.start()
            while True:
                try:
                    item = next(calls)
                except StopIteration:
                    break
                except Exception as error:
                    if self._is_fork:
                        raise
                    with self._lock:
                        self._settle()
                    raise errors.SubmitError(
                        f"the iterable raised {type(error).__name__}: {error}, after "
                        f"{self._packed + len(self._pending)} items. What was submitted "
                        f"as batch {self.batch} ({self.sent} jobs) is canceled"
                    ) from error
                with self._lock:
                    if self._problem is not None:
                        raise self._problem
                    if not self._pending:
                        self._pending_since = time.monotonic()
                    self._pending.append(item)
                    if type(item) not in _LIGHT:
                        self._pending_weight += _weight(item)
                    if not self._per_block and len(self._pending) >= 16:
                        self._per_block = pack.calls_per_block(self._pending)
                    is_whole = self._per_block and len(self._pending) >= self._room()
                    if is_whole or self._pending_weight > _MOST_WEIGHT:
                        self._take_pending(pack)
                        self._send_if_due()
            with self._lock:
                self._take_pending(pack, is_end=True)
        finally:
            over.set()
            if helper.ident is not None:
                helper.join()

    def _room(self) -> int:
        return self._per_block - self._packed % self._per_block

    def _take_pending(self, pack: _Packer, *, is_end: bool = False) -> None:
        while self._pending:
            self._per_block = self._per_block or pack.calls_per_block(self._pending)
            room = self._room()
            items, self._pending = self._pending[:room], self._pending[room:]
            is_whole = len(items) == self._per_block or (is_end and room == self._per_block)
            self._add(items, pack, is_block=is_whole)
        self._pending_weight = 0

    def _help(self, over: threading.Event, pack: _Packer) -> None:
        """Beside the iterable: send what waits for too long, and say that the submitter is alive."""
        touched_at = time.monotonic()
        while not over.wait(_STALE / 2):
            now = time.monotonic()
            try:
                with self._lock:
                    if self._problem is None and self._pending and now - self._pending_since > _STALE:
                        self._take_pending(pack)
                    if self._problem is None and self._fields and now - self._sent_at > _SEND_SECONDS:
                        self._send()
                if self.sent and now - touched_at > _TOUCH:
                    self._store.call(requests.touch(self.batch))
                    touched_at = now
            except BaseException as error:  # noqa: BLE001 - raised in the submitting thread, at its next item
                self._problem = error
                return

    def _add(self, items: list[Any], pack: _Packer, *, is_block: bool) -> None:
        """Pack neighbouring calls: as a block, or one by one where that would be too much at once."""
        if set(map(type, items)) <= _LIGHT or sum(map(_weight, items)) <= _MOST_WEIGHT:
            self._add_together(items, pack, is_block=is_block)
            return
        for item in items:
            self._add_together([item], pack, is_block=is_block and len(items) == 1)
            self._send_if_due()

    def _add_together(self, items: list[Any], pack: _Packer, *, is_block: bool) -> None:
        """As a block, or one by one where others of the same block come at another time."""
        first = self._packed
        fields: Iterable[tuple[str, Blob]]
        if is_block:
            fields = pack.block(self.batch, first, first // self._per_block, items, self._functions)
        else:
            fields = (
                (str(index), pack.single(self.batch, index, item, self._functions))
                for index, item in enumerate(items, first)
            )
        for name, record in fields:
            self._fields.append((name, record))
            self._bytes += len(record)
        self._packed += len(items)

    def _send_if_due(self) -> None:
        if (
            self._bytes >= _SEND_BYTES
            or len(self._fields) >= 500
            or self.sent == 0
            or time.monotonic() - self._sent_at > _SEND_SECONDS
        ):
            self._send()

    def _send(self, *, is_last: bool = False) -> None:
        """Send what is packed. Its answer is read before the next is sent: meanwhile, that is packed."""
        if self._is_fork:
            raise errors.SubmitError(f"batch {self.batch} is submitted by the process that this one is a fork of")
        self._settle()
        count = self._packed - self.sent
        if self._opening is None:
            self._opening = Opening(
                self.batch, new_token(), self._queue, self._environment, max(1, self._per_block), self._about,
                self._options.weight, self._options.result_ttl,
            )  # fmt: skip
        part = _Part(self.sent, count, self._functions, self._fields, is_last)
        request = self._request(part, part.functions)
        if is_last or self.sent == 0:
            self._accept(part, self._store.call(request))
        else:
            self._posted = part, self._store.post(request)
        self._fields, self._functions, self._bytes = [], {}, 0
        self._sent_at = time.monotonic()

    def _request(self, part: _Part, functions: dict[bytes, bytes]) -> Request[Submitted]:
        assert self._opening is not None
        return requests.submit(
            self._opening, part.first, part.count, functions, part.fields,
            is_last=part.is_last, at_front=self._options.at_front,
        )  # fmt: skip

    def _settle(self) -> None:
        """Read the answer to what was sent last."""
        if self._posted is not None:
            part, posted = self._posted
            self._posted = None
            self._accept(part, posted.result())

    def _accept(self, part: _Part, answer: Submitted) -> None:
        functions = part.functions
        for _ in range(len(functions)):
            if answer.answer != "code":
                break
            functions = {digest: self._codes.record(digest) for digest in functions}
            answer = self._store.call(self._request(part, functions))
        if answer.answer == "canceled":
            raise errors.SubmitError(
                f"batch {self.batch} was canceled while it was being submitted, after {self.sent} jobs: {answer.detail}"
            )
        if answer.answer != "ok":
            raise errors.SubmitError(
                f"batch {self.batch} could not be submitted further than job {self.sent} ({answer.answer}): "
                "somebody deleted it"
            )
        self.sent += part.count

    @property
    def _is_fork(self) -> bool:
        """This is a fork that the iterable has made: what is submitted is the parent's."""
        return self._pid != os.getpid()

    def _give_up(self, error: BaseException) -> None:
        if self._opening is None or self._is_fork:
            return
        with contextlib.suppress(errors.NbqueueError):
            self._settle()
        word = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"raised {type(error).__name__}"
        try:
            self._store.call(requests.abandon(self.batch, None, f"its submitter {word} after %d jobs were submitted"))
        except errors.NbqueueError as second:
            error.add_note(f"batch {self.batch} could not be canceled: {second}")
        else:
            error.add_note(f"nbqueue: batch {self.batch} is canceled; {self.sent} jobs of it had been submitted")


class _Packer:
    """Packs calls of one form."""

    def __init__(self, connection: Connection, codes: Codes) -> None:
        self._seal = connection.seal
        self._codes = codes
        self._buffers = Buffers()

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        raise NotImplementedError

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        """A record of plain values, where that is possible."""
        raise NotImplementedError

    def calls_per_block(self, items: list[Any]) -> int:
        """How many calls make a block, from the size of the first ones."""
        sizes = []
        for position, item in enumerate(items):
            _, args, kwargs = self.call(item)
            sizes.append(pickling.size_of(self._entry(position, 0, args, kwargs)))
        if not sizes:
            return _MOST_CALLS
        return max(1, min(_MOST_CALLS, _BLOCK_BYTES * len(sizes) // sum(sizes)))

    def _entry(self, index: int, function: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> pickling.Pieces:
        try:
            return pickling.pack_arguments(function, args, kwargs)
        except errors.PayloadError as error:
            raise type(error)(f"call {index}: {error}") from error.__cause__

    def block(
        self, batch: str, first: int, block: int, items: list[Any], functions: dict[bytes, bytes]
    ) -> Iterator[tuple[str, Blob]]:
        """The field of a block, and those of large calls in it."""
        record = self.fast(batch, first, items, functions)
        if record is not None and len(record) < 4 * _BLOCK_BYTES:
            yield f"b{block}", record
            return
        digests: dict[bytes, int] = {}
        entries = []
        for index, item in enumerate(items, first):
            digest, args, kwargs = self.call(item)
            functions.setdefault(digest, b"")
            number = digests.setdefault(digest, len(digests))
            entry = self._entry(index, number, args, kwargs)
            if len(items) > 1 and pickling.size_of(entry) > _LARGE:
                yield (
                    str(index),
                    pickling.pack_entries(self._seal, batch, index, [digest], [pickling.alone(entry)], self._buffers),
                )
                entry = []
            entries.append(entry)
        yield f"b{block}", pickling.pack_entries(self._seal, batch, first, list(digests), entries, self._buffers)

    def single(self, batch: str, index: int, item: Any, functions: dict[bytes, bytes]) -> Blob:
        digest, args, kwargs = self.call(item)
        functions.setdefault(digest, b"")
        entry = self._entry(index, 0, args, kwargs)
        return pickling.pack_entries(self._seal, batch, index, [digest], [entry], self._buffers)


def _weight(value: Any, depth: int = 2) -> int:
    """Bytes of an item, as far as can be seen without pickling it."""
    kind = type(value)
    if kind in (bytes, str, bytearray):
        return len(value)
    if kind in _LIGHT:
        return 0
    if kind is Call:
        return _weight((*value.args, *(value.kwargs or {}).values()), depth)
    if kind in (tuple, list, dict):
        parts = value.values() if kind is dict else value
        return sum(_weight(part, depth - 1) for part in itertools.islice(parts, 1000)) if depth else 0
    if not hasattr(kind, "nbytes"):
        return 0
    try:
        return int(value.nbytes)  # of an array
    except Exception:  # noqa: BLE001 - of something else: it is the user's code
        return 0


class ItemPacker(_Packer):
    """Calls of one function with one argument each."""

    def __init__(self, connection: Connection, codes: Codes, digest: bytes) -> None:
        super().__init__(connection, codes)
        self._digest = digest

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        return self._digest, (item,), {}

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        functions.setdefault(self._digest, b"")
        return pickling.pack_items(self._seal, batch, first, self._digest, items)


class TuplePacker(ItemPacker):
    """Calls of one function with several arguments each."""

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        return self._digest, tuple(item), {}

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        functions.setdefault(self._digest, b"")
        return pickling.pack_tuples(self._seal, batch, first, self._digest, [tuple(item) for item in items])


class CallPacker(_Packer):
    """Calls of functions that may differ."""

    def __init__(self, connection: Connection, codes: Codes) -> None:
        super().__init__(connection, codes)
        self._digests: dict[int, tuple[Any, bytes]] = {}

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        call = as_call(item)
        known = self._digests.get(id(call.function))
        if known is None or known[0] is not call.function:
            known = self._digests[id(call.function)] = (call.function, self._codes.pack(call.function).digest)
        return known[1], tuple(call.args), call.kwargs or {}

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        return None

    def calls_per_block(self, items: list[Any]) -> int:
        return min(100, super().calls_per_block(items))  # a header has room for 127 functions


def as_call(item: Any) -> Call:
    """A call from `(func, args)`, `(func, args, kwargs)` or `nbqueue.call(...)`.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if isinstance(item, Call):
        return item
    if isinstance(item, tuple) and 1 <= len(item) <= 3 and callable(item[0]):
        args = item[1] if len(item) > 1 else ()
        kwargs = item[2] if len(item) > 2 else {}
        if isinstance(args, tuple | list) and isinstance(kwargs, dict):
            return Call(item[0], tuple(args), kwargs)
    raise errors.UsageError(
        f"{item!r:.80} is not a call: (func, args), (func, args, kwargs) or nbqueue.call(func, *args, **kwargs) is"
    )


class OpenBatch:
    """The batch that single calls of one kind are appended to."""

    _MOST_JOBS = 1000
    _SECONDS = 60.0

    def __init__(self, connection: Connection, codes: Codes, queue: str, options: JobOptions) -> None:
        self._store = connection.store
        self._seal = connection.seal
        self._codes = codes
        self._options = options
        self._count = 0
        self._since = time.monotonic()
        self._made_at = _place()
        self._stored: set[bytes] = set()
        self.id = new_id()
        while self._store.run("EXISTS", self._store.key(f"batch:{self.id}")):
            self.id = new_id()
        about = options.about("single calls", single=True)
        self._opening = Opening(
            self.id, new_token(), queue, connection.environment, 1, about, options.weight, options.result_ttl
        )
        self.is_closed = False

    @property
    def is_over(self) -> bool:
        """Whether another one shall be made: also where calls have another directory, or path to modules, by now."""
        is_full = self._count >= self._MOST_JOBS or time.monotonic() - self._since > self._SECONDS
        return self.is_closed or is_full or self._made_at != _place()

    def append(self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], at_front: bool) -> int | None:
        """Submit one call; returns its index, or None if the batch takes no more."""
        index = self._count
        record: Blob | None = None
        if not kwargs and len(args) == 1:
            record = pickling.pack_items(self._seal, self.id, index, code.digest, args)
        if record is None:
            entry = pickling.pack_arguments(0, args, kwargs)
            record = pickling.pack_entries(self._seal, self.id, index, [code.digest], [entry])
        try:
            is_known = code.digest in self._stored
            if is_known and not at_front and len(record) < requests.BULK:
                request = requests.append(self.id, self._opening.token, index, code.digest, record)
                if self._store.call(request):
                    self._count += 1
                    return index
            body = b"" if is_known else self._codes.record(code.digest)
            answer = self._submit(index, code.digest, body, record, at_front)
            if answer == "code":
                answer = self._submit(index, code.digest, self._codes.record(code.digest), record, at_front)
        except BaseException:
            self.is_closed = True  # whether it was accepted is not known: this index is not used again
            raise
        if answer != "ok":
            self.is_closed = True
            return None
        self._stored.add(code.digest)
        self._count += 1
        return index

    def _submit(self, index: int, digest: bytes, body: bytes, record: Blob, at_front: bool) -> str:
        request = requests.submit(
            self._opening, index, 1, {digest: body}, [(f"b{index}", record)], is_last=True, at_front=at_front
        )
        return self._store.call(request).answer


def _place() -> tuple[str, list[str]]:
    """What a batch says of where its calls were made."""
    try:
        return str(Path.cwd()), sys.path.copy()
    except OSError:  # it was deleted
        return "", sys.path.copy()
