"""What a child holds, does, and was asked for. Plain data, no input or output here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nbqueue.payload.memory import Nameless
from nbqueue.protocol.messages import Printed
from nbqueue.store.description import RetryDescription
from nbqueue.worker.output_log import OutputLog

OBEYS = 0.002
"""Seconds after which a child that was told where to stop knows it."""


@dataclass
class Lease:
    """A run in the hands of a child: jobs `start` to `stop` are not recorded yet."""

    number: int
    batch: str
    start: int
    stop: int
    timeout: float | None
    kind: str
    is_cell: bool
    attempts: dict[int, int] = field(default_factory=dict)
    retry: RetryDescription | None = None
    """Its jobs run again when they have failed."""
    callbacks: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """See `Description`."""
    is_decided: bool = False
    """How its job ends was decided before, and only its callback is called."""
    mapped: Sequence[Nameless] = ()
    """What the child maps for it, and has to find."""
    output_log: OutputLog | None = None
    """What its jobs have printed, once they do."""
    is_full: bool = False
    """Rich output of its jobs is not kept any more."""
    shown: int = 0
    """Of a cell: the number of its last message."""
    kept: list[Printed] = field(default_factory=list)
    """Of a cell: what it has printed, and may not have told of yet."""
    inserted: list[int] = field(default_factory=list)
    """Of a cell: numbers of messages behind which one of the worker's was inserted."""


@dataclass(slots=True)  # not frozen: it is made at each turn of the loop, and that takes three times as long
class RunningJob:
    """A job in which a child was seen."""

    lease: Lease
    index: int
    since: float
    """By the monotonic clock: when its function was called, or when loading that began."""
    is_loading: bool = False
    """Its function or arguments are being unpickled, which imports modules."""
    callback_limit: float | None = None
    """Seconds that its callback may take, which is what runs."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A job that shall stop: an exception was raised inside it, or will be."""

    number: int
    index: int
    reason: int
    """page.TIMEOUT or page.CANCEL."""
    since: float
    is_of_callback: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A job behind which a child shall start nothing of what it had been handed then."""

    number: int
    index: int
    upto: int
    """Number of the last lease that it had been handed, if that is not the job's own."""
    since: float


@dataclass(slots=True)
class Wait:
    """A job that waits for other jobs, or has done so and wants a place to go on."""

    number: int
    index: int
    batch: str
    """In which those are."""
    since: float
    """By the monotonic clock: when it began to wait, or asked for a place."""
    is_away: bool = False
    """It has given its place away; otherwise there are too many that have."""
    ticket: int = 0
    """What it is told when it has a place again; 0 while it waits for jobs."""


@dataclass(slots=True)
class Seen:
    """A child as it was seen at one moment."""

    leases: Sequence[Lease] = ()
    job: RunningJob | None = None
    """None between jobs."""
    begun: int = 0
    """Number of the lease that it has begun last."""
    interruption: Interruption | None = None
    bound: Bound | None = None
    asked_for: tuple[int, int] | None = None
    """Number and index of the running job before which it was asked to report what has ended."""
    active_at: float = 0.0
    """When it last said something, or was seen inside a job's function."""
    wait: Wait | None = None
    """Its job waits for others."""

    @property
    def has_more_behind(self) -> bool:
        """It was handed more than the job that runs."""
        return len(self.leases) > 1 or (self.job is not None and self.job.index + 1 < self.job.lease.stop)

    @property
    def interruption_of_job(self) -> Interruption | None:
        """How the running job was interrupted; what is known may be of one that ended by itself just then."""
        asked, job = self.interruption, self.job
        if asked is None or job is None or (asked.number, asked.index) != (job.lease.number, job.index):
            return None
        return asked if asked.is_of_callback == (job.callback_limit is not None) else None
