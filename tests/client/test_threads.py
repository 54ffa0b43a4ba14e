"""A queue that several threads share: what one of them waits for keeps no other waiting, and nothing is mixed up."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from conftest import wait_until

from nbqueue import Queue
from nbqueue.view.snapshot import Follower, workers_of


class InThread(threading.Thread):
    """A call in a thread of its own, and what it returned."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self._call = call
        self.value = None
        self.error = None
        self.start()

    def run(self):
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error

    def result(self, timeout):
        self.join(timeout)
        assert not self.is_alive(), f"it takes longer than {timeout} seconds"
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture
def stopped(private):
    """A server that answers when it is told to go on, and a queue on it that has been used."""
    own = private()
    q = Queue(connection=own.url, key="k", progress=False)
    q.session.now()
    q.enqueue(abs, -1)

    def stop():
        os.kill(own.process.pid, signal.SIGSTOP)

    def stuck():
        """A thread that waits for the answer to an `enqueue`."""
        thread = InThread(lambda: q.enqueue(abs, -3))
        wait_until(lambda: not q.store._idle)  # it has taken the connection
        return thread

    own.queue, own.stop, own.stuck = q, stop, stuck
    own.go_on = lambda: os.kill(own.process.pid, signal.SIGCONT)
    yield own
    own.go_on()
    q.close()


NO_IO = {
    "its environment": lambda q, batch: q.environment,
    "where it is": lambda q, batch: (q.session.is_embedded, q.store.url, q.connection),
    "the time": lambda q, batch: q.session.now(),
    "its listener": lambda q, batch: q.session.listener,
    "a batch": lambda q, batch: (repr(batch), batch.id, repr(batch.session), q.session.per_block(batch.id)),
    "a panel before the first jobs": lambda q, batch: Follower(batch, "x").before(q.session.now()),
}


@pytest.mark.parametrize("what", NO_IO)
def test_an_enqueue_that_waits_for_its_answer_keeps_nobody_waiting(stopped, what):
    q = stopped.queue
    batch = q.enqueue(abs, -2).batch
    stopped.stop()
    stuck = stopped.stuck()
    others = [InThread(lambda: NO_IO[what](q, batch)) for _ in range(3)]
    for other in others:
        assert other.result(timeout=5)
    assert stuck.is_alive()
    stopped.go_on()
    assert (stuck.result(timeout=20).batch, stuck.value.index) == (batch, 2)


def test_a_look_at_another_server_goes_on_while_one_server_does_not_answer(stopped, q):
    """The same code of the same process, on a server that answers."""
    job = q.enqueue(abs, -1)
    stopped.stop()
    stuck = stopped.stuck()
    assert InThread(lambda: Follower(job.batch, "x").look(workers_of(q.store), q.session.now())).result(timeout=5)
    assert InThread(lambda: q.enqueue(abs, -2)).result(timeout=5).index == 1
    stopped.go_on()
    assert stuck.result(timeout=20)


def test_calls_of_several_threads_have_an_index_of_their_own_and_the_order_of_their_thread(q, workers):
    jobs = {}

    def submit(number):
        jobs[number] = []
        for i in range(100):
            options = {"job_timeout": 60} if i % 3 == 0 else {}
            jobs[number].append(q.enqueue(lambda n=number, i=i: (n, i), **options))  # a new function each time

    threads = [InThread(lambda number=number: submit(number)) for number in range(4)]
    for thread in threads:
        thread.result(timeout=60)
    assert len({job.id for ours in jobs.values() for job in ours}) == 400
    assert len({job.batch.id for ours in jobs.values() for job in ours}) == 2, "one batch for each kind of options"
    for ours in jobs.values():
        for batch in {job.batch.id for job in ours}:
            indexes = [job.index for job in ours if job.batch.id == batch]
            assert indexes == sorted(indexes)
    workers.start()
    for number, ours in jobs.items():
        assert [job.result(timeout=60) for job in ours] == [(number, i) for i in range(100)]


def test_a_queue_that_several_threads_use_first_at_once_connects_once(private):
    own = private()
    q = Queue(connection=own.url, key="k", progress=False)
    barrier = threading.Barrier(8)

    def use():
        barrier.wait()
        return q.store

    assert len({id(thread.result(timeout=20)) for thread in [InThread(use) for _ in range(8)]}) == 1
    q.close()


def test_a_fork_submits_while_another_thread_waits_for_its_answer(stopped):
    q = stopped.queue
    stopped.stop()
    stuck = stopped.stuck()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            threading.Timer(0.5, stopped.go_on).start()
            status = 0 if q.enqueue(abs, -7).index == 0 else 1
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(found[1]) == 0
    assert stuck.result(timeout=20).index == 1
