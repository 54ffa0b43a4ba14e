"""Jobs that wait for others, with everything that can happen to either, against what is known of them: each job is in
one place, none starts before what it waits for has ended, none is forgotten, and none fails without a reason.

NBQUEUE_TEST_RANDOM=1 takes new examples each time, a larger number as many of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from nbqueue.server import embedded
from nbqueue.store.keys import new_token
from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.running import Again, Claimed, FailureNote
from nbqueue.store.requests.submitting import Deferred, DependsOn, Opening
from nbqueue.store.store import Store

_RANDOM = int(os.environ.get("NBQUEUE_TEST_RANDOM", "0"))
SETTINGS = settings(
    max_examples=_RANDOM if _RANDOM > 1 else 60,
    stateful_step_count=40,
    deadline=None,
    derandomize=not _RANDOM,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

PLACES = st.integers(0, 30)
WORKERS = "ann", "bob"
STATES = "queued", "started", "deferred", "scheduled", "failed", "canceled"
ENDED = "finished", "failed", "canceled"


@dataclass
class BatchModel:
    """A batch, and what its jobs wait for."""

    opening: Opening
    total: int
    waits: dict[int, list[DependsOn]] = field(default_factory=dict)
    follows: str = ""
    was_canceled: bool = False
    passed: set[int] = field(default_factory=set)
    """Jobs that were canceled so that those who wait for them go on."""

    @property
    def id(self) -> str:
        return self.opening.batch

    def needs(self, index: int) -> list[DependsOn]:
        return [DependsOn(self.follows, index)] if self.follows else self.waits.get(index, [])


@dataclass
class Lease:
    worker: str
    number: int
    batch: str
    start: int
    stop: int
    attempts: dict[int, int]


class DependencyMachine(RuleBasedStateMachine):
    """Clients and workers that do what they like with jobs that wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(embedded.ensure().url, f"d{os.getpid()}-{new_token()}")
        self.batches: dict[str, BatchModel] = {}
        self.deleted: set[str] = set()
        self.leases: list[Lease] = []
        self.numbers = dict.fromkeys((*WORKERS, "drain"), 0)
        self.submitted = 0
        self.met: set[tuple[str, int, DependsOn]] = set()
        """What was waited for, and had ended as it should."""
        self.freed: set[tuple[str, int]] = set()
        self.states: dict[str, dict[int, str]] = {}

    def teardown(self) -> None:
        for key in self.store.run("KEYS", self.store.key("*")):
            self.store.run("DEL", key)
        self.store.close()

    def call(self, request: Request[Any]) -> Any:
        """Send a request, and again as if its answer had been lost."""
        answer = self.store.call(request)
        before = self.look()
        self.store.call(request)
        assert self.look() == before, f"{request.script} acted twice"
        self.states = before
        self.notice_what_was_met()
        return answer

    def look(self) -> dict[str, dict[int, str]]:
        """The state of each job. It is in one place, and counted there."""
        found = {}
        for batch in self.batches.values():
            places = self.store.call(looking.places(batch.id, *STATES))
            states: dict[int, str] = {}
            for state, runs in places.runs.items():
                for start, stop in runs:
                    for index in range(start, stop):
                        assert index not in states, f"{batch.id}:{index} is {states[index]} and {state}"
                        states[index] = state
            for index in range(batch.total):
                states.setdefault(index, "finished")
            counted = self.store.batch(batch.id)
            assert counted is not None
            for state in (*STATES, "finished"):
                n = sum(1 for one in states.values() if one == state)
                assert getattr(counted, state) == n, f"{batch.id}: {state} is {getattr(counted, state)}, not {n}"
            has_ended = all(state in ENDED for state in states.values())
            assert (counted.ended_at is not None) == has_ended, f"{batch.id} has ended, or has not"
            found[batch.id] = states
        return found

    def has_ended(self, on: DependsOn) -> str:
        """'ok', 'failed' or '' of what is waited for."""
        if on.batch in self.deleted:
            return "failed"
        states = self.states[on.batch]
        mine = list(states.values()) if on.index is None else [states[on.index]]
        if not all(state in ENDED for state in mine):
            return ""
        return "ok" if all(state == "finished" for state in mine) else "failed"

    def notice_what_was_met(self) -> None:
        for batch in self.batches.values():
            for index in range(batch.total):
                # What has failed because of a batch that is gone may be run again without all that it waited for.
                is_without = any(on.batch in self.deleted for on in batch.needs(index))
                if is_without and self.states[batch.id][index] == "failed":
                    self.freed.add((batch.id, index))
                for on in batch.needs(index):
                    ended = self.has_ended(on)
                    known = self.batches.get(on.batch)
                    is_passed = known is not None and on.index in known.passed
                    if ended == "ok" or (ended and (on.may_fail or is_passed)) or (batch.id, index) in self.freed:
                        self.met.add((batch.id, index, on))
        for batch in self.batches.values():  # those hold who waited then
            batch.passed -= {index for index in batch.passed if self.states[batch.id][index] in ENDED}

    def pick(self, place: int) -> BatchModel:
        return list(self.batches.values())[place % len(self.batches)]

    # Rules

    @initialize()
    def begin(self) -> None:
        for worker in self.numbers:
            self.store.call(running.register(worker, {"queues": "first", "children": 2}))
        self.submit(3, [], is_spread=False)

    @precondition(lambda self: len(self.batches) < 8)
    @rule(
        total=st.integers(1, 6),
        on=st.lists(st.tuples(PLACES, st.integers(-2, 6), st.booleans()), max_size=3),
        is_spread=st.booleans(),
    )
    def submit(self, total: int, on: list[tuple[int, int, bool]], is_spread: bool) -> None:
        """`is_spread`: each job but the first waits by itself; else all wait together."""
        self.submitted += 1
        batch = BatchModel(Opening(f"b{self.submitted}", "mine", "first", "here", 1, "{}"), total)
        waits: dict[tuple[str, int | None], DependsOn] = {}
        for place, index, may_fail in on:
            upstream = self.pick(place)
            target = None if index < 0 else index % upstream.total
            waits[upstream.id, target] = DependsOn(upstream.id, target, may_fail)
        groups = []
        if waits:
            deps = tuple(waits.values())
            if is_spread:
                groups = [Deferred(index, index + 1, deps[: index or 1]) for index in range(1, total)]
            else:
                groups = [Deferred(0, total, deps)]
        for group in groups:
            for index in range(group.start, group.stop):
                batch.waits[index] = list(group.on)
        fields = [(f"b{index}", b"call") for index in range(total)]
        self.send(batch, submitting.submit(batch.opening, 0, total, {}, fields, is_last=True, deferred=groups))

    def send(self, batch: BatchModel, request: Request[submitting.Submitted]) -> None:
        self.batches[batch.id] = batch
        answer = self.call(request)
        assert answer.answer == "ok"

    @precondition(lambda self: len(self.batches) < 8 and self.batches)
    @rule(place=PLACES)
    def follow(self, place: int) -> None:
        upstream = self.pick(place)
        self.submitted += 1
        opening = Opening(f"b{self.submitted}", "mine", "first", "here", 1, "{}")
        batch = BatchModel(opening, upstream.total, follows=upstream.id)
        fields = [(f"b{index}", b"call") for index in range(upstream.total)]
        self.send(
            batch,
            submitting.submit(opening, 0, upstream.total, {}, fields, is_last=True, follows=upstream.id),
        )

    @rule(worker=st.sampled_from(WORKERS), runs=st.integers(1, 3))
    def claim(self, worker: str, runs: int) -> None:
        for _ in range(runs):
            self.numbers[worker] += 1
            number = self.numbers[worker]
            claimed = self.call(running.claim(worker, number, "here", ["first"], children=2, target=0.01))
            if not isinstance(claimed, Claimed):
                return
            batch = self.batches[claimed.batch]
            for index in range(claimed.start, claimed.stop):
                early = [on for on in batch.needs(index) if (batch.id, index, on) not in self.met]
                assert not early, f"{batch.id}:{index} starts, and waits for {early}"
            self.leases.append(
                Lease(worker, number, claimed.batch, claimed.start, claimed.stop, claimed.attempts)
            )  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, ends=st.lists(st.sampled_from(["ok", "ok", "ok", "fail", "again"]), min_size=6, max_size=6))
    def finish(self, place: int, ends: list[str]) -> None:
        lease = self.leases.pop(place % len(self.leases))
        run = range(lease.start, lease.stop)
        how = {index: ends[position % len(ends)] for position, index in enumerate(run)}
        records = [(str(index), b"record") for index in run if how[index] != "again"]
        notes = [
            FailureNote(index, f"d{index}", '{"type": "E", "message": "m"}') for index in run if how[index] == "fail"
        ]
        again = [Again(index, lease.attempts.get(index, 0) + 1, 0.0, b"x") for index in run if how[index] == "again"]
        self.call(running.finish(
            lease.worker, lease.number, lease.batch, (lease.start, lease.stop), 0.001, records, notes, again
        ))  # fmt: skip

    @precondition(lambda self: self.leases)
    @rule(place=PLACES)
    def give_back(self, place: int) -> None:
        lease = self.leases.pop(place % len(self.leases))
        self.call(running.release(lease.worker, lease.number, (lease.start, lease.stop)))

    @rule(worker=st.sampled_from(WORKERS), death=st.sampled_from(["", "killed"]))
    def reap(self, worker: str, death: str) -> None:
        self.call(running.reap(worker, None, death))
        self.leases = [lease for lease in self.leases if lease.worker != worker]
        self.store.call(running.register(worker, {"queues": "first", "children": 2}))
        self.numbers[worker] = 0

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, job=PLACES, passes=st.booleans())
    def cancel_job(self, place: int, job: int, passes: bool) -> None:
        batch = self.pick(place)
        index = job % batch.total
        was = self.states[batch.id][index]
        if was not in ENDED:
            (batch.passed.add if passes else batch.passed.discard)(index)
        answer = self.call(steering.cancel_job(batch.id, index, enqueue_dependents=passes))
        assert answer == ("ended" if was in ENDED else "canceling" if was == "started" else "canceled")

    @precondition(lambda self: self.batches)
    @rule(place=PLACES)
    def cancel(self, place: int) -> None:
        batch = self.pick(place)
        batch.was_canceled = True
        batch.passed = {index for index in batch.passed if self.states[batch.id][index] == "started"}
        self.call(steering.cancel(batch.id, "it was canceled"))

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, job=PLACES, one=st.booleans())
    def retry(self, place: int, job: int, one: bool) -> None:
        batch = self.pick(place)
        index = job % batch.total if one else None
        self.call(steering.retry(batch.id, new_token(), index))

    @precondition(lambda self: len(self.batches) > 1)
    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        batch = self.pick(place)
        del self.batches[batch.id]
        self.deleted.add(batch.id)
        self.leases = [lease for lease in self.leases if lease.batch != batch.id]
        self.call(steering.delete(batch.id))

    @precondition(lambda self: not self.store.run("EXISTS", self.store.key("settled")) or self.drain())
    @invariant()
    def nobody_is_forgotten(self) -> None:
        self.states = self.look()
        self.notice_what_was_met()
        for batch in self.batches.values():
            broken = {int(index) for index in self.store.run("HKEYS", self.store.key(f"batch:{batch.id}:broken"))}
            for index, state in self.states[batch.id].items():
                needs = batch.needs(index)
                unmet = [on for on in needs if (batch.id, index, on) not in self.met]
                bad = [on for on in unmet if self.has_ended(on) == "failed"]
                where = f"{batch.id}:{index} is {state}"
                if state == "deferred":
                    assert unmet, f"{where}, and all that it waits for has ended"
                    assert not bad, f"{where}, and {bad} has failed"
                elif index in broken:
                    is_known = not batch.was_canceled and (batch.id, index) not in self.freed
                    assert bad or not is_known, f"{where} because of another one, and none of {needs} has failed"
                elif state != "canceled":
                    assert not unmet, f"{where}, and waits for {unmet}"

    def drain(self) -> bool:
        """Have a worker of another queue do what is left of the work list."""
        for _ in range(10):
            self.numbers["drain"] += 1
            request = running.claim("drain", self.numbers["drain"], "here", ["none"], children=1, target=1.0)
            assert not isinstance(self.store.call(request), Claimed)
            if not self.store.run("EXISTS", self.store.key("settled")):
                return True
        raise AssertionError("the work list does not come to an end")


def test_none_starts_early_none_is_forgotten_and_each_is_in_one_place(home: Any) -> None:
    run_machine(DependencyMachine, settings=SETTINGS)
