"""The processes of a worker: its children, and the guard that ends them when the worker is gone.

A `ChildProcess` knows which runs it was handed and what it is doing; it decides nothing about jobs (loop.py does).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from nbqueue import child, machine
from nbqueue.payload.records import functions_of
from nbqueue.protocol import messages
from nbqueue.protocol.messages import Do, Done, Message, Printed, Show
from nbqueue.protocol.page import Page
from nbqueue.protocol.ring import Reader
from nbqueue.store.description import Description
from nbqueue.store.requests.running import Claimed
from nbqueue.worker import guard as guards
from nbqueue.worker.output_log import OutputLog

_CHILD = f"from {child.__name__}.main import main; main()"
"""The program of a child. It finds modules where it is, wherever it goes."""
_MOST_READS = 64
"""Of its socket in a row: who writes faster than we read must not keep us from everything else."""

_MOST_FUNCTIONS = 500
"""Functions that a child keeps; more, and it starts anew."""

_ENDING = 5.0
"""Seconds in which a child ends by itself; so long it is waited for once more after it was killed."""

OBEYS = 0.002
"""Seconds after which a child that was told where to stop knows it."""


@dataclass
class Run:
    """A lease in the hands of a child: jobs `start` to `stop` are not recorded yet."""

    number: int
    batch: str
    start: int
    stop: int
    timeout: float | None
    kind: str
    is_cell: bool
    attempts: dict[int, int] = field(default_factory=dict)
    output_log: OutputLog | None = None
    """What its jobs have printed, once they do."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A job that shall stop: an exception was raised inside it, or will be."""

    number: int
    index: int
    reason: int
    """messages.TIMEOUT or messages.CANCEL."""
    since: float


@dataclass(frozen=True, slots=True)
class Bound:
    """A job behind which a child shall start nothing of what it had been handed then."""

    number: int
    index: int
    upto: int
    """Number of the last run that it had been handed, if that is not the job's own."""
    since: float


class Guard:
    """The small process that kills the children's process groups when this process is gone."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guards.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True, bufsize=1,
        )  # fmt: skip
        for group in self._groups:
            self._tell(f"+{group}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
        except BrokenPipeError:
            self._end(0.0)
            self._start()

    def watch(self, group: int) -> None:
        self._groups.add(group)
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        self._groups.discard(group)
        self._tell(f"-{group}")

    def check(self) -> None:
        """Start another guard if this one was killed."""
        if self._process.poll() is not None:
            self._start()

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._end(_ENDING)

    def _end(self, timeout: float) -> None:
        """Wait until it has ended; it is killed if it takes longer than so many seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)


