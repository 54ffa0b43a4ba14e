"""Submitting: calls become blocks, blocks become jobs of a batch. In the calling thread, with bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from nbqueue import errors
from nbqueue.client.depending import deferred_in, unknown_dependency
from nbqueue.client.options import NOTHING, Attached, JobOptions
from nbqueue.client.packing import LIGHT, Packed, Packer, weight_of
from nbqueue.client.session import Session
from nbqueue.payload.functions import Code
from nbqueue.payload.records import Blob
from nbqueue.store.interrupts import held_interrupt
from nbqueue.store.keys import new_id, new_token
from nbqueue.store.link import Posted
from nbqueue.store.requests import submitting
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.submitting import Deferred, Opening, Submitted

_MOST_WEIGHT = 4_000_000
"""Bytes of arguments that are not packed as one block, however small the first ones were."""

_WEIGHED = 16
"""Calls from whose size it is seen how many make a block."""

_SEND_BYTES = 1_000_000
"""Bytes that are sent together, about."""

_SEND_FIELDS = 500
"""Blocks and large calls that are sent together."""

_SEND_WAITING = 500
"""Jobs that wait for others, each for its own, that are sent together."""

_SEND_SECONDS = 0.05
"""Seconds after which what is packed is sent, however little it is."""

_STALE = 0.25
"""Seconds for which calls of a slow iterable are kept back at most."""

_TOUCH = 5.0
"""Seconds between two signs of life of a submitter that sends nothing."""


class IdTaken(Exception):
    """Another batch has the id that was made up; nothing was submitted.

    `items` are those that an iterable has given; None where it can be asked once more.
    """

    def __init__(self, items: list[Any] | None) -> None:
        super().__init__("the id is taken")
        self.items = items


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring jobs that are submitted together."""

    first: int
    count: int
    functions: dict[bytes, Blob]
    fields: list[tuple[str, Blob]]
    is_last: bool
    held: list[Code]
    """What has to be there until it is accepted."""
    deferred: list[Deferred]


