"""What a panel reads, and in which words it has it; without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from states import batch_state

from nbqueue import errors
from nbqueue.client.problem import paused
from nbqueue.store.requests.looking import RunningNow
from nbqueue.store.requests.running import Progress
from nbqueue.view.shown import JobShown, RunningShown
from nbqueue.view.snapshot import Attendant, busiest_other, call_of, running_of, see_job

RUNNING = [
    RunningNow(id, since)
    for id, since in (
        ("aaaaaa:7", 990.0),
        ("bbbbbb:0", 1.0),
        ("aaaaaa:2", 1011.0),
        ("cccccc:1", 1.0),
        ("cccccc:2", 1.0),
    )
]


def test_of_the_jobs_that_run_those_of_a_batch_are_shown_in_order_with_their_seconds():
    found = running_of("aaaaaa", RUNNING, 1010.0)
    assert found == (RunningShown(2, 0.0), RunningShown(7, 20.0)), "clocks differ"
    assert running_of("dddddd", RUNNING, 1010.0) == ()
    (half,) = running_of("eeeeee", [RunningNow("eeeeee:1", 990.0, Progress(2, 4, "rows"))], 1010.0)
    assert (half.index, half.words) == (1, "2 of 4 · rows · 0:20 left")


def test_a_batch_waits_behind_the_one_that_keeps_most_children_busy():
    assert busiest_other("aaaaaa", RUNNING) == "cccccc"
    assert busiest_other("cccccc", RUNNING) == "aaaaaa"
    assert busiest_other("aaaaaa", RUNNING[:1]) == ""


def test_whether_anybody_serves_a_batch_is_looked_at_now_and_then():
    asked = []
    queue = SimpleNamespace(attend=lambda state: asked.append(state) or paused("a"))
    state = batch_state()
    patient, eager = Attendant(queue, 1000.0), Attendant(queue)
    assert patient.problem(lambda: state) is None and not asked
    assert eager.problem(lambda: state) == paused("a") and asked == [state]
    assert eager.problem(lambda: pytest.fail("it is not read again")) == paused("a")


class FakeJob:
    id = "aaaaaa:7"
    args, kwargs, func_name = (), {}, "score"
    duration, ended_at, exc_info = 0.5, datetime.fromtimestamp(1000.5, UTC), "Traceback\n"

    def __init__(self, status="finished", **changes):
        self.status = status
        self.__dict__.update(changes)

    def get_status(self):
        if self.status == "gone":
            raise errors.NotFound("it was deleted")
        return self.status


def test_a_job_is_seen_with_what_is_known_of_its_end():
    assert see_job(FakeJob("started"), "score") == JobShown("aaaaaa:7", "score", "started")
    assert see_job(FakeJob(), "score") == JobShown("aaaaaa:7", "score", "finished", duration=0.5, ended_at=1000.5)
    assert see_job(FakeJob("failed"), "score").traceback == "Traceback\n"
    canceled = see_job(FakeJob("canceled", duration=None, ended_at=None), "score")
    assert (canceled.words, canceled.ended_at) == ("canceled", None)
    assert see_job(FakeJob("gone"), "score").status == "gone"


def test_a_call_is_shown_as_code_shortened():
    assert call_of(FakeJob(args=(1, "a"), kwargs={"b": [1, 2]})) == "score(1, 'a', b=[1, 2])"
    assert call_of(FakeJob(args=(list(range(99)),))) == "score([0, 1, 2, ...])"
    assert len(call_of(FakeJob(args=("x" * 30,) * 30))) == 200


def test_a_call_whose_arguments_cannot_be_shown_is_not():
    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    class Lost(FakeJob):
        @property
        def args(self):
            raise errors.ResultExpired("they are not kept")

    assert call_of(Lost()) == ""
    assert call_of(FakeJob(args=(Rude(),))).startswith("score(<Rude instance at")
