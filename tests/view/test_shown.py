"""What a panel shows, as plain data: states in words, and strips."""

from __future__ import annotations

import pytest
from states import batch_state

from nbqueue.client.problem import unserved
from nbqueue.client.results import CANCELED, RECORDED, WAITS
from nbqueue.store.description import Description, RetryDescription
from nbqueue.view.seen import BatchSeen
from nbqueue.view.shown import ORDER, BatchShown, JobShown, columns, strip_of

NOBODY = {"started": 0, "finished": 0, "failed": 0, "canceled": 0}
REPEATED = Description(repeat=RetryDescription(3))
LATER = {"queued": 0, "scheduled": 55, "due_at": 1051.2}
DEFERRED = {"queued": 0, "deferred": 55, "waits_for": "k3f9x2"}
ENDED = {"total": 43, "started": 0, "ended_at": 1005.0}


def shown(state=None, **changes):
    return BatchShown(BatchSeen(batch_state(**(state or {})), 1010.0), **changes)


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        ({"is_submitting": True}, {}, "submitting, 100"),
        ({"is_submitting": True}, {"expected": 2000}, "submitting, 100 of 2,000"),
        (NOBODY, {}, "waiting"),
        ({**NOBODY, "total": 0}, {}, "finished"),
        (NOBODY, {"behind": "sleep (abcdef)"}, "waiting behind sleep (abcdef)"),
        (NOBODY, {"problem": unserved("default", "gpu", [])}, "waiting, nobody serves it"),
        (NOBODY, {"unreachable": "the server is away"}, "waiting, nobody serves it"),
        ({"started": 0}, {"problem": unserved("default", "gpu", [])}, "waiting, nobody serves it"),
        ({}, {"problem": unserved("default", "gpu", [])}, "running"),
        ({**NOBODY, **LATER}, {}, "starts in 0:42"),
        ({**NOBODY, **LATER, "due_at": 1000.0}, {}, "is due"),
        ({**NOBODY, **LATER, "has_attempts": True}, {}, "waits for its retry in 0:42"),
        ({"started": 0, **LATER, "has_attempts": True}, {}, "waits for its retry in 0:42"),
        ({**NOBODY, **LATER, "has_attempts": True, "description": REPEATED}, {}, "runs again in 0:42"),
        ({**LATER}, {}, "running"),
        ({**NOBODY, **DEFERRED}, {}, "waits for batch k3f9x2"),
        ({**NOBODY, **DEFERRED, "waits_for": "k3f9x2:17"}, {}, "waits for job k3f9x2:17"),
        ({"started": 0, **DEFERRED}, {}, "waits for batch k3f9x2"),
        ({**DEFERRED}, {}, "running"),
        ({**NOBODY, **LATER, **DEFERRED}, {}, "starts in 0:42"),
        ({**NOBODY, **DEFERRED}, {"problem": unserved("default", "gpu", [])}, "waiting, nobody serves it"),
        ({**NOBODY, **LATER}, {"problem": unserved("default", "gpu", [])}, "waiting, nobody serves it"),
        ({"is_paused": True}, {}, "paused, 2 still run"),
        ({"is_paused": True, "started": 0}, {}, "paused, nothing runs"),
        ({"is_canceled": True, "reason": "it was canceled", "canceled": 57}, {}, "canceling, 2 still run"),
        ({**ENDED, "canceled": 0, "finished": 42}, {}, "finished, 1 failed"),
        ({**ENDED, "is_canceled": True}, {}, "canceled, 1 failed"),
        ({**ENDED, "failed": 0, "canceled": 0, "finished": 43}, {}, "finished"),
    ],
)
def test_the_state_of_a_batch_in_words(state, changes, words):
    assert shown(state, **changes).words == words


def test_a_batch_that_is_done_has_the_state_of_its_worst_jobs():
    assert shown({**ENDED, "canceled": 0, "finished": 42}).state == "failed"
    assert shown(ENDED).state == "canceled"
    assert shown().state == "running"
    assert shown(expected=2000).total == 2000 and shown().total == 100


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (JobShown("b:0", "score", "queued"), "waiting"),
        (JobShown("b:0", "score", "started", does="running for 0:07"), "running for 0:07"),
        (JobShown("b:0", "score", "finished", duration=0.5), "finished in 0.5 s"),
        (JobShown("b:0", "score", "finished", duration=0.5, outcome="df is here"), "finished in 0.5 s, df is here"),
        (JobShown("b:0", "score", "failed", does="running", duration=75), "failed after 1:15"),
        (JobShown("b:0", "score", "canceled"), "canceled"),
        (JobShown("b:0", "score", "gone"), "is not there any more"),
    ],
)
def test_what_a_job_does_or_how_it_ended_in_words(job, words):
    assert job.words == words


def test_a_strip_has_the_state_of_each_job_in_order():
    marks = bytes([RECORDED, RECORDED, CANCELED, WAITS, RECORDED])
    strip = strip_of(8, marks, failed=[1, 2, 6, 99], running=[5, 3, 99])
    assert [ORDER[state] for state in strip] == [
        "finished", "failed", "canceled", "running", "finished", "running", "waiting", "waiting",
    ]  # fmt: skip
    assert len(strip_of(2, marks, [], [])) == 2, "more have ended than were counted a moment ago"


def test_a_column_of_several_jobs_shows_the_worst():
    states = bytearray(b"\1" * 999_999)
    states[500_000] = ORDER.index("failed")
    strip = columns(states)
    assert len(strip) == 240
    assert [position for position, state in enumerate(strip) if ORDER[state] == "failed"] == [120]
    assert columns(b"") == b""
