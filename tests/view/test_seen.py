"""What is going on in a namespace, as plain data; `nbqueue info --json` gives it to programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from states import batch_state, worker_state

from nbqueue.store.requests.looking import Counts, QueueState, WorkerState
from nbqueue.store.requests.running import Progress
from nbqueue.view.seen import BatchSeen, Overview, look, see_queue, see_worker


def test_an_overview_counts_the_jobs_of_each_queue_and_lists_workers_and_batches(q, worker):
    batch = q.map(lambda x: 1 / x, [1, 0, 2], label="invert").wait(timeout=30)
    found = look(q.store)
    (queue,) = found.queues
    assert (queue.name, queue.finished, queue.failed, queue.waiting, queue.batches) == ("default", 2, 1, 0, 1)
    assert (queue.workers, queue.problem) == (1, "")
    (one,) = found.workers
    assert one.children == 2 and one.pid == worker.pid and one.environment.startswith("Python 3.") and not one.is_dead
    (last,) = found.batches
    assert (last.known.id, last.label, last.state, last.known.total) == (batch.id, "invert", "done", 3)
    assert last.known.failed == 1
    assert json.loads(json.dumps(found.as_json()))["batches"][0]["finished"] == 2


def test_looking_changes_nothing(q):
    q.map(abs, range(10))
    before = {key: q.store.run("DUMP", key) for key in q.store.run("KEYS", q.store.key("*"))}
    look(q.store)
    assert {key: q.store.run("DUMP", key) for key in q.store.run("KEYS", q.store.key("*"))} == before


def test_it_says_why_jobs_wait(q):
    q.map(abs, range(10))
    assert "no worker for queue default" in look(q.store).queues[0].problem
    q.pause()
    assert look(q.store).queues[0].problem == "it is paused"
    q.resume()


def test_a_worker_that_was_killed_is_seen_as_dead(q, worker):
    worker.kill()
    worker.wait()
    found = look(q.store)
    assert [one.is_dead for one in found.workers] == [True]
    assert found.queues == []


# From plain data


def test_a_queue_has_a_problem_where_somebody_waits_whom_nobody_serves():
    done = Counts(started=2, finished=40, failed=1, canceled=2, batches=1)
    waiting, served = {"gpu": replace(done, queued=55)}, {"python-3.11": done}
    found = see_queue(QueueState("default", False, waiting | served), [worker_state()])
    assert (found.waiting, found.running, found.failed, found.batches, found.workers) == (55, 4, 2, 2, 1)
    assert found.problem.startswith("no worker for queue default and environment gpu; there is 1 for ")
    assert "Run: nbqueue worker default" in found.problem
    assert see_queue(QueueState("default", False, served), []).problem == "", "nothing of it waits"
    assert see_queue(QueueState("default", True, waiting), []).problem == "it is paused"
    assert see_queue(QueueState("other", False, {}), [worker_state()]).batches == 0


def test_a_worker_is_seen_as_it_described_itself():
    seen = see_worker(worker_state(running=[("k3f9x2:7", 1000.0)]))
    assert (seen.name, seen.queues, seen.children, seen.busy, seen.jobs) == ("worker-w1", ["default"], 2, 1, 345)
    assert (seen.memory, seen.running, seen.is_dead) == (5 * 2**20, ["k3f9x2:7"], False)
    assert seen.progress == {}
    assert see_worker(worker_state(running=[])).running == []
    half = see_worker(worker_state(running=[("k3f9x2:7", 1000.0, (1.0, 2.0, "rows")), ("k3f9x2:8", 1000.0)]))
    assert half.running == ["k3f9x2:7", "k3f9x2:8"]
    assert half.progress == {"k3f9x2:7": Progress(1.0, 2.0, "rows")}


@pytest.mark.parametrize("written", ["", "nonsense", "[[1]]", '{"a": 1}', '[["a:1", "x"]]', "[3]"])
def test_what_no_worker_of_this_version_wrote_is_nothing(written):
    assert WorkerState("w", 1, 0, {"running": written}).running == []


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"started": 0, "finished": 0, "failed": 0, "canceled": 0}, "waiting"),
        ({"is_paused": True}, "paused"),
        ({"is_submitting": True}, "submitting"),
        ({"total": 43, "started": 0}, "done"),
        ({"total": 43, "started": 0, "is_canceled": True}, "canceled"),
        ({"total": 43, "started": 0, "is_canceled": True, "is_retried": True}, "done"),
        ({"is_canceled": True}, "running"),
    ],
)
def test_a_batch_has_one_state(changes, state):
    assert BatchSeen(batch_state(**changes), 1010.0).state == state


def test_a_batch_counts_its_jobs_and_its_time_until_now_or_until_its_end():
    seen = BatchSeen(batch_state(), 1010.0)
    assert seen.counts == {"finished": 40, "failed": 1, "canceled": 2, "running": 2, "waiting": 55}
    assert sum(seen.counts.values()) == seen.known.total
    assert (seen.elapsed, seen.rate) == (10.0, 4.1)
    assert seen.eta == pytest.approx(57 / 4.1)
    assert BatchSeen(batch_state(ended_at=1004.0), 1010.0).elapsed == 4.0
    assert BatchSeen(batch_state(), 990.0).elapsed == 0.0, "clocks differ"
    assert BatchSeen(batch_state(finished=0, failed=0), 1010.0).eta is None
    assert BatchSeen(batch_state(label=None), 1010.0).label == ""


def test_programs_get_a_batch_in_full():
    overview = Overview("unix:///s", "default", 1010.0, [], [], [BatchSeen(batch_state(reason="why"), 1010.0)])
    (found,) = json.loads(json.dumps(overview.as_json()))["batches"]
    assert list(found) == [
        "id", "label", "queue", "environment", "state", "total", "finished", "failed", "canceled", "running", "waiting",
        "submitted_at", "ended_at", "elapsed", "rate", "eta", "busy", "reason", "deferred", "scheduled",
    ]  # fmt: skip
    assert (found["id"], found["total"], found["running"], found["waiting"]) == ("k3f9x2", 100, 2, 55)
    assert (found["ended_at"], found["busy"], found["reason"]) == (None, 20.0, "why")
