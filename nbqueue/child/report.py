"""The outcomes of a run, collected and sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from nbqueue import errors
from nbqueue.child.tracebacks import describe
from nbqueue.payload.memory import Buffers
from nbqueue.payload.outcomes import Failure, pack_failure, pack_outcomes, pack_value
from nbqueue.payload.pickling import IMMUTABLE
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal
from nbqueue.protocol.messages import Do, Done
from nbqueue.store.requests.running import Again, FailureNote

QUICK = 0.0005
"""Seconds; outcomes of quicker jobs are recorded together."""

_HOLD = 0.02
"""Seconds for which outcomes of quick jobs are kept back at most."""

_FULL = 256 * 1024
"""Bytes of them at which they are recorded."""


class Report:
    """Collects the outcomes of a run and sends them: quick ones by the block, others as they end.

    It has many fields because each job, of which there may be a million a second, changes most of them: objects of
    their own would cost each job.
    """

    def __init__(self, send: Callable[[Done], None], seal: Seal, worker: str, run: Do, buffers: Buffers) -> None:
        self._send, self._seal, self._worker, self._run, self._buffers = send, seal, worker, run, buffers
        self._sent_upto = run.start
        self._sent_at = time.monotonic()
        self._records: list[tuple[str, Blob]] = []
        self._failures: list[FailureNote] = []
        self._again: list[Again] = []
        self._busy = 0.0
        self._is_canceled = False
        self._not_packed: errors.NbqueueError | None = None
        self.calling_back: int | None = None
        """The index of the job whose callback runs."""
        self._start_pending(run.start)

    def _start_pending(self, index: int) -> None:
        self._first = self._next = index
        self._values: list[Any] = []
        self._durations: list[float] = []
        self._holes: list[int] = []
        self._bytes = 0
        self._started = time.time()

    def finished(
        self, index: int, nanoseconds: int, value: Any, again: float | None = None, *, holds: bool = False
    ) -> None:
        """A job has returned; it runs `again` after so many seconds. `holds`: its callback follows, see `decide`."""
        seconds = nanoseconds * 1e-9
        if again is not None:
            self._repeated(index, nanoseconds, value, again)
            return
        kind = type(value)
        if kind is str or kind is bytes:
            self._bytes += len(value)
        elif kind not in IMMUTABLE and seconds < QUICK and self._run.per_block > 1:
            try:
                value = pack_value(value)
            except errors.NbqueueError as error:
                self.failed(index, nanoseconds, describe(error))
                return
            self._bytes += len(value.entry)
        self._values.append(value)
        self._durations.append(seconds)
        self._busy += seconds
        self._next = index + 1
        if (seconds >= QUICK or self._bytes > _FULL) and not holds:
            self._pack()
            self.send()

    def failed(
        self, index: int, nanoseconds: int, failure: Failure, again: float | None = None, *, holds: bool = False
    ) -> None:
        """A job has failed; it runs `again` after so many seconds. `holds`: its callback follows, see `decide`."""
        seconds = nanoseconds * 1e-9
        self._hole(index, seconds)
        self._add_failure(index, seconds, failure, time.time() - seconds, again)
        if seconds >= QUICK and not holds:
            self._pack()
            self.send()

    def concluded(self, index: int, seconds: float, record: Blob, failure: Failure) -> None:
        """How a job failed was decided before, and is recorded so."""
        self._next = index + 1
        self._start_pending(self._next)
        self._busy += seconds
        self._records.append((str(index), record))
        self._note(index, failure)

    def _repeated(self, index: int, nanoseconds: int, value: Any, again: float) -> None:
        seconds, attempt = nanoseconds * 1e-9, self.attempt(index)
        try:
            record = pack_outcomes(
                self._seal, self._run.batch, index, [value], [seconds],
                started=time.time() - seconds, worker=self._worker, attempt=attempt,
            )  # fmt: skip
        except errors.NbqueueError as error:
            self.failed(index, nanoseconds, describe(error))
            return
        self._hole(index, seconds)
        self._again.append(Again(index, attempt, again, bytes(record)))
        self._pack()
        self.send()

    def _hole(self, index: int, seconds: float) -> None:
        """A job has ended whose outcome is not among those of its neighbours."""
        self._holes.append(len(self._values))
        self._values.append(None)
        self._durations.append(seconds)
        self._busy += seconds
        self._next = index + 1

    def canceled(self, index: int, nanoseconds: int) -> None:
        self._busy += nanoseconds * 1e-9
        self._pack()
        self._is_canceled = True
        self._next = index + 1

    def running(self) -> int | None:
        """The index of the job that runs or is about to; None when the last one has run."""
        if self.calling_back is not None:
            return self.calling_back
        return self._next if self._next < self._run.stop else None

    def before_running(self) -> None:
        """While a job runs: send what ended before it."""
        self._pack()
        if self._sent_upto < self._next:
            self.send()

    def close_block(self, block: int) -> None:
        self._pack()
        if time.monotonic() - self._sent_at > _HOLD:
            self.send()

    def decide(self) -> errors.NbqueueError | None:
        """Tell how the job ended that ended last: it is recorded when its callback is over.

        Returns
        -------
        NbqueueError or None
            Why what it returned cannot be recorded: it has failed.
        """
        self._not_packed = None
        self._pack()
        self.send(decided=True)
        return self._not_packed

    def end(self) -> None:
        self._pack()
        self.send(ended=True)

    def send(self, *, ended: bool = False, decided: bool = False) -> None:
        message = Done(
            self._run.number, self._sent_upto, self._next, self._busy, ended, self._records, self._failures,
            self._is_canceled, self._again, decided,
        )  # fmt: skip
        self._send(message)
        self._sent_upto, self._sent_at, self._busy = self._next, time.monotonic(), 0.0
        self._records, self._failures, self._again = [], [], []

    def attempt(self, index: int) -> int:
        return self._run.attempts.get(index, 0) + 1

    def _add_failure(
        self, index: int, seconds: float, failure: Failure, started: float, again: float | None = None
    ) -> None:
        record = pack_failure(
            self._seal, self._run.batch, index, failure,
            started=started, duration=seconds, worker=self._worker, attempt=self.attempt(index),
        )  # fmt: skip
        if again is not None:
            self._again.append(Again(index, self.attempt(index), again, record))
            return
        self._records.append((str(index), record))
        self._note(index, failure)

    def _note(self, index: int, failure: Failure) -> None:
        summary = {"type": failure.type, "message": failure.message[:2000], "example": index,
                   "traceback": failure.traceback[-8000:]}  # fmt: skip
        self._failures.append(FailureNote(index, failure.digest, json.dumps(summary)))

    def _pack(self) -> None:
        """Make records of what is pending: one of all where it is most of a block, else one for each."""
        count = self._next - self._first
        if count == 0:
            return
        per_block = self._run.per_block
        if 2 * count > per_block > 1 and not self._run.job_by_job and len(self._holes) < count:
            self._pack_block(per_block)
        else:
            self._pack_each()
        self._start_pending(self._next)

    def _pack_block(self, per_block: int) -> None:
        block = self._first // per_block
        before = self._first - block * per_block
        holes = [*range(before), *(before + hole for hole in self._holes)]
        try:
            record = pack_outcomes(
                self._seal, self._run.batch, block * per_block, [None] * before + self._values,
                [0.0] * before + self._durations, started=self._started, worker=self._worker, holes=holes,
                buffers=self._buffers,
            )  # fmt: skip
        except errors.NbqueueError:
            self._pack_each()
        else:
            self._records.append((f"b{block}", record))

    def _pack_each(self) -> None:
        failed, started = set(self._holes), self._started
        for offset, (value, seconds) in enumerate(zip(self._values, self._durations, strict=True)):
            index = self._first + offset
            if offset not in failed:
                try:
                    record = pack_outcomes(
                        self._seal, self._run.batch, index, [value], [seconds],
                        started=started, worker=self._worker, attempt=self.attempt(index), buffers=self._buffers,
                    )  # fmt: skip
                except errors.NbqueueError as error:
                    self._add_failure(index, seconds, describe(error), started)
                    self._not_packed = error
                else:
                    self._records.append((str(index), record))
            started += seconds
