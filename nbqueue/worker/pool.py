"""The children of a worker: as many as it shall have, each replaced when it has died or was used up."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from nbqueue.cells.run import PRELOAD
from nbqueue.protocol import messages
from nbqueue.worker import process
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.lease import Lease
from nbqueue.worker.process import Guard

_GUARD = 0.2
"""Seconds between two looks at whether the guard is there."""


class Pool:
    """The children of a worker.

    Parameters
    ----------
    selector : selectors.BaseSelector
        The event loop's; its keys carry a callable as data.
    hello : messages.Hello
        What each child is told first.
    size : int
        How many there shall be.
    preload : sequence of str
        Modules that they import when they start.
    hear : callable
        Called with a child that has said something.
    on_written : callable
        Called with a child to whose descriptors something was written; returns whether it wants to be told of more.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        hello: messages.Hello,
        size: int,
        preload: Sequence[str],
        hear: Callable[[ChildProcess], None],
        on_written: Callable[[ChildProcess], bool],
    ) -> None:
        self._selector = selector
        self._hello = hello
        self._size = size
        self._preload = preload
        self._hear = hear
        self._on_written = on_written
        self._guard = Guard()
        self._guard_at = 0.0
        """When it is looked at next, by the monotonic clock."""
        self._leaving: list[ChildProcess] = []
        self._runs_cells = False
        self.children: list[ChildProcess] = []
        self.is_deaf = False
        """Children are not listened to: they wait with what they want to say."""

    @property
    def is_busy(self) -> bool:
        """A child has a lease."""
        return any(child.leases for child in self.children)

    def leases(self) -> Iterator[Lease]:
        """All leases that its children have."""
        return (lease for child in self.children for lease in child.leases)

    def fill(self) -> None:
        """Start as many children as there shall be, beside those whose jobs wait for other jobs."""
        while sum(not child.is_away for child in self.children) < self._size:
            self._add()

    def _add(self) -> ChildProcess:
        preload = [*self._preload, *([messages.OPTIONAL + PRELOAD] if self._runs_cells else [])]
        child = ChildProcess(self._hello, self._guard, self._size, preload)
        self.children.append(child)
        if child.process.end_fd is not None:
            self._selector.register(child.process.end_fd, selectors.EVENT_READ, child.process.on_end)
        self.watch(child)
        self.follow(child)
        return child

    def for_cell(self, child: ChildProcess) -> ChildProcess:
        """The child that runs a cell in the place of this one: a fresh one, if it is idle."""
        self._runs_cells = True
        return child if child.is_fresh or child.leases else self.renew(child)

    def renew(self, child: ChildProcess) -> ChildProcess:
        """Put a fresh interpreter in the place of a child."""
        self.dismiss(child)
        return self._add()

    def dismiss(self, child: ChildProcess) -> None:
        """A child is none any more; it ends, if it has not."""
        self.children.remove(child)
        if child.line.socket in self._selector.get_map():
            self._selector.unregister(child.line.socket)
        self._unfollow(child)
        if child.process.end_fd is not None:
            self._selector.unregister(child.process.end_fd)
        child.leave()
        self._leaving.append(child)

    def watch(self, child: ChildProcess) -> None:
        """Be told when its socket can be read, or written if there is something to write."""
        line = child.line
        events = (0 if self.is_deaf else selectors.EVENT_READ) | (selectors.EVENT_WRITE if line.has_unsent else 0)
        known = self._selector.get_map().get(line.socket)
        if known is None and events:
            self._selector.register(line.socket, events, partial(self._on_ready, child))
        elif known is not None and not events:
            self._selector.unregister(line.socket)
        elif known is not None and known.events != events:
            self._selector.modify(line.socket, events, known.data)

    def follow(self, child: ChildProcess) -> None:
        """Be told when something is written to its descriptors."""
        for fd in child.descriptors.fds:
            if fd not in self._selector.get_map():
                self._selector.register(fd, selectors.EVENT_READ, partial(self._on_text, child))

    def _unfollow(self, child: ChildProcess) -> None:
        for fd in child.descriptors.fds:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)

    def _on_text(self, child: ChildProcess) -> None:
        if child in self.children and (child.process.is_ended or not self._on_written(child)):
            self._unfollow(child)

    def _on_ready(self, child: ChildProcess) -> None:
        """Its socket can be read or written."""
        if child not in self.children:  # it was renewed in this very round
            return
        if not self.is_deaf:
            self._hear(child)
        child.line.flush()
        self.watch(child)

    def be_deaf(self, is_deaf: bool) -> None:
        """Listen to children no more, or again."""
        self.is_deaf = is_deaf
        for child in self.children:
            self.watch(child)

    def check(self) -> None:
        """See who has left; start another guard if that was killed."""
        self._leaving = [child for child in self._leaving if not child.has_left()]
        if time.monotonic() > self._guard_at:
            self._guard_at = time.monotonic() + _GUARD
            self._guard.check()

    def drop_leases(self) -> None:
        """What the children hold is run by others now."""
        for child in self.children:
            if child.leases:
                child.leases.clear()
                child.process.kill()

    def end(self) -> list[ChildProcess]:
        """Have all children end, those that run something at once; returns those that do not even die of SIGKILL."""
        for child in list(self.children):
            if child.leases:
                child.process.kill()
            self.dismiss(child)
        deadline = time.monotonic() + 2 * process.ENDING
        left = [child for child in self._leaving if not child.has_left()]
        while left and time.monotonic() < deadline:
            left[0].process.wait(0.2)
            left = [child for child in left if not child.has_left()]
        return left

    def close(self) -> None:
        """Have the guard end, and with it what is left."""
        self._guard.close()
