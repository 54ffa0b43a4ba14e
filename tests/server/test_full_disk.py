"""A disk that is full: what reads works, what writes says so in words, and what shall end ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from conftest import tell_on_own_mounts, wait_until

from nbqueue import Queue, errors, machine
from nbqueue.store.requests import running

STORY = """
import json, os, subprocess, sys, time
from pathlib import Path

home = Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", home], capture_output=True).returncode:
    sys.exit("cannot mount")

from conftest import wait_until
from nbqueue import Queue, errors
from nbqueue.server import embedded

def run(*arguments, also=0):
    done = subprocess.run([sys.executable, "-m", "nbqueue", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, also), done.stderr
    return done

def start(queue):
    return subprocess.Popen([sys.executable, "-m", "nbqueue", "worker", "-n", "1", queue], stderr=subprocess.DEVNULL)

idle, busy = start("default"), start("long")
short, long = Queue(progress=False), Queue("long", progress=False)
wait_until(lambda: len(short.workers()) == 2)
assert short.enqueue(abs, -1).result(30) == 1
go = Path(sys.argv[2])

def work():
    while not go.exists(): time.sleep(0.01)
    return "kept"

job = long.enqueue(work)
wait_until(lambda: job.is_started)
lonely = Queue("lonely", progress=False)
waiting = lonely.enqueue(abs, -1)
ballast = home / "ballast"
with ballast.open("wb", buffering=0) as file:
    try:
        while True: file.write(b"x" * 100)
    except OSError: pass
last = "not refused"
for _ in range(100):  # what comes with the first write that fails is accepted; nobody shall have run it
    try: lonely.enqueue(abs, -1)
    except errors.ServerFull as error: last = str(error)
    time.sleep(0.01)
assert "No space left" in last and "make room" in last and "script" not in last, last

assert "make room for" in json.loads(run("server", "status", "--json").stdout)["problem"]
assert job.batch.id in run("info").stdout
assert "1 running" in run("batch", job.batch.id).stdout
assert "Short write" in run("server", "log").stdout
refused = run("cancel", job.batch.id, also=2)
assert refused.stderr.startswith("nbqueue: ") and refused.stderr.count("\\n") == 1 and "make room" in refused.stderr
os.environ["NBQUEUE_AUTOSTART"] = "1"
assert "make room" in str(lonely.session.attend(waiting.batch.state))
os.environ["NBQUEUE_AUTOSTART"] = "0"

stopped = run("server", "stop")
assert stopped.stdout == "stopped\\n", stopped
assert "1 of its workers are still busy" in stopped.stderr and "are lost" in stopped.stderr, stopped.stderr
assert idle.wait(30) == 0
assert not embedded.status().running
assert busy.poll() is None

ballast.unlink()
go.touch()
assert job.result(30) == "kept"
assert busy.wait(30) == 0
assert run("server", "stop").stdout == "stopped\\n"
"""


def test_on_a_full_disk_the_server_and_its_workers_tell_what_is_wrong_and_stop(tmp_path: Path) -> None:
    tell_on_own_mounts(STORY, tmp_path, tmp_path / "go")


@pytest.fixture
def full(private):
    """A server that has accepted what it was told and takes nothing more."""
    own = private("--save", "3600 1000000", "--dbfilename", "dump")

    def fill():
        (own.directory / "dump").mkdir()
        with Queue(connection=own.url).connection as client:
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

    own.fill = fill
    return own


def test_workers_of_this_machine_stop_although_the_server_takes_no_orders(full, workers):
    process = workers.start("--url", full.url, "--namespace", "default", NBQUEUE_KEY="k")
    q = Queue(connection=full.url, key="k", progress=False)
    full.fill()
    assert q.stop_workers() == 1
    assert process.wait(10) == 0
    assert q.workers() == []
    q.close()


def test_a_worker_elsewhere_that_cannot_be_told_to_stop_is_an_error(full):
    q = Queue(connection=full.url, key="k", progress=False)
    about = {"name": "far", "machine": "another", "pid": os.getpid(), "started": machine.started(os.getpid()),
             "queues": "default", "environment": q.environment, "children": 1}  # fmt: skip
    q.store.call(running.register("far.1", about))
    full.fill()
    with pytest.raises(errors.ServerFull, match="refused 'order': MISCONF"):
        q.stop_workers()
    q.close()


def test_a_wait_goes_on_while_the_server_takes_nothing_and_no_worker_is_there(full, workers):
    process = workers.start("--url", full.url, "--namespace", "default", NBQUEUE_KEY="k")
    q = Queue(connection=full.url, key="k", progress=False)
    job = q.enqueue(time.sleep, 600)
    wait_until(lambda: job.is_started)
    full.fill()
    process.kill()
    process.wait()
    with pytest.warns(errors.NoWorkerWarning), pytest.raises(errors.WaitTimeout):
        job.wait(3)
    q.close()
