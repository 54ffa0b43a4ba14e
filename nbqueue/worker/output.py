"""What jobs print and show, on its way from the children to Redis."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any

from nbqueue import errors
from nbqueue.protocol.descriptors import Written
from nbqueue.protocol.messages import Displayed, Meta, Printed, Show
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.store.requests.running import CONTINUED, STREAMS, Shown
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.identity import Identity
from nbqueue.worker.lease import Lease
from nbqueue.worker.output_log import OutputLog

log = logging.getLogger("nbqueue.worker")

_LOOK = 0.25
"""Seconds between two looks at what running jobs have printed."""

_QUICK = 0.05
"""Seconds: what younger jobs write is left to their process."""

_MOST_PENDING = 1024 * 1024
"""Bytes of what is written to descriptors that wait for the next look."""

_MOST_KEPT = 64
"""Pieces of what a cell has printed and not told of, of up to 8 KB."""

_BEHIND = 20
"""Requests without an answer at which what running jobs have printed is left where it is."""


class Output:
    """Has Redis keep what jobs print and show.

    Parameters
    ----------
    who : Identity
    requests : Pipeline
    follow : callable
        Has `on_written` called from now on when something is written to a child's descriptors.
    """

    def __init__(self, who: Identity, requests: Pipeline, follow: Callable[[ChildProcess], None]) -> None:
        self._who = who
        self._requests = requests
        self._sequence = 0
        self._is_kept = True
        self._follow = follow
        self.look_at = 0.0
        """When it looks next, by the monotonic clock."""

    def look(self, children: Iterable[ChildProcess], now: float) -> None:
        """Now and then: pass on what running jobs have printed."""
        if now < self.look_at:
            return
        self.look_at = now + _LOOK
        for child in children:
            self._free_cell(child)
            if self._is_passing:
                # Otherwise Redis is gone or slow, and it stays on the ring, whose oldest text is overwritten.
                self.pass_on(child)
                self._follow(child)

    @property
    def _is_passing(self) -> bool:
        return self._requests.unanswered < _BEHIND

    def on_written(self, child: ChildProcess) -> bool:
        """Something was written to the descriptors of a child; False if it shall not be told of more."""
        job = child.running()
        if job is None:
            if child.leases:
                return False
        elif job.lease.is_cell or time.monotonic() - job.since < _QUICK:
            return False  # it reads by itself what it has written, and knows for certain which job has
        if not child.descriptors.has_text:  # it has closed them
            return False
        _to_log(child.read_written())
        if child.pending > _MOST_PENDING:
            if not self._is_passing:
                return False
            self.pass_on(child)
        return True

    def on_death(self, child: ChildProcess) -> None:
        """Pass on the last words of a child."""
        cell = next((lease for lease in child.leases if lease.is_cell and child.has_begun(lease)), None)
        if cell is None:
            while child.descriptors.has_text:
                _to_log(child.read_last_written())
                self.pass_on(child)
            self.pass_on(child)
        else:
            self.pass_on(child)
            self._insert(cell, ((STREAMS.index(piece.stream), piece.text) for piece in child.last_words(cell)))
            self._insert(cell, child.descriptors.read())

    def _free_cell(self, child: ChildProcess) -> None:
        """Read what a cell has written and does not come to read: C code holds the interpreter, and may wait for it."""
        job = child.running()
        if job is None or not job.lease.is_cell:
            return
        was_stuck, child.is_stuck = child.is_stuck, child.descriptors.has_text
        if was_stuck and child.is_stuck:
            self._insert(job.lease, child.descriptors.read())

    def _insert(self, lease: Lease, written: Iterable[Written]) -> None:
        """Show what was printed or written to descriptors behind what the cell has shown."""
        for stream, texts in groupby(written, key=lambda written: written[0]):
            text = b"".join(text for _, text in texts).decode("utf-8", "backslashreplace")
            content = json.dumps({"name": STREAMS[stream], "text": text}).encode()
            lease.inserted.append(lease.shown)
            self.show(lease.number, lease.batch, Shown(lease.shown + len(lease.inserted), "stream", content))

    def pass_on(self, child: ChildProcess) -> None:
        """Have Redis keep what its jobs have printed."""
        for lease, printed in child.printed():
            if lease.is_cell:
                lease.kept += printed
                lease.kept = child.last_words(lease)[-_MOST_KEPT:]
                continue
            if lease.output_log is None:
                lease.output_log = OutputLog(lease.attempts, CONTINUED if lease.is_decided else 0)
            self._keep(lease, lease.output_log, printed)

    def _keep(self, lease: Lease, output_log: OutputLog, printed: list[Printed]) -> None:
        replaced, entries = output_log.add(printed)

        def on_answer(answer: Any) -> None:
            output_log.stored(entries, answer if isinstance(answer, list) else [])
            self._on_answer(answer)

        self._sequence += 1
        self._requests.send(
            running.output(self._who.id, lease.number, lease.batch, self._sequence, replaced, entries), on_answer
        )

    def on_show(self, child: ChildProcess, said: Show) -> None:
        """Have Redis keep what a cell shows."""
        lease = child.lease(said.number)
        if lease is not None:
            shown = said.shown
            if lease.inserted:
                shown = replace(
                    shown, sequence=_number_of(lease, shown.sequence), drop_before=_number_of(lease, shown.drop_before),
                    replaces=_number_of(lease, shown.replaces),
                )  # fmt: skip
            lease.shown = said.shown.sequence
            self.show(lease.number, lease.batch, shown)

    def on_displayed(self, child: ChildProcess, said: Displayed) -> None:
        """Have Redis keep rich output of a job."""
        lease = child.lease(said.number)
        if lease is None:
            return
        attempt = lease.attempts.get(said.index, 0) + 1

        def on_answer(answer: Any) -> None:
            if answer == "full" and not lease.is_full:
                lease.is_full = True
                log.warning("batch %s: of displays of its jobs only the text is kept from now on", lease.batch)
            self._on_answer(answer)

        self._requests.send(
            running.display(self._who.id, lease.number, lease.batch, said.index, attempt, said.position, said.content),
            on_answer,
        )

    def on_meta(self, child: ChildProcess, said: Meta) -> None:
        """Have Redis keep what a job wants to be known by."""
        lease = child.lease(said.number)
        if lease is not None:
            request = running.save_meta(self._who.id, lease.number, lease.batch, said.index, said.content)
            self._requests.send(request, self._on_answer)

    def show(self, number: int, batch: str, shown: Shown) -> None:
        self._requests.send(running.show(self._who.id, number, batch, shown), self._on_answer)

    def _on_answer(self, answer: Any) -> None:
        is_refused = isinstance(answer, errors.NbqueueError)
        if is_refused and self._is_kept:
            log.warning("what jobs print is not kept: %s", answer)
        self._is_kept = not is_refused


def _number_of(lease: Lease, number: int) -> int:
    """The number that a message of a cell has beside those that were inserted."""
    return number + sum(1 for behind in lease.inserted if behind < number) if number else 0


def _to_log(text: bytes) -> None:
    """What no job has written goes where this process's own output goes."""
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(2, rest) :]
