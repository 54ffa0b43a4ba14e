"""RQ's registries: which jobs of a queue are in which state. Views of the state; there is no second list in Redis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Generic, NoReturn, Protocol, TypeVar

from nbqueue import errors
from nbqueue.client import listing
from nbqueue.client.batch import Batch
from nbqueue.client.job import Job
from nbqueue.store.requests import steering
from nbqueue.store.requests.looking import Counts
from nbqueue.store.store import Store


class _Queue(Protocol):
    """The part of a queue that its registries use."""

    name: str

    @property
    def store(self) -> Store: ...

    def fetch_job(self, id: str) -> Job: ...

    def batch(self, id: str) -> Batch: ...


Q = TypeVar("Q", bound=_Queue)


class Registry(Generic[Q]):
    """The jobs of a queue that are in one state.

    A view, which reads when it is asked. Its order stays the same: the oldest batch first, then by index. Positions are
    those of `count`, in which a job that was deleted stays until its batch is: a page where one was is shorter.

    Parameters
    ----------
    queue : Queue

    Examples
    --------
    >>> registry = q.failed_job_registry
    >>> registry.count, registry.get_job_ids(0, 9)
    (1, ['k3f9x2:17'])
    """

    state: ClassVar[str]

    def __init__(self, queue: Q) -> None:
        self._queue = queue
        self.name = queue.name
        """Of the queue."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name}>"

    def get_queue(self) -> Q:
        """The queue."""
        return self._queue

    @property
    def count(self) -> int:
        """How many jobs they are. Takes as long however many they are."""
        counts: Counts = self._queue.store.queue(self.name).counts
        return int(getattr(counts, self.state))

    def __len__(self) -> int:
        return self.count

    def get_job_ids(self, start: int = 0, end: int = -1) -> list[str]:
        """The ids of some of the jobs.

        Parameters
        ----------
        start, end : int
            Positions, as Redis has them: that of `end` is part of it, -1 is the last one.

        Examples
        --------
        >>> q.finished_job_registry.get_job_ids(0, 1)
        ['k3f9x2:0', 'k3f9x2:1']
        """
        first, most = listing.window(start, end, lambda: self.count)
        return list(self._ids(first, most))

    def __iter__(self) -> Iterator[str]:
        """The ids, batch by batch, as they are when their turn comes."""
        return self._ids(0, math.inf)

    def _ids(self, first: int, most: float) -> Iterator[str]:
        store = self._queue.store
        batches = store.counted(self.name, self.state)
        return listing.ids(listing.part(batches, lambda id: store.in_state(id, self.state), first, most))

    def __contains__(self, job_or_id: object) -> bool:
        """Whether a job, or that of an id, is in this state now, and of this queue."""
        if not isinstance(job_or_id, Job | str):
            return False
        try:
            return self._what_is(self._job(job_or_id)) == self.state
        except errors.NotFound:
            return False

    def _job(self, job_or_id: Job | str) -> Job:
        return job_or_id if isinstance(job_or_id, Job) else self._queue.fetch_job(job_or_id)

    def _what_is(self, job: Job) -> str:
        """The state of a job, in a word, or why it is in none of this queue."""
        if job.origin != self.name:
            return f"of queue {job.origin}"
        state = self._queue.store.job(job.batch.id, job.index)
        return "deleted" if state is not None and state.own == steering.DELETED else job.get_status()

    def _member(self, job_or_id: Job | str) -> Job:
        job = self._job(job_or_id)
        state = self._what_is(job)
        if state != self.state:
            raise errors.UsageError(
                f"job {job.id} is not among the {self.state} jobs of queue {self.name}: it is {state}"
            )
        return job

    def requeue(self, job_or_id: Job | str) -> Job:
        """Run one of them again: only what failed or was canceled is.

        Raises
        ------
        UsageError
            It is not one of them, or cannot run again.
        NotFound
            There is no such job.
        """
        job = self._member(job_or_id)
        self._run_again(job)
        return job

    def _run_again(self, job: Job) -> None:
        self._refuse(job, "only what failed or was canceled runs again")

    def remove(self, job_or_id: Job | str, delete_job: bool = False) -> None:
        """Take one of them out.

        A job is in exactly one state, so that one which ran is taken out only by deleting it or running it again. What
        has not started is canceled.

        Parameters
        ----------
        job_or_id : Job or str
        delete_job : bool
            Forget its call and its outcome; if it runs it is stopped first.

        Raises
        ------
        UsageError
            It is not one of them, or cannot be taken out without deleting it.
        NotFound
            There is no such job.
        """
        job = self._member(job_or_id)
        if delete_job:
            job.delete()
        else:
            self._take_out(job)

    def _take_out(self, job: Job) -> None:
        self._refuse(job, "a job is always in one state; remove(job, delete_job=True) forgets it")

    def _refuse(self, job: Job, why: str) -> NoReturn:
        raise errors.UsageError(f"job {job.id} is {self.state}: {why}")


