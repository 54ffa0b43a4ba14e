"""Requests that steer what is there: cancel, retry, pause, delete."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nbqueue.store.keys import IN_WORDS
from nbqueue.store.requests.request import Request, as_text, request_to
from nbqueue.store.requests.running import MOST_RICH


def cancel(batch: str, reason: str, *, only_waiting: bool = False) -> Request[int]:
    return request_to("steering/cancel", int, batch, int(only_waiting), reason)


def cancel_job(batch: str, index: int) -> Request[str]:
    return request_to("steering/cancel_job", as_text, batch, index)


def retry(batch: str, token: str, index: int | None = None) -> Request[tuple[int, bool]]:
    """How many jobs were queued again (-1: no such batch), and whether there are more."""
    return request_to(
        "steering/retry", lambda reply: (int(reply[0]), bool(reply[1])), batch, token, "" if index is None else index
    )


def set_meta(batch: str, index: int, content: bytes) -> Request[int]:
    """1; 0 if the job was deleted, or -1 if there is no such batch."""
    return request_to("steering/set_meta", int, batch, index, content)


def pause(batch: str) -> Request[int]:
    return request_to("steering/pause", int, batch)


def resume(batch: str) -> Request[int]:
    return request_to("steering/resume", int, batch)


def pause_queue(queue: str) -> Request[int]:
    return request_to("steering/pause_queue", int, queue)


def resume_queue(queue: str, environments: Iterable[str]) -> Request[int]:
    return request_to("steering/resume_queue", int, queue, *environments)


def suspend_workers() -> Request[int]:
    return request_to("steering/suspend_workers", int)


def resume_workers(served: Iterable[tuple[str, str]]) -> Request[bool]:
    """Whether they were suspended. `served`: queues and environments whose workers are woken."""
    return request_to("steering/resume_workers", bool, *(name for pair in served for name in pair))


def delete(batch: str) -> Request[int]:
    return request_to("steering/delete", int, batch)


DELETED = IN_WORDS + json.dumps({"type": "ResultExpired", "message": "it was deleted"}).encode()
"""The record of the outcome of a job that was deleted."""


def delete_job(batch: str, index: int) -> Request[int]:
    return request_to("steering/delete_job", int, batch, index, DELETED, MOST_RICH)
