"""Packages that have other versions where jobs run: told before and beside the errors that they may explain."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest
from conftest import wait_until

from nbqueue.payload import versions
from nbqueue.payload.versions import differences, versions_of
from nbqueue.store.requests import looking
from nbqueue.view.snapshot import Follower, workers_of

NUMPY = importlib.metadata.version("numpy")


@pytest.fixture
def elsewhere(remote, workers, tmp_path):
    """A worker that is told that its numpy is an old one."""
    metadata = tmp_path / "site" / "numpy-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    yield workers.start(
        "--url", remote.store.url, "--namespace", remote.session.namespace, NBQUEUE_KEY="k",
        PYTHONPATH=str(tmp_path / "site"),
    )  # fmt: skip
    workers.end()


def test_other_versions_are_told_once_in_the_log_and_to_those_who_look(remote, elsewhere):
    batch = remote.map(lambda x: int(np.add(x, 1)), range(3))
    said = batch.description.versions
    assert (said["cloudpickle"], said["numpy"]) == (importlib.metadata.version("cloudpickle"), NUMPY)
    assert said.keys() <= {"cloudpickle", "numpy", "nbqueue"}
    assert batch.results(timeout=30) == [1, 2, 3]
    assert remote.enqueue(lambda: np.pi).result(timeout=30) == np.pi
    log = elsewhere.log.read_text()
    assert log.count(f"numpy is {NUMPY} on ") == 1
    assert log.count("where jobs are submitted, and 0.1 here") == 1
    (worker,) = wait_until(lambda: [one for one in remote.store.call(looking.workers()) if one.versions])
    assert worker.versions == {"numpy": "0.1"}
    seen = Follower(batch, "x").look(workers_of(remote.store), remote.session.now())
    assert seen.versions == (("numpy", NUMPY, "0.1"),)
    other = remote.map(abs, [-1])
    assert Follower(other, "x").look(workers_of(remote.store), remote.session.now()).versions == ()


def test_they_are_named_beside_errors_that_they_may_explain(remote, elsewhere):
    def newer():
        return np.not_there_yet

    def imported():
        from numpy import not_there_yet

        return not_there_yet

    def own():
        return object().size

    for function, kind in ((newer, AttributeError), (imported, ImportError), (own, AttributeError)):
        with pytest.raises(kind) as caught:
            remote.enqueue(function).result(timeout=30)
        notes = " ".join(getattr(caught.value, "__notes__", []))
        assert f"numpy is {NUMPY} where the job was submitted and 0.1 on " in notes


def test_nothing_is_told_where_versions_are_the_same(remote, remote_worker):
    def fail():
        return np.not_there_yet

    with pytest.raises(AttributeError) as caught:
        remote.enqueue(fail).result(timeout=30)
    assert not getattr(caught.value, "__notes__", [])
    assert "where jobs are submitted" not in remote_worker.log.read_text()


def test_packages_that_only_arguments_come_from_are_compared_too(remote, remote_worker):
    table = np.zeros(3)
    batches = [
        remote.map(len, [table]), remote.map(len, (table for _ in range(2))), remote.map(len, [[table]]),
        remote.enqueue_many([(len, (table,))]), remote.enqueue(len, table).batch,
    ]  # fmt: skip
    assert [batch.description.versions.get("numpy") for batch in batches] == [NUMPY] * len(batches)
    before = remote.enqueue(abs, -1)
    assert before.batch == batches[-1]
    plain = remote.enqueue(abs, -1, job_timeout=77)
    assert "numpy" not in plain.batch.description.versions
    told = remote.enqueue(len, table, job_timeout=77)
    assert told.batch != plain.batch
    assert told.batch.description.versions["numpy"] == NUMPY
    assert remote.enqueue(abs, -1, job_timeout=77).batch == told.batch
    assert [told.result(timeout=30), plain.result(timeout=30)] == [3, 1]


def test_on_the_embedded_server_there_is_nothing_to_compare(q):
    assert q.map(lambda: np.pi, []).description.versions == {}


def test_versions_are_those_of_what_is_installed():
    pytest.importorskip("sklearn")
    found = versions_of(["sklearn", "os", "numpy", "no_such_package", "__main__", ""])
    assert list(found) == ["numpy", "sklearn"]
    assert found["sklearn"] == importlib.metadata.version("scikit-learn")
    assert differences(found) == []
    assert differences({"numpy": "9", "no_such_package": "1"}) == [("numpy", "9", NUMPY), ("no_such_package", "1", "")]


def test_what_a_broken_installation_has_left_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "top_level.txt").write_text("broken_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    versions._version_of.cache_clear()
    versions._distributions.cache_clear()
    assert list(versions_of(["broken_package", "broken", "numpy"])) == ["numpy"]
    assert differences({"broken_package": "1"}) == [("broken_package", "1", "")]
    versions._version_of.cache_clear()
    versions._distributions.cache_clear()


def test_an_error_whose_words_raise_is_its_jobs_error(remote, remote_worker):
    class Broken(AttributeError):
        def __str__(self):
            raise RuntimeError("no words")

    def fail():
        raise Broken

    job = remote.enqueue(fail)
    with pytest.raises(Exception):  # noqa: B017 - whatever of it can be rebuilt
        job.result(timeout=30)
    assert job.attempt == 1