class StartedJobRegistry(Registry[Q]):
    """The jobs that run, or that a worker has taken."""

    state = "started"

    def _run_again(self, job: Job) -> None:
        self._refuse(job, "it runs already; cancel() stops it")

    def _take_out(self, job: Job) -> None:
        self._refuse(job, "cancel() stops it, remove(job, delete_job=True) stops and forgets it")


class FinishedJobRegistry(Registry[Q]):
    """The jobs that returned, for as long as their results are kept."""

    state = "finished"

    def _run_again(self, job: Job) -> None:
        self._refuse(job, "what finished never runs again; submit its call anew")


class _RunsAgain(Registry[Q]):
    """Jobs that may run again."""

    def _run_again(self, job: Job) -> None:
        if not job.retry():
            raise errors.UsageError(f"job {job.id} is {job.get_status()} meanwhile: there is nothing to run again")

    def _take_out(self, job: Job) -> None:
        self._refuse(
            job, "a job is always in one state; requeue(job) runs it again, remove(job, delete_job=True) forgets it"
        )


class FailedJobRegistry(_RunsAgain[Q]):
    """The jobs that raised, or were stopped by a limit or a death."""

    state = "failed"

    def requeue_all(self) -> int:
        """Run all of them again; what was canceled stays so. Returns how many.

        Examples
        --------
        >>> q.failed_job_registry.requeue_all()
        44
        """
        total = 0
        for counted in self._queue.store.counted(self.name, self.state):
            batch = self._queue.batch(counted.batch)
            if batch.state.canceled:  # which `Batch.retry` would run again, too
                runs = self._queue.store.in_state(batch.id, self.state)
                total += sum(Job(batch, index).run_again()[0] for start, stop in runs for index in range(start, stop))
            else:
                total += batch.retry()
        return total


class CanceledJobRegistry(_RunsAgain[Q]):
    """The jobs that were canceled."""

    state = "canceled"


class _HasNotStarted(Registry[Q]):
    """Jobs that are not queued yet."""

    def _take_out(self, job: Job) -> None:
        job.cancel()


class DeferredJobRegistry(_HasNotStarted[Q]):
    """The jobs that wait for others."""

    state = "deferred"

    def _run_again(self, job: Job) -> None:
        self._refuse(job, "it waits for other jobs, and is queued when these have ended")


class ScheduledJobRegistry(_HasNotStarted[Q]):
    """The jobs that wait for their time."""

    state = "scheduled"

    def _run_again(self, job: Job) -> None:
        self._refuse(job, "it is queued when its time comes")

    def get_scheduled_time(self, job_or_id: Job | str) -> datetime:
        """When a job is due, in UTC.

        Raises
        ------
        NotFound
            It does not wait for a time.
        """
        job = self._job(job_or_id)
        due = self._queue.store.due(job.batch.id, job.index)
        if due is None:
            raise errors.NotFound(f"job {job.id} is not scheduled: it is {self._what_is(job)}")
        return datetime.fromtimestamp(due, UTC)
