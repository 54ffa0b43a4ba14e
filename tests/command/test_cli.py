"""The command line, from outside: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import errors
from nbqueue.server import embedded


@pytest.fixture
def run(namespace):
    """Run `nbqueue` in the test's namespace."""

    def run(*arguments, own=True, **environment):
        where = ["--namespace", namespace] if own else []
        return subprocess.run(
            [sys.executable, "-m", "nbqueue", *arguments, *where],
            capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
        )  # fmt: skip

    return run


def is_mistake(done, *words):
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("nbqueue: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


# What a user gets wrong


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nonsense"], ["No such command", "nonsense"]),
        (["--nonsense"], ["--nonsense"]),
        (["worker", "-n", "0"], ["0 is not in the range"]),
        (["worker", "-n", "many"], ["many"]),
        (["worker", "--max-jobs", "-1"], ["-1"]),
        (["worker", "--max-idle-time", "nan"], ["nan", "seconds above 0"]),
        (["worker", "--name", "a b"], ["a b"]),
        (["worker", "a:b"], ["a:b"]),
        (["info", "--namespace", "a{b"], ["a{b"]),
        (["info", "-i", "0"], ["seconds above 0"]),
        (["info", "-i", "-1"], ["seconds above 0"]),
        (["info", "-i", "soon"], ["soon"]),
        (["requeue"], ["--all"]),
        (["requeue", "k3f9x2", "--all"], ["either the ID"]),
        (["requeue", "--all", "-q", "a:b"], ["a:b"]),
        (["batch"], ["Missing argument"]),
        (["demo", "/nonexistent/folder"], ["does not exist"]),
        (["demo", "-n", "0"], ["0 is not in the range"]),
        (["info", "-u", ""], ["redis://"]),
        (["info", "-u", "http://localhost"], ["http://localhost", "redis://"]),
        (["info", "-u", "redis://localhost:port"], ["port"]),
        (["info", "-u", "redis://localhost:99999"], ["Port"]),
        (["info", "-u", "redis://localhost?nonsense=1"], ["nonsense"]),
        (["worker", "-u", "http://localhost"], ["http://localhost"]),
    ],
)
def test_a_mistake_is_told_in_one_line(run, arguments, words):
    is_mistake(run(*arguments, own=False), *words)


@pytest.mark.parametrize("command", ["batch", "cancel", "retry", "requeue"])
def test_an_unknown_batch_is_a_mistake(run, command):
    is_mistake(run(command, "nosuch"), "there is no batch nosuch")


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_an_unknown_job_is_a_mistake_and_nothing_happens_to_its_batch(q, run, command):
    batch = q.map(abs, range(3))
    is_mistake(run(command, f"{batch.id}:3"), "has 3 jobs")
    is_mistake(run(command, f"{batch.id}:"), "is not the id of a job")
    assert batch.counts["queued"] == 3


def test_an_unknown_queue_is_a_mistake_that_names_those_there_are(q, run):
    q.map(abs, range(3))
    is_mistake(run("empty", "nosuch"), "there is no queue nosuch", "there are: default")


@pytest.mark.parametrize("arguments", [["info"], ["batch", "k3f9x2"], ["empty", "default"], ["demo"]])
def test_a_server_that_cannot_be_reached_is_told_with_its_url(run, arguments):
    done = run(*arguments, own=False, NBQUEUE_URL="redis://:secret@localhost:1")
    is_mistake(done, "redis://:***@localhost:1", "Is it running")


