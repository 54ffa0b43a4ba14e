"""Large arguments and results, which no script touches, on the way there and back."""

from __future__ import annotations

import pytest

from nbqueue import errors, server, transitions
from nbqueue.store import Store, new_token
from nbqueue.transitions import Opening

LARGE = 300_000


def bulk(q, batch, kind):
    return q.store.run("HKEYS", q.store.key(f"batch:{batch.id}:{kind}:bulk"))


def test_large_arguments_and_results_come_through_and_wait_apart_from_small_ones(q, worker):
    sizes = [10, LARGE, 20, 2 * LARGE]
    batch = q.map(len, [b"x" * size for size in sizes])
    assert batch.results(30) == sizes
    assert len(bulk(q, batch, "calls")) == 2
    assert batch[1].args == (b"x" * LARGE,)
    assert batch[2].args == (b"x" * 20,)
    batch = q.map(lambda i: bytes([i]) * LARGE, range(4))
    assert batch.results(30) == [bytes([i]) * LARGE for i in range(4)]
    assert len(bulk(q, batch, "outcomes")) == 4
    assert not bulk(q, batch, "calls")


def test_calls_of_one_block_some_large_with_keyword_arguments(q, worker):
    def weigh(data, mark):
        return len(data) + mark

    sizes = [5] * 20 + [LARGE, 5, LARGE]
    batch = q.enqueue_many([(weigh, (), {"data": bytes(size), "mark": i}) for i, size in enumerate(sizes)])
    assert batch.results(30) == [size + i for i, size in enumerate(sizes)]
    assert len(bulk(q, batch, "calls")) == 2
    assert batch[22].kwargs == {"data": bytes(LARGE), "mark": 22}


def test_a_large_job_of_enqueue_is_read_by_itself_in_the_order_of_ending_and_from_elsewhere(q, worker):
    from nbqueue import Queue

    def marked(data):
        data[0] ^= 255
        return data

    job = q.enqueue(marked, bytearray(LARGE))
    result = job.result(30)
    assert (result[0], len(result)) == (255, LARGE)
    other = Queue(namespace=q.namespace, progress=False)
    found = other.fetch_job(job.id)
    assert found.is_finished
    assert found.return_value() == result
    assert [done.result() for done in other.batch(job.batch.id).as_completed(30)] == [result]
    other.close()


def test_what_is_deleted_takes_its_bulk_with_it(q, worker):
    batch = q.enqueue_many([(bytearray, (bytes(LARGE),)) for _ in range(3)])
    batch.wait(30)
    batch[1].delete()
    assert (len(bulk(q, batch, "calls")), len(bulk(q, batch, "outcomes"))) == (2, 2)
    with pytest.raises(errors.ResultExpired):
        batch[1].result(5)
    assert len(batch[0].result(5)) == LARGE
    batch.delete()
    assert not q.store.run("KEYS", q.store.key(f"batch:{batch.id}:*bulk"))


def test_calls_freed_at_the_end_are_not_left_behind_by_a_submission_that_comes_again(namespace):
    store = Store(server.ensure().url, namespace)
    opening = Opening("late", new_token(), "default", "here", 1, "{}")
    fields = [(f"b{index}", b"call") for index in range(1001)]
    request = transitions.submit(opening, 0, 1001, {}, fields, is_last=True, bulk_from=1)
    assert store.call(request).answer == "ok"
    store.call(transitions.register("ann", {}))
    for number in range(1, 2000):
        claimed = store.call(transitions.claim("ann", number, "here", ["default"], children=1, target=1.0))
        if claimed is None:
            break
        run = (claimed.start, claimed.stop)
        records = [(str(index), b"outcome") for index in range(*run)]
        assert store.call(transitions.finish("ann", number, "late", run, 0.001, records)) == "ok"
    assert not store.run("EXISTS", store.key("batch:late:calls:bulk"))
    assert store.call(request).answer == "ok"
    assert store.run("TTL", store.key("batch:late:calls:bulk")) > 0
    store.close()


def test_an_empty_value_and_many_buffers_come_through(q, worker):
    value = [b"", bytearray(), {"a": bytearray(LARGE), "b": [bytearray(70_000)] * 2}]

    def same(x):
        return x

    assert q.enqueue(same, value).result(30) == value
