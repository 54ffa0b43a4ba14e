"""Batches share the time of the workers. Durations are pretended: a test tells `finish` what the jobs took."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from nbqueue.server import embedded
from nbqueue.store.keys import new_token
from nbqueue.store.requests import running, steering, submitting
from nbqueue.store.requests.running import Claimed
from nbqueue.store.requests.submitting import Opening
from nbqueue.store.store import Store

TARGET = 0.05
"""Seconds of work that a claim asks for."""


class Shop:
    """Batches whose jobs take a known time, and a worker with one child that pretends to run them."""

    def __init__(self, namespace: str) -> None:
        self.store = Store(embedded.ensure().url, namespace)
        self.durations: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        self.order: list[tuple[str, int]] = []
        """Batch and number of jobs, in the order of claiming."""
        self._numbers = itertools.count(1)
        self.store.call(running.register("ann", {}))

    def submit(self, batch: str, count: int, seconds: float, *, weight: float = 1.0, at_front: bool = False) -> None:
        opening = Opening(batch, new_token(), "default", "here", 1, "{}", weight)
        request = submitting.submit(opening, 0, count, {}, [], is_last=True, at_front=at_front)
        assert self.store.call(request).answer == "ok"
        self.durations[batch] = seconds
        self.spent[batch] = 0.0

    def claim(self) -> Claimed:
        request = running.claim("ann", next(self._numbers), "here", ["default"], children=1, target=TARGET)
        claimed = self.store.call(request)
        assert isinstance(claimed, Claimed)
        self.order.append((claimed.batch, claimed.stop - claimed.start))
        return claimed

    def finish(self, claimed: Claimed) -> None:
        busy = (claimed.stop - claimed.start) * self.durations[claimed.batch]
        run = (claimed.start, claimed.stop)
        assert self.store.call(running.finish("ann", claimed.number, claimed.batch, run, busy, [])) == "ok"
        self.spent[claimed.batch] += busy

    def run(self, seconds: float) -> None:
        """Run what comes, one run after another, for so long."""
        until = sum(self.spent.values()) + seconds
        while sum(self.spent.values()) < until:
            self.finish(self.claim())


@pytest.fixture
def shop(namespace: str) -> Iterator[Shop]:
    shop = Shop(namespace)
    yield shop
    shop.store.close()


def test_between_two_long_jobs_short_ones_get_the_same_time(shop: Shop) -> None:
    shop.submit("long", 100, 1.0)
    shop.run(10)
    shop.submit("short", 1000, 0.001)
    shop.run(4)
    names = [name for name, _ in shop.order[10:]]
    assert names[0] == "short", "the first to be claimed is of the new batch"
    jobs_between = [
        sum(count for name, count in group if name == "short")
        for is_long, group in itertools.groupby(shop.order[10:], key=lambda taken: taken[0] == "long")
        if not is_long
    ]
    assert sum(jobs_between) == 1000
    assert sum(jobs_between[:2]) >= 900, f"short jobs between the long ones: {jobs_between}"


def test_two_batches_of_different_jobs_get_the_same_time(shop: Shop) -> None:
    shop.submit("long", 1000, 1.0)
    shop.submit("short", 100_000, 0.001)
    shop.run(60)
    assert shop.spent["short"] == pytest.approx(30, abs=2)
    assert shop.spent["long"] == pytest.approx(30, abs=2)


def test_a_batch_of_twice_the_weight_gets_twice_the_time(shop: Shop) -> None:
    shop.submit("heavy", 10_000, 0.1, weight=2.0)
    shop.submit("light", 10_000, 0.025)
    shop.run(90)
    assert shop.spent["heavy"] / shop.spent["light"] == pytest.approx(2, rel=0.05)


def test_one_job_behind_100_000_others_is_claimed_next(shop: Shop) -> None:
    shop.submit("large", 100_000, 0.002)
    shop.run(20)
    shop.submit("a-single", 1, 1.0)
    assert shop.claim().batch == "a-single"


def test_one_job_behind_100_000_others_is_claimed_next_while_runs_are_out(shop: Shop) -> None:
    shop.submit("large", 100_000, 0.002)
    shop.run(5)
    out = [shop.claim() for _ in range(8)]
    shop.submit("single", 1, 1.0)
    single = shop.claim()
    assert single.batch == "single"
    for claimed in [*out, single]:
        shop.finish(claimed)


def test_a_batch_whose_first_job_took_long_does_not_make_others_wait_for_the_correction(shop: Shop) -> None:
    shop.submit("large", 100_000, 5.0)  # the first imports something
    shop.run(5)
    shop.durations["large"] = 0.001
    for _ in range(20):
        for claimed in [shop.claim() for _ in range(8)]:
            shop.finish(claimed)
    shop.submit("single", 1, 1.0)
    taken = [shop.claim().batch for _ in range(3)]
    assert "single" in taken


def test_a_batch_that_comes_back_after_a_pause_has_no_credit_for_its_absence(shop: Shop) -> None:
    shop.submit("absent", 10_000, 0.1)
    shop.submit("present", 10_000, 0.1)
    shop.run(10)
    shop.store.call(steering.pause("absent"))
    before = dict(shop.spent)
    shop.run(30)
    assert shop.spent["absent"] == before["absent"]
    shop.store.call(steering.resume("absent"))
    before = dict(shop.spent)
    shop.run(20)
    assert shop.spent["absent"] - before["absent"] == pytest.approx(10, abs=0.5)
    assert shop.spent["present"] - before["present"] == pytest.approx(10, abs=0.5)


def test_a_batch_that_is_paused_and_resumed_all_the_time_gains_nothing(shop: Shop) -> None:
    shop.submit("restless", 10_000, 0.1)
    shop.submit("calm", 10_000, 0.1)
    for _ in range(100):
        shop.run(0.1)
        shop.store.call(steering.pause("restless"))
        shop.store.call(steering.resume("restless"))
    assert shop.spent["restless"] == pytest.approx(shop.spent["calm"], abs=0.5)


def test_a_batch_pays_for_what_its_jobs_took_not_for_what_was_expected(shop: Shop) -> None:
    shop.submit("long", 10, 100.0)
    shop.submit("other", 1000, 1.0)
    taken = [shop.claim() for _ in range(2)]
    assert {claimed.batch for claimed in taken} == {"long", "other"}
    for claimed in taken:
        shop.finish(claimed)
    shop.order.clear()
    shop.run(90)
    assert {name for name, _ in shop.order} == {"other"}


def test_a_batch_is_not_charged_for_runs_that_were_given_back(shop: Shop) -> None:
    shop.submit("returned", 10_000, 0.1)
    shop.submit("other", 10_000, 0.1)
    shop.run(10)
    while (claimed := shop.claim()).batch != "returned":
        shop.finish(claimed)
    for _ in range(20):
        shop.store.call(running.release("ann", claimed.number, (claimed.start, claimed.stop)))
        claimed = shop.claim()
        assert claimed.batch == "returned"


def test_a_batch_is_not_charged_for_runs_whose_worker_left(shop: Shop) -> None:
    shop.submit("returned", 10_000, 0.1)
    shop.submit("other", 10_000, 0.1)
    shop.run(10)
    while (claimed := shop.claim()).batch != "returned":
        shop.finish(claimed)
    for _ in range(20):
        shop.store.call(running.reap("ann", None, ""))
        shop.store.call(running.register("ann", {}))
        assert shop.claim().batch == "returned"


def test_many_jobs_at_the_front_do_not_take_the_queue_back_in_time(shop: Shop) -> None:
    shop.submit("usual", 100_000, 0.1)
    shop.run(50)
    opening = Opening("urgent", new_token(), "default", "here", 1, "{}")
    for index in range(200):
        shop.store.call(submitting.submit(opening, index, 1, {}, [], is_last=True, at_front=True))
    shop.durations["urgent"], shop.spent["urgent"] = 0.001, 0.0
    assert shop.claim().batch == "urgent"
    shop.submit("later", 100_000, 0.1)
    before = dict(shop.spent)
    shop.run(20)
    assert shop.spent["usual"] - before["usual"] >= 8, "a later batch has credit over one that waited"


def test_a_queue_that_stood_still_until_its_clock_expired_does_not_starve_what_waits(shop: Shop) -> None:
    shop.submit("waiting", 100_000, 0.1)
    shop.run(100)
    shop.store.run("DEL", shop.store.key("queue:default:here:clock"))
    shop.submit("new", 100_000, 0.1)
    before = dict(shop.spent)
    shop.run(20)
    assert shop.spent["waiting"] - before["waiting"] == pytest.approx(10, abs=0.5)


def test_batches_of_another_queue_wait_for_the_first_queue_of_a_worker(shop: Shop) -> None:
    opening = Opening("second", new_token(), "other", "here", 1, "{}")
    shop.store.call(submitting.submit(opening, 0, 1, {}, [], is_last=True))
    shop.submit("first", 3, 0.1)
    taken = []
    for number in range(100, 104):
        request = running.claim("ann", number, "here", ["default", "other"], children=1, target=TARGET)
        claimed = shop.store.call(request)
        assert isinstance(claimed, Claimed)
        taken.append(claimed.batch)
    assert taken == ["first", "first", "first", "second"]