def test_a_home_that_cannot_be_used_does_not_give_a_traceback(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("server", "stop", own=False, NBQUEUE_HOME=str(tmp_path / "file" / "home"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "it was not running\n", "")


def test_without_a_binary_for_the_server_it_says_what_to_do(run, tmp_path):
    done = run("info", own=False, NBQUEUE_HOME=str(tmp_path), NBQUEUE_SERVER="/nonexistent/valkey-server")
    is_mistake(done, "/nonexistent/valkey-server")


@pytest.mark.parametrize("arguments, word", [([], "worker"), (["server"], "status")])
def test_without_a_command_it_tells_which_there_are(run, arguments, word):
    done = run(*arguments, own=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ") and word in done.stderr and "nbqueue:" not in done.stderr


# Looking


def test_info_shows_queues_workers_and_batches(q, run, worker):
    batch = q.map(lambda x: 1 / x, [1, 0, 2], label="halves").wait(timeout=30)
    done = run("info", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert batch.id in done.stdout and "halves" in done.stdout and "2 finished, 1 failed of 3" in done.stdout
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines()[1:])


def test_info_is_there_for_programs(q, run):
    batch = q.map(abs, range(3))
    found = json.loads(run("info", "--json").stdout)
    assert found["batches"][0]["id"] == batch.id
    assert found["queues"][0]["waiting"] == 3


def test_info_repeats_until_ctrl_c_and_then_leaves_quietly(q, namespace):
    q.map(abs, range(3))
    arguments = [sys.executable, "-m", "nbqueue", "info", "-i", "0.01", "--json", "--namespace", namespace]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            assert json.loads(process.stdout.readline())["queues"][0]["waiting"] == 3
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == ""


def test_a_reader_that_has_seen_enough_is_no_error(q, namespace):
    arguments = [sys.executable, "-m", "nbqueue", "info", "-i", "0.01", "--json", "--namespace", namespace]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(30) in (0, 1)
    assert said == ""


def test_a_batch_shows_what_failed(q, run, worker):
    batch = q.map(lambda x: 1 / x, [1, 0, 0]).wait(timeout=30)
    done = run("batch", batch.id)
    assert done.returncode == 0, done.stderr
    assert "2 x ZeroDivisionError: division by zero" in done.stdout
    assert f"nbqueue retry {batch.id}" in done.stdout
    assert run("batch", f"{batch.id}:1").stdout.startswith("batches")


# Steering


def test_a_batch_is_canceled_and_queued_again(q, run):
    batch = q.map(abs, range(3))
    assert run("cancel", f"{batch.id}:0").stdout == f"job {batch.id}:0 is canceled\n"
    assert run("cancel", f"{batch.id}:0").stdout == f"job {batch.id}:0 had ended\n"
    assert run("cancel", batch.id).stdout == f"2 jobs of batch {batch.id} canceled\n"
    done = run("retry", f"{batch.id}:2")
    assert done.stdout == f"job {batch.id}:2 is queued again\n"
    assert "no worker for queue default" in done.stderr
    assert run("retry", f"{batch.id}:2").stdout == f"job {batch.id}:2 has neither failed nor been canceled\n"
    assert run("requeue", batch.id).stdout == f"2 jobs of batch {batch.id} queued again\n"
    assert batch.counts["queued"] == 3


def test_a_queue_is_emptied(q, run):
    q.map(abs, range(3))
    done = run("empty", "default")
    assert (done.returncode, done.stdout) == (0, "3 jobs of queue default canceled\n")
    assert q.count == 0


def test_a_worker_serves_the_queues_it_is_told_to(q, run):
    batch = q.map(abs, range(-3, 0))
    done = run("worker", "other", "default", "-n", "1", "--burst", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert batch.results(timeout=10) == [3, 2, 1]
    assert batch[0].worker_name == "mine"


# The embedded server


def test_a_function_is_submitted_by_its_name(q, run, worker, tmp_path):
    (tmp_path / "measures.py").write_text("def area(a, b=1, *, unit='m'):\n    return f'{a * b} {unit}2'\n")
    cases = {
        ("math.hypot", "3", "4"): 5.0,
        ("sorted", "[2, 1]", "reverse=True"): [2, 1],
        ("os.path.join", "a", "b"): "a/b",
        ("measures.area", "3", "b=4", "unit=mm"): "12 mm2",
    }
    for arguments, expected in cases.items():
        done = subprocess.run(
            [sys.executable, "-m", "nbqueue", "enqueue", *arguments, "--namespace", q.namespace, "--timeout", "1m"],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        job = q.fetch_job(done.stdout.strip())
        assert job.result(timeout=30) == expected
        assert job.timeout == 60
    later = q.fetch_job(run("enqueue", "abs", "-3", "--in", "1h").stdout.strip())
    assert later.get_status() == "scheduled"
    assert later.args == (-3,)
    later.cancel()
    for arguments, word in ((["no.such.module"], "no module 'no'"), (["abs", "1", "--timeout", "soon"], "'90s'")):
        is_mistake(run("enqueue", *arguments), word)


def test_workers_are_suspended_and_go_on(q, run, worker):
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    assert run("suspend").stdout == "the workers are suspended\n"
    job = q.enqueue(abs, -2)
    assert "suspended: `nbqueue resume`" in run("info").stdout
    assert json.loads(run("info", "--json").stdout)["is_suspended"]
    with pytest.warns(errors.NoWorkerWarning, match="suspended"), pytest.raises(errors.WaitTimeout):
        job.result(timeout=0.5)
    assert "suspended" in str(q.session.attend(job.batch.state))
    assert run("resume").stdout == "the workers go on\n"
    assert job.result(timeout=20) == 2
    assert run("resume").stdout == "they were not suspended\n"


def test_what_ended_long_ago_is_purged(q, run, worker):
    ended, waits = q.map(abs, [1]).wait(20), q.map(abs, [1], delay=1000)
    assert run("purge", "--older-than", "1h").stdout == "0 batches deleted\n"
    key = q.store.key(f"batch:{ended.id}")
    q.store.run("HSET", key, "ended_at", float(q.store.run("HGET", key, "ended_at")) - 3700)
    assert run("purge", "--older-than", "1h").stdout == "1 batch deleted\n"
    assert [batch.id for batch in q.batches()] == [waits.id]
    is_mistake(run("purge", "--older-than", "old"), "--older-than='old'")
    waits.cancel()


def test_info_says_what_waits_for_its_time(q, run, worker):
    batch = q.map(lambda x: 1 / x, [1, 0], label="flaky", retry=nbqueue.Retry(1, interval=3000))
    wait_until(lambda: batch.counts.get("scheduled") == 1)
    later = q.map(abs, [1, 2], label="later", delay=7200)
    shown = run("info").stdout
    assert re.search(r"queue +later +waiting.*\ndefault +3 +0 ", shown), shown
    assert re.search(r"flaky +waits for its retry in (50:00|49:\d\d)", shown)
    assert re.search(r"later +starts in (2:00:00|1:59:\d\d)", shown)
    assert batch.eta is None
    assert json.loads(run("info", "--json").stdout)["queues"][0]["scheduled"] == 3
    batch.cancel()
    later.cancel()
    assert "starts in" not in run("info").stdout


def test_rqs_flag_for_a_scheduler_is_accepted_and_said_not_to_be_needed(q, run):
    job = q.enqueue_in(0.01, abs, -1)
    wait_until(lambda: job.due_at is None or job.due_at.timestamp() < time.time())
    done = run("worker", "--burst", "--with-scheduler")
    assert "--with-scheduler is not needed" in done.stderr
    assert job.result(timeout=10) == 1


def test_the_server_tells_its_state_and_stops_with_its_workers(run, tmp_path, monkeypatch):
    home = {"NBQUEUE_HOME": str(tmp_path)}
    assert json.loads(run("server", "status", "--json", own=False, **home).stdout)["running"] is False
    is_mistake(run("server", "log", own=False, **home), "there is no log")
    assert run("info", own=False, **home).returncode == 0
    assert "running  yes" in run("server", "status", own=False, **home).stdout
    assert run("server", "log", own=False, **home).stdout
    arguments = [sys.executable, "-m", "nbqueue", "worker", "-n", "1", "--namespace", "another"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env={**os.environ, **home}) as worker:
        look = ("info", "--json", "--namespace", "another")
        wait_until(lambda: json.loads(run(*look, own=False, **home).stdout)["workers"])
        assert run("server", "stop", own=False, **home).stdout == "stopped\n"
        assert worker.wait(30) == 0
    assert run("server", "stop", own=False, **home).stdout == "it was not running\n"
    monkeypatch.setenv("NBQUEUE_HOME", str(tmp_path))
    assert not embedded.status().running


# Being quick


def test_help_loads_neither_redis_nor_what_draws():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "nbqueue", "worker", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "QUEUES" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & {"redis", "hiredis", "rich", "tqdm", "cloudpickle", "IPython", "ipywidgets"}


def test_schedules_are_listed_and_steered(q, run, worker):
    assert run("schedules").stdout == "No schedules: q.cron(...) and q.every(...) make one.\n"
    assert json.loads(run("schedules", "--json").stdout) == []
    schedule = q.every("1h", abs, -1)
    q.cron("0 3 * * *", abs, -2, name="nightly", timezone="Europe/Berlin")
    shown = run("schedules").stdout
    assert re.search(r"schedule +when +next run +last run +runs +skipped", shown), shown
    assert re.search(r"abs +every hour +(\w+ \d+ \w+ )?\d\d:\d\d:\d\d +0 +0", shown), shown
    assert "0 3 * * * (Europe/Berlin)" in shown
    id = run("schedules", "--run", "abs").stdout.strip()
    assert q.fetch_job(id).result(timeout=20) == 1
    told = {one["name"]: one for one in json.loads(run("schedules", "--json").stdout)}
    assert (told["abs"]["last_state"], told["abs"]["runs"], told["abs"]["interval"]) == ("finished", 1, 3600)
    assert told["nightly"]["cron"] == "0 3 * * *" and told["nightly"]["next_run"] > time.time()
    assert run("schedules", "--pause", "abs").stdout == "schedule abs is paused\n"
    assert schedule.is_paused
    assert re.search(r"abs +every hour +paused +finished", run("schedules").stdout)
    assert re.fullmatch(r"schedule abs goes on at [\d-]+ [\d:]+ \S+\n", run("schedules", "--resume", "abs").stdout)
    assert not schedule.is_paused
    assert run("schedules", "--remove", "abs").stdout == "schedule abs is removed\n"
    assert [one.name for one in q.schedules()] == ["nightly"]


def test_a_schedule_that_is_not_meant_is_not_steered(q, run):
    is_mistake(run("schedules", "--remove", "work"), "no schedule 'work'", "none at all")
    other = nbqueue.Queue("other", namespace=q.namespace)
    for queue in (q, other):
        queue.every("1h", abs, -1, name="work")
    done = run("schedules")
    assert re.search(r"work +other +every hour", done.stdout), done.stdout
    assert "no worker for queue default" in done.stderr
    is_mistake(run("schedules", "--remove", "work"), "in queues default and other", "--queue")
    is_mistake(run("schedules", "--pause", "nothing"), "there are: 'work', 'work'")
    assert run("schedules", "--queue", "other").stdout.count("work") == 1
    assert run("schedules", "--remove", "work", "--queue", "other").returncode == 0
    assert [len(queue.schedules()) for queue in (q, other)] == [1, 0]
    other.close()


def test_all_that_failed_in_a_queue_is_queued_again(run, q, worker, namespace):
    assert q.map(lambda n: 1 / n, [0, 1, 0]).wait(30).counts["failed"] == 2
    done = run("requeue", "--all", "--queue", "other")
    assert (done.stdout, done.stderr) == ("0 jobs of queue other queued again\n", "")
    assert run("requeue", "--all").stdout == "2 jobs of queue default queued again\n"
    wait_until(lambda: q.failed_job_registry.count == 2)


def test_a_job_is_canceled_and_retried_by_its_name(run, q, namespace):
    job = q.enqueue(abs, -1, job_id="mine")
    assert run("cancel", "mine").stdout == f"job {job.id} is canceled\n"
    assert run("retry", "mine").stdout == f"job {job.id} is queued again\n"
    assert job.is_queued
    is_mistake(run("cancel", "other"), "there is no batch other")
