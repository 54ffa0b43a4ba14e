"""What is done with a child, from what was seen of it and a given time. No processes, and no waiting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbqueue.protocol.page import CANCEL, TIMEOUT
from nbqueue.store.requests.running import CancelBatch, CancelJob
from nbqueue.worker.costs import LONG_JOB
from nbqueue.worker.lease import OBEYS, Bound, Interruption, Lease, RunningJob, Seen, Wait
from nbqueue.worker.stopping import (
    _GRACE,
    _INSIST,
    _STUCK,
    AskForReport,
    Cancels,
    Insist,
    Interrupt,
    Kill,
    StopSoon,
    TakeBack,
    decide,
    due_in,
    stop_behind_current,
)

BEGAN = 100.0
SOON, LATE = BEGAN + 0.01, BEGAN + LONG_JOB + 0.01


def lease(number: int = 1, start: int = 3, stop: int = 4, *, timeout: float | None = None) -> Lease:
    return Lease(number, "b", start, stop, timeout, "", False)


def inside(*leases: Lease, index: int = 3, is_loading: bool = False) -> Seen:
    """A child in a job of the first of its leases since `BEGAN`."""
    return Seen(leases, RunningJob(leases[0], index, BEGAN, is_loading), leases[0].number, active_at=BEGAN)


def cancels(*orders: CancelBatch | CancelJob) -> Cancels:
    made = Cancels()
    for order in orders:
        made.add(order)
    return made


NONE = Cancels()
ALL = cancels(CancelBatch("b", 9))


def test_nothing_is_done_with_a_child_that_has_nothing_to_do() -> None:
    assert decide(Seen(), ALL, LATE, waits_since=0.0) == []


def test_nothing_is_done_with_a_job_without_a_limit_behind_which_nothing_waits() -> None:
    assert decide(inside(lease()), NONE, BEGAN + 1e6, waits_since=BEGAN) == []


@pytest.mark.parametrize("is_loading", [False, True])
def test_a_job_is_interrupted_when_its_time_is_up_also_while_it_is_loaded(is_loading: bool) -> None:
    limited = lease(timeout=2.0)
    seen = inside(limited, is_loading=is_loading)
    assert decide(seen, NONE, BEGAN + 1.99) == []
    assert decide(seen, NONE, BEGAN + 2.0) == [Interrupt(limited, 3, TIMEOUT)]


@pytest.mark.parametrize("reason", [TIMEOUT, CANCEL])
def test_an_interrupted_job_is_reminded_and_killed_after_a_grace(reason: int) -> None:
    seen = replace(inside(lease(timeout=2.0)), interruption=Interruption(1, 3, reason, since=LATE))
    assert decide(seen, ALL, LATE) == [Insist()]
    assert decide(seen, ALL, LATE + _GRACE - 0.01) == [Insist()]
    assert decide(seen, ALL, LATE + _GRACE) == [Kill()]


def test_the_interruption_of_another_job_means_nothing() -> None:
    seen = replace(inside(lease()), interruption=Interruption(1, 2, TIMEOUT, since=0.0))
    assert decide(seen, NONE, LATE) == []
    seen = replace(inside(lease()), interruption=Interruption(2, 3, TIMEOUT, since=0.0))
    assert decide(seen, NONE, LATE) == []


@pytest.mark.parametrize("is_loading", [False, True])
@pytest.mark.parametrize("order", [CancelBatch("b", 1), CancelJob("b", 3, 1)])
def test_a_canceled_job_is_interrupted_and_nothing_behind_it_starts(
    order: CancelBatch | CancelJob, is_loading: bool
) -> None:
    held = lease(stop=9)
    seen = inside(held, is_loading=is_loading)
    assert decide(seen, cancels(order), SOON) == [StopSoon(held, 3), Interrupt(held, 3, CANCEL)]


def test_a_time_limit_goes_before_an_order_to_cancel() -> None:
    limited = lease(timeout=0.0)
    assert decide(inside(limited), ALL, SOON) == [Interrupt(limited, 3, TIMEOUT)]


@pytest.mark.parametrize("order", [CancelJob("b", 7, 1), CancelBatch("c", 2)])
def test_what_is_canceled_behind_the_running_job_does_not_start(order: CancelBatch | CancelJob) -> None:
    held, other = lease(stop=9), Lease(2, "c", 0, 5, None, "", False)
    assert decide(inside(held, other), cancels(order), SOON) == [StopSoon(held, 3)]


def test_a_long_job_first_has_reported_what_ended_before_it_once() -> None:
    held = lease(start=0, stop=4)
    seen = inside(held)
    assert decide(seen, NONE, SOON) == []
    assert decide(seen, NONE, LATE) == [AskForReport(held, 3)]
    assert decide(replace(seen, asked_for=(1, 3)), NONE, LATE) == []
    assert decide(replace(seen, asked_for=(1, 2)), NONE, LATE) == [AskForReport(held, 3)]


@pytest.mark.parametrize("leases", [[lease(stop=5)], [lease(), lease(2, 0, 1)]])
def test_behind_a_long_job_nothing_is_kept_waiting(leases: list[Lease]) -> None:
    seen = inside(*leases)
    assert decide(seen, NONE, SOON) == []
    assert decide(seen, NONE, LATE) == [StopSoon(leases[0], 3)]
    told = replace(seen, bound=Bound(1, 3, 2, LATE))
    assert decide(told, NONE, LATE) == [TakeBack(leases[0], 3)]


def test_that_a_job_takes_long_to_load_tells_nothing_of_those_behind_it() -> None:
    held = lease(start=0, stop=9)
    assert decide(inside(held, is_loading=True), NONE, LATE) == []


def test_between_jobs_a_canceled_lease_stops_where_it_is_if_it_has_begun() -> None:
    first, second = lease(1, 3, 9), lease(2, 0, 9)
    assert decide(Seen([first, second], begun=2), ALL, LATE) == [StopSoon(second, -1)]
    assert decide(Seen([first, second], begun=0), ALL, LATE) == []
    assert decide(Seen([first, second], begun=1), NONE, LATE) == []


@pytest.mark.parametrize("is_loading", [False, True])
def test_a_worker_that_shall_leave_does_not_wait_long_for_a_child_that_is_in_no_jobs_function(is_loading: bool) -> None:
    seen = inside(lease(), is_loading=True) if is_loading else Seen([lease()], active_at=BEGAN)
    assert decide(seen, NONE, BEGAN + 1e6) == [], "it does not leave"
    assert decide(seen, NONE, BEGAN + _STUCK, waits_since=0.0) == []
    (kill,) = decide(seen, NONE, BEGAN + _STUCK + 1, waits_since=0.0)
    assert isinstance(kill, Kill)
    assert "has not gone on" in kill.why
    assert decide(seen, NONE, BEGAN + _STUCK + 1, waits_since=BEGAN + 2) == [], "it waits only since then"
    assert decide(Seen(active_at=BEGAN), NONE, BEGAN + 1e6, waits_since=0.0) == [], "it has no lease"


def test_a_child_that_shall_start_no_other_job_stops_behind_the_one_that_runs_or_before_the_first() -> None:
    first, second = lease(1, 3, 9), lease(2, 0, 9)
    assert stop_behind_current(inside(first, second, index=5)) == [StopSoon(first, 5)]
    assert stop_behind_current(Seen([first, second])) == [StopSoon(first, 2)]
    assert stop_behind_current(Seen()) == []


def test_a_child_is_looked_at_again_when_something_is_due() -> None:
    forever = float("inf")
    assert due_in(Seen([lease()]), SOON) == forever
    assert due_in(inside(lease()), SOON) == forever
    assert due_in(inside(lease(timeout=2.0)), BEGAN + 0.5) == pytest.approx(1.5)
    assert due_in(inside(lease(timeout=2.0), is_loading=True), BEGAN + 0.5) == pytest.approx(1.5)
    asked = replace(inside(lease(timeout=2.0)), interruption=Interruption(1, 3, TIMEOUT, since=BEGAN))
    assert due_in(asked, SOON) == _INSIST
    assert due_in(replace(inside(lease(timeout=2.0)), bound=Bound(1, 3, 0, BEGAN)), SOON) == OBEYS
    assert due_in(inside(lease(stop=9)), BEGAN) == pytest.approx(LONG_JOB)
    assert due_in(inside(lease(start=0)), BEGAN) == pytest.approx(LONG_JOB)
    assert due_in(inside(lease(stop=9), is_loading=True), BEGAN) == forever
    assert 0 < due_in(inside(lease(stop=9)), LATE) < LONG_JOB


def test_what_lies_around_a_job_that_waits_for_others_is_reported_and_given_back_at_once() -> None:
    seen = replace(inside(lease(1, 3, 9), index=4), wait=Wait(1, 4, "other", SOON))
    assert decide(seen, NONE, SOON) == [AskForReport(seen.leases[0], 4)]
    seen = replace(seen, asked_for=(1, 4))
    assert decide(seen, NONE, SOON) == [StopSoon(seen.leases[0], 4)]
    assert decide(replace(seen, wait=None), NONE, SOON) == []
