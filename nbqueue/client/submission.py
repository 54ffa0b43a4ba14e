"""Submitting: calls become blocks, blocks become jobs of a batch. In the calling thread, with bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbqueue import errors
from nbqueue.backend import Backend
from nbqueue.client.codes import Codes
from nbqueue.client.options import JobOptions
from nbqueue.client.packing import LIGHT, Packer, weight_of
from nbqueue.payload.records import Blob
from nbqueue.store.interrupts import held_interrupt
from nbqueue.store.keys import new_id, new_token
from nbqueue.store.requests import submitting
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.submitting import Opening, Submitted
from nbqueue.store.store import Posted

_MOST_WEIGHT = 4_000_000
"""Bytes of arguments that are not packed as one block, however small the first ones were."""

_SEND_BYTES = 1_000_000

_SEND_SECONDS = 0.05

_STALE = 0.25
"""Seconds for which calls of a slow iterable are kept back at most."""

_TOUCH = 5.0


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
    backend : Backend
    queue : str
    options : JobOptions
    name : str
        Of the function, for the label.
    """

    def __init__(self, backend: Backend, codes: Codes, queue: str, options: JobOptions, name: str) -> None:
        self._store = backend.store
        self._seal = backend.seal
        self._codes = codes
        self._queue = queue
        self._environment = backend.environment
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

    def run(self, calls: Iterable[Any], pack: Packer) -> str:
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

    def _run_fast(self, calls: Iterator[Any], pack: Packer) -> None:
        first = list(itertools.islice(calls, 16))
        self._per_block = pack.calls_per_block(first)
        calls = itertools.chain(first, calls)
        while items := list(itertools.islice(calls, self._per_block)):
            self._add(items, pack, is_block=True)
            self._send_if_due()

    def _run_steadily(self, calls: Iterator[Any], pack: Packer) -> None:
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
                    if type(item) not in LIGHT:
                        self._pending_weight += weight_of(item)
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

    def _take_pending(self, pack: Packer, *, is_end: bool = False) -> None:
        while self._pending:
            self._per_block = self._per_block or pack.calls_per_block(self._pending)
            room = self._room()
            items, self._pending = self._pending[:room], self._pending[room:]
            is_whole = len(items) == self._per_block or (is_end and room == self._per_block)
            self._add(items, pack, is_block=is_whole)
        self._pending_weight = 0

    def _help(self, over: threading.Event, pack: Packer) -> None:
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
                    self._store.call(submitting.touch(self.batch))
                    touched_at = now
            except BaseException as error:  # noqa: BLE001 - raised in the submitting thread, at its next item
                self._problem = error
                return

    def _add(self, items: list[Any], pack: Packer, *, is_block: bool) -> None:
        """Pack neighbouring calls: as a block, or one by one where that would be too much at once."""
        if set(map(type, items)) <= LIGHT or sum(map(weight_of, items)) <= _MOST_WEIGHT:
            self._add_together(items, pack, is_block=is_block)
            return
        for item in items:
            self._add_together([item], pack, is_block=is_block and len(items) == 1)
            self._send_if_due()

    def _add_together(self, items: list[Any], pack: Packer, *, is_block: bool) -> None:
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
        return submitting.submit(
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
            self._store.call(submitting.abandon(self.batch, None, f"its submitter {word} after %d jobs were submitted"))
        except errors.NbqueueError as second:
            error.add_note(f"batch {self.batch} could not be canceled: {second}")
        else:
            error.add_note(f"nbqueue: batch {self.batch} is canceled; {self.sent} jobs of it had been submitted")


def _place() -> tuple[str, list[str]]:
    """What a batch says of where its calls were made."""
    try:
        return str(Path.cwd()), sys.path.copy()
    except OSError:  # it was deleted
        return "", sys.path.copy()
