"""Large arguments and results, which no script touches, on the way there and back."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import cloudpickle
import pytest
from conftest import run_as_notebook

from nbqueue import errors
from nbqueue.server import embedded
from nbqueue.store.keys import new_token
from nbqueue.store.requests import running, submitting
from nbqueue.store.requests.submitting import Opening
from nbqueue.store.store import Store

LARGE = 300_000


@pytest.fixture
def q(remote):
    """On the embedded server, large values are in files: see tests/client/test_large_values.py."""
    return remote


@pytest.fixture
def worker(remote_worker):
    return remote_worker


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
    other = Queue(connection=q.store.url, key="k", namespace=q.namespace, progress=False)
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
    store = Store(embedded.ensure().url, namespace)
    opening = Opening("late", new_token(), "default", "here", 1, "{}")
    fields = [(f"b{index}", b"call") for index in range(1001)]
    request = submitting.submit(opening, 0, 1001, {}, fields, is_last=True, bulk_from=1)
    assert store.call(request).answer == "ok"
    store.call(running.register("ann", {}))
    for number in range(1, 2000):
        claimed = store.call(running.claim("ann", number, "here", ["default"], children=1, target=1.0))
        if claimed is None:
            break
        run = (claimed.start, claimed.stop)
        records = [(str(index), b"outcome") for index in range(*run)]
        assert store.call(running.finish("ann", number, "late", run, 0.001, records)) == "ok"
    assert not store.run("EXISTS", store.key("batch:late:calls:bulk"))
    assert store.call(request).answer == "ok"
    assert store.run("TTL", store.key("batch:late:calls:bulk")) > 0
    store.close()


def test_an_empty_value_and_many_buffers_come_through(q, worker):
    value = [b"", bytearray(), {"a": bytearray(LARGE), "b": [bytearray(70_000)] * 2}]

    def same(x):
        return x

    assert q.enqueue(same, value).result(30) == value


def test_a_result_is_what_its_call_returned_though_the_next_one_changes_the_same_object(q, worker):
    import numpy as np

    buffer, seen = np.zeros(3), []

    def filled(x):
        buffer[:] = x
        return buffer

    def collected(x):
        seen.append(x)
        return seen

    assert [list(array) for array in q.map(filled, range(300)).results(30)] == [[x] * 3 for x in range(300)]
    results = q.map(collected, range(300)).results(30)
    assert [result[-1] for result in results] == list(range(300))


def test_large_results_of_small_calls_are_recorded_one_by_one(q, worker):
    batch = q.map(lambda i: bytes([i % 251]) * LARGE, range(600))
    assert all(value == bytes([i % 251]) * LARGE for i, value in enumerate(batch))
    assert len(bulk(q, batch, "outcomes")) == 600
    batch = q.map(lambda i: bytearray([i % 251]) * LARGE, range(100))
    assert all(value == bytearray([i % 251]) * LARGE for i, value in enumerate(batch))
    assert len(bulk(q, batch, "outcomes")) == 100
    batch.delete()


def test_arrays_are_aligned_and_can_be_written_to_and_no_two_share_memory(q, worker):
    import numpy as np

    def describe(array, frame, again):
        told = [
            (part.flags.aligned, part.flags.writeable, bool((part == 3).all())) for part in (array, frame["a"], again)
        ]
        array[:], frame["a"][:] = 5, 5  # its own: what a retry is given is as it was
        return told, array, frame, again

    kinds = ["f8", "c16", "i2", "u1", "f4"]
    calls = [
        (
            np.full(99_999, 3, kind),
            {"a": np.full(77_777, 3, "f8"), "b": np.zeros(3, "u1"), "c": b"x"},
            np.full(70_001, 3),
        )
        for kind in kinds
    ]
    batch = q.starmap(describe, calls)
    for kind, (told, array, frame, again) in zip(kinds, batch, strict=True):
        assert told == [(True, True, True)] * 3
        assert array.dtype == kind
        assert (array == 5).all() and (frame["a"] == 5).all() and (again == 3).all()
        array[:], again[:] = 7, 7
    assert all((array == 5).all() for _, array, _, _ in batch)
    first, second = batch[0].return_value(), batch[0].return_value()
    first[1][:] = 0
    assert (second[1] == 5).all()
    job = next(batch.as_completed(30))
    job.result()[1][:] = 0
    assert (job.result()[1] == 5).all()
    assert (batch[1].args[0] == 3).all()


class Shared(bytearray):
    """As in the documentation of pickle: takes what it is given apart by its `obj`."""

    def __reduce_ex__(self, protocol):
        return type(self)._reconstruct, (pickle.PickleBuffer(self),), None

    @classmethod
    def _reconstruct(cls, obj):
        with memoryview(obj) as view:
            whole = view.obj
            return whole if type(whole) is cls else cls(whole)


def test_a_buffer_is_seen_as_just_itself_wherever_it_lies(q, worker):
    import numpy as np

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        values = [Shared(b"x" * 300_000), Shared(b"y" * 300_000)]
        found = q.map(lambda value: (len(value), bytes(value[:8]), value), values).results(30)
        assert found == [(300_000, b"x" * 8, values[0]), (300_000, b"y" * 8, values[1])]
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])

    def parts(x):
        return np.full(80_000, x, "u1"), np.full(300_000, x, "u1"), np.zeros(2_000_000)

    for x, arrays in enumerate(q.map(parts, range(3))):
        for array, size in zip(arrays, (80_000, 300_000, 16_000_000), strict=True):
            base = array.base
            while getattr(base, "base", None) is not None:
                base = base.base
            assert len(memoryview(memoryview(base).obj)) == size  # a small part of a large record is a copy
        assert (arrays[1] == x).all()


@pytest.mark.parametrize("form", ["list", "generator", "calls"])
def test_large_calls_behind_many_small_ones_are_submitted_a_few_at_a_time(q, worker, form, monkeypatch):
    import numpy as np

    from nbqueue.client.submission import Submission

    sizes = []
    send = Submission.send
    monkeypatch.setattr(
        Submission, "send", lambda self, **how: (sizes.append(self._ready.bytes), send(self, **how))[1]
    )  # fmt: skip
    items = [None] * 40 + [np.full(1_000_000, i, "u1") for i in range(50)] + [(1, 2), "x", b"y" * 2_000_000] * 3
    total = lambda item: -1 if item is None else len(item)  # noqa: E731
    if form == "calls":
        batch = q.enqueue_many([(total, (item,)) for item in items])
    else:
        batch = q.map(total, items if form == "list" else iter(items))
    assert batch.results(60) == [-1] * 40 + [1_000_000] * 50 + [2, 1, 2_000_000] * 3
    assert 1_000_000 < max(sizes) < 8_000_000
    assert (batch[60].args[0] == 20).all()
    batch.delete()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="what a process has had at most, /proc tells")
@pytest.mark.parametrize("way", ["batch", "(job.result() for job in batch.as_completed())"])
def test_large_results_are_iterated_with_bounded_memory(q, worker, way):
    batch = q.map(lambda i: bytes([i]) * 1_000_000, range(200)).wait(60)
    found = run_as_notebook(
        f"""
        import sys
        from pathlib import Path
        from nbqueue import Queue

        batch = Queue(connection=sys.argv[3], key="k", namespace=sys.argv[1], progress=False).batch(sys.argv[2])
        next(iter(batch))
        Path("/proc/self/clear_refs").write_text("5")

        def memory(name):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

        before = memory("VmRSS:")
        print(sorted(result[0] for result in {way}) == list(range(200)), memory("VmHWM:") - before)
        """,
        q.namespace,
        batch.id,
        q.store.url,
    )
    right, megabytes = found.stdout.split()
    assert right == "True"
    assert int(megabytes) < 60
    batch.delete()


@pytest.fixture
def small_pieces(monkeypatch):
    """What is longer than 100 KB is in pieces here, and in workers that are started with this code."""
    for module in ("payload.records", "store.link", "store.store", "worker.supplies"):
        monkeypatch.setattr(f"nbqueue.{module}.PIECE", 100_000)
    return "import nbqueue.payload.records as records; records.PIECE = 100_000"


@pytest.mark.parametrize("size", [90_000, 99_900, 100_000, 250_000, 1_000_000])
def test_what_redis_would_not_take_as_one_value_is_in_pieces(q, workers, small_pieces, size):
    workers.start("--url", q.store.url, "--namespace", q.session.namespace, first=small_pieces, NBQUEUE_KEY="k")
    table = bytes(size - 1) + b"z"

    def look(x, given=b""):
        return len(table), table[-1:], len(given), given[-1:], x

    expected = (size, b"z", 0, b"")
    assert q.map(look, range(3)).results(timeout=30) == [(*expected, x) for x in range(3)]
    batch = q.starmap(look, [(x, bytes([x]) * size) for x in range(4)])
    assert batch.results(timeout=30) == [(size, b"z", size, bytes([x]), x) for x in range(4)]
    assert [job.args[1][-1] for job in batch.jobs] == [0, 1, 2, 3]
    results = q.map(lambda x: bytes([x]) * size, range(4))
    assert results.results(timeout=30) == [bytes([x]) * size for x in range(4)]
    assert results[2].result() == bytes([2]) * size
    job = q.enqueue(look, 7, table)
    assert job.result(timeout=30) == (size, b"z", size, b"z", 7)
    assert job.func_name.endswith("look")
    for one in (batch, results):
        one[1].delete()
        assert len(one.results(errors="skip")) == 3
    assert not any(b":1+" in name or name.endswith(b":1") for name in bulk(q, results, "outcomes"))
    for each in q.batches():
        each.delete()
    assert not q.store.run("KEYS", q.store.key("batch:*bulk"))


def test_a_piece_that_is_gone_is_the_error_of_its_job(q, workers, small_pieces):
    batch = q.map(len, [bytes(250_000), bytes(250_001)])
    (key,) = q.store.run("KEYS", q.store.key("batch:*:calls:bulk"))
    (name,) = [name for name in q.store.run("HKEYS", key) if name.endswith(b"b0+1")]
    q.store.run("HDEL", key, name)
    workers.start("--url", q.store.url, "--namespace", q.session.namespace, first=small_pieces, NBQUEUE_KEY="k")
    assert batch.results(timeout=30, errors="skip") == [250_001]
    with pytest.raises(errors.CorruptPayload, match="is not there any more"):
        batch[0].result(timeout=30)
    workers.end()
