"""A child as its worker sees it: what it was handed, what it does and says, and how it is told to stop.

It decides nothing about jobs: `stopping.py` does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby

from nbqueue import child, machine
from nbqueue.payload.callbacks import GIVEN
from nbqueue.payload.memory import Nameless
from nbqueue.payload.records import Blob, weight_of
from nbqueue.protocol import messages
from nbqueue.protocol.descriptors import Descriptors
from nbqueue.protocol.messages import (
    CalledBack,
    Displayed,
    Do,
    Done,
    GoesOn,
    Message,
    Meta,
    Printed,
    Show,
    Waits,
)
from nbqueue.protocol.page import Page
from nbqueue.protocol.ring import Reader
from nbqueue.store.description import Description
from nbqueue.store.requests.running import STREAMS, Claimed, Progress
from nbqueue.worker.lease import OBEYS, Bound, Interruption, Lease, RunningJob, Seen, Wait
from nbqueue.worker.process import Guard, Process

_CHILD = f"from {child.__name__}.main import main; main()"
"""The program of a child. It finds modules where it is, wherever it goes."""

_MOST_READS = 64
"""Of its socket in a row: who writes faster than we read must not keep us from everything else."""

_MOST_FUNCTIONS = 500
"""Functions that a child keeps; more, and it starts anew."""

_MOST_FUNCTION_BYTES = 16 * 2**20
"""Bytes of functions that a child keeps beside those that it needs."""


class Line:
    """A socket to a child, which never blocks: what does not go out at once is kept."""

    def __init__(self) -> None:
        self.socket, self.theirs = socket.socketpair()
        self.socket.setblocking(False)
        self._inbox = messages.Inbox()
        self._out: deque[memoryview] = deque()

    def send(self, message: Message) -> None:
        self._out.extend(map(memoryview, messages.joined(messages.encode(message))))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._out:
            try:
                sent = self.socket.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:  # it is dead; `death` will tell
                self._out.clear()
                return
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                self._out.popleft()

    @property
    def has_unsent(self) -> bool:
        return bool(self._out)

    def received(self, *, everything: bool = False) -> list[Message]:
        """What has come since the last time; a part of it, if that is much."""
        found: list[Message] = []
        reads = 0
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while (everything or reads < _MOST_READS) and self._inbox.read(self.socket):
                reads += 1
                found += self._inbox.messages()
        return found


Said = Done | Show | Displayed | Meta | Waits | GoesOn | CalledBack
"""What a child says."""


class ChildProcess:
    """One child: its process, its socket, its page, and the leases that it was handed."""

    def __init__(self, hello: messages.Hello, guard: Guard, children: int, preload: list[str]) -> None:
        self.page = Page.create()
        self._ring = Reader(self.page.ring)
        self.line = Line()
        self.descriptors, output = Descriptors.create()
        self._pending: list[Printed] = []
        """What was read of what its jobs have printed and written, and not passed on yet."""
        self.pending = 0
        """Bytes of it."""
        self.is_stuck = False
        """What its cell has written to a descriptor was there at the last look: it does not come to read it."""
        with self.line.theirs as theirs:
            keep = (theirs.fileno(), self.page.fd, *self.descriptors.fds)
            self.process = Process(
                [sys.executable, "-c", _CHILD, *map(str, keep), *preload], guard,
                keep=keep, output=output,
                environment={**machine.threads_each(children), **machine.hash_seed()},
            )  # fmt: skip
        for fd in output:
            os.close(fd)
        self._functions: dict[bytes, int] = {}
        """Those that it has, and how large they are."""
        self._mapped: dict[bytes, Nameless] = {}
        """Those of them that it maps."""
        self.leases: deque[Lease] = deque()
        self.interruption: Interruption | None = None
        self.bound: Bound | None = None
        self.wait: Wait | None = None
        """Its job waits for others."""
        self.decided: Done | None = None
        """How the job ended whose callback runs."""
        self._asked_for: tuple[int, int] | None = None
        self._active_at = time.monotonic()
        self.is_fresh = True
        """It has not been handed anything."""
        self.is_used_up = False
        """It has run a cell, which may have changed anything in it: no other shall find that."""
        self.line.send(hello)

    @property
    def pid(self) -> int:
        return self.process.pid

    # Handing over

    def hand(self, claimed: Claimed, description: Description, functions: Mapping[bytes, Blob | Nameless]) -> None:
        """Give it a lease, with the functions that it does not have yet."""
        self.is_fresh = False
        news = {digest: record for digest, record in functions.items() if digest not in self._functions}
        size = sum(map(weight_of, news.values())) + sum(self._functions.values())
        forget = bool(news) and (len(self._functions) > _MOST_FUNCTIONS or size > _MOST_FUNCTION_BYTES)
        if forget:
            self._functions.clear()
            self._mapped.clear()
            news = dict(functions)
        self._functions.update((digest, weight_of(record)) for digest, record in news.items() if record)
        self._mapped.update((digest, record) for digest, record in news.items() if isinstance(record, Nameless))
        self.leases.append(
            Lease(
                claimed.number, claimed.batch, claimed.start, claimed.stop, description.timeout, claimed.kind,
                description.cell is not None, claimed.attempts, description.retry, description.callbacks,
                bool(claimed.decided),
                [self._mapped[digest] for digest in functions if digest in self._mapped],
            )
        )  # fmt: skip
        self.line.send(
            Do(
                claimed.number, claimed.batch, claimed.start, claimed.stop, claimed.per_block,
                claimed.description.decode(), claimed.has_attempts, claimed.attempts, claimed.calls,
                [(digest, record.file if isinstance(record, Nameless) else record) for digest, record in news.items()],
                forget, claimed.metas, claimed.inputs, claimed.mended, claimed.decided,
            )
        )  # fmt: skip

    # Its place among the jobs that the worker runs at once

    @property
    def is_away(self) -> bool:
        """Its job waits for others, and has given its place away."""
        return self.wait is not None and self.wait.is_away

    @property
    def has_place(self) -> bool:
        """It runs a job, or is about to."""
        return bool(self.leases) and not self.is_away

    def waits(self, said: Waits) -> None:
        """Its job waits for others."""
        lease = self.leases[0] if self.leases else None
        if lease is not None and lease.number == said.number and said.index < lease.stop:
            self.wait = Wait(said.number, said.index, said.batch, time.monotonic(), is_away=self.is_away)

    def wants_on(self, said: GoesOn) -> None:
        """Its job has what it waited for, and wants a place; one that is stopped does not ask for that."""
        wait = self.wait
        if wait is not None and (wait.number, wait.index) == (said.number, said.index):
            wait.ticket, wait.since = said.ticket, time.monotonic()
            if not said.ticket or not wait.is_away:
                self.go_on()

    def go_on(self) -> None:
        """Its job has a place again."""
        if self.wait is not None:
            self.page.cells[Page.PLACE] = self.wait.ticket
            self.wait = None

    # What it does

    def received(self, *, everything: bool = False) -> list[Said]:
        """What it has said since the last time; a part of it, if that is much."""
        said = [message for message in self.line.received(everything=everything) if isinstance(message, Said)]
        if said:
            self._active_at = time.monotonic()
        return said

    def printed(self) -> list[tuple[Lease, list[Printed]]]:
        """What the jobs of its leases have printed and written since the last time."""
        self._read_ring()
        if not self._pending:
            return []
        pending, self._pending, self.pending = self._pending, [], 0
        leases = {lease.number: lease for lease in self.leases}
        pieces = groupby(pending, key=lambda piece: piece.number)
        return [(leases[number], list(group)) for number, group in pieces if number in leases]

    def last_words(self, lease: Lease) -> list[Printed]:
        """What a cell has printed and not told of yet: its worker hears of the rest in messages."""
        told = self.page.cells[Page.HANDED_ON]
        return [
            replace(piece, at=max(piece.at, told), text=piece.text[max(0, told - piece.at) :])
            for piece in lease.kept
            if piece.at + len(piece.text) > told
        ]

    def _read_ring(self) -> None:
        if self._ring.has_news or self.process.is_ended:  # a kill may come before the news is told
            self._pending += self._ring.read()

    def read_written(self) -> bytes:
        """Read what was written to its descriptors; returns it if no job runs that has written it."""
        job = self.running()
        return self._add_written(None if job is None else (job.lease, job.index))

    def read_last_written(self) -> bytes:
        """The same of a child that has died."""
        began = [lease for lease in self.leases if self.has_begun(lease)]
        return self._add_written((began[0], self.position(began[0])) if began else None)

    def _add_written(self, job: tuple[Lease, int] | None) -> bytes:
        with self.page.alone(wait=False) as is_alone:
            if not is_alone:  # the child reads it just now
                return b""
            if job is not None:
                self._read_ring()  # what it has read before
            texts = self.descriptors.read()
        if job is None:
            return b"".join(text for _, text in texts)
        lease, index = job
        self._pending += (Printed(lease.number, index, STREAMS[stream], -1, text) for stream, text in texts)
        self.pending += sum(len(text) for _, text in texts)
        return b""

    def running(self) -> RunningJob | None:
        """The job that runs, or is about to: its function or arguments are being loaded; None between jobs."""
        cells = self.page.cells
        number, index, since = cells[Page.NUMBER], cells[Page.INDEX], cells[Page.SINCE] / 1e9
        is_loading = bool(cells[Page.IS_LOADING])
        if index < 0:
            return None
        lease = self.lease(number)
        if lease is None:
            return None
        which = self.calls_back
        return RunningJob(lease, index, since, is_loading, lease.callbacks[which][1] if which else None)

    @property
    def calls_back(self) -> str:
        """Which callback of its job runs; '' if none does."""
        place = self.page.cells[Page.IS_CALLING_BACK]
        return list(GIVEN)[place - 1] if place else ""

    def progress(self, job: RunningJob) -> Progress | None:
        """How far a job that runs is, if it says so."""
        return self.page.said(job.lease.number, job.index)

    def seen(self, now: float) -> Seen:
        """All of it that says what is to be done with it."""
        job = self.running()
        if job is not None and not job.is_loading:
            self._active_at = now
        begun = self.page.cells[Page.NUMBER]
        return Seen(self.leases, job, begun, self.interruption, self.bound, self._asked_for, self._active_at, self.wait)

    def lease(self, number: int) -> Lease | None:
        """The lease of this number, if it still holds that."""
        for lease in self.leases:
            if lease.number == number:
                return lease
        return None

    def position(self, lease: Lease) -> int:
        """The index of the job during which it died, as far as is known."""
        cells = self.page.cells
        if cells[Page.NUMBER] == lease.number and lease.start <= cells[Page.INDEX] < lease.stop:
            return int(cells[Page.INDEX])
        return lease.start

    def has_begun(self, lease: Lease) -> bool:
        return bool(self.page.cells[Page.NUMBER] == lease.number)

    # Stopping

    def stop_soon(self, lease: Lease, index: int, now: float) -> None:
        """Let it start nothing behind this job; what lies there can be taken back when it was seen to obey."""
        cells = self.page.cells
        upto = max((other.number for other in self.leases if other.number > lease.number), default=0)
        cells[Page.STOP] = index + 1
        cells[Page.STOP_NUMBER] = lease.number
        cells[Page.SKIP] = max(upto, cells[Page.SKIP])  # what was taken back before may still lie there
        self.bound = Bound(lease.number, index, upto, now)

    def take_back(self, lease: Lease, index: int, now: float) -> list[tuple[int, int, int]]:
        """Of its leases what it does not start any more: number, start and stop of each part.

        Once it is seen, a while later, in the job behind which it was to stop, it will not go on. What it was handed
        meanwhile is not meant.

        Parameters
        ----------
        lease : Lease
        index : int
            The job in which it was just seen.
        now : float
            By the monotonic clock.
        """
        bound = self.bound
        if bound is None or (bound.number, bound.index) != (lease.number, index):
            self.bound = None
            return []
        if now - bound.since < OBEYS:
            return []
        self.bound = None
        behind = [other for other in self.leases if lease.number < other.number <= bound.upto]
        for other in behind:
            self.leases.remove(other)
        parts = [(other.number, other.start, other.stop) for other in behind]
        if index + 1 < lease.stop:
            parts.append((lease.number, index + 1, lease.stop))
            lease.stop = index + 1
        return parts

    def has_done(self, number: int, stop: int, *, is_all: bool) -> None:
        """The jobs before `stop` of a lease have ended, or all of it: what was asked of them is over."""
        job = self.interruption
        if job is not None and ((job.number, job.index) < (number, stop) or (is_all and job.number == number)):
            self.interruption = None
        if is_all and self.bound is not None and self.bound.number <= number:
            self.bound = None
        if self.wait is not None and (self.wait.number, self.wait.index) < (number, stop):
            self.wait = None

    def interruption_of(self, lease: Lease, index: int) -> Interruption | None:
        """How this job was interrupted, if it was; one that ended by itself just then may still be known for it."""
        job = self.interruption
        return job if job is not None and (job.number, job.index) == (lease.number, index) else None

    def interrupt(self, lease: Lease, index: int, reason: int, now: float) -> None:
        """Raise an exception inside the running job, if it still is this one."""
        cells = self.page.cells
        cells[Page.SOFT_REASON] = reason
        cells[Page.SOFT_NUMBER] = lease.number
        cells[Page.SOFT_INDEX] = index
        self.interruption = Interruption(lease.number, index, reason, now, bool(self.calls_back))
        self.process.signal(signal.SIGUSR1)

    def insist(self) -> None:
        """Say so again: a signal that comes just before a system call that sleeps does not end that."""
        if self.page.cells[Page.SOFT_INDEX] >= 0:
            self.process.signal(signal.SIGUSR1)

    def ask_for_report(self, lease: Lease, index: int) -> None:
        """Have it report what ended before the job that runs, which takes long."""
        if self._asked_for != (lease.number, index):
            self._asked_for = (lease.number, index)
            self.process.signal(signal.SIGUSR1)

    def leave(self) -> None:
        """Let it end: it does when it has nothing to do and its socket is closed."""
        self.line.socket.close()
        self.process.leave()

    def has_left(self) -> bool:
        """Whether it has ended after `leave`, and nothing of it is left; it is killed if it takes too long."""
        if not self.process.has_left():
            return False
        self._ring.close()
        self.page.close()
        self.descriptors.close()
        return True
