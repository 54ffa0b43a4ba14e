"""What a worker was ordered to cancel, and which of its leases that means. Plain data, no input or output here.

A batch or a job that was canceled may be retried, and the same worker may claim it again, while the order is still in
its memory. So an order means leases and not jobs: those up to the number that it carries.
"""

from __future__ import annotations

from collections.abc import Iterable

from nbqueue.store.requests.running import CancelBatch, CancelJob


class Cancels:
    """The orders to cancel that a worker remembers, as long as it holds something that they mean."""

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
