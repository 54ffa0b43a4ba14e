"""Many changes of state in many orders, against a plain model of them, on the real server.

NBQUEUE_TEST_RANDOM=1 takes new examples each time, a larger number as many of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nbqueue.server import embedded
from nbqueue.store import keys
from nbqueue.store.keys import new_token
from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.running import (
    GONE,
    USED,
    Again,
    CancelBatch,
    CancelJob,
    Claimed,
    Entry,
    FailureNote,
    Later,
    Order,
    Stop,
    UnknownOrder,
)
from nbqueue.store.requests.steering import Retried
from nbqueue.store.requests.submitting import Opening
from nbqueue.store.store import Store
from nbqueue.worker.stopping import Cancels

_RANDOM = int(os.environ.get("NBQUEUE_TEST_RANDOM", "0"))
SETTINGS = settings(
    max_examples=_RANDOM if _RANDOM > 1 else 250,
    stateful_step_count=40,
    deadline=None,
    derandomize=not _RANDOM,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

DUMP = """
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  string = function(key) return redis.call('GET', key) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  found[#found + 1] = { string.sub(key, #ARGV[1]), kind, read[kind](key), redis.call('TTL', key) }
end
return found
"""

QUEUES = ("first", "second")
ENVIRONMENT = "here"
FUNCTIONS = {hashlib.sha256(name).digest(): b"signed " + name for name in (b"score", b"render")}
MOST_ENTRIES = 6
WAITING, LEASED, FINISHED, FAILED, CANCELED = "waiting", "leased", "finished", "failed", "canceled"
SCHEDULED = "scheduled"
COUNTED = {
    "queued": WAITING, "started": LEASED, "deferred": "", "scheduled": SCHEDULED,
    "finished": FINISHED, "failed": FAILED, "canceled": CANCELED,
}  # fmt: skip
"""What Redis counts, and what the model calls it."""
PLACES = st.integers(0, 30)
LATER = ("+1000", "9999999999")
DUE = st.sampled_from(["", "", "+0", "1000", *LATER])
"""When jobs that are submitted are due."""
LIFETIMES = st.sampled_from([(5000, None), (5000, None), (5000, -1), (-1, 5000), (-1, None), (5000, None, 5000.0)])
"""How long batches are kept that have finished, and that have not; and how long their jobs wait."""
CALLS_BACK = '"on_failure"'
DEATHS = st.sampled_from(["", "segmentation fault"])


@dataclass
class Lease:
    """A worker's hold on a run, as the model knows it."""

    worker: str
    number: int
    batch: str
    start: int
    stop: int
    kind: str
    is_counted: bool
    """Outcomes are written job by job."""


@dataclass
class BatchModel:
    """What is known of a batch without looking into Redis."""

    opening: Opening
    functions: set[bytes] = field(default_factory=set)
    is_submitting: bool = False
    is_open: bool = False
    """Single calls may follow: when all jobs have ended, its lifetime has not begun."""
    is_paused: bool = False
    is_canceled: bool = False
    states: list[str] = field(default_factory=list)
    attempts: Counter[int] = field(default_factory=Counter)
    deaths: Counter[int] = field(default_factory=Counter)
    cancels: set[int] = field(default_factory=set)
    kinds: dict[int, str] = field(default_factory=dict)
    """Of what waits and is suspect: 's', or 'x' where it must be alone."""
    outcomes: dict[str, bytes] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    due: set[int] = field(default_factory=set)
    """Of what is scheduled, what may be queued now."""
    tries: dict[str, bytes] = field(default_factory=dict)
    patience: set[int] = field(default_factory=set)
    """Those that are given up if they still wait when their time is up."""
    overdue: set[int] = field(default_factory=set)
    """Those of them whose time is up."""
    decided: dict[int, bytes] = field(default_factory=dict)
    """How those end that wait until their callback has been called; a '!' stands for words."""
    functions_given: list[bytes] = field(default_factory=list)
    """Records of functions with which jobs run again."""
    mended: dict[int, int] = field(default_factory=dict)
    """Which of these a job runs with, from 1."""
    busy: int = 0
    output: list[Entry] = field(default_factory=list)
    last: tuple[int, int, bool] | None = None
    """The submission that was sent last: first, count, is_last."""

    @property
    def id(self) -> str:
        return self.opening.batch

    @property
    def total(self) -> int:
        return len(self.states)

    def of(self, state: str) -> list[int]:
        return [index for index, now in enumerate(self.states) if now == state]

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(self.of(state)) if state else 0 for name, state in COUNTED.items()}

    @property
    def has_ended(self) -> bool:
        return not self.is_submitting and not self.of(WAITING) and not self.of(LEASED) and not self.of(SCHEDULED)

    @property
    def expires(self) -> bool:
        """It has ended, gets no further calls, and is not kept for ever."""
        opening = self.opening
        has_failed = bool(self.of(FAILED) or self.of(CANCELED))
        ttl = opening.failure_ttl if has_failed and opening.failure_ttl is not None else opening.result_ttl
        return self.has_ended and not self.is_open and ttl >= 0

    def call_fields(self, first: int, count: int) -> list[tuple[str, bytes]]:
        """Whole blocks as blocks, other jobs one by one."""
        per_block, found, index = self.opening.per_block, [], first
        while index < first + count:
            if index % per_block == 0 and index + per_block <= first + count:
                block = index // per_block
                found.append((f"b{block}", b"calls %d" % block))
                index += per_block
            else:
                found.append((str(index), b"call %d" % index))
                index += 1
        return found

    def cancel_waiting(self, *, only_queued: bool = False) -> int:
        waiting = self.of(WAITING) + ([] if only_queued else self.of(SCHEDULED))
        self.due -= set(waiting)
        for index in waiting:
            self.states[index] = CANCELED
            self.kinds[index] = ""
            self.decided.pop(index, None)
        return len(waiting)

    def give_back(self, start: int, stop: int, kind: str) -> None:
        for index in range(start, stop):
            is_canceled = self.is_canceled or index in self.cancels
            self.states[index] = CANCELED if is_canceled else WAITING
            self.kinds[index] = "" if is_canceled else kind
            self.cancels.discard(index)
            if is_canceled:
                self.decided.pop(index, None)

    def die(self, index: int) -> None:
        self.deaths[index] += 1
        self.attempts[index] += 1
        if self.deaths[index] < 3:
            self.give_back(index, index + 1, "x" if self.deaths[index] == 2 else "s")
            return
        del self.deaths[index]
        if CALLS_BACK in self.opening.description and index not in self.decided:
            self.decided[index] = b"!"
            self.give_back(index, index + 1, "s")
            return
        self.decided.pop(index, None)
        self.states[index] = FAILED
        self.outcomes[str(index)] = b"!"
        self.digests[index] = ""
        self.cancels.discard(index)

    def settle(self) -> None:
        if self.has_ended:
            self.cancels.clear()
            self.deaths.clear()
            self.patience.clear()
            self.overdue.clear()


