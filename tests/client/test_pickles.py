"""Queues, batches and jobs are pickled and copied as their ids: whoever reads one comes back to what is in Redis."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import pickletools
import sys
import types
from pathlib import Path

import pytest
import redis
from conftest import run_as_notebook

from nbqueue import Queue, errors
from nbqueue.cells.run import pack_cell
from nbqueue.client.cell_job import CellJob
from nbqueue.store.description import CellDescription


def again(value):
    return pickle.loads(pickle.dumps(value))


def fail(x):
    if x % 2:
        raise ValueError("odd")
    return x


WAYS = (again, copy.copy, copy.deepcopy)


def test_a_batch_comes_back_with_its_results(q, worker):
    batch = q.map(abs, [-1, -2])
    for way in WAYS:
        found = way(batch)
        assert found is not batch
        assert found.results(30) == [1, 2]
        assert (found, hash(found), repr(found), found.label) == (batch, hash(batch), repr(batch), batch.label)
        assert found.jobs == batch.jobs


def test_a_job_comes_back_with_its_result(q, worker):
    job = q.enqueue(abs, -3)
    for way in WAYS:
        found = way(job)
        assert found is not job
        assert found.result(30) == 3
        assert (found, hash(found), found.id, found.batch) == (job, hash(job), job.id, job.batch)
        assert way(found).return_value() == 3, "one whose outcome was read"


def test_a_queue_comes_back_with_its_settings(namespace, worker):
    q = Queue("default", namespace=namespace, environment=None, progress=False)
    for way in WAYS:
        found = way(q)
        assert (found.name, found.namespace, found.environment) == (q.name, q.namespace, q.environment)
        assert found.map(abs, [-4]).results(30) == [4]
        assert found.last() == q.last()
        other = way(Queue("other", namespace=namespace, environment="gpu", progress="bar"))
        assert (other.name, other.environment, other._progress) == ("other", "gpu", "bar")
        for queue in (q, found, other):
            queue.close()


def test_the_options_of_a_queue_come_back(q, worker):
    for way in WAYS:
        batch = way(q.options(label="with options", priority=2)).map(abs, [-5])
        assert (batch.label, batch.results(30)) == ("with options", [5])


def test_how_a_batch_shows_progress_is_kept(q, worker):
    for way in WAYS:
        for progress in ("bar", "auto", False):
            batch = q.map(abs, [-1], progress=progress)
            assert way(batch).shows == progress
            assert way(batch[0]).batch.shows == progress


def test_groups_of_failures_and_lines_come_back(q, worker):
    batch = q.map(fail, range(4)).wait(30)
    (group,) = batch.failures()
    for way in WAYS:
        found = way(group)
        assert found == group and (found.count, found.job.id) == (2, group.job.id)
        q.map(print, ["said"]).wait(30)
        lines = q.last().output()
        assert way(lines) == lines


def test_the_job_of_a_cell_stays_one(q, worker):
    packed = pack_cell({"x": 1}, {})
    job = q.enqueue_cell("y = x + 1\ny", packed, CellDescription(returns=("y",)), label="cell")
    for way in WAYS:
        found = way(job)
        assert type(found) is CellJob
        assert found.result(60) == 2
        assert found.variables == {"y": 2}


def test_what_is_read_together_or_apart_shares_one_session(q):
    batch = q.map(abs, range(100))
    one, other = again(batch.jobs), again(batch.jobs)
    assert len({id(job.batch.session) for job in [*one, *other]}) == 1
    assert one == batch.jobs and {*one} == {*batch.jobs}
    text = pickle.dumps(batch.jobs)
    assert len([code for code, *_ in pickletools.genops(text) if code.name == "REDUCE"]) < 110
    assert len(text) < 3000


def test_a_copy_shares_the_session_of_the_original(q):
    batch = q.map(abs, [1])
    for value in (copy.copy(batch), copy.deepcopy(batch), copy.deepcopy([batch[0]])[0].batch):
        assert value.session is q.session
    assert copy.deepcopy(q).session is q.session


def test_another_process_reads_the_results(q, worker, tmp_path: Path):
    batch = q.map(fail, [0, 1, 2])
    (tmp_path / "kept").write_bytes(pickle.dumps({"queue": q, "batch": batch, "job": batch[2]}))
    code = """
        import pickle, sys
        from pathlib import Path
        kept = pickle.loads(Path(sys.argv[1]).read_bytes())
        print(kept["batch"].results(30, errors="skip"), kept["job"].result(30), kept["queue"].last() == kept["batch"])
        print(kept["batch"].session is kept["queue"].session is kept["job"].batch.session)
    """
    done = run_as_notebook(code, str(tmp_path / "kept"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[0, 2] 2 True", "True"]


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_pool_of_processes_waits_for_jobs(q, worker, start):
    if start == "fork" and sys.platform != "linux":
        pytest.skip("forks are for Linux")
    jobs = q.map(abs, [-1, -2, -3]).jobs
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.map(result_of, jobs) == [1, 2, 3]


def result_of(job):
    return job.result(30)


def test_the_key_does_not_go_along(private, monkeypatch):
    own = private()
    monkeypatch.delenv("NBQUEUE_KEY", raising=False)
    q = Queue(connection=own.url, key="very secret", progress=False)
    batch = q.map(abs, [-1])
    assert b"very secret" not in pickle.dumps([q, batch, batch[0]])
    with pytest.raises(errors.SignatureError):
        again(batch[0]).args  # noqa: B018
    monkeypatch.setenv("NBQUEUE_KEY", "very secret")
    fresh = again(batch[0])
    fresh.batch.session.close()
    for queue in (q, fresh.batch.session):
        queue.close()


def test_a_queue_of_a_client_is_refused_in_words(private):
    own = private()
    client = redis.Redis(unix_socket_path=str(own.socket))
    q = Queue(connection=client, key="k", progress=False)
    batch = q.map(abs, [-1])
    for value in (q, batch, batch[0]):
        with pytest.raises(errors.CannotPickle, match=r"a redis.Redis cannot be pickled.*Queue\(connection='redis://"):
            pickle.dumps(value)
        assert copy.copy(value) is not value, "a copy has the same client"
    q.close()
    client.close()


def test_what_goes_to_workers_is_refused_all_the_same(q):
    batch = q.map(abs, [1])
    for value in (q, types.SimpleNamespace(batch=batch), types.SimpleNamespace(job=batch[0])):
        with pytest.raises(errors.CannotPickle, match="from nbqueue import q"):
            q.enqueue(id, value)
