"""Values that are larger than what Redis takes as one value: real ones.

On two slow cores they take half a minute, and hold some 5 GB at most, all together: client, server, worker and
child each have the value once or twice. Where less memory is free they are skipped (see conftest.py).
"""

from __future__ import annotations

import numpy as np
import pytest

from nbqueue import Queue

pytestmark = [pytest.mark.large(gigabytes=6), pytest.mark.filterwarnings("ignore::nbqueue.errors.LargeWarning")]

SIZE = 600_000_000


@pytest.fixture
def large(private, workers):
    """A queue with a worker of one child, on a server that keeps nothing on disk."""
    own = private("--appendonly", "no")
    queue = Queue(connection=own.url, key="k", progress=False)
    workers.start("--url", own.url, "--namespace", queue.namespace, children=1, NBQUEUE_KEY="k")
    yield queue
    workers.end()
    queue.close()


def test_an_argument_a_result_and_a_closure_of_more_than_redis_takes_as_one_value(large):
    value = np.zeros(SIZE, np.uint8)
    value[-1] = 7
    job = large.enqueue(lambda given: (given.nbytes, int(given[-1])), value)
    assert job.result(timeout=120) == (SIZE, 7)
    job.delete()
    job = large.enqueue(np.full, SIZE, 5, np.uint8)
    result = job.result(timeout=120)
    assert (result.nbytes, int(result[0]), int(result[-1])) == (SIZE, 5, 5)
    del result
    job.delete()
    assert large.map(lambda x: int(value[x]), [0, -1]).results(timeout=120) == [0, 7]


def test_the_same_on_the_embedded_server(q, worker):
    value = np.zeros(SIZE, np.uint8)
    value[-1] = 7
    assert q.map(lambda x: int(value[x]), [0, -1]).results(timeout=120) == [0, 7]
    batch = q.map(np.full, [SIZE], [5], [np.uint8])
    (result,) = batch.results(timeout=120)
    assert (result.nbytes, int(result[0]), int(result[-1])) == (SIZE, 5, 5)
    batch.delete()
