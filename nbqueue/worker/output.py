"""What jobs print and show, on its way from the children to Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from nbqueue import errors
from nbqueue.protocol.messages import Printed, Show
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import running
from nbqueue.store.requests.running import Shown
from nbqueue.worker.child_process import ChildProcess
from nbqueue.worker.identity import Identity
from nbqueue.worker.lease import Lease
from nbqueue.worker.output_log import OutputLog

log = logging.getLogger("nbqueue.worker")

_LOOK = 0.25
"""Seconds between two looks at what running jobs have printed."""

_BEHIND = 20
"""Requests without an answer at which what running jobs have printed is left where it is."""


class Output:
    """Has Redis keep what jobs print and show.

    Parameters
    ----------
    who : Identity
    requests : Pipeline
    """

    def __init__(self, who: Identity, requests: Pipeline) -> None:
        self._who = who
        self._requests = requests
        self._sequence = 0
        self._is_kept = True
        self.look_at = 0.0
        """When it looks next, by the monotonic clock."""

    def look(self, children: Iterable[ChildProcess], now: float) -> None:
        """Now and then: pass on what running jobs have printed."""
        if now < self.look_at:
            return
        self.look_at = now + _LOOK
        if self._requests.unanswered < _BEHIND:
            # Otherwise Redis is gone or slow, and it stays on the ring, whose oldest text is overwritten.
            for child in children:
                self.pass_on(child)

    def pass_on(self, child: ChildProcess) -> None:
        """Have Redis keep what its jobs have printed."""
        for lease, printed in child.printed():
            if lease.output_log is None:
                lease.output_log = OutputLog(lease.attempts)
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
            self.show(lease.number, lease.batch, said.shown)

    def show(self, number: int, batch: str, shown: Shown) -> None:
        self._requests.send(running.show(self._who.id, number, batch, shown), self._on_answer)

    def _on_answer(self, answer: Any) -> None:
        is_refused = isinstance(answer, errors.NbqueueError)
        if is_refused and self._is_kept:
            log.warning("what jobs print is not kept: %s", answer)
        self._is_kept = not is_refused
