"""Waits of a job for other jobs: meanwhile it gives its place in its worker away, and for itself it cannot wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue import errors
from nbqueue.child import context

if TYPE_CHECKING:
    from nbqueue.child.turn import Turn


class GivenAway:
    """The place of the job that runs here, as long as one of its threads waits; nothing where no job runs.

    Parameters
    ----------
    batch : str
        The batch whose jobs are waited for.
    """

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._turn: Turn | None = None
        self._key: tuple[int, int] | None = None

    def begin(self) -> None:
        """The wait lasts."""
        running = context.running()
        if running is not None and self._turn is None:
            self._turn = running.turn
            self._key = running.turn.give_away(self._batch)

    def end(self, error: BaseException | None) -> None:
        """It is over: go on when there is a place, or at once if the job is being stopped."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.take_back(self._key, at_once=error is not None and not isinstance(error, Exception))


def own_index(batch: str) -> int | None:
    """The index of the job that runs here, if it is of this batch."""
    running = context.running()
    job = None if running is None else running.job()
    return job.index if job is not None and job.batch_id == batch else None


def refuse_own(batch: str, index: int | None = None) -> None:
    """Refuse to wait for the job that runs here.

    Parameters
    ----------
    batch : str
    index : int, optional
        Of the job that shall be waited for; all of the batch without one.

    Raises
    ------
    UsageError
        It would never end.
    """
    own = own_index(batch)
    if own is None or (index is not None and index != own):
        return
    what = "itself" if index is not None else f"all jobs of batch {batch}, of which it is one"
    error = errors.UsageError(f"job {batch}:{own} waits for {what}: that would never end")
    error.job_id = f"{batch}:{own}"
    raise error
