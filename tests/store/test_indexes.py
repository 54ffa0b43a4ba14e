"""Finding batches and counting jobs, however many have ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.server import embedded
from nbqueue.store import keys
from nbqueue.store.keys import new_token
from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.requests.looking import Counts
from nbqueue.store.requests.running import Claimed, FailureNote
from nbqueue.store.requests.submitting import Opening
from nbqueue.store.store import Store


@pytest.fixture
def store(namespace: str) -> Iterator[Store]:
    store = Store(embedded.ensure().url, namespace)
    yield store
    store.close()


def submit(store: Store, batch: str, count: int = 1, *, queue: str = "first", ttl: int = 5000) -> None:
    opening = Opening(batch, new_token(), queue, "here", 1, "{}", result_ttl=ttl)
    fields = [(f"b{index}", b"call") for index in range(count)]
    assert store.call(submitting.submit(opening, 0, count, {}, fields, is_last=True)).answer == "ok"


def end(store: Store, batch: str, *, failing: bool = False) -> None:
    """Run a job, of a worker of its own."""
    store.call(running.register(batch, {}))
    claimed = store.call(running.claim(batch, 1, "here", ["first"], children=1, target=1.0))
    assert isinstance(claimed, Claimed)
    assert claimed.batch == batch
    notes = [FailureNote(0, "digest", "{}")] if failing else []
    assert store.call(running.finish(batch, 1, batch, (0, 1), 0.001, [("0", b"outcome")], notes)) == "ok"
    store.call(running.reap(batch, None, ""))


def commands(store: Store, look: Callable[[], object]) -> int:
    """How many commands the server runs for it, those of scripts too."""

    def count() -> int:
        return sum(
            int(n) for n in re.findall(r"^cmdstat_.*:calls=(\d+)", store.run("INFO", "commandstats").decode(), re.M)
        )

    look()  # the script is known then
    before = count()
    look()
    return count() - before


def test_counting_reads_no_more_when_more_has_ended(store: Store) -> None:
    counted = []
    for upto in (10, 1000):
        for n in range(0 if upto == 10 else 10, upto):
            submit(store, f"b{n}")
            store.call(steering.cancel(f"b{n}", "enough"))
        submit(store, f"waiting{upto}", 3)
        found = [lambda: store.queue("first"), store.queues, lambda: store.batches(5)]
        counted.append([commands(store, look) for look in found])
    assert counted[0] == counted[1]
    assert store.queue("first").counts == Counts(queued=6, canceled=1000, batches=1002)
    assert [state.id for state in store.unfinished("first")] == ["waiting1000", "waiting10"]


def test_what_has_expired_is_not_counted_any_more(store: Store) -> None:
    submit(store, "good", ttl=1)
    end(store, "good")
    submit(store, "bad", ttl=1)
    end(store, "bad", failing=True)
    submit(store, "stays")
    assert store.queue("first").counts == Counts(queued=1, finished=1, failed=1, batches=3)
    wait_until(lambda: store.batch("good") is None and store.batch("bad") is None)
    assert store.queue("first").counts == Counts(queued=1, batches=1)
    assert [state.id for state in store.batches(10)] == ["stays"]


def test_none_of_many_that_have_expired_is_counted(store: Store) -> None:
    submit(store, "stays")
    for n in range(350):
        submit(store, f"b{n}", ttl=1)
        store.call(steering.cancel(f"b{n}", "enough"))
    wait_until(lambda: store.batch("b349") is None)
    (queue,) = store.queues()
    assert queue.counts == Counts(queued=1, batches=1)


def test_nothing_is_left_of_a_queue_whose_batches_have_all_expired(store: Store) -> None:
    submit(store, "one", ttl=1)
    end(store, "one")
    wait_until(lambda: store.batch("one") is None)
    assert store.queues() == []
    assert store.run("KEYS", store.key("queue:first:*jobs")) == []
    assert store.run("EXISTS", store.key("batches"), store.key("expiring"), store.key("expiring:jobs")) == 0


def test_a_batch_that_expired_and_is_deleted_then_is_not_counted_any_more(store: Store) -> None:
    submit(store, "one", ttl=1)
    end(store, "one")
    wait_until(lambda: store.batch("one") is None)
    assert store.call(steering.delete("one")) == -1
    assert store.run("EXISTS", store.key("batches"), store.key("queues")) == 0


def test_a_batch_that_runs_again_does_not_expire(store: Store) -> None:
    submit(store, "one", ttl=1)
    end(store, "one", failing=True)
    store.call(steering.retry("one", new_token()))
    assert store.run("ZCARD", store.key("expiring")) == 0
    assert store.queue("first").counts == Counts(queued=1, batches=1)
    end(store, "one")
    assert store.queue("first").counts == Counts(finished=1, batches=1)


def test_batches_of_a_queue_are_found_behind_those_of_others_the_newest_first(store: Store) -> None:
    for n in range(700):
        submit(store, f"m{n}")
    for n in range(700):
        submit(store, f"o{n}", queue="other")
    mine = [f"m{n}" for n in reversed(range(700))]
    others = [f"o{n}" for n in reversed(range(700))]
    assert [state.id for state in store.batches(3, "first")] == mine[:3]
    assert [state.id for state in store.batches(10**6, "first")] == mine
    assert [state.id for state in store.batches(1000)] == others + mine[:300]
    assert [state.name for state in store.queues()] == ["first", "other"]


def test_a_page_begins_where_the_one_before_ended_though_batches_came_and_went(store: Store) -> None:
    for n in range(6):
        submit(store, f"b{n}")
    page = store.call(looking.batches(2, "first"))
    assert [state.id for state in page.batches] == ["b5", "b4"]
    store.call(steering.delete("b4"))
    submit(store, "b6")
    page = store.call(looking.batches(2, "first", page.end))
    assert [state.id for state in page.batches] == ["b3", "b2"]
    page = store.call(looking.batches(2, "first", page.end))
    assert [state.id for state in page.batches] == ["b1", "b0"]
    assert page.end == ""


def test_a_batch_is_found_behind_many_that_have_expired(store: Store) -> None:
    submit(store, "old")
    for n in range(900):
        submit(store, f"e{n}")
        store.call(steering.cancel(f"e{n}", "enough"))
        store.run("DEL", store.key(f"batch:e{n}"))  # as if its time were over
    assert [state.id for state in store.batches(1, "first")] == ["old"]
    assert store.queue("first").counts == Counts(queued=1, batches=1)


def test_a_batch_of_an_older_version_is_told_in_words_and_hides_no_other(store: Store) -> None:
    store.run("HSET", store.key(keys.batch("a22222")), "total", 1, "about", "{}", "queue", "first")
    indexes = [store.key(index) for index in ("batches", "queue:first:batches")]
    for index in indexes:
        store.run("ZADD", index, 1, "a22222")
    submit(store, "b22222")
    assert [state.id for state in store.batches(10)] == ["b22222"]
    assert [state.id for state in store.batches(10, "first")] == ["b22222"]
    with pytest.raises(errors.CorruptPayload, match="a22222 was submitted by an older nbqueue.*submit it again"):
        store.batch("a22222")
    store.run("DEL", store.key(keys.batch("a22222")))
    for index in indexes:
        store.run("ZREM", index, "a22222")
