"""Requests that steer what is there: cancel, retry, pause, delete."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbqueue.payload.records import Blob
from nbqueue.store.keys import IN_WORDS
from nbqueue.store.requests.request import Request, as_text, request_to
from nbqueue.store.requests.running import MOST_RICH


def cancel(batch: str, reason: str, *, only_waiting: bool = False) -> Request[int]:
    return request_to("steering/cancel", int, batch, int(only_waiting), reason)


def cancel_job(batch: str, index: int, *, enqueue_dependents: bool = False) -> Request[str]:
    return request_to("steering/cancel_job", as_text, batch, index, int(enqueue_dependents))


@dataclass(frozen=True, slots=True)
class Retried:
    """What was queued again."""

    count: int
    """-1: there is no such batch."""
    has_more: bool
    broken: int
    """Jobs that failed because of others, and come back with those."""


def retry(batch: str, token: str, index: int | None = None, mended: int | None = None) -> Request[Retried]:
    """`mended`: the number of the function that they run with from now on, see `mend`."""

    def read(reply: list[Any]) -> Retried:
        return Retried(int(reply[0]), bool(reply[1]), int(reply[2]))

    return request_to(
        "steering/retry", read, batch, token, "" if index is None else index, "" if mended is None else mended
    )


@dataclass(frozen=True, slots=True)
class MendedAnswer:
    """How it went: 'ok', 'gone' or 'code' (send the records)."""

    answer: str
    number: int = 0
    """Of the function, in its batch."""


def mend(batch: str, record: bytes, functions: Mapping[bytes, Blob]) -> Request[MendedAnswer]:
    """`functions` as for `submit`."""

    def read(reply: list[Any]) -> MendedAnswer:
        answer = reply[0].decode()
        return MendedAnswer(answer, reply[1] if answer == "ok" else 0)

    arguments: list[Blob | str] = [batch, record]
    for digest, body in functions.items():
        arguments += (digest.hex(), body)
    return request_to("steering/mend", read, *arguments)


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


def remove_schedule(queue: str, name: str) -> Request[bool]:
    return request_to("steering/remove_schedule", bool, queue, name)


def pause_schedule(queue: str, name: str) -> Request[bool]:
    return request_to("steering/pause_schedule", bool, queue, name)


def resume_schedule(queue: str, name: str, due: float) -> Request[int]:
    """1, or 0 if it is not paused, -1 if there is none."""
    return request_to("steering/resume_schedule", int, queue, name, f"{due:.3f}")
