"""When a job is stopped, and what a child shall not start any more: decided from plain data and a given time.

No input or output here: `decide` looks at what was seen of a child and says what is to be done, the loop does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbqueue.protocol.page import CANCEL, TIMEOUT
from nbqueue.store.requests.running import CancelBatch, CancelJob
from nbqueue.worker.costs import LONG_JOB
from nbqueue.worker.lease import OBEYS, Lease, RunningJob, Seen

_GRACE = 0.5
"""Seconds between the exception inside a job and the kill."""

_INSIST = 0.02
"""Seconds between two signals for it."""

_STUCK = 60.0
"""Seconds after which a worker that shall leave ends a child that has a lease, but is in none of its jobs, and says
nothing."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Raise an exception inside the job."""

    lease: Lease
    index: int
    reason: int
    """page.TIMEOUT or page.CANCEL."""


@dataclass(frozen=True, slots=True)
class Insist:
    """Say once more that the running job shall stop."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the child."""

    why: str = ""
    """For the log, where nothing else tells."""


@dataclass(frozen=True, slots=True)
class AskForReport:
    """Have the child report what ended before the job."""

    lease: Lease
    index: int


@dataclass(frozen=True, slots=True)
class StopSoon:
    """Have the child start nothing behind the job."""

    lease: Lease
    index: int


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Take back what the child was told not to start behind the job, if it is seen to obey."""

    lease: Lease
    index: int


Action = Interrupt | Insist | Kill | AskForReport | StopSoon | TakeBack


class Cancels:
    """The orders to cancel that a worker remembers, as long as it holds something that they mean.

    A batch or a job that was canceled may be retried, and the same worker may claim it again, while the order is still
    in its memory. So an order means leases and not jobs: those up to the number that it carries.
    """

    def __init__(self) -> None:
        self._batches: dict[str, int] = {}
        """Leases of a batch that shall be canceled: those up to this number."""
        self._jobs: dict[str, dict[int, int]] = {}
        """The same of single jobs, by batch and index."""

    def __bool__(self) -> bool:
        return bool(self._batches or self._jobs)

    def add(self, order: CancelBatch | CancelJob) -> None:
        if isinstance(order, CancelBatch):
            self._batches[order.batch] = max(order.upto, self._batches.get(order.batch, 0))
        else:
            jobs = self._jobs.setdefault(order.batch, {})
            jobs[order.index] = max(order.upto, jobs.get(order.index, 0))

    def apply_to(self, batch: str, number: int, start: int, stop: int) -> bool:
        """Whether a job from `start` to `stop` (not included) shall be canceled in the lease of this number."""
        if number <= self._batches.get(batch, 0):
            return True
        jobs = self._jobs.get(batch, {})
        return any(start <= index < stop and number <= upto for index, upto in jobs.items())

    def forget(self, held: Iterable[tuple[str, int]], awaited: int | None = None) -> None:
        """Forget the orders that mean nothing which is held any more.

        Parameters
        ----------
        held : iterable of (str, int)
            Batch and number of each lease.
        awaited : int, optional
            Number of a lease that was asked for, and may have been given before the order was.
        """
        oldest: dict[str, int] = {}
        for batch, number in held:
            oldest[batch] = min(number, oldest.get(batch, number))

        def is_over(batch: str, upto: int) -> bool:
            return upto < oldest.get(batch, upto + 1) and (awaited is None or upto < awaited)

        self._batches = {batch: upto for batch, upto in self._batches.items() if not is_over(batch, upto)}
        for batch, jobs in list(self._jobs.items()):
            left = {index: upto for index, upto in jobs.items() if not is_over(batch, upto)}
            if left:
                self._jobs[batch] = left
            else:
                del self._jobs[batch]

    def clear(self) -> None:
        self._batches.clear()
        self._jobs.clear()


def decide(seen: Seen, cancels: Cancels, now: float, waits_since: float | None = None) -> list[Action]:
    """What is to be done with a child: keep time limits, cancel, take back what waits behind a job that takes long.

    Parameters
    ----------
    seen : Seen
    cancels : Cancels
    now : float
        By the monotonic clock, as all times here.
    waits_since : float, optional
        Since when its worker, which shall leave, listens to it and waits for the end of its leases.
    """
    job = seen.job
    found = _between_jobs(seen, cancels) if job is None else _in_job(seen, job, cancels, now)
    if found or not seen.leases or waits_since is None or (job is not None and not job.is_loading):
        return found
    if now - max(seen.active_at, waits_since) > _STUCK:
        return [Kill(f"has not gone on with its run for {_STUCK:g} seconds, and is ended")]
    return []


def _in_job(seen: Seen, job: RunningJob, cancels: Cancels, now: float) -> list[Action]:
    lease, index = job.lease, job.index
    interruption = seen.interruption_of_job
    if interruption is not None:
        return [Kill()] if now >= interruption.since + _GRACE else [Insist()]
    limit = lease.timeout if job.callback_limit is None else job.callback_limit
    if limit is not None and now - job.since >= limit:
        return [Interrupt(lease, index, TIMEOUT)]
    if job.callback_limit is None and cancels.apply_to(lease.batch, lease.number, index, index + 1):
        return [StopSoon(lease, index), Interrupt(lease, index, CANCEL)]
    is_long = (
        now - job.since >= LONG_JOB or seen.wait is not None
    ) and not job.is_loading  # loading tells nothing of the jobs behind
    if is_long and _can_report(seen, job):
        return [AskForReport(lease, index)]
    if seen.bound is not None:
        return [TakeBack(lease, index)]
    if (is_long and seen.has_more_behind) or any(_is_canceling(other, cancels) for other in seen.leases):
        return [StopSoon(lease, index)]
    return []


def _can_report(seen: Seen, job: RunningJob) -> bool:
    return job.lease.start < job.index and seen.asked_for != (job.lease.number, job.index)


def _between_jobs(seen: Seen, cancels: Cancels) -> list[Action]:
    """A lease that is being canceled shall stop where it is."""
    return [
        StopSoon(lease, lease.start - 1)
        for lease in seen.leases
        if lease.number == seen.begun and _is_canceling(lease, cancels)
    ]


def _is_canceling(lease: Lease, cancels: Cancels) -> bool:
    return cancels.apply_to(lease.batch, lease.number, lease.start, lease.stop)


def stop_behind_current(seen: Seen) -> list[Action]:
    """What has a child finish the job that runs, and start no other."""
    if seen.job is not None:
        return [StopSoon(seen.job.lease, seen.job.index)]
    if seen.leases:
        return [StopSoon(seen.leases[0], seen.leases[0].start - 1)]
    return []


def due_in(seen: Seen, now: float) -> float:
    """Seconds until there may be something to do with a child that runs a job; less than 0 if that was before."""
    job = seen.job
    if job is None:
        return float("inf")
    until = float("inf")
    if seen.interruption_of_job is not None:
        until = _INSIST
    elif (limit := job.callback_limit or job.lease.timeout) is not None:
        until = job.since + limit - now
    if seen.bound is not None:
        return min(until, OBEYS)
    if not job.is_loading and (seen.has_more_behind or _can_report(seen, job)):
        return min(until, max(job.since + LONG_JOB - now, 0.002))
    return until
