"""What workers are told under RQ's names."""

from __future__ import annotations

from typing import Any

from nbqueue import errors
from nbqueue.client.job import Job


def send_stop_job_command(connection: Any, job_id: str) -> None:
    """Stop a job that runs: RQ's name for `job.cancel()`, which also takes those that wait.

    It ends as canceled, within half a second, and so does what it has started; `job.retry()` runs it again.

    Parameters
    ----------
    connection : Queue, str or redis.Redis
        As for `Job.fetch`.
    job_id : str

    Raises
    ------
    UsageError
        It does not run.
    NotFound
        There is no such job (any more).

    Examples
    --------
    >>> send_stop_job_command(q, "k3f9x2:17")
    """
    job = Job.fetch(job_id, connection)
    status = job.get_status()
    if status != "started" or not job.cancel():
        status = job.get_status() if status == "started" else status
        hint = "" if status in ("finished", "failed", "canceled") else "; job.cancel() takes it back before it starts"
        error = errors.UsageError(f"job {job.id} is {status}, and only a job that runs can be stopped{hint}")
        error.job_id = job.id
        raise error