class ChildProcess:
    """One child: its process, its socket, its page, and the runs that it was handed."""

    def __init__(self, hello: messages.Hello, guard: Guard, children: int, preload: list[str]) -> None:
        self._guard = guard
        self._memory_kills = machine.memory_kills()
        self.page = Page.create()
        self._ring = Reader(self.page.ring)
        self.link, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(self.page.fd), *preload]
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, *arguments],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self.page.fd), process_group=0,
                env={**os.environ, **machine.threads_each(children)},
            )  # fmt: skip
        self.pid = self.process.pid
        guard.watch(self.pid)
        self.link.setblocking(False)
        self._inbox = messages.Inbox()
        self._out: deque[memoryview] = deque()
        self._functions: set[bytes] = set()
        self.runs: deque[Run] = deque()
        self.interruption: Interruption | None = None
        self.bound: Bound | None = None
        self.is_fresh = True
        """It has not been handed anything."""
        self.is_used_up = False
        """It has run a cell, which may have changed anything in it: no other shall find that."""
        self._killed_at: float | None = None
        self._leaves_until: float | None = None
        self.between_since: float | None = None
        """Since when it has been seen in no job although it has a run, where somebody waits for the end of that."""
        self.asked_for: tuple[int, int] | None = None
        """Number and index of the running job before which it was asked to report what has ended."""
        self._queue(hello)

    # Handing over

    def hand(self, claimed: Claimed, description: Description, functions: dict[bytes, bytes]) -> None:
        """Give it a run, with the functions that it does not have yet."""
        self.is_fresh = False
        self.runs.append(
            Run(
                claimed.number,
                claimed.batch,
                claimed.start,
                claimed.stop,
                description.timeout,
                claimed.kind,
                description.cell is not None,
                claimed.attempts,
            )
        )
        forget = len(self._functions) > _MOST_FUNCTIONS
        if forget:
            self._functions.clear()
        news = [(digest, record) for digest, record in functions.items() if digest not in self._functions]
        self._functions.update(digest for digest, record in news if record)
        self._queue(
            Do(
                claimed.number, claimed.batch, claimed.start, claimed.stop, claimed.per_block,
                claimed.description.decode(), claimed.has_attempts, claimed.attempts, claimed.calls, news, forget,
            )
        )  # fmt: skip

    def _queue(self, message: Message) -> None:
        self._out.extend(memoryview(piece) for piece in messages.encode(message))
        self.flush()

    def flush(self) -> bool:
        """Send what the socket takes; True if that was all."""
        while self._out:
            try:
                sent = self.link.send(self._out[0])
            except BlockingIOError:
                return False
            except OSError:  # it is dead; `poll` will tell
                self._out.clear()
                return True
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                self._out.popleft()
        return True

    @property
    def has_unsent(self) -> bool:
        return bool(self._out)

    # What it does

    def received(self, *, everything: bool = False) -> list[Done | Show]:
        """What it has said since the last time; a part of it, if that is much."""
        said: list[Done | Show] = []
        reads = 0
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while (everything or reads < _MOST_READS) and self._inbox.read(self.link):
                reads += 1
                said += [message for message in self._inbox.messages() if isinstance(message, Done | Show)]
        return said

    def printed(self) -> list[tuple[Run, list[Printed]]]:
        """What the jobs of its runs have printed since the last time."""
        if not self._ring.has_news and self.process.returncode is None:  # a kill may come before the news is told
            return []
        runs = {run.number: run for run in self.runs}
        pieces = groupby(self._ring.read(), key=lambda piece: piece.number)
        return [(runs[number], list(group)) for number, group in pieces if number in runs]

    def running(self) -> tuple[Run, int, float] | None:
        """The run, the index of the job that runs, and since when by the monotonic clock; None between jobs."""
        cells = self.page.cells
        number, index = cells[Page.NUMBER], cells[Page.INDEX]
        since = cells[Page.SINCE] / 1e9
        if index < 0:
            return None
        run = next((run for run in self.runs if run.number == number), None)
        return (run, index, since) if run else None

    def position(self, run: Run) -> int:
        """The index of the job during which it died, as far as is known."""
        cells = self.page.cells
        if cells[Page.NUMBER] == run.number and run.start <= cells[Page.INDEX] < run.stop:
            return int(cells[Page.INDEX])
        return run.start

    def has_begun(self, run: Run) -> bool:
        return bool(self.page.cells[Page.NUMBER] == run.number)

    # Stopping

    def stop_soon(self, run: Run, index: int, now: float) -> None:
        """Let it start nothing behind this job; what lies there can be taken back when it was seen to obey."""
        cells = self.page.cells
        upto = max((other.number for other in self.runs if other.number > run.number), default=0)
        cells[Page.STOP] = index + 1
        cells[Page.STOP_NUMBER] = run.number
        cells[Page.SKIP] = max(upto, cells[Page.SKIP])  # what was taken back before may still lie there
        self.bound = Bound(run.number, index, upto, now)

    def take_back(self, run: Run, index: int, now: float) -> list[tuple[int, int, int]]:
        """Of its runs what it does not start any more: number, start and stop of each part.

        Once it is seen, a while later, in the job behind which it was to stop, it will not go on. What it was handed
        meanwhile is not meant.

        Parameters
        ----------
        run : Run
        index : int
            The job in which it was just seen.
        now : float
            By the monotonic clock.
        """
        bound = self.bound
        if bound is None or (bound.number, bound.index) != (run.number, index):
            self.bound = None
            return []
        if now - bound.since < OBEYS:
            return []
        self.bound = None
        behind = [other for other in self.runs if run.number < other.number <= bound.upto]
        for other in behind:
            self.runs.remove(other)
        parts = [(other.number, other.start, other.stop) for other in behind]
        if index + 1 < run.stop:
            parts.append((run.number, index + 1, run.stop))
            run.stop = index + 1
        return parts

    def has_done(self, number: int, stop: int, *, is_all: bool) -> None:
        """The jobs before `stop` of a run have ended, or all of it: what was asked of them is over."""
        job = self.interruption
        if job is not None and ((job.number, job.index) < (number, stop) or (is_all and job.number == number)):
            self.interruption = None
        if is_all and self.bound is not None and self.bound.number <= number:
            self.bound = None

    def interruption_of(self, run: Run, index: int) -> Interruption | None:
        """How this job was interrupted, if it was; one that ended by itself just then may still be known for it."""
        job = self.interruption
        return job if job is not None and (job.number, job.index) == (run.number, index) else None

    def interrupt(self, run: Run, index: int, reason: int, now: float) -> None:
        """Raise an exception inside the running job, if it still is this one."""
        cells = self.page.cells
        cells[Page.SOFT_REASON] = reason
        cells[Page.SOFT_NUMBER] = run.number
        cells[Page.SOFT_INDEX] = index
        self.interruption = Interruption(run.number, index, reason, now)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def insist(self) -> None:
        """Say so again: a signal that comes just before a system call that sleeps does not end that."""
        if self.page.cells[Page.SOFT_INDEX] >= 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def ask_for_report(self, run: Run, index: int) -> None:
        """Have it report what ended before the job that runs, which takes long."""
        if self.asked_for != (run.number, index):
            self.asked_for = (run.number, index)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End it at once, with all processes of its group."""
        if self._killed_at is None:
            self._killed_at = time.monotonic()
        self._kill_group()

    @property
    def is_killed(self) -> bool:
        """Whether it did not end by itself."""
        return self._killed_at is not None

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(PermissionError):
            self.process.kill()  # a job may have moved it to another group

    def death(self) -> str | None:
        """How it died, in words; None while it lives. What it started is killed with it.

        One that does not die counts as dead: it hangs in the kernel, such as in a file system that is gone.
        """
        returncode = self.process.poll()
        if returncode is None:
            if self._killed_at is not None and time.monotonic() - self._killed_at > _ENDING:
                return "its process hangs in the kernel, and does not even die of SIGKILL"
            return None
        self._kill_group()
        return machine.death_in_words(returncode, machine.memory_kills() - self._memory_kills)

    def leave(self) -> None:
        """Let it end: it does when it has nothing to do and its socket is closed."""
        self.link.close()
        self._leaves_until = time.monotonic() + _ENDING

    def has_left(self) -> bool:
        """Whether it has ended after `leave`, and nothing of it is left; it is killed if it takes too long."""
        assert self._leaves_until is not None
        has_ended = self.process.poll() is not None
        if has_ended or time.monotonic() >= self._leaves_until:
            self.kill()
        if not has_ended:
            return False
        self._guard.forget(self.pid)
        self._ring.close()
        self.page.close()
        return True


def end(children: Sequence[ChildProcess]) -> list[ChildProcess]:
    """Wait until children have ended that were told to leave; returns those that do not even die of SIGKILL."""
    deadline = time.monotonic() + 2 * _ENDING
    left = [child for child in children if not child.has_left()]
    while left and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            left[0].process.wait(0.2)
        left = [child for child in left if not child.has_left()]
    return left


def functions_needed(claimed: Claimed) -> set[bytes]:
    """The digests of the functions that a run needs."""
    return {digest for _, record in claimed.calls if len(record) > 4 for digest in functions_of(record)}