class Submission:
    """One batch being submitted.

    Parameters
    ----------
    session : Session
    queue : str
    options : JobOptions
    name : str
        Of the function, for the label.
    packer : Packer
    attached : Attached
        What the jobs find where they run.
    follows : str
        A batch: each job waits for that of the same index there.
    """

    def __init__(
        self, session: Session, queue: str, options: JobOptions, name: str, packer: Packer,
        attached: Attached = NOTHING, *, follows: str = "",
    ) -> None:  # fmt: skip
        self.batch = new_id()
        self.sent = 0
        """Jobs that Redis has accepted."""
        self.packed = 0
        """Jobs that are sent, or about to be."""
        self.per_block = 0
        self._session = session
        self._opening = Opening(
            self.batch, new_token(), queue, session.environment, 0,
            "", options.priority, options.result_ttl, options.failure_ttl, options.ttl,
        )  # fmt: skip
        self._description = options.describe(
            name, queue, calls=packer.calls, attached=attached, compiled=session.codes.compiled
        )
        self._attached = attached
        self._at_front, self._due = options.at_front, options.due
        self._depends, self._follows = options.depends, follows
        self._packer = packer
        packer.depends = options.depends
        self._ready = _Ready()
        self._ready.functions.update((digest, b"") for digest in attached.digests())
        self._sent_at = time.monotonic()
        self._posted: tuple[_Part, Posted[Submitted]] | None = None
        """The part that was sent and not answered yet."""
        self._has_begun = False
        self._pid = os.getpid()

    @property
    def is_fork(self) -> bool:
        """This is a fork that the iterable has made: what is submitted is the parent's."""
        return self._pid != os.getpid()

    def run(self, calls: Iterable[Any]) -> None:
        """Submit all calls.

        Raises
        ------
        IdTaken
        SubmitError
            The iterable raised. What was submitted is canceled.
        CannotPickle, ServerFull
            One of the calls cannot be sent. What was submitted is canceled.
        """
        try:
            if isinstance(calls, Sized) and isinstance(calls, Sequence):
                self._run_fast(iter(calls), len(calls))
            else:
                _Steady(self).run(iter(calls))
        except BaseException as error:
            if not isinstance(error, IdTaken):
                self._give_up(error)
            raise

    def _run_fast(self, calls: Iterator[Any], total: int) -> None:
        self._packer.is_still = True
        first = list(itertools.islice(calls, _WEIGHED))
        self.weigh(first)
        self.per_block = max(1, min(self.per_block, total))
        calls = itertools.chain(first, calls)
        items = list(itertools.islice(calls, self.per_block))
        while items:
            following = list(itertools.islice(calls, self.per_block))
            self.add(items, is_block=True)
            if following:  # the last part says that it is
                self.send_if_due()
            items = following
        self.send(is_last=True)

    def weigh(self, items: list[Any]) -> None:
        """See from the first calls how many make a block."""
        self.per_block = self._packer.calls_per_block(items)

    def take(self, item: Any, position: int) -> Any:
        """An item as it is now, before which `position` others are waiting to be packed."""
        if type(item) is Packed:  # it was taken for a batch whose id was another's
            return item
        return self._packer.take(self.packed + position, item)

    def add(self, items: list[Any], *, is_block: bool) -> None:
        """Pack neighbouring calls: as a block, or one by one where that would be too much at once."""
        if set(map(type, items)) <= LIGHT or sum(map(weight_of, items)) <= _MOST_WEIGHT:
            self._add_together(items, is_block=is_block)
            return
        for item in items:
            self._add_together([item], is_block=is_block and len(items) == 1)
            self.send_if_due()

    def _add_together(self, items: list[Any], *, is_block: bool) -> None:
        """Pack them as a block, or one by one where others of the same block come at another time."""
        first, ready = self.packed, self._ready
        fields: Iterable[tuple[str, Blob]]
        if is_block:
            fields = self._packer.block(self.batch, first, first // self.per_block, items, ready.functions)
        else:
            fields = (
                (str(index), self._packer.single(self.batch, index, item, ready.functions))
                for index, item in enumerate(items, first)
            )
        for name, record in fields:
            ready.fields.append((name, record))
            ready.bytes += len(record)
        self.packed += len(items)

    @property
    def has_unsent(self) -> bool:
        """Whether something is packed and not sent."""
        return bool(self._ready.fields)

    @property
    def waits_for(self) -> float:
        """Seconds since something was sent."""
        return time.monotonic() - self._sent_at

    def send_if_due(self) -> None:
        """Send what is packed, if it is enough, or late."""
        ready = self._ready
        if (
            ready.bytes >= _SEND_BYTES
            or len(ready.fields) >= _SEND_FIELDS
            or len(self._packer.waiting) >= _SEND_WAITING
            or self.sent == 0
            or self.waits_for > _SEND_SECONDS
        ):
            self.send()

    def send(self, *, is_last: bool = False) -> None:
        """Send what is packed. Its answer is read before the next is sent: meanwhile, that is packed."""
        if self.is_fork:
            raise errors.SubmitError(f"batch {self.batch} is submitted by the process that this one is a fork of")
        self.settle()
        ready, self._ready = self._ready, _Ready()
        functions = self._session.codes.to_send(ready.functions)
        held, self._packer.held = self._packer.held, []
        deferred = deferred_in(self.sent, self.packed, self._depends, self._packer.waiting)
        self._packer.waiting = {}
        part = _Part(self.sent, self.packed - self.sent, functions, ready.fields, is_last, held, deferred)
        request = self._request(part, part.functions)
        if is_last or self.sent == 0:
            self._accept(part, self._session.store.call(request))
        else:
            self._posted = part, self._session.store.post(request)
        self._sent_at = time.monotonic()

    def _request(self, part: _Part, functions: dict[bytes, Blob]) -> Request[Submitted]:
        if not self._has_begun:
            self._has_begun = True
            self._packer.notes_packages = False
            described = replace(self._description, versions=self._session.codes.versions(self._packer.packages))
            self._opening = replace(self._opening, per_block=max(1, self.per_block), description=described.to_json())
        return submitting.submit(
            self._opening, part.first, part.count, functions, part.fields,
            is_last=part.is_last, at_front=self._at_front, due=self._due,
            deferred=part.deferred, follows=self._follows,
        )  # fmt: skip

    def settle(self) -> None:
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
            functions = self._session.codes.records(functions)
            answer = self._session.store.call(self._request(part, functions))
        if answer.answer == "taken" and self.sent == 0:
            raise IdTaken(None)
        if answer.answer == "canceled":
            raise errors.SubmitError(
                f"batch {self.batch} was canceled while it was being submitted, after {self.sent} jobs: {answer.detail}"
            )
        if answer.answer == "unknown":
            raise unknown_dependency(answer.detail)
        if answer.answer != "ok":
            raise errors.SubmitError(
                f"batch {self.batch} could not be submitted further than job {self.sent} ({answer.answer}): "
                "somebody deleted it"
            )
        self.sent += part.count
        self._session.codes.accepted(part.functions)

    def touch(self) -> None:
        """Say that the submitter is alive, if anything was sent."""
        if self.sent:
            self._session.store.call(submitting.touch(self.batch))

    def _give_up(self, error: BaseException) -> None:
        if not self._has_begun or self.is_fork:
            return
        with contextlib.suppress(errors.NbqueueError):
            self.settle()
        word = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"raised {type(error).__name__}"
        try:
            self._session.store.call(
                submitting.abandon(self.batch, None, f"its submitter {word} after %d jobs were submitted")
            )
        except errors.NbqueueError as second:
            error.add_note(f"batch {self.batch} could not be canceled: {second}")
        else:
            error.add_note(f"nbqueue: batch {self.batch} is canceled; {self.sent} jobs of it had been submitted")


@dataclass(slots=True)
class _Ready:
    """Fields and functions that are packed and not sent."""

    fields: list[tuple[str, Blob]] = field(default_factory=list)
    functions: dict[bytes, bytes] = field(default_factory=dict)
    bytes: int = 0


class _Steady:
    """Submits what an iterable gives that may be slow: nothing is kept back while it thinks.

    A helper thread, beside the iterable, sends what waits for too long and says that the submitter is alive.
    """

    def __init__(self, submission: Submission) -> None:
        self._submission = submission
        self._lock = threading.RLock()
        self._pending: list[Any] = []
        self._since = 0.0
        self._weight = 0
        self._unsure: list[Any] = []
        """Items of the first part, until it is accepted: they may have to go under another id."""
        self._problem: BaseException | None = None

    def run(self, calls: Iterator[Any]) -> None:
        """Submit all.

        Raises
        ------
        IdTaken
            With the items that were given.
        """
        try:
            self._run_with_help(calls)
            self._submission.send(is_last=True)
        except IdTaken:
            raise IdTaken(self._unsure + self._pending) from None

    def _run_with_help(self, calls: Iterator[Any]) -> None:
        over = threading.Event()
        helper = threading.Thread(target=self._help, args=(over,), name="nbqueue-submit", daemon=True)
        try:
            with held_interrupt():
                helper.start()
            for item in self._given(calls):
                with self._lock:
                    self._take(item)
            with self._lock:
                self._pack(is_end=True)
        finally:
            over.set()
            if helper.ident is not None:
                helper.join()

    def _given(self, calls: Iterator[Any]) -> Iterator[Any]:
        submission = self._submission
        while True:
            try:
                item = next(calls)
            except StopIteration:
                return
            except Exception as error:
                if submission.is_fork:
                    raise
                with self._lock:
                    submission.settle()
                raise errors.SubmitError(
                    f"the iterable raised {type(error).__name__}: {error}, after "
                    f"{submission.packed + len(self._pending)} items. What was submitted "
                    f"as batch {submission.batch} ({submission.sent} jobs) is canceled"
                ) from error
            yield item

    def _take(self, item: Any) -> None:
        submission = self._submission
        if not self._pending:
            self._since = time.monotonic()
        if type(item) not in LIGHT:
            item = submission.take(item, len(self._pending))
            self._weight += weight_of(item)
        self._pending.append(item)
        if self._problem is not None:  # also where the id is taken: all that was given is submitted once more
            raise self._problem
        if not submission.per_block and len(self._pending) >= _WEIGHED:
            submission.weigh(self._pending)
        is_whole = submission.per_block and len(self._pending) >= self._room()
        if is_whole or self._weight > _MOST_WEIGHT:
            self._pack()
            submission.send_if_due()
            self._forget_accepted()

    def _room(self) -> int:
        """Calls that are missing in the present block."""
        return self._submission.per_block - self._submission.packed % self._submission.per_block

    def _pack(self, *, is_end: bool = False) -> None:
        submission = self._submission
        while self._pending:
            if not submission.per_block:
                submission.weigh(self._pending)
            room = self._room()
            items, self._pending = self._pending[:room], self._pending[room:]
            if not submission.sent:
                self._unsure += items
            is_whole = len(items) == submission.per_block or (is_end and room == submission.per_block)
            submission.add(items, is_block=is_whole)
        self._weight = 0

    def _forget_accepted(self) -> None:
        if self._submission.sent:
            self._unsure.clear()

    def _help(self, over: threading.Event) -> None:
        submission = self._submission
        touched_at = time.monotonic()
        while not over.wait(_STALE / 2):
            now = time.monotonic()
            try:
                with self._lock:
                    if self._problem is None and self._pending and now - self._since > _STALE:
                        self._pack()
                    if self._problem is None and submission.has_unsent and submission.waits_for > _SEND_SECONDS:
                        submission.send()
                        self._forget_accepted()
                if now - touched_at > _TOUCH:
                    submission.touch()
                    touched_at = now
            except BaseException as error:  # noqa: BLE001 - raised in the submitting thread, at its next item
                self._problem = error
                return
