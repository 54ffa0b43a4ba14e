"""Batches, workers and schedules as Redis knows them, made up."""

from __future__ import annotations

import json
from typing import Any

from nbqueue.store.description import Description
from nbqueue.store.requests.looking import BatchState, WorkerState
from nbqueue.store.schedule_state import ScheduleState


def batch_state(label: str | None = "score", **changes: Any) -> BatchState:
    """A batch of 100 jobs that runs since 1,000 s after the epoch."""
    values: dict[str, Any] = {
        "id": "k3f9x2", "queue": "default", "environment": "python-3.11", "per_block": 1,
        "description": Description(label=label or ""),
        "total": 100, "started": 2, "finished": 40, "failed": 1, "canceled": 2, "busy": 20.0, "submitted_at": 1000.0,
        "ended_at": None, "is_submitting": False, "is_paused": False, "is_canceled": False, "is_retried": False,
        "reason": "",
    }  # fmt: skip
    values |= changes
    ended = values["finished"] + values["failed"] + values["canceled"]
    return BatchState(
        **{"queued": values["total"] - values["started"] - ended, "deferred": 0, "scheduled": 0, **values}
    )


def worker_state(id: str = "w1", running: list[tuple[str, float]] | None = None, **fields: str) -> WorkerState:
    """A worker with two children that serves the queue 'default'."""
    values = {
        "name": f"worker-{id}", "queues": "default", "environment": "python-3.11", "children": "2", "host": "here",
        "pid": "12", "busy": "1", "jobs": "345", "memory": str(5 * 2**20), "since": "990",
        "running": json.dumps(running or []),
    }  # fmt: skip
    return WorkerState(id, 1, 0, {**values, **fields})


def schedule_state(name: str = "report", **changes: Any) -> ScheduleState:
    """One that has run 12 times, and is due in 5 minutes, 100 s after the epoch."""
    values: dict[str, Any] = {
        "queue": "default", "name": name, "token": "t", "environment": "python-3.11", "due": "400.000",
        "times": "every 600.0", "function": "report", "lifetimes": "604800", "made_at": 10.0, "runs": 12, "skipped": 0,
        "skipped_at": None, "is_paused": False, "overlaps": False, "last": "k3f9x2:11", "last_at": 90.0, "problem": "",
        "batches": ["k3f9x2"], "record": b"", "batch": "k3f9x2", "jobs": 12, "is_closed": False, "is_busy": False,
        "ended_at": 91.0, "submitted_at": 10.0, "at": 100.0, "last_state": "finished",
    }  # fmt: skip
    return ScheduleState(**values | changes)