class StoreMachine(RuleBasedStateMachine):
    """Clients, workers and sweepers that do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(embedded.ensure().url, f"p{os.getpid()}-{new_token()}")
        self.batches: dict[str, BatchModel] = {}
        self.deleted: dict[str, BatchModel] = {}
        self.leases: list[Lease] = []
        self.former: list[Lease] = []
        self.numbers: dict[str, int] = {}
        """Of the last lease that each worker has heard of."""
        self.parked: dict[str, tuple[int, tuple[str, ...]]] = {}
        """For which lease, and queues, a worker is parked."""
        self.unheard: dict[str, int] = {}
        """The lease that a worker was handed, and has not heard of."""
        self.registered: set[str] = set()
        self.paused_queues: set[str] = set()
        self.orders: dict[str, list[Order]] = {}
        self.acknowledged: Counter[str] = Counter()
        self.submitted = 0
        self.outcome_count = 0
        self.output_counts: Counter[str] = Counter()
        self.bulk_from = 1 << 16
        self.stored: dict[str, tuple[Any, int]] = {}

    def teardown(self) -> None:
        for key in self.store.run("KEYS", self.store.key("*")):
            self.store.run("DEL", key)
        self.store.close()

    def twice(self, request: Request[Any]) -> tuple[Any, Any]:
        """Send a request, and again as if its answer had been lost."""
        answer = self.store.call(request)
        before = self.snapshot()
        again = self.store.call(request)
        assert self.snapshot() == before, f"{request.script} acted twice"
        return answer, again

    def read(self) -> dict[str, tuple[Any, int]]:
        """All that is stored, and how long it still lives."""
        found: dict[str, tuple[Any, int]] = {}
        for key, kind, value, ttl in self.store.run("EVAL", DUMP, 0, self.store.key("*")):
            if kind in (b"hash", b"zset"):
                value = {name.decode(): text for name, text in zip(value[::2], value[1::2], strict=True)}
            elif kind in (b"list", b"set"):
                value = [text.decode() for text in value]
            found[key.decode()] = (value, ttl)
        return found

    def snapshot(self) -> dict[str, Any]:
        """What is stored; not the tokens that wake workers, nor the numbers that say that somebody is alive."""
        return {
            key: (sorted(value) if key.endswith((":batches", ":cancels")) else value, ttl > 0)
            for key, (value, ttl) in self.read().items()
            if key not in ("workers", "submitting") and not key.endswith((":wake", ":suspects:worker"))
        }

    def pick(self, place: int) -> BatchModel:
        return list(self.batches.values())[place % len(self.batches)]

    # Rules: submitting

    @initialize(
        workers=st.integers(1, 3),
        counts=st.lists(st.integers(1, 24), max_size=2),
        per_block=st.sampled_from([1, 4]),
        bulk_from=st.sampled_from([1 << 16, 7, 1]),
        prints=st.booleans(),
    )
    def begin(self, workers: int, counts: list[int], per_block: int, bulk_from: int, prints: bool) -> None:
        self.bulk_from = bulk_from  # some of the records, or all, are not touched by scripts
        for name in ("ann", "bob", "cid")[:workers]:
            self.numbers[name] = 0
            self.register_one(name)
        for count in counts:
            self.submit(QUEUES[0], per_block, 1.0, count, True, False, min(FUNCTIONS), False, "")
            # How long its jobs take is known then, and more than one is claimed at once.
            self.claim("ann", 0.005, True)
            self.finish_all(set(), prints)

    def register_one(self, name: str) -> None:
        about = {"queues": " ".join(QUEUES), "environment": ENVIRONMENT, "children": 2}
        assert self.twice(running.register(name, about)) == (1, 1)
        self.registered.add(name)
        self.orders[name] = []

    @precondition(lambda self: len(self.batches) < 5)
    @rule(
        queue=st.sampled_from(QUEUES),
        per_block=st.sampled_from([1, 4]),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        count=st.integers(0, 24),
        is_last=st.booleans(),
        at_front=st.booleans(),
        function=st.sampled_from(sorted(FUNCTIONS)),
        known=st.booleans(),
        due=DUE,
        lifetimes=LIFETIMES,
        open_for=st.sampled_from([0, 0, 60]),
    )
    def submit(
        self,
        queue: str,
        per_block: int,
        weight: float,
        count: int,
        is_last: bool,
        at_front: bool,
        function: bytes,
        known: bool,
        due: str,
        lifetimes: tuple[int, int | None] | tuple[int, int | None, float] = (5000, None),
        open_for: int = 0,
    ) -> None:
        # The ids are the same each time: batches with the same tag are taken in the order of their ids.
        self.submitted += 1
        description = f'{{"callbacks": {{{CALLS_BACK}: ["ab", 60]}}}}' if weight > 1 else "{}"
        opening = Opening(f"b{self.submitted}", "mine", queue, ENVIRONMENT, per_block, description, weight, *lifetimes)
        batch = BatchModel(opening, is_submitting=not is_last, is_open=is_last and open_for > 0)
        self.batches[batch.id] = batch
        self.send_piece(batch, count, is_last, at_front, function, known, due, open_for)

    @precondition(lambda self: self.batches)
    @rule(
        place=PLACES,
        count=st.integers(0, 12),
        is_last=st.booleans(),
        at_front=st.booleans(),
        function=st.sampled_from(sorted(FUNCTIONS)),
        known=st.booleans(),
        due=DUE,
    )
    def submit_more(
        self, place: int, count: int, is_last: bool, at_front: bool, function: bytes, known: bool, due: str
    ) -> None:
        batch = self.pick(place)
        # What is not being submitted (any more) is a client's open batch: each submission is the last one.
        self.send_piece(batch, count, is_last or not batch.is_submitting, at_front, function, known, due)

    def send_piece(
        self,
        batch: BatchModel,
        count: int,
        is_last: bool,
        at_front: bool,
        function: bytes,
        known: bool,
        due: str,
        open_for: int = 0,
    ) -> None:
        first = batch.total
        fields = batch.call_fields(first, count)

        def request(record: bytes) -> Request[submitting.Submitted]:
            return submitting.submit(
                batch.opening, first, count, {function: record}, fields,
                is_last=is_last, open_for=open_for if is_last else 0, at_front=at_front, due=due,
                bulk_from=self.bulk_from,
            )  # fmt: skip

        if known:
            answer = self.store.call(request(b""))
            if answer.answer == "code":
                assert answer.detail == function.hex()
                assert not self.store.run("EXISTS", self.store.key(f"code:{function.hex()}"))
                answer = self.store.call(request(FUNCTIONS[function]))
        else:
            answer = self.store.call(request(FUNCTIONS[function]))
        before = self.snapshot()
        assert self.store.call(request(FUNCTIONS[function])) == answer
        assert self.snapshot() == before
        if batch.is_canceled:
            assert answer.answer == "canceled"
            return
        assert (answer.answer, answer.detail) == ("ok", str(first + count))
        if count or (is_last and batch.is_submitting) or batch.last is None:
            batch.functions.add(function)
        batch.last = (first, count, is_last)
        if batch.opening.ttl is not None:
            batch.patience |= {*range(batch.total, batch.total + count)}
        batch.states += [SCHEDULED if due in LATER else WAITING] * count
        if is_last:
            batch.is_submitting = False

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, function=st.sampled_from(sorted(FUNCTIONS)))
    def append(self, place: int, function: bytes) -> None:
        batch = self.pick(place)
        if batch.is_submitting or batch.opening.per_block > 1:
            return
        index = batch.total
        [(_, record)] = batch.call_fields(index, 1)
        may, must = self.may_be_handed(batch)
        accepted, again = self.twice(submitting.append(batch.id, batch.opening.token, index, function, record))
        assert accepted == again == (not batch.is_canceled and function in batch.functions)
        assert not self.store.call(submitting.append(batch.id, "another", index, function, record))
        assert not self.store.call(submitting.append(batch.id, batch.opening.token, index + 7, function, record))
        if accepted:
            batch.last = (index, 1, True)
            batch.states.append(WAITING)
            self.stored = self.read()
            handed = [(name, number) for worker in self.numbers for name, number, *what in self.stored_leases(worker)
                      if what == [batch.id, index, index + 1, ""]]  # fmt: skip
            assert must <= len(handed) <= 1
            for worker, number in handed:
                assert may
                assert self.parked.pop(worker) == (number, may[worker])
                batch.states[index] = LEASED
                self.unheard[worker] = number
                self.leases.append(Lease(worker, number, batch.id, index, index + 1, "", bool(+batch.attempts)))

    @precondition(lambda self: self.appendable())
    @rule(
        worker=st.sampled_from(["ann", "bob", "cid"]),
        place=PLACES,
        jobs=st.integers(1, 3),
        meanwhile=st.sampled_from(["", "", "paused", "submitted", "died"]),
    )
    def idle_then_append(self, worker: str, place: int, jobs: int, meanwhile: str) -> None:
        """A worker comes to the end of what there is to do, then single jobs are submitted."""
        for _ in range(6):
            if worker not in self.parked:
                self.claim(worker, 1.0, True, parks=True)
        queue = self.appendable()[place % len(self.appendable())].opening.queue
        if meanwhile == "submitted":
            self.submit(queue, 1, 1.0, 1, True, False, min(FUNCTIONS), False, "")
        if (meanwhile == "paused") != (queue in self.paused_queues):
            self.pause_or_resume_queue(queue)
        for job in range(jobs):
            found = self.appendable()
            batch = found[(place + job) % len(found)]
            self.append(list(self.batches).index(batch.id), min(batch.functions))
        if meanwhile == "died" and worker in self.registered:
            self.reap(sorted(self.registered).index(worker), "segmentation fault")

    def appendable(self) -> list[BatchModel]:
        return [
            batch
            for batch in self.batches.values()
            if batch.functions and not batch.is_submitting and batch.opening.per_block == 1
        ]

    def may_be_handed(self, batch: BatchModel) -> tuple[dict[str, tuple[str, ...]], bool]:
        """Who may get a job that is appended now, with their queues; and whether one of them has to."""
        queue = batch.opening.queue
        others = [other for other in self.batches.values() if other.opening.queue == queue]
        waits = any(other.of(WAITING) and not other.is_paused for other in others)
        if batch.is_paused or queue in self.paused_queues or waits:
            return {}, False
        parked = {worker: queues for worker, (_, queues) in self.parked.items() if queue in queues}
        is_simple = not any(other.of(WAITING) or other.patience for other in others)
        return parked, bool(parked) and is_simple and not batch.is_canceled

    @precondition(lambda self: self.unheard)
    @rule(place=PLACES)
    def hear(self, place: int) -> None:
        """A worker reads what it was handed."""
        worker = sorted(self.unheard)[place % len(self.unheard)]
        number = self.unheard.pop(worker)
        handed = running.read_handed(self.store.run("LPOP", self.store.key(keys.handed(worker)), 99))
        (lease,) = (lease for lease in self.leases if (lease.worker, lease.number) == (worker, number))
        assert (handed.number, handed.batch, handed.start, handed.stop) == (
            number,
            lease.batch,
            lease.start,
            lease.stop,
        )
        assert handed.calls == [(f"b{lease.start}", b"calls %d" % lease.start)]
        if lease.batch in self.batches:
            assert handed.description.decode() == self.batches[lease.batch].opening.description
        self.numbers[worker] = number

    def heard_of(self, place: int) -> Lease:
        """A lease, of which its worker has heard."""
        lease = self.leases[place % len(self.leases)]
        if self.unheard.get(lease.worker) == lease.number:
            self.hear(sorted(self.unheard).index(lease.worker))
        return lease

    def another_client_has_the_same_idea_of_an_id(self, place: int) -> None:
        batch = self.pick(place)
        opening = Opening(batch.id, new_token(), QUEUES[0], ENVIRONMENT, 1, "{}")
        assert (
            self.store.call(submitting.submit(opening, 0, 1, {}, [("b0", b"x")], bulk_from=self.bulk_from)).answer
            == "taken"
        )

    def submit_behind_a_gap(self, place: int, gap: int) -> None:
        batch = self.pick(place)
        request = submitting.submit(batch.opening, batch.total + gap, 1, {}, [("b99", b"x")], bulk_from=self.bulk_from)
        answer = self.store.call(request)
        assert answer.answer == ("canceled" if batch.is_canceled else "gap")

    def the_last_submission_is_sent_again_after_the_batch_was_deleted(self, place: int) -> None:
        batch = list(self.deleted.values())[place % len(self.deleted)]
        assert batch.last is not None
        first, count, is_last = batch.last
        fields = batch.call_fields(first, count)
        request = submitting.submit(batch.opening, first, count, {}, fields, is_last=is_last, bulk_from=self.bulk_from)
        answer = self.store.call(request)
        assert answer.answer == "gone"
        assert not self.store.call(submitting.touch(batch.id))

    def touch(self, place: int) -> None:
        batch = self.pick(place)
        assert self.store.call(submitting.touch(batch.id)) == batch.is_submitting

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, by_submitter=st.booleans(), late=st.booleans())
    def abandon(self, place: int, by_submitter: bool, late: bool) -> None:
        batch = self.pick(place)
        score = self.store.run("ZSCORE", self.store.key("submitting"), batch.id)
        touches = None if by_submitter else float(score or 0) - late
        answer, again = self.twice(submitting.abandon(batch.id, touches, "died after %d"))
        assert again == -1
        if not batch.is_submitting or (late and not by_submitter):
            assert answer == -1
            return
        assert answer == batch.total
        assert self.store.run("HGET", self.store.key(f"batch:{batch.id}"), "reason") == b"died after %d" % batch.total
        batch.is_submitting = False
        batch.is_canceled = True
        self.order_cancel(batch)
        batch.cancel_waiting()

    @precondition(lambda self: self.registered and any(batch.is_open for batch in self.batches.values()))
    @rule(place=PLACES)
    def close(self, place: int) -> None:
        """A batch was open for long enough; a worker that beats comes by."""
        found = [batch for batch in self.batches.values() if batch.is_open]
        batch = found[place % len(found)]
        self.store.run("ZADD", self.store.key("open"), "XX", 1000, batch.id)
        worker = sorted(self.registered)[place % len(self.registered)]
        assert self.store.call(running.beat(worker, self.acknowledged[worker], {})) is not None
        batch.is_open = False

    # Rules: what changes nothing

    @rule(place=PLACES, job=PLACES)
    def ask_what_changes_nothing(self, place: int, job: int) -> None:
        if self.batches:
            self.another_client_has_the_same_idea_of_an_id(place)
            self.submit_behind_a_gap(place, 1 + job)
            self.touch(place)
            self.look(place, job)
        if self.deleted:
            self.the_last_submission_is_sent_again_after_the_batch_was_deleted(place)
            self.steer_what_was_deleted(place)
        if any(lease.stop - lease.start >= 3 for lease in self.leases):
            self.the_middle_of_a_lease_cannot_be_given_back()
        if any(lease.worker not in self.registered for lease in self.former):
            self.a_worker_that_was_taken_for_dead_goes_on(place)
        if self.former:
            self.what_left_a_lease_cannot_be_written_through_it(place)
        if any(batch.of(FINISHED) for batch in self.batches.values()):
            self.what_finished_cannot_be_retried(place, job)

    # Rules: running

    @rule(
        worker=st.sampled_from(["ann", "bob", "cid"]),
        seconds=st.sampled_from([0.0001, 0.005, 1.0]),
        both=st.booleans(),
        parks=st.booleans(),
    )
    def claim(self, worker: str, seconds: float, both: bool, parks: bool = False) -> None:
        if worker not in self.numbers:
            return
        number = self.numbers[worker] + 1
        queues = QUEUES if both else QUEUES[:1]
        request = running.claim(worker, number, ENVIRONMENT, queues, children=2, target=seconds, parks=parks)
        answer = self.store.call(request)
        if worker in self.unheard:
            self.claim_what_was_handed(worker, number, request, answer)
            return
        self.parked.pop(worker, None)
        self.notice_what_was_queued()
        is_alone = any(lease.worker == worker and lease.kind == "x" for lease in self.leases)
        self.notice_what_was_given_up(queues if worker in self.registered and not is_alone else (), answer)
        if answer is not None and not isinstance(answer, Later):
            before = self.snapshot()
            assert self.store.call(request) == answer
            assert self.snapshot() == before
        if worker not in self.registered:
            assert answer == GONE
            self.numbers[worker] += 1
            self.register_one(worker)
            return
        held = [lease for lease in self.leases if lease.worker == worker]
        if answer is None or isinstance(answer, Later):
            may_park = self.check_that_nothing_is_to_do(queues, held, answer)
            if "parked" in self.read()[f"worker:{worker}"][0]:
                assert parks
                self.parked[worker] = (number, queues)
            assert worker in self.parked or not (parks and may_park)
            return
        assert isinstance(answer, Claimed)
        self.numbers[worker] = number
        self.check_claimed(answer, queues, held)
        batch = self.batches[answer.batch]
        for index in range(answer.start, answer.stop):
            assert batch.states[index] == WAITING, f"job {index} was {batch.states[index]} and runs again"
            batch.states[index] = LEASED
            assert batch.kinds.pop(index, "") == answer.kind
        self.leases.append(
            Lease(worker, number, answer.batch, answer.start, answer.stop, answer.kind, answer.has_attempts)
        )

    def claim_what_was_handed(self, worker: str, number: int, request: Request[Any], answer: Any) -> None:
        assert number == self.unheard.pop(worker)
        self.numbers[worker] = number
        (lease,) = (lease for lease in self.leases if (lease.worker, lease.number) == (worker, number))
        if lease.batch not in self.batches:
            assert answer == USED
            self.shrink(lease, lease.stop, lease.stop)
            return
        assert isinstance(answer, Claimed)
        assert (answer.batch, answer.start, answer.stop) == (lease.batch, lease.start, lease.stop)
        before = self.snapshot()
        assert self.store.call(request) == answer
        assert self.snapshot() == before

    @rule(worker=st.sampled_from(["ann", "bob", "cid"]), runs=st.integers(2, 4))
    def claim_some(self, worker: str, runs: int) -> None:
        for _ in range(runs):
            self.claim(worker, 0.005, True)

    @rule(
        worker=st.sampled_from(["ann", "bob", "cid"]), times=st.integers(1, 3), how=st.sampled_from(["child", "worker"])
    )
    def claim_and_die(self, worker: str, times: int, how: str) -> None:
        for _ in range(times):
            self.claim(worker, 0.005, True)
            held = [place for place, lease in enumerate(self.leases) if lease.worker == worker]
            if held and how == "child":
                self.release(held[-1], 0, "whole", "segmentation fault")
            elif held:
                self.reap(sorted(self.registered).index(worker), "its worker died")

    @precondition(lambda self: self.leases)
    @rule(failing=st.sets(st.integers(0, 25), max_size=3), prints=st.booleans())
    def finish_all(self, failing: set[int], prints: bool) -> None:
        for lease in list(self.leases):
            if prints:
                self.output(self.leases.index(lease), [0, lease.stop - lease.start, 0], True)
            self.finish(self.leases.index(lease), lease.stop - lease.start - 1, failing, 100, False)

    def notice_what_was_queued(self) -> None:
        """A claim has queued what was due, and nothing else."""
        self.stored = self.read()
        for batch in self.batches.values():
            still = set(self.scheduled(batch))
            for index in batch.of(SCHEDULED):
                if index not in still:
                    assert index in batch.due, "it was queued before its time"
                    batch.due.discard(index)
                    batch.states[index] = WAITING
                    batch.kinds.pop(index, None)

    @precondition(lambda self: any(batch.of(SCHEDULED) for batch in self.batches.values()))
    @rule(place=PLACES, most=st.integers(1, 3))
    def time_passes(self, place: int, most: int) -> None:
        """Some runs of a batch are due."""
        found = [batch for batch in self.batches.values() if batch.of(SCHEDULED)]
        batch = found[place % len(found)]
        key = self.store.key(f"batch:{batch.id}:scheduled")
        for run in self.store.run("ZRANGE", key, 0, most - 1):
            self.store.run("ZADD", key, "XX", 1000, run)
            start, stop = map(int, run.split(b"-"))
            batch.due.update(range(start, stop))
        of_queue = self.store.key(f"queue:{batch.opening.queue}:{ENVIRONMENT}:scheduled")
        self.store.run("ZADD", of_queue, "XX", 1000, batch.id)

    @precondition(lambda self: any(batch.patience for batch in self.batches.values()))
    @rule(place=PLACES, most=st.integers(1, 3), by_claim=st.booleans())
    def time_is_up(self, place: int, most: int, by_claim: bool) -> None:
        """Some jobs of a batch have waited for too long."""
        found = [batch for batch in self.batches.values() if batch.patience]
        batch = found[place % len(found)]
        key = self.store.key(f"batch:{batch.id}:ttl")
        for run in self.store.run("ZRANGE", key, 0, most - 1):
            self.store.run("ZADD", key, "XX", 1000, run)
            start, stop = map(int, run.split(b"-"))
            batch.overdue.update(range(start, stop))
        self.store.run("ZADD", self.store.key(f"queue:{batch.opening.queue}:{ENVIRONMENT}:ttl"), "XX", 1000, batch.id)
        if by_claim:
            self.claim("ann", 0.005, True)
            return
        answer, _ = self.twice(running.give_up(ENVIRONMENT, QUEUES))
        assert not answer
        self.notice_what_was_given_up(QUEUES, None)

    def notice_what_was_given_up(self, queues: tuple[str, ...], answer: Any) -> None:
        """What waits and has never started; a claim that takes something from the first queue leaves the second."""
        for batch in self.batches.values():
            if batch.opening.queue not in queues:
                continue
            if isinstance(answer, Claimed) and answer.batch in self.batches:
                of_claimed = queues.index(self.batches[answer.batch].opening.queue)
                if queues.index(batch.opening.queue) > of_claimed:
                    continue
            for index in batch.overdue:
                if batch.states[index] == WAITING and not batch.attempts[index] and not batch.kinds.get(index):
                    batch.states[index] = FAILED
                    batch.outcomes[str(index)] = b"!"
                    batch.digests[index] = ""
            batch.patience -= batch.overdue
            batch.overdue.clear()

    def scheduled(self, batch: BatchModel) -> Iterator[int]:
        for run in self.value(f"batch:{batch.id}:scheduled", {}):
            start, stop = map(int, run.split("-"))
            yield from range(start, stop)

    def check_that_nothing_is_to_do(self, queues: tuple[str, ...], held: list[Lease], answer: Later | None) -> bool:
        if any(lease.kind == "x" for lease in held):
            return False
        open_batches = [
            batch
            for batch in self.batches.values()
            if batch.opening.queue in queues and batch.opening.queue not in self.paused_queues and not batch.is_paused
        ]
        self.stored = self.read()
        if held and any(self.suspects(batch) for batch in open_batches):
            return False  # it empties itself
        for batch in open_batches:
            assert not batch.of(WAITING), "a job waits, and is not found"
        in_queues = [
            batch
            for batch in self.batches.values()
            if batch.opening.queue in queues and batch.opening.queue not in self.paused_queues
        ]
        assert not any(batch.due for batch in in_queues), "a job is due, and is not queued"
        assert isinstance(answer, Later) == any(batch.of(SCHEDULED) for batch in in_queues)
        assert answer is None or answer.seconds > 500
        return True

    def check_claimed(self, claimed: Claimed, queues: tuple[str, ...], held: list[Lease]) -> None:
        assert claimed.batch in self.batches
        batch = self.batches[claimed.batch]
        assert batch.opening.queue in queues
        assert batch.opening.queue not in self.paused_queues
        assert not batch.is_paused
        assert not any(lease.kind == "x" for lease in held), "a suspect is not alone"
        assert claimed.kind != "x" or not held, "a suspect is not alone"
        assert not claimed.kind or claimed.stop == claimed.start + 1
        assert claimed.per_block == batch.opening.per_block
        bulk = self.read().get(f"batch:{batch.id}:calls:bulk", ({}, 0))[0]
        records = dict(claimed.calls) | {name: bulk[field] for name, field in claimed.bulk}
        for index in range(claimed.start, claimed.stop):
            block = index // claimed.per_block
            own = records.get(str(index))
            assert own == b"call %d" % index or (own is None and records[f"b{block}"] == b"calls %d" % block)
        expected = {i: n for i, n in batch.attempts.items() if n and claimed.start <= i < claimed.stop}
        assert claimed.attempts == expected
        assert claimed.has_attempts == bool(+batch.attempts)
        decided = batch.decided.get(claimed.start, b"")
        assert (b"!" if claimed.decided[:1] == b"!" else claimed.decided) == decided
        assert not decided or claimed.stop == claimed.start + 1
        [number] = {batch.mended.get(index) for index in range(claimed.start, claimed.stop)}
        assert claimed.mended == (b"" if number is None else batch.functions_given[number - 1])

    @precondition(lambda self: self.leases)
    @rule(
        place=PLACES,
        part=PLACES,
        failing=st.sets(st.integers(0, 25), max_size=3),
        microseconds=st.integers(0, 3000),
        retrying=st.booleans(),
    )
    def finish(self, place: int, part: int, failing: set[int], microseconds: int, retrying: bool) -> None:
        lease = self.heard_of(place)
        start, stop = lease.start, lease.start + 1 + part % (lease.stop - lease.start)
        failed = sorted(start + offset for offset in failing if start + offset < stop)
        batch = self.batches.get(lease.batch)
        records = self.records(lease, start, stop, batch)
        attempts = batch.attempts if batch else Counter[int]()
        tries = [Again(index, attempts[index] + 1, 1000.0, b"try %d" % index) for index in failed[::2] if retrying]
        failed = [index for index in failed if index not in {one.index for one in tries}]
        records = [record for record in records if record[0] not in {str(one.index) for one in tries}]
        notes = [FailureNote(index, f"digest{index % 2}", json.dumps({"type": "ValueError"})) for index in failed]
        busy = microseconds * (stop - start)
        request = running.finish(
            lease.worker, lease.number, lease.batch, (start, stop), busy / 1e6, records, notes, tries,
            bulk_from=self.bulk_from if self.outcome_count % 2 else None,
        )  # fmt: skip
        answer, again = self.twice(request)
        assert again == "done"
        self.shrink(lease, stop, lease.stop)
        if batch is None:
            assert answer == "gone"
            return
        assert answer == "ok"
        batch.outcomes.update(records)
        batch.busy += int(busy / 1e6 * 1e6)
        for index in range(start, stop):
            batch.states[index] = FAILED if index in failed else FINISHED
        for one in tries:
            is_canceled = batch.is_canceled or one.index in batch.cancels
            batch.states[one.index] = CANCELED if is_canceled else SCHEDULED
            batch.attempts[one.index] += 1
            batch.tries[f"{one.index}:{one.attempt}"] = one.record
        batch.cancels -= set(range(start, stop))
        for index in range(start, stop):
            batch.decided.pop(index, None)
        batch.digests.update({note.index: note.digest for note in notes})

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, jobs=st.lists(st.integers(-1, 3), max_size=8), replaces=st.booleans())
    def output(self, place: int, jobs: list[int], replaces: bool) -> None:
        lease = self.heard_of(place)
        batch = self.batches.get(lease.batch)
        entries = [self.entry(lease, lease.start + job, batch) for job in jobs if lease.start + job >= 0]
        old = batch.output[-1:] if batch and replaces else []
        self.output_counts[lease.worker] += 1
        request = running.output(
            lease.worker, lease.number, lease.batch, self.output_counts[lease.worker],
            [entry.id for entry in old], entries, most=MOST_ENTRIES,
        )  # fmt: skip
        for other in self.batches:
            if other != lease.batch:
                elsewhere = running.output(lease.worker, lease.number, other, 10**9, [], entries)
                assert self.store.call(elsewhere) == "lost"
        answer, again = self.twice(request)
        if batch is None:
            assert answer == again == "gone"
            return
        assert again == "done"
        for entry in old:
            batch.output.remove(entry)
        for entry, id in zip(entries, answer, strict=True):
            entry.id = id
            assert bool(id) == (lease.start <= entry.index < lease.stop), "it is kept where the lease is held, only"
        batch.output = (batch.output + [entry for entry in entries if entry.id])[-MOST_ENTRIES:]

    def entry(self, lease: Lease, index: int, batch: BatchModel | None) -> Entry:
        self.outcome_count += 1
        text = b"line %d\n" % self.outcome_count
        attempt = batch.attempts[index] + 1 if batch else 1
        return Entry(index, attempt, self.outcome_count, [("stdout", text), ("stderr", b"\xff")][: 1 + index % 2])

    def records(self, lease: Lease, start: int, stop: int, batch: BatchModel | None) -> list[tuple[str, bytes]]:
        """Outcomes of whole blocks as blocks, others one by one; each is written once only."""
        self.outcome_count += 1
        per_block = batch.opening.per_block if batch else 1
        found: list[tuple[str, bytes]] = []
        index = start
        while index < stop:
            whole = per_block > 1 and index % per_block == 0 and index + per_block <= stop and not lease.is_counted
            name = f"b{index // per_block}" if whole else str(index)
            found.append((name, f"outcome {self.outcome_count} of {name}".encode()))
            index += per_block if whole else 1
        return found

    def shrink(self, lease: Lease, start: int, stop: int) -> None:
        lease.start, lease.stop = start, stop
        if start >= stop:
            self.leases.remove(lease)
            self.former.append(lease)

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, part=PLACES, how=st.sampled_from(["head", "tail", "whole"]), death=DEATHS)
    def release(self, place: int, part: int, how: str, death: str) -> None:
        lease = self.heard_of(place)
        start, stop = lease.start, lease.stop
        if how == "head":
            stop = start + 1 + part % (stop - start)
        elif how == "tail":
            start += part % (stop - start)
        answer, again = self.twice(running.release(lease.worker, lease.number, (start, stop), death))
        assert (answer, again) == ("ok", "lost")
        if start > lease.start:
            self.shrink(lease, lease.start, start)
        else:
            self.shrink(lease, stop, lease.stop)
        batch = self.batches.get(lease.batch)
        if batch is None:
            return
        if death:
            batch.die(start)
            start += 1
        batch.give_back(start, stop, lease.kind)

    @precondition(lambda self: self.leases)
    @rule(place=PLACES, how=st.sampled_from([b"how it ends", running.CANCELED]))
    def decide(self, place: int, how: bytes) -> None:
        lease = self.heard_of(place)
        answer, again = self.twice(running.decide(lease.worker, lease.number, lease.start, how))
        assert again == "lost"
        if lease.stop > lease.start + 1:
            assert answer == "lost"
            return
        assert answer == "ok"
        index = lease.start
        self.shrink(lease, lease.stop, lease.stop)
        batch = self.batches.get(lease.batch)
        if batch is not None:
            batch.states[index] = WAITING
            batch.kinds[index] = "s"
            batch.decided[index] = how

    def the_middle_of_a_lease_cannot_be_given_back(self) -> None:
        lease = next(lease for lease in self.leases if lease.stop - lease.start >= 3)
        before = self.snapshot()
        run = (lease.start + 1, lease.stop - 1)
        assert self.store.call(running.release(lease.worker, lease.number, run)) == "lost"
        assert self.snapshot() == before

    @precondition(lambda self: self.registered)
    @rule(place=PLACES, death=DEATHS)
    def reap(self, place: int, death: str) -> None:
        worker = sorted(self.registered)[place % len(self.registered)]
        beat = self.store.run("ZSCORE", self.store.key("workers"), worker)
        before = self.snapshot()
        assert self.store.call(running.reap(worker, float(beat) - 1, death)) == -1
        assert self.snapshot() == before
        held = [lease for lease in self.leases if lease.worker == worker]
        assert self.twice(running.reap(worker, float(beat), death)) == (len(held), -1)
        self.registered.discard(worker)
        self.orders[worker] = []
        self.parked.pop(worker, None)
        unheard = self.unheard.pop(worker, None)
        for lease in held:
            self.leases.remove(lease)
            self.former.append(lease)
            batch = self.batches.get(lease.batch)
            if batch is None:
                continue
            if lease.number == unheard:
                batch.give_back(lease.start, lease.stop, lease.kind)
            elif death and (lease.kind or lease.stop == lease.start + 1):
                batch.die(lease.start)
            else:
                batch.give_back(lease.start, lease.stop, "s" if death else lease.kind)

    def a_worker_that_was_taken_for_dead_goes_on(self, place: int) -> None:
        late = [lease for lease in self.former if lease.worker not in self.registered]
        lease = late[place % len(late)]
        before = self.snapshot()
        run = (lease.start, max(lease.stop, lease.start + 1))
        request = running.finish(
            lease.worker, lease.number, lease.batch, run, 1.0, [(str(run[0]), b"late")], bulk_from=self.bulk_from
        )
        assert self.store.call(request) == "lost"
        assert self.store.call(running.release(lease.worker, lease.number, run)) == "lost"
        assert self.store.call(running.release(lease.worker, lease.number, run, "killed")) == "lost"
        assert self.store.call(self.late_output(lease)) == "lost"
        assert self.store.call(running.beat(lease.worker, 0, {"busy": 1})) is None
        assert not self.store.call(running.order(lease.worker, "stop"))
        assert not self.store.call(running.register(lease.worker, {}, again=True))
        assert self.snapshot() == before

    def what_left_a_lease_cannot_be_written_through_it(self, place: int) -> None:
        lease = self.former[place % len(self.former)]
        before = self.snapshot()
        run = (lease.start, max(lease.stop, lease.start + 1))
        request = running.finish(
            lease.worker, lease.number, lease.batch, run, 1.0, [(str(run[0]), b"late")], bulk_from=self.bulk_from
        )
        assert self.store.call(request) in ("lost", "done")
        assert self.store.call(running.release(lease.worker, lease.number, run)) == "lost"
        assert self.store.call(self.late_output(lease)) == "lost"
        assert self.snapshot() == before

    def late_output(self, lease: Lease) -> Request[Any]:
        entry = Entry(lease.start, 1, 0, [("stdout", b"late")])
        return running.output(lease.worker, lease.number, lease.batch, 10**9, [], [entry])

    @precondition(lambda self: self.registered)
    @rule(place=PLACES, stop=st.booleans())
    def beat(self, place: int, stop: bool) -> None:
        worker = sorted(self.registered)[place % len(self.registered)]
        if stop:
            assert self.store.call(running.order(worker, "stop"))
            self.orders[worker].append(Stop())
        for _ in range(2):
            orders = self.store.call(running.beat(worker, self.acknowledged[worker], {"busy": 1}))
            assert orders is not None
            assert [order for _, order in orders] == self.orders[worker]
        if orders:
            self.acknowledged[worker] = orders[-1][0]
        assert self.store.call(running.beat(worker, self.acknowledged[worker], {})) == []
        self.orders[worker] = []

    # Rules: steering

    def claimed(self, worker: str) -> int:
        """The number of its newest lease; it has one."""
        return max(lease.number for lease in self.leases + self.former if lease.worker == worker)

    def order_cancel(self, batch: BatchModel) -> None:
        for worker in {lease.worker for lease in self.leases if lease.batch == batch.id}:
            self.orders[worker].append(CancelBatch(batch.id, self.claimed(worker)))

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, only_waiting=st.booleans())
    def cancel(self, place: int, only_waiting: bool) -> None:
        batch = self.pick(place)
        answer = self.store.call(steering.cancel(batch.id, "enough", only_waiting=only_waiting))
        if batch.has_ended:
            assert answer == 0
            return
        canceled = batch.cancel_waiting(only_queued=only_waiting)
        assert answer == canceled + (0 if only_waiting else len(batch.of(LEASED)))
        if not only_waiting:
            batch.is_canceled = True
            batch.is_submitting = False
            self.order_cancel(batch)

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, job=PLACES)
    def cancel_job(self, place: int, job: int) -> None:
        batch = self.pick(place)
        index = job % (batch.total + 1)
        answer = self.store.call(steering.cancel_job(batch.id, index))
        if index == batch.total:
            assert answer == "gone"
        elif batch.states[index] in (WAITING, SCHEDULED):
            assert answer == "canceled"
            batch.decided.pop(index, None)
            batch.states[index] = CANCELED
            batch.due.discard(index)
            batch.kinds[index] = ""
        elif batch.states[index] == LEASED:
            assert answer == "canceling"
            (lease,) = (x for x in self.leases if x.batch == batch.id and x.start <= index < x.stop)
            self.orders[lease.worker].append(CancelJob(batch.id, index, self.claimed(lease.worker)))
            batch.cancels.add(index)
        else:
            assert answer == "ended"

    @precondition(lambda self: self.batches)
    @rule(place=PLACES)
    def pause_or_resume(self, place: int) -> None:
        batch = self.pick(place)
        change = steering.resume if batch.is_paused else steering.pause
        assert self.twice(change(batch.id)) == (1, 1)
        batch.is_paused = not batch.is_paused

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume_queue(self, queue: str) -> None:
        if queue in self.paused_queues:
            self.store.call(steering.resume_queue(queue, [ENVIRONMENT]))
            self.paused_queues.discard(queue)
        else:
            self.store.call(steering.pause_queue(queue))
            self.paused_queues.add(queue)

    @precondition(lambda self: any(batch.of(FAILED) or batch.of(CANCELED) for batch in self.batches.values()))
    @rule(place=PLACES, job=PLACES, one=st.booleans(), function=st.sampled_from([None, None, *sorted(FUNCTIONS)]))
    def retry(self, place: int, job: int, one: bool, function: bytes | None) -> None:
        found = [batch for batch in self.batches.values() if batch.of(FAILED) or batch.of(CANCELED)]
        batch = found[place % len(found)]
        again = sorted(batch.of(FAILED) + batch.of(CANCELED))
        index = again[job % len(again)] if one else None
        if one:
            again = [index]
        number = None if function is None else self.mend(batch, function)
        retried, repeated = self.twice(steering.retry(batch.id, new_token(), index, number))
        assert repeated == retried
        assert retried.count == len(again)
        if batch.is_canceled and one:
            batch.cancels.update(batch.of(LEASED))
        batch.is_canceled = False
        for index in again:
            if batch.states[index] == FAILED:
                batch.attempts[index] += 1
                batch.tries[f"{index}:{batch.attempts[index]}"] = batch.outcomes.pop(str(index), b"")
                del batch.digests[index]
            batch.deaths.pop(index, None)
            batch.states[index] = WAITING
            if number is not None:
                batch.mended[index] = number

    def mend(self, batch: BatchModel, function: bytes) -> int:
        record = b"signed names of " + function
        request = steering.mend(batch.id, record, {function: FUNCTIONS[function]})
        answer, again = self.twice(request)
        assert answer == again
        assert answer.answer == "ok"
        if record not in batch.functions_given:
            batch.functions_given.append(record)
        batch.functions.add(function)
        assert batch.functions_given[answer.number - 1] == record
        found = self.store.call(looking.functions(batch.id))
        assert found is not None
        assert (set(found.digests), found.mended) == (batch.functions, batch.functions_given)
        assert found.index in batch.of(FAILED) + batch.of(CANCELED)
        return answer.number

    def what_finished_cannot_be_retried(self, place: int, job: int) -> None:
        found = [batch for batch in self.batches.values() if batch.of(FINISHED)]
        batch = found[place % len(found)]
        finished = batch.of(FINISHED)
        assert not self.store.call(steering.retry(batch.id, new_token(), finished[job % len(finished)])).count

    @precondition(lambda self: self.batches)
    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        batch = self.pick(place)
        assert self.twice(steering.delete(batch.id)) == (1, -1)
        self.order_cancel(batch)
        self.deleted[batch.id] = self.batches.pop(batch.id)

    def steer_what_was_deleted(self, place: int) -> None:
        id = list(self.deleted)[place % len(self.deleted)]
        before = self.snapshot()
        for request, expected in [
            (steering.cancel(id, "x"), -1),
            (steering.cancel_job(id, 0), "gone"),
            (steering.pause(id), -1),
            (steering.resume(id), -1),
            (steering.retry(id, new_token()), Retried(-1, has_more=False, broken=0)),
            (steering.retry(id, new_token(), 0), Retried(-1, has_more=False, broken=0)),
            (steering.mend(id, b"x", {}), steering.MendedAnswer("gone")),
            (looking.functions(id), None),
            (steering.delete_job(id, 0), -1),
            (submitting.abandon(id, None, "x"), -1),
            (submitting.touch(id), False),
            (looking.job(id, 0), None),
            (looking.calls(id, 0), None),
            (looking.outcomes(id, 0, 1), None),
            (looking.printed(id, 0), []),
        ]:
            assert self.store.call(request) == expected, request.script
        assert self.snapshot() == before

    def look(self, place: int, job: int) -> None:
        batch = self.pick(place)
        if not batch.total:
            return
        index = job % batch.total
        found = self.store.call(looking.job(batch.id, index))
        assert found is not None
        expected = {WAITING: "queued", LEASED: "started", CANCELED: "canceled", SCHEDULED: "scheduled"}.get(
            batch.states[index], "ended"
        )
        assert found.state == expected
        assert found.attempts == batch.attempts[index]
        assert (found.due_at is not None) == (batch.states[index] == SCHEDULED)
        printed = self.store.call(looking.printed(batch.id, index))
        assert printed == [entry for entry in batch.output if entry.index == index]

    # What must be true after each step

    def suspects(self, batch: BatchModel) -> list[int]:
        key = f"queue:{batch.opening.queue}:{ENVIRONMENT}:suspects"
        entries = [entry.split() for entry in self.stored.get(key, ([], 0))[0]]
        return [int(index) for id, index in entries if id == batch.id]

    def value(self, key: str, default: Any) -> Any:
        return self.stored.get(key, (default, 0))[0]

    def jobs(self, key: str) -> Iterator[tuple[int, str]]:
        """The jobs of a list of runs, with the letter of their run."""
        for text in self.value(key, []):
            start, _, stop = text.lstrip("scr").partition("-")
            for index in range(int(start), int(stop) if stop else int(start) + 1):
                yield index, text[0] if text[0] in "scr" else ""

    @invariant()
    def redis_holds_what_the_model_says(self) -> None:
        self.stored = self.read()
        model = [(x.worker, x.number, x.batch, x.start, x.stop, x.kind) for x in self.leases]
        assert sorted(lease for worker in self.numbers for lease in self.stored_leases(worker)) == sorted(model)
        for batch in self.batches.values():
            batch.settle()
            self.check_places(batch)
            self.check_outcomes(batch)
            self.check_output(batch)
            self.check_lifetime(batch)
        self.check_that_nothing_is_left_of_what_was_deleted()
        self.check_indexes()
        self.check_parked()

    def check_parked(self) -> None:
        for worker, (number, queues) in self.parked.items():
            assert int(self.value(f"worker:{worker}", {})["parked"]) == number
            for queue in queues:
                assert worker in self.value(f"queue:{queue}:{ENVIRONMENT}:parked", {})
        for worker in self.numbers:
            handed = self.value(f"worker:{worker}:handed", [])
            assert len(handed) == (5 if worker in self.unheard else 0)
        for queue in QUEUES:
            assert set(self.value(f"queue:{queue}:{ENVIRONMENT}:parked", {})) <= self.registered

    def stored_leases(self, worker: str) -> Iterator[tuple[str, int, str, int, int, str]]:
        for number, held in self.value(f"worker:{worker}:leases", {}).items():
            id, start, stop, _, kind = held.decode().split(" ")
            yield worker, int(number), id, int(start), int(stop), kind

    def check_places(self, batch: BatchModel) -> None:
        key = f"batch:{batch.id}"
        queued = [index for index, _ in self.jobs(f"{key}:queued")]
        suspects = self.suspects(batch)
        assert sorted(queued + suspects) == batch.of(WAITING)
        assert sorted(suspects) == [index for index in batch.of(WAITING) if batch.kinds.get(index) == "x"]
        leased = [i for x in self.leases if x.batch == batch.id for i in range(x.start, x.stop)]
        assert sorted(leased) == batch.of(LEASED)
        assert sorted(index for index, _ in self.jobs(f"{key}:canceled")) == batch.of(CANCELED)
        assert sorted(self.scheduled(batch)) == batch.of(SCHEDULED)
        decided = {int(index): how for index, how in self.value(f"{key}:decided", {}).items()}
        assert {index: b"!" if how[:1] == b"!" else how for index, how in decided.items()} == batch.decided
        assert {index for index, _ in self.jobs(f"{key}:ttl")} == batch.patience
        until = self.value(f"{key}:ttl", {}).values()
        waiting = self.value(f"queue:{batch.opening.queue}:{ENVIRONMENT}:ttl", {})
        assert waiting.get(batch.id) == (min(until, key=float) if until else None) or batch.overdue
        due = self.value(f"{key}:scheduled", {}).values()
        of_queue = self.value(f"queue:{batch.opening.queue}:{ENVIRONMENT}:scheduled", {})
        assert of_queue.get(batch.id) == (min(due, key=float) if due else None)
        h = self.value(key, {})
        assert {name: int(h[name]) for name in COUNTED} == batch.counts
        assert int(h["total"]) == sum(batch.counts.values())
        assert ("is_paused" in h, "is_canceled" in h) == (batch.is_paused, batch.is_canceled)
        assert ("is_submitting" in h) == (batch.id in self.value("submitting", {})) == batch.is_submitting
        assert int(h["busy"]) == pytest.approx(batch.busy, abs=50)
        is_ready = batch.id in self.value(f"queue:{batch.opening.queue}:{ENVIRONMENT}:ready", {})
        assert is_ready == (bool(queued) and not batch.is_paused)

    def check_outcomes(self, batch: BatchModel) -> None:
        key = f"batch:{batch.id}"
        outcomes, bulk = self.value(f"{key}:outcomes", {}), self.value(f"{key}:outcomes:bulk", {})
        pointers = {name: text[1:].decode() for name, text in outcomes.items() if text[:1] == b"@"}
        assert set(pointers.values()) == set(bulk), "something in bulk is nobody's"
        outcomes = outcomes | {name: bulk[field] for name, field in pointers.items()}
        assert {name: b"!" if text[:1] == b"!" else text for name, text in outcomes.items()} == batch.outcomes
        ended = [index for state in (FINISHED, FAILED) for index in batch.of(state)]
        for index in ended:
            assert str(index) in outcomes or f"b{index // batch.opening.per_block}" in outcomes
        failed = {int(index): digest.decode() for index, digest in self.value(f"{key}:failed", {}).items()}
        assert sorted(failed) == batch.of(FAILED)
        assert all(failed[index] == digest for index, digest in batch.digests.items() if digest)
        errors = self.value(f"{key}:errors", {})
        counted = Counter(failed.values())
        assert {name[2:]: int(n) for name, n in errors.items() if name[:2] == "n:"} == counted
        assert {name for name in errors if name[:2] != "n:"} == set(counted)
        told: dict[int, str] = {}
        for index, how in self.jobs(f"{key}:ended"):
            assert (index in told) == (how == "r"), "its end was told twice, or its retry without its end"
            told[index] = how
            if how == "r":
                del told[index]
        assert sorted(told) == sorted(ended + batch.of(CANCELED))
        assert sorted(index for index, how in told.items() if how == "c") == batch.of(CANCELED)
        attempts = {int(index): int(n) for index, n in self.value(f"{key}:attempts", {}).items()}
        assert attempts == dict(+batch.attempts)
        mended = {name: text for name, text in self.value(f"{key}:mended", {}).items() if name[0] != "f"}
        assert {int(index): int(number) for index, number in mended.items()} == batch.mended
        tries = self.value(f"{key}:tries", {})
        assert {name: b"!" if text[:1] == b"!" else text for name, text in tries.items()} == batch.tries

    def check_output(self, batch: BatchModel) -> None:
        assert self.store.output(batch.id, 10 * MOST_ENTRIES) == batch.output
        if batch.output:
            newest = batch.output[-1].id
            assert self.store.output(batch.id, 1) == batch.output[-1:]
            assert self.store.output(batch.id, 1, after=newest) == []
            assert self.store.output(batch.id, 2, after="1-1") == batch.output[-2:]

    def check_lifetime(self, batch: BatchModel) -> None:
        key = f"batch:{batch.id}"
        assert ("ended_at" in self.value(key, {})) == batch.has_ended
        for name, (_, ttl) in self.stored.items():
            if name == key or name.startswith(f"{key}:"):
                assert (ttl > 0) == batch.expires, name
        for function in batch.functions:
            record, ttl = self.stored.get(f"code:{function.hex()}", (None, 0))
            assert record == FUNCTIONS[function], "a batch that may run again has lost its function"
            assert batch.expires or ttl == -1

    def check_that_nothing_is_left_of_what_was_deleted(self) -> None:
        for key, (_, ttl) in self.stored.items():
            if key.startswith("batch:") and key.split(":")[1] not in self.batches:
                assert key.endswith(":deleted"), key
                assert ttl > 0
        for queue in QUEUES:
            for place in ("ready", "scheduled", "ttl"):
                assert set(self.value(f"queue:{queue}:{ENVIRONMENT}:{place}", {})) <= set(self.batches)
            suspects = self.value(f"queue:{queue}:{ENVIRONMENT}:suspects", [])
            assert {entry.split()[0] for entry in suspects} <= set(self.batches)

    def check_indexes(self) -> None:
        found = set(self.batches)
        assert set(self.value("batches", {})) == found
        ended = {id for id in found if self.batches[id].has_ended}
        concluded = {id for id in ended if not self.batches[id].is_open}
        assert set(self.value("open", {})) == {id for id in found if self.batches[id].is_open}
        expiring = {id for id in found if self.batches[id].expires}
        assert set(self.value("expiring", {})) == set(self.value("expiring:jobs", {})) == expiring
        names = {batch.opening.queue for batch in self.batches.values()}
        assert set(self.value("queues", [])) == names
        for name in QUEUES:
            mine = [batch for batch in self.batches.values() if batch.opening.queue == name]
            ids = {batch.id for batch in mine}
            assert set(self.value(f"queue:{name}:batches", {})) == ids
            assert set(self.value(f"queue:{name}:unfinished", {})) == ids - concluded
            assert self.value(f"queue:{name}:environments", []) == ([ENVIRONMENT] if mine else [])
            stored = {state: int(n) for state, n in self.value(f"queue:{name}:{ENVIRONMENT}:jobs", {}).items()}
            counts = {state: sum(batch.counts[state] for batch in mine) for state in COUNTED}
            assert {state: n for state, n in stored.items() if n} == {
                state: n for state, n in {**counts, "batches": len(mine)}.items() if n
            }
            listed = self.store.batches(2, name)
            newest = sorted(ids, key=lambda id: (float(self.value("batches", {})[id]), id), reverse=True)
            assert [state.id for state in listed] == newest[:2]
            assert {state.id for state in self.store.unfinished(name)} == ids - ended
            assert asdict(self.store.queue(name).counts) == {**counts, "batches": len(mine)}


def test_whatever_clients_workers_and_sweepers_do_each_job_is_in_one_place_and_ends_once(home: Any) -> None:
    run_state_machine_as_test(StoreMachine, settings=SETTINGS)


@settings(parent=SETTINGS, max_examples=SETTINGS.max_examples // 2)
@given(data=st.data())
def test_a_job_that_kills_its_worker_three_times_fails_and_all_its_neighbours_finish(data: st.DataObject) -> None:
    store = Store(embedded.ensure().url, f"k{os.getpid()}-{new_token()}")
    total = data.draw(st.integers(2, 40))
    killers = data.draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=2))
    workers = data.draw(st.integers(1, 3))
    opening = Opening("killing", new_token(), "first", ENVIRONMENT, 1, "{}")
    fields = [(f"b{index}", b"call") for index in range(total)]
    store.call(submitting.submit(opening, 0, total, {}, fields, is_last=True))
    try:
        _run_with_killers(store, opening.batch, killers, workers, lambda: data.draw(st.integers(1, 3)))
        state = store.batch(opening.batch)
        assert state is not None
        assert state.done
        failed = store.run("HKEYS", store.key(f"batch:{opening.batch}:failed"))
        assert {int(index) for index in failed} == killers
        for index in killers:
            found = store.call(looking.job(opening.batch, index))
            assert found is not None
            assert found.own.startswith(b"!")
            assert b"3 times" in found.own
            assert found.attempts == 3
    finally:
        for key in store.run("KEYS", store.key("*")):
            store.run("DEL", key)
        store.close()


def _run_with_killers(store: Store, batch: str, killers: set[int], workers: int, children: Callable[[], int]) -> None:
    """Workers with some children each; a worker dies as soon as it holds a job that kills."""
    number = 0
    for turn in range(1000):
        state = store.batch(batch)
        assert state is not None
        if state.done:
            return
        for name in [f"w{n}-{turn}" for n in range(workers)]:
            store.call(running.register(name, {}))
            held: list[Claimed] = []
            for _ in range(children()):
                number += 1
                claimed = store.call(running.claim(name, number, ENVIRONMENT, ["first"], children=4, target=0.001))
                if isinstance(claimed, Claimed):
                    held.append(claimed)
            dies = any(lease.start <= killer < lease.stop for lease in held for killer in killers)
            if dies:
                assert store.call(running.reap(name, None, "killed")) == len(held)
                continue
            for lease in held:
                records = [(str(index), b"outcome") for index in range(lease.start, lease.stop)]
                run = (lease.start, lease.stop)
                assert store.call(running.finish(name, lease.number, batch, run, 0.0001, records)) == "ok"
            store.call(running.reap(name, None, ""))
    raise AssertionError("it does not end")


# What those rules seldom or never come to -----------------------------------------------------------------------------


@pytest.fixture
def store(namespace: str) -> Iterator[Store]:
    store = Store(embedded.ensure().url, namespace)
    yield store
    store.close()


def _submit(store: Store, batch: str, count: int, function: bytes | None = None) -> Opening:
    opening = Opening(batch, new_token(), "first", ENVIRONMENT, 1, "{}")
    functions = {function: FUNCTIONS[function]} if function else {}
    fields = [(f"b{index}", b"call") for index in range(min(count, 100))]
    assert store.call(submitting.submit(opening, 0, count, functions, fields, is_last=True)).answer == "ok"
    return opening


def _claim(store: Store, worker: str, number: int) -> Request[Claimed | str | None]:
    return running.claim(worker, number, ENVIRONMENT, ["first"], children=1, target=1.0)


def _fail(store: Store, worker: str, claimed: Claimed) -> None:
    run = (claimed.start, claimed.stop)
    notes = [FailureNote(index, "digest", "{}") for index in range(*run)]
    assert store.call(running.finish(worker, claimed.number, claimed.batch, run, 0.001, [], notes)) == "ok"


def test_a_lease_whose_batch_was_deleted_before_its_worker_heard_of_it_is_dropped(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "gone", 1)
    assert store.call(_claim(store, "ann", 1)) is not None
    store.call(steering.delete("gone"))
    assert store.call(_claim(store, "ann", 1)) == USED
    (worker,) = store.call(looking.workers())
    assert worker.leases == 0


def test_retry_comes_to_the_end_of_very_many_failures(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "failing", 150_000)
    for number in range(1, 1000):
        claimed = store.call(_claim(store, "ann", number))
        if claimed is None:
            break
        assert isinstance(claimed, Claimed)
        _fail(store, "ann", claimed)
    total, calls, more = 0, 0, True
    while more:
        retried = store.call(steering.retry("failing", new_token()))
        assert retried.count > 0, f"{total} are queued again, and no more come"
        total, calls, more = total + retried.count, calls + 1, retried.has_more
    assert total == 150_000
    assert calls < 1000


def test_a_function_stays_as_long_as_an_ended_batch_may_be_run_again(store: Store) -> None:
    (function, *_) = FUNCTIONS
    store.call(running.register("ann", {}))
    _submit(store, "ended", 1, function)
    claimed = store.call(_claim(store, "ann", 1))
    assert isinstance(claimed, Claimed)
    _fail(store, "ann", claimed)
    _submit(store, "later", 1, function)
    store.call(steering.delete("later"))
    code = store.key(f"code:{function.hex()}")
    assert store.run("TTL", code) > store.run("TTL", store.key("batch:ended")) - 10
    store.call(steering.retry("ended", new_token()))
    assert store.run("TTL", code) == -1
    store.call(steering.delete("ended"))
    assert store.run("TTL", code) > 0


def test_a_function_that_nobody_needs_goes_with_its_batch(store: Store) -> None:
    (function, *_) = FUNCTIONS
    _submit(store, "only", 1, function)
    store.call(steering.delete("only"))
    assert not store.run("EXISTS", store.key(f"code:{function.hex()}"))


def test_a_job_that_is_deleted_after_its_batch_has_ended_leaves_nothing_behind(store: Store) -> None:
    _submit(store, "canceled", 3)
    store.call(steering.cancel("canceled", "enough"))
    store.call(steering.delete_job("canceled", 1))
    for key in store.run("KEYS", store.key("batch:canceled*")):
        assert store.run("TTL", key) > 0, key


def test_what_a_job_has_printed_goes_when_it_is_deleted(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "printing", 12)
    for number in range(1, 100):
        claimed = store.call(_claim(store, "ann", number))
        if claimed is None:
            break
        assert isinstance(claimed, Claimed)
        printed = [Entry(index, 1, 0, [("stdout", b"x")]) for index in range(claimed.start, claimed.stop)]
        store.call(running.output("ann", number, "printing", number, [], printed))
        _fail(store, "ann", claimed)
    store.call(steering.delete_job("printing", 1))
    left = [entry.index for entry in store.output("printing", 100)]
    assert left == [0, *range(2, 12)]


def test_an_order_is_not_taken_for_one_before_it_when_the_clock_is_set_back(store: Store) -> None:
    store.call(running.register("ann", {}))
    store.call(running.order("ann", "stop"))
    later = 5 * 10**15  # a number of a time to come, as before the clock was set back
    store.run("HSET", store.key("worker:ann"), "ordered", later)
    store.call(running.order("ann", "stop"))
    orders = store.call(running.beat("ann", later, {}))
    assert orders is not None
    assert [number > later for number, _ in orders] == [True]


@pytest.mark.parametrize("how", ["cancel", "abandon", "delete", "cancel_job"])
def test_an_order_to_cancel_carries_the_number_of_its_workers_newest_lease(store: Store, how: str) -> None:
    for name in ("ann", "bob", "cid"):
        store.call(running.register(name, {}))
    opening = Opening("first", new_token(), "first", ENVIRONMENT, 1, "{}")
    store.call(submitting.submit(opening, 0, 2, {}, [("b0", b"call"), ("b1", b"call")]))
    assert isinstance(store.call(_claim(store, "ann", 3)), Claimed)
    assert isinstance(store.call(_claim(store, "bob", 4)), Claimed)
    _submit(store, "second", 2)
    for name in ("ann", "cid"):
        assert isinstance(store.call(_claim(store, name, 5)), Claimed)
    store.call(
        {
            "cancel": steering.cancel("first", "enough"),
            "abandon": submitting.abandon("first", None, "died after %d"),
            "delete": steering.delete("first"),
            "cancel_job": steering.cancel_job("first", 0),
        }[how]
    )
    orders = {
        name: [
            entry.decode().partition(" ")[2] for entry in store.run("ZRANGE", store.key(f"worker:{name}:orders"), 0, -1)
        ]
        for name in ("ann", "bob", "cid")
    }
    if how == "cancel_job":
        assert orders == {"ann": ["cancel_job first 0 5"], "bob": [], "cid": []}
    else:
        assert orders == {"ann": ["cancel first 5"], "bob": ["cancel first 4"], "cid": []}


def test_orders_are_read_as_what_they_are(store: Store) -> None:
    store.call(running.register("ann", {}))
    for text in ("stop", "cancel k3f9x2 7", "cancel_job k3f9x2 17 7", "cancel k3f9x2"):
        store.call(running.order("ann", text))
    orders = store.call(running.beat("ann", 0, {}))
    assert orders is not None
    assert [order for _, order in orders] == [
        Stop(), CancelBatch("k3f9x2", 7), CancelJob("k3f9x2", 17, 7), UnknownOrder("cancel k3f9x2")
    ]  # fmt: skip


def test_a_batch_that_is_made_anew_under_the_id_of_a_deleted_one_is_not_meant_by_its_order(store: Store) -> None:
    store.call(running.register("ann", {}))
    cancels = Cancels()
    for number in (1, 2):
        _submit(store, "again", 1)
        claimed = store.call(_claim(store, "ann", number))
        assert isinstance(claimed, Claimed)
        assert not cancels.apply_to("again", number, 0, 1)
        if number == 1:
            store.call(steering.delete("again"))
            [(_, order)] = store.call(running.beat("ann", 0, {})) or []
            assert isinstance(order, CancelBatch)
            cancels.add(order)
            assert cancels.apply_to("again", number, 0, 1)


def test_who_was_taken_for_dead_is_told_when_it_connects_again(store: Store) -> None:
    assert store.call(running.register("ann", {}))
    assert store.call(running.register("ann", {}, again=True))
    store.call(running.reap("ann", None, "silence"))
    for _ in range(2):
        assert not store.call(running.register("ann", {}, again=True))
        assert store.call(looking.workers()) == []
    assert store.call(running.register("ann", {}))


def test_a_suspect_that_is_given_back_runs_alone_the_next_time_too(store: Store) -> None:
    for name in ("ann", "bob", "cid"):
        store.call(running.register(name, {}))
    _submit(store, "suspect", 3)
    for name in ("ann", "bob"):
        assert store.call(_claim(store, name, 1)) is not None
        store.call(running.reap(name, None, "killed"))
    claimed = store.call(_claim(store, "cid", 1))
    assert isinstance(claimed, Claimed)
    assert claimed.kind == "x"
    store.call(running.release("cid", 1, (claimed.start, claimed.stop)))
    again = store.call(_claim(store, "cid", 2))
    assert isinstance(again, Claimed)
    assert (again.start, again.kind) == (claimed.start, "x")
    assert store.call(_claim(store, "cid", 3)) is None, "it is alone"


def test_no_worker_empties_itself_for_a_suspect_of_a_paused_batch(store: Store) -> None:
    for name in ("ann", "bob", "cid"):
        store.call(running.register(name, {}))
    _submit(store, "paused", 1)
    for name in ("ann", "bob"):
        assert store.call(_claim(store, name, 1)) is not None
        store.call(running.reap(name, None, "killed"))
    store.call(steering.pause("paused"))
    _submit(store, "other", 2)
    for number in (1, 2):
        claimed = store.call(_claim(store, "cid", number))
        assert isinstance(claimed, Claimed)
        assert claimed.batch == "other"
        _fail(store, "cid", claimed)
    assert store.call(_claim(store, "cid", 3)) is None
    store.run("DEL", store.key(f"queue:first:{ENVIRONMENT}:wake"))
    store.call(steering.resume("paused"))
    assert store.run("EXISTS", store.key(f"queue:first:{ENVIRONMENT}:wake")), "somebody is woken for it"
    claimed = store.call(_claim(store, "cid", 4))
    assert isinstance(claimed, Claimed)
    assert claimed.kind == "x"


def test_what_was_canceled_while_it_ran_is_not_canceled_again_after_its_retry(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "again", 3)
    claimed = store.call(_claim(store, "ann", 1))
    assert isinstance(claimed, Claimed)
    assert store.call(steering.cancel_job("again", claimed.start)) == "canceling"
    _fail(store, "ann", claimed)  # before the order came
    assert store.call(steering.retry("again", new_token(), claimed.start)) == Retried(1, has_more=False, broken=0)
    for number in range(2, 5):
        again = store.call(_claim(store, "ann", number))
        assert isinstance(again, Claimed)
        if again.start == claimed.start:
            store.call(running.release("ann", number, (again.start, again.stop)))
            break
        _fail(store, "ann", again)
    state = store.batch("again")
    assert state is not None
    assert state.canceled == 0


def test_a_job_that_is_retried_may_be_started_as_often_as_a_new_one(store: Store) -> None:
    """Its process died twice before it was canceled; another job keeps the batch from ending."""
    store.call(running.register("bob", {}))
    _submit(store, "again", 2)
    for number in (1, 2):
        store.call(running.register("ann", {}))
        claimed = store.call(_claim(store, "ann", number))
        assert isinstance(claimed, Claimed)
        assert claimed.start == 0
        store.call(running.release("ann", number, (0, 1), "killed"))
    assert store.call(steering.cancel_job("again", 0)) == "canceled"
    assert store.call(steering.retry("again", new_token(), 0)) == Retried(1, has_more=False, broken=0)
    other = store.call(_claim(store, "bob", 1))
    claimed = store.call(_claim(store, "ann", 3))
    assert isinstance(other, Claimed) and isinstance(claimed, Claimed)
    assert (other.start, claimed.start) == (1, 0)
    store.call(running.release("ann", 3, (0, 1), "killed"))
    state = store.call(looking.job("again", 0))
    assert state is not None
    assert state.state == "queued"


def test_finishing_a_run_of_a_deleted_batch_leaves_nothing_behind(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "gone", 1)
    assert store.call(_claim(store, "ann", 1)) is not None
    store.call(steering.delete("gone"))
    note = FailureNote(0, "digest", "{}")
    request = running.finish("ann", 1, "gone", (0, 1), 0.1, [("0", b"outcome")], [note])
    assert store.call(request) == "gone"
    assert store.run("KEYS", store.key("batch:*")) == [store.key("batch:gone:deleted")]


def test_a_claim_that_comes_again_after_its_run_was_finished_takes_nothing(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "late", 2)
    claimed = store.call(_claim(store, "ann", 1))
    assert isinstance(claimed, Claimed)
    _fail(store, "ann", claimed)
    assert store.call(_claim(store, "ann", 1)) == USED


def test_a_worker_takes_a_suspect_that_runs_alone_when_it_has_nothing_else(store: Store) -> None:
    for name in ("ann", "bob", "cid"):
        store.call(running.register(name, {}))
    _submit(store, "busy", 1)
    busy = store.call(_claim(store, "cid", 1))
    assert isinstance(busy, Claimed)
    _submit(store, "suspect", 1)
    for name in ("ann", "bob"):
        assert store.call(_claim(store, name, 1)) is not None
        store.call(running.reap(name, None, "killed"))
    assert store.call(_claim(store, "cid", 2)) is None, "it empties itself"
    _fail(store, "cid", busy)
    alone = store.call(_claim(store, "cid", 3))
    assert isinstance(alone, Claimed)
    assert (alone.batch, alone.kind) == ("suspect", "x")


def test_to_retry_one_job_of_a_canceled_batch_lets_those_that_still_run_be_canceled(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "canceled", 3)
    claimed = store.call(_claim(store, "ann", 1))
    assert isinstance(claimed, Claimed)
    assert (claimed.start, claimed.stop) == (0, 1)
    store.call(steering.cancel("canceled", "enough"))
    assert store.call(steering.retry("canceled", new_token(), 2)) == Retried(1, has_more=False, broken=0)
    store.call(running.release("ann", 1, (0, 1)))
    states = [store.call(looking.job("canceled", index)) for index in range(3)]
    assert [state.state for state in states if state] == ["canceled", "canceled", "queued"]


def test_a_function_that_is_given_to_an_ended_batch_expires_with_it(store: Store) -> None:
    (function, *_) = FUNCTIONS
    _submit(store, "ended", 1)
    store.call(steering.cancel("ended", "enough"))
    assert store.call(steering.mend("ended", b"names", {function: b""})).answer == "code"
    assert store.call(steering.mend("ended", b"names", {function: b"record"})).answer == "ok"
    for key in (f"code:{function.hex()}", "batch:ended:mended"):
        assert store.run("TTL", store.key(key)) >= store.run("TTL", store.key("batch:ended")) > 0
    assert not store.run("EXISTS", store.key(f"code:{function.hex()}:batches"))


def test_at_most_a_thousand_canceled_jobs_are_given_a_function_at_once(store: Store) -> None:
    _submit(store, "canceled", 2500)
    store.call(steering.cancel("canceled", "enough"))
    number = store.call(steering.mend("canceled", b"names", {})).number
    answers = [store.call(steering.retry("canceled", new_token(), None, number)) for _ in range(3)]
    assert [(one.count, one.has_more) for one in answers] == [(1000, True), (1000, True), (500, False)]


def test_what_has_waited_for_too_long_is_given_up_a_thousand_at_a_time_and_none_of_it_starts(store: Store) -> None:
    store.call(running.register("ann", {}))
    opening = Opening("late", new_token(), "first", ENVIRONMENT, 1, "{}", ttl=1000)
    store.call(submitting.submit(opening, 0, 3500, {}, [("b0", b"call")], is_last=True))
    store.run("ZADD", store.key("batch:late:ttl"), "XX", 1000, "0-3500")
    store.run("ZADD", store.key(f"queue:first:{ENVIRONMENT}:ttl"), "XX", 1000, "late")
    answers = []
    while not answers or answers[-1] is not None:
        answers.append(store.call(_claim(store, "ann", len(answers) + 1)))
    assert answers == [Later(0.0)] * 3 + [None]
    state = store.batch("late")
    assert state is not None
    assert (state.failed, state.queued, state.done) == (3500, 0, True)
    assert [failure.count for failure in store.failures("late")] == [3500]


def test_a_claim_that_gives_up_a_part_leaves_the_order_of_what_still_waits(store: Store) -> None:
    opening = Opening("some", new_token(), "first", ENVIRONMENT, 1, "{}", ttl=1000)
    for first in range(0, 40, 10):
        store.call(submitting.submit(opening, first, 10, {}, [(f"b{first}", b"call")], is_last=True))
    store.run("RPUSH", store.key("batch:some:queued"), store.run("LPOP", store.key("batch:some:queued")))
    store.run("ZADD", store.key("batch:some:ttl"), "XX", 1000, "10-20", 1000, "20-30")
    store.run("ZADD", store.key(f"queue:first:{ENVIRONMENT}:ttl"), "XX", 1000, "some")
    assert not store.call(running.give_up(ENVIRONMENT, ["first"]))
    assert store.queued("some") == [(0, 10), (30, 40)]
    assert sorted(store.failed("some")) == list(range(10, 30))


def test_what_went_wrong_in_a_callback_is_kept_by_who_holds_the_lease_only(store: Store) -> None:
    for name in ("ann", "bob"):
        store.call(running.register(name, {}))
    _submit(store, "called", 2)
    claimed = store.call(_claim(store, "ann", 1))
    assert isinstance(claimed, Claimed)
    assert store.call(running.note_callback("bob", 1, "called", claimed.start, 1, "no")) == "lost"
    assert store.call(running.note_callback("ann", 1, "called", claimed.stop, 1, "no")) == "lost"
    assert store.callback_error("called", claimed.start) is None
    for _ in range(2):
        assert store.call(running.note_callback("ann", 1, "called", claimed.start, 1, "on_success: no")) == "ok"
    assert store.callback_error("called", claimed.start) == (1, "on_success: no")
    store.call(steering.delete("called"))
    assert store.call(running.note_callback("ann", 1, "called", claimed.start, 1, "no")) == "gone"


def test_failed_jobs_that_are_neighbours_are_queued_again_as_few_runs(store: Store) -> None:
    store.call(running.register("ann", {}))
    _submit(store, "failing", 20_000)
    for number in range(1, 1000):
        claimed = store.call(_claim(store, "ann", number))
        if claimed is None:
            break
        assert isinstance(claimed, Claimed)
        _fail(store, "ann", claimed)
    more = True
    while more:
        more = store.call(steering.retry("failing", new_token())).has_more
    runs = store.queued("failing")
    assert sum(stop - start for start, stop in runs) == 20_000
    assert len(runs) <= 200
