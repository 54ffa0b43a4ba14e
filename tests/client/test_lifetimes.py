"""How long outcomes are kept."""

from __future__ import annotations

import pytest
from conftest import wait_until

from nbqueue import errors


def ttl_of(q, batch) -> int:
    return q.store.run("TTL", q.store.key(f"batch:{batch.id}"))


def is_expiring(q, batch) -> bool:
    return q.store.run("ZSCORE", q.store.key("expiring"), batch.id) is not None


def test_for_a_week_or_as_long_as_is_said(q, worker):
    assert 7 * 86400 - 60 < ttl_of(q, q.map(abs, [1]).wait(20)) <= 7 * 86400
    assert 3500 < ttl_of(q, q.map(abs, [1], result_ttl="1h").wait(20)) <= 3600


def test_for_ever(q, worker):
    batch = q.map(abs, [-1, -2], result_ttl=-1).wait(20)
    assert ttl_of(q, batch) == -1
    assert not is_expiring(q, batch)
    assert {q.store.run("TTL", key) for key in q.store.run("KEYS", q.store.key(f"batch:{batch.id}*"))} == {-1}
    assert {q.store.run("TTL", key) for key in q.store.run("KEYS", q.store.key("code:*"))} == {-1}
    assert batch.results() == [1, 2]
    batch.delete()
    assert q.batches() == []


def test_failures_for_another_time(q, worker):
    def work(x):
        return 1 / x

    fine, failed = (q.map(work, [x], result_ttl=100, failure_ttl=-1).wait(20) for x in (1, 0))
    assert 0 < ttl_of(q, fine) <= 100
    assert ttl_of(q, failed) == -1
    short = q.map(work, [0], failure_ttl=50).wait(20)
    assert 0 < ttl_of(q, short) <= 50
    failed.delete()


def test_for_a_moment_in_which_who_waits_reads_it(q, worker):
    job = q.enqueue(abs, -3, result_ttl=0)
    assert job.result(timeout=20) == 3
    wait_until(lambda: not q.store.run("EXISTS", q.store.key(f"batch:{job.batch.id}")))
    with pytest.raises(errors.NotFound):
        q.fetch_job(job.id)
