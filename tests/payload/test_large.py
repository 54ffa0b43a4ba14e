"""Values as large as Redis takes, and larger: real ones.

On two slow cores they take 35 seconds, and hold 3.3 GB at most, all processes together: client, server, worker and
child each have the value once or twice. Where less memory is free they are skipped (see conftest.py).
"""

from __future__ import annotations

import pickle

import pytest

from nbqueue import Queue, errors
from nbqueue.payload.records import LIMIT

pytestmark = pytest.mark.large(gigabytes=4)


ARGUMENT = LIMIT - len(pickle.dumps((bytes(2**20),), 5)) + 2**20
RESULT = LIMIT - len(pickle.dumps([bytes(2**20)], 5)) + 2**20
"""Bytes of which the pickle is as large as it may be, as the only argument of a call, and as its result."""


@pytest.fixture
def large(private, workers):
    """A queue with a worker of one child, on a server that keeps nothing on disk."""
    own = private("--appendonly", "no")
    queue = Queue(connection=own.url, key="k", progress=False)
    workers.start("--url", own.url, "--namespace", queue.namespace, children=1, NBQUEUE_KEY="k")
    yield queue
    workers.end()
    queue.close()


def test_an_argument_above_the_limit_is_refused_before_anything_is_sent(large):
    value = bytes(ARGUMENT + 1)
    with pytest.raises(errors.TooLarge, match="arguments.*512 MB pickled, and Redis stores at most 512 MB"):
        large.enqueue(len, value)
    with pytest.raises(errors.TooLarge, match="call 1: the arguments"):
        large.map(len, [b"small", value])
    assert large.batches() == []
    assert large.enqueue(abs, -1).result(timeout=20) == 1


def test_a_result_above_the_limit_fails_its_job_and_no_other(large):
    batch = large.map(bytes, [3, RESULT + 1, 5]).wait(60)
    with pytest.raises(errors.TooLarge, match="the result: 512 MB pickled, and Redis stores at most 512 MB"):
        batch[1].result()
    assert batch.results(errors="skip") == [bytes(3), bytes(5)]
    assert [job.attempt for job in batch.jobs] == [1, 1, 1]


def test_an_array_above_the_limit_is_refused_both_ways(large):
    import numpy as np

    with pytest.raises(errors.TooLarge, match="arguments"):
        large.enqueue(len, np.zeros(LIMIT + 1, np.uint8))
    with pytest.raises(errors.TooLarge, match="result"):
        large.enqueue(np.zeros, LIMIT + 1, np.uint8).result(timeout=60)


def test_an_argument_that_just_fits_arrives(large):
    assert large.enqueue(len, bytes(ARGUMENT)).result(timeout=60) == ARGUMENT


def test_a_result_that_just_fits_comes_back(large):
    result = large.enqueue(bytes, RESULT).result(timeout=60)
    assert len(result) == RESULT
    assert not any(result[:: 2**20])
