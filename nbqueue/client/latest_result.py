"""What came of the last attempt of a job, under RQ's names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class ResultType(Enum):
    """How an attempt ended."""

    SUCCESSFUL = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the last attempt of a job: `Job.latest_result`."""

    Type = ResultType

    job_id: str
    type: ResultType
    return_value: Any
    """None if it failed."""
    exc_string: str | None
    """The traceback, as text, if it failed."""
    created_at: datetime | None
    """When it ended; None where that is not kept, as of a job that was deleted."""
