"""`send_stop_job_command`: RQ's way to stop a job that runs."""

from __future__ import annotations

import time

import pytest
from conftest import wait_until

from nbqueue import errors, send_stop_job_command


def run_until_stopped(directory):
    (directory / "begun").touch()
    try:
        while True:
            time.sleep(0.01)
    finally:
        (directory / "cleaned up").touch()


def test_a_job_that_runs_is_stopped(q, worker, tmp_path):
    job = q.enqueue(run_until_stopped, tmp_path)
    wait_until((tmp_path / "begun").exists)
    send_stop_job_command(q, job.id)
    with pytest.raises(errors.JobCanceled):
        job.result(timeout=30)
    assert (tmp_path / "cleaned up").exists()
    assert job.is_canceled
    with pytest.raises(errors.UsageError, match=f"job {job.id} is canceled, and only a job that runs can be stopped$"):
        send_stop_job_command(q, job.id)


def test_by_url_and_by_client(remote, remote_worker, tmp_path, namespace):
    for number, connection in enumerate((remote, remote.connection)):
        directory = tmp_path / str(number)
        directory.mkdir()
        job = remote.enqueue(run_until_stopped, directory)
        wait_until((directory / "begun").exists)
        if connection is remote:
            send_stop_job_command(connection, job.id)
            assert job.wait(30).is_canceled
        else:  # whose namespace is another one
            with pytest.raises(errors.NotFound):
                send_stop_job_command(connection, job.id)
            job.cancel()


def test_what_does_not_run_is_refused_in_words(q, workers):
    job = q.enqueue(abs, -1)
    later = q.enqueue_in("1h", abs, -1)
    with pytest.raises(errors.UsageError, match=r"is queued, and only .* job.cancel\(\) takes it back") as caught:
        send_stop_job_command(q, job.id)
    assert caught.value.job_id == job.id
    with pytest.raises(errors.UsageError, match="is scheduled"):
        send_stop_job_command(q, later.id)
    later.cancel()
    workers.start("--burst").wait(30)
    with pytest.raises(errors.UsageError, match="is finished, and only a job that runs can be stopped$"):
        send_stop_job_command(q, job.id)
    for id in ("zzzzzz:0", "nothing"):
        with pytest.raises(errors.NotFound):
            send_stop_job_command(q, id)
