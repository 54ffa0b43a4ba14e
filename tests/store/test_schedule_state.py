"""Schedules in Redis: whoever sees that one is due, however often, and whatever is lost, each time there is one run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nbqueue.payload.seal import Seal
from nbqueue.server import embedded
from nbqueue.store.keys import new_token
from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.running import Claimed, Later
from nbqueue.store.schedule_state import MOST_BATCHES, ScheduleState, pack_call
from nbqueue.store.store import Store

FUNCTION, OTHER = b"f" * 16, b"g" * 16
HERE = "here"


@pytest.fixture
def store(namespace: str) -> Iterator[Store]:
    store = Store(embedded.ensure().url, namespace)
    for name in ("ann", "bob"):
        store.call(running.register(name, {"queues": "default", "environment": HERE}))
    yield store
    store.close()


@pytest.fixture
def seal(namespace: str) -> Seal:
    return Seal(b"key", namespace)


def everything(store: Store) -> dict[bytes, Any]:
    """All that is stored but for tokens that wake workers."""
    found = {}
    for key in store.run("KEYS", store.key("*")):
        if store.run("TYPE", key) == b"hash":
            fields = store.run("HGETALL", key)
            found[key] = dict(zip(fields[::2], fields[1::2], strict=True))
        elif not key.endswith(b":wake"):
            found[key] = store.run("DUMP", key)
    return found


def twice(store: Store, request: Request[Any]) -> Any:
    """Send a request, and again as if its answer had been lost."""
    answer = store.call(request)
    before = everything(store)
    again = store.call(request)
    assert everything(store) == before, f"{request.script} acted twice"
    return answer, again


def save(
    store: Store, seal: Seal, name: str = "work", *, due: float = 1000.0, times: str = "every 600.0",
    function: bytes = FUNCTION, environment: str = HERE, lifetimes: str = "700000", **fields: Any,
) -> Request[submitting.Submitted]:  # fmt: skip
    given = {"record": pack_call(seal, "default", name, function, [b"entry"]), "weight": 1.0, "description": "{}"}
    return submitting.save_schedule(
        "default", name, new_token(), environment, due, times, {function: b"signed"},
        {**given, "lifetimes": lifetimes, **fields},
    )  # fmt: skip


def claim(store: Store, number: int, worker: str = "ann") -> Any:
    return store.call(running.claim(worker, number, HERE, ["default"], children=2, target=1.0))


def fire(state: ScheduleState, seal: Seal, next_due: float = 1e10) -> Request[running.Fired]:
    batch, index = state.place()
    record = state.sign(seal, batch, index)
    return running.fire(state, next_due=next_due, batch=batch, index=index, record=record)


def only(store: Store) -> ScheduleState:
    (state,) = store.call(looking.schedules())
    return state


def due_now(store: Store, name: str = "work", at: float = 1000.0) -> None:
    store.run("HSET", store.key(f"schedules:default:{name}"), "due", f"{at:.3f}")
    store.run("ZADD", store.key(f"queue:default:{HERE}:scheduled"), "XX", at, f"*{name}")


def finish(store: Store, claimed: Claimed, worker: str = "ann") -> None:
    answer = store.call(
        running.finish(worker, claimed.number, claimed.batch, (claimed.start, claimed.stop), 0.1,
                       [(str(claimed.start), b"outcome")])
    )  # fmt: skip
    assert answer == "ok"


def test_each_change_that_is_sent_twice_acts_once(store, seal):
    assert twice(store, save(store, seal))[0].answer == "ok"
    state = claim(store, 1)
    assert isinstance(state, ScheduleState)
    fired, again = twice(store, fire(state, seal))
    assert (fired.answer, again.answer) == ("ok", "ok")
    assert only(store).runs == 1
    assert twice(store, steering.pause_schedule("default", "work")) == (True, True)
    assert twice(store, steering.resume_schedule("default", "work", 5e9)) == (1, 0)
    assert twice(store, steering.remove_schedule("default", "work")) == (True, False)
    assert store.call(fire(state, seal)).answer == "gone"


def test_a_run_is_a_job_that_is_claimed_and_recorded_like_others(store, seal):
    store.call(save(store, seal))
    state = claim(store, 1)
    store.call(fire(state, seal))
    claimed = claim(store, 2)
    assert (claimed.start, claimed.stop, claimed.per_block) == (0, 1, 1)
    [(_, record)] = claimed.calls
    opened = seal.open(b"calls", claimed.batch, 0, record)
    assert opened.digests == [FUNCTION]
    assert bytes(opened.body).endswith(b"entry")
    assert only(store).is_busy and only(store).last_state == "started"
    finish(store, claimed)
    state = only(store)
    assert (state.is_busy, state.last_state, state.last) == (False, "finished", f"{claimed.batch}:0")
    assert isinstance(claim(store, 3), Later), "it is known when there will be something to do"


def test_all_who_saw_that_it_is_due_start_one_run(store, seal):
    store.call(save(store, seal))
    state = claim(store, 1)
    requests = [fire(state, seal) for _ in range(8)]
    answers = [store.call(request).answer for request in requests]
    assert answers == ["ok"] + ["done"] * 7
    assert len(store.batches(100)) == 1
    assert store.batches(100)[0].total == 1


def test_many_at_the_same_time_start_each_run_once(store, seal, namespace):
    store.call(save(store, seal, lifetimes="-1"))
    counts = []

    def work(name: str) -> None:
        own = Store(embedded.ensure().url, namespace)
        fired = 0
        while True:
            (state,) = own.call(looking.schedules())
            if state.runs >= 100:
                break
            fired += own.call(fire(state, seal, next_due=state.runs + 2.0)).answer == "ok"
        counts.append(fired)
        own.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 100 == only(store).runs
    (batch,) = store.batches(100)
    assert batch.total == 100 == batch.queued
    assert store.queued(batch.id) == [(n, n + 1) for n in range(100)]


def test_one_worker_at_a_time_is_told_that_it_is_due_and_another_one_if_that_dies(store, seal):
    store.call(save(store, seal))
    assert isinstance(claim(store, 1), ScheduleState)
    later = claim(store, 1, "bob")
    assert isinstance(later, Later)
    assert 4 < later.seconds <= 5.001
    assert claim(store, 2) == later or isinstance(claim(store, 3), Later)
    store.run("ZADD", store.key(f"queue:default:{HERE}:scheduled"), "XX", 1, "*work")  # five seconds later
    state = claim(store, 2, "bob")
    assert isinstance(state, ScheduleState)
    assert state.due == "1000.000", "when it was due"


def test_a_schedule_that_is_due_holds_up_no_jobs_and_no_other_schedule(store, seal):
    for name in ("one", "two"):
        store.call(save(store, seal, name))
    opening = submitting.Opening("b1", "t", "default", HERE, 1, "{}")
    store.call(submitting.submit(opening, 0, 1, {FUNCTION: b"signed"}, [("b0", b"x")], is_last=True, due="1000"))
    found = [claim(store, number) for number in (1, 2, 3)]
    assert {state.name for state in found[:2]} == {"one", "two"}
    assert found[2].batch == "b1"


def test_who_read_it_before_it_was_changed_does_nothing(store, seal):
    store.call(save(store, seal))
    state = claim(store, 1)
    store.call(save(store, seal, function=OTHER))
    assert store.call(fire(state, seal)).answer == "done"
    state = claim(store, 2)
    store.call(steering.pause_schedule("default", "work"))
    assert store.call(fire(state, seal)).answer == "done"
    assert store.batches(10) == []
    assert claim(store, 3) is None, "nothing waits for its time"
    store.call(steering.resume_schedule("default", "work", 2000.0))
    assert isinstance(claim(store, 4), ScheduleState)


def test_a_batch_that_is_not_as_it_was_read_is_read_once_more(store, seal):
    store.call(save(store, seal))
    opening = submitting.Opening("taken", "another", "default", HERE, 1, "{}")
    store.call(submitting.submit(opening, 0, 1, {FUNCTION: b"signed"}, [("b0", b"x")], is_last=True, due="1e10"))
    state = claim(store, 1)

    def into(batch: str, index: int) -> str:
        record = state.sign(seal, batch, index)
        request = running.fire(state, next_due=1e10, batch=batch, index=index, record=record)
        return twice(store, request)[0].answer

    assert into("taken", 0) == "again", "somebody else has made it"
    assert into("taken", 1) == "again"
    assert into("nothing", 3) == "again", "it has expired"
    assert isinstance(claim(store, 2), ScheduleState), "it is due at once"
    assert into("free", 0) == "ok"
    assert only(store).runs == 1


def test_one_that_is_passed_over_is_counted_and_makes_no_job(store, seal):
    store.call(save(store, seal))
    state = claim(store, 1)
    fired, again = twice(store, running.fire(state, next_due=5e9, skipped=3))
    assert (fired.answer, again.answer) == ("ok", "ok")
    state = only(store)
    assert (state.runs, state.skipped, state.due) == (0, 3, "5000000000.000")
    assert state.skipped_at is not None
    assert store.batches(10) == []


def test_a_run_out_of_turn_leaves_alone_when_it_is_due(store, seal):
    store.call(save(store, seal, due=5e9))
    state = only(store)
    batch, index = state.place()
    request = running.fire(state, in_turn=False, batch=batch, index=index, record=state.sign(seal, batch, index))
    assert [one.answer for one in twice(store, request)] == ["ok", "ok"]
    assert (only(store).due, only(store).runs) == ("5000000000.000", 1)


def test_after_a_run_out_of_turn_it_is_still_due(store, seal):
    store.call(save(store, seal))
    state = claim(store, 1)
    batch, index = state.place()
    request = running.fire(state, in_turn=False, batch=batch, index=index, record=state.sign(seal, batch, index))
    assert store.call(request).answer == "ok"
    assert store.call(fire(state, seal)).answer == "again", "it has one run more, which may go on"
    state = claim(store, 2)
    assert isinstance(state, ScheduleState), "at once"
    assert (state.runs, state.is_busy) == (1, True)


def test_replacing_it_keeps_what_it_has_done_and_its_time_if_that_is_the_same(store, seal):
    store.call(save(store, seal, overlaps=1, at_front=1))
    store.call(fire(claim(store, 1), seal, next_due=5e9))
    assert store.call(save(store, seal, due=7000.0, function=OTHER)).detail == "every 600.0"
    state = only(store)
    assert (state.runs, state.due, state.overlaps, len(state.batches)) == (1, "5000000000.000", False, 1)
    assert state.is_closed and state.place()[1] == 0, "what runs next has a batch of its own"
    store.call(save(store, seal, due=7000.0, times="every 60.0"))
    assert only(store).due == "7000.000"
    store.call(save(store, seal, due=8000.0, environment="there"))
    assert store.run("EXISTS", store.key(f"queue:default:{HERE}:scheduled")) == 0
    assert only(store).environment == "there"


def test_a_function_is_asked_for_where_it_is_not_stored(store, seal):
    request = submitting.save_schedule("default", "work", "t", HERE, 1.0, "every 1.0", {FUNCTION: b""}, {})
    answer = store.call(request)
    assert (answer.answer, answer.detail) == ("code", FUNCTION.hex())
    assert store.call(looking.schedules()) == []


def test_functions_stay_until_nobody_needs_them(store, seal):
    def ttl(function: bytes) -> int:
        return int(store.run("TTL", store.key(f"code:{function.hex()}")))

    store.call(save(store, seal))
    store.call(fire(claim(store, 1), seal))
    claimed = claim(store, 2)
    finish(store, claimed)
    assert ttl(FUNCTION) == -1, "the schedule needs it, and the batch has ended"
    store.call(save(store, seal, function=OTHER))
    assert 0 < ttl(FUNCTION) <= 700_000, "what has run may run again"
    assert ttl(OTHER) == -1
    store.call(steering.remove_schedule("default", "work"))
    assert ttl(OTHER) == -2
    store.call(steering.delete(claimed.batch))


def test_batches_that_are_too_many_are_named_until_they_are_deleted(store, seal):
    store.call(save(store, seal, lifetimes="-1"))
    ids = []
    for n in range(MOST_BATCHES + 2):
        state = only(store)
        ids.append(f"b{n}")
        record = state.sign(seal, ids[-1], 0)
        fired = store.call(running.fire(state, next_due=n + 2.0, batch=ids[-1], index=0, record=record))
        assert fired.outdated == ids[: max(0, n + 1 - MOST_BATCHES)][::-1], "nobody has deleted them"
    store.call(steering.delete(ids[0]))
    store.call(steering.delete(ids[1]))
    state = only(store)
    fired = store.call(running.fire(state, next_due=99.0, batch="new", index=0, record=state.sign(seal, "new", 0)))
    assert fired.outdated == ids[2:3]
    assert only(store).batches == ["new", *reversed(ids[2:])]


def test_its_call_is_signed_for_it_alone(store, seal):
    store.call(save(store, seal))
    state = only(store)
    for other in (replace(state, name="another"), replace(state, queue="another")):
        with pytest.raises(Exception, match="the signature does not hold"):
            other.sign(seal, "b1", 0)
    with pytest.raises(Exception, match="the signature does not hold"):
        state.sign(Seal(b"another key", store.namespace), "b1", 0)


def test_where_there_is_no_schedule_a_claim_asks_for_nothing_more(store, seal):
    """By what the server counts: as many commands as it takes to see that no batch waits for its time."""

    def commands(number: int) -> int:
        store.run("CONFIG", "RESETSTAT")
        claim(store, number)
        text = store.run("INFO", "commandstats")
        names = [line.split(":") for line in text.decode().splitlines() if line.startswith("cmdstat_")]
        counted = {name: int(fields.split(",")[0].partition("=")[2]) for name, fields in names}
        return sum(n for name, n in counted.items() if not name.startswith(("cmdstat_config", "cmdstat_info")))

    idle = commands(1)
    store.call(save(store, seal, due=5e9))
    assert commands(2) == idle, "a schedule that is not due costs nothing, too"
