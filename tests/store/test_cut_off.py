"""A network that swallows everything: no packet comes through, and nobody says so.

The server is in a network namespace of its own, at the other end of a cable (veth) that the tests pull out. Root may
do this; for others they are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import wait_until

from nbqueue import Queue, errors
from nbqueue.server.binary import find_binary
from nbqueue.store import connection
from nbqueue.store.store import Store

LOWERED = "from nbqueue.store import connection; connection.SILENCE = 2.0"
"""What a worker runs first, so that it need not be cut off for half a minute."""


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def try_ip(*arguments: str) -> None:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        ip(*arguments)


class Remote:
    """A host with a server on it, and the cable to it."""

    def __init__(self) -> None:
        name = f"nbq{os.getpid() % 10**7}"
        self.host, self.here, self.there = name, f"{name}a", f"{name}b"
        third = os.getpid() % 250 + 1
        self.near, self.address = f"198.18.{third}.1", f"198.18.{third}.2"  # for tests of networks, by RFC 2544
        # While the host is not there, nothing for it shall go out into the world: a route for want of a better one.
        self._nowhere = ("unreachable", f"198.18.{third}.0/30", "metric", "1000000")
        self.url = f"redis://{self.address}:6379"
        self.directory = Path(tempfile.mkdtemp(prefix="nbq-"))
        self._process: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        """Make the host and its cable, and plug it in."""
        ip("route", "replace", *self._nowhere)
        ip("netns", "add", self.host)
        ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.host)
        ip("address", "add", f"{self.near}/30", "dev", self.here)
        ip("-n", self.host, "address", "add", f"{self.address}/30", "dev", self.there)
        ip("link", "set", self.here, "up")
        self.plug_in()

    def serve(self) -> None:
        """Start the server of the host; its data are those it had."""
        binary = os.environ.get("NBQUEUE_SERVER") or str(find_binary().path)
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self.host, binary, "--bind", self.address, "--protected-mode", "no",
             "--dir", self.directory, "--save", "", "--appendonly", "yes", "--appendfsync", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        store = Store(self.url)
        store.run("PING")
        store.close()

    def pull_out(self) -> None:
        ip("-n", self.host, "link", "set", self.there, "down")

    def plug_in(self) -> None:
        ip("-n", self.host, "link", "set", self.there, "up")

    def destroy(self) -> None:
        """As when the power fails: the connections of the host are gone, and nobody at the other end hears of it."""
        try_ip("-n", self.host, "link", "set", self.there, "down")
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        try_ip("link", "delete", self.here)
        try_ip("netns", "delete", self.host)

    def close(self) -> None:
        self.destroy()
        try_ip("route", "delete", *self._nowhere)
        shutil.rmtree(self.directory)

    def unacknowledged(self, pid: int) -> int:
        """How many connections of a process to the server have sent something that may not have arrived."""
        inodes = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(descriptor.readlink().name.removeprefix("socket:[").removesuffix("]"))
        remote = "".join(f"{int(part):02X}" for part in reversed(self.address.split(".")))
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = [line for line in lines if line[2].startswith(remote) and line[9] in inodes]
        return sum(int(line[4].partition(":")[0], 16) > 0 for line in own)  # the length of its queue to be sent


@pytest.fixture
def remote():
    made = Remote()
    try:
        try:
            made.build()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network can be made here: {getattr(error, 'stderr', None) or error}".strip())
        made.serve()
        yield made
    finally:
        made.close()
    assert made.host not in ip("netns", "list")
    assert made.here not in ip("link")
    assert made.near.removesuffix(".1") not in ip("route")


@pytest.fixture
def queue(remote):
    queue = Queue(connection=remote.url, key="k", progress=False)
    yield queue
    queue.close()


@pytest.fixture
def start(remote, queue, workers):
    """Starts a worker that is cut off together with the client."""

    def start(first: str = "") -> subprocess.Popen[bytes]:
        return workers.start(
            "--url", remote.url, "--namespace", queue.namespace, children=1, first=first, NBQUEUE_KEY="k"
        )

    yield start
    remote.plug_in()  # for a worker waits for the server before it leaves
    workers.end()


@pytest.fixture
def work(tmp_path):
    """A function that says when it began, and ends when it may."""
    began, go = tmp_path / "began", tmp_path / "go"

    def work():
        with began.open("a") as file:
            file.write("x")
        while not go.exists():
            time.sleep(0.01)
        return "kept"

    work.began, work.go = began, go
    return work


class Waiting(threading.Thread):
    """Waits for the result of a job."""

    def __init__(self, job) -> None:
        super().__init__()
        self.job = job
        self.result = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.job.result(timeout=60)
        except errors.NbqueueError as error:
            self.result = error


def is_kept_once(work, job) -> None:
    assert work.began.read_text() == "x"
    assert (job.attempt, job.batch.counts["finished"], job.batch.counts["started"]) == (1, 1, 0)
    ended = job.batch.session.store.run("LRANGE", job.batch.session.store.key(f"batch:{job.batch.id}:ended"), 0, -1)
    assert ended == [b"0"]


def test_a_wait_and_a_worker_go_on_when_the_link_is_back(remote, queue, start, work):
    worker = start()
    job = queue.enqueue(work)
    wait_until(work.began.exists)
    waiting = Waiting(job)
    remote.pull_out()
    work.go.touch()
    is_asking = lambda: not queue.store._idle  # noqa: E731
    wait_until(lambda: is_asking() and remote.unacknowledged(worker.pid))
    remote.plug_in()
    waiting.join(60)
    assert waiting.result == "kept"
    is_kept_once(work, job)


def test_a_worker_that_hears_nothing_connects_again_and_settles_what_ended_meanwhile(remote, queue, start, work):
    worker = start(LOWERED)
    job = queue.enqueue(work)
    wait_until(work.began.exists)
    remote.pull_out()
    wait_until(lambda: b"no answer within 2 seconds" in worker.log.read_bytes())  # while it sends a beat each second
    work.go.touch()
    wait_until(lambda: b"does not answer" in worker.log.read_bytes())
    remote.plug_in()
    assert job.result(timeout=60) == "kept"
    is_kept_once(work, job)
    assert b"again" in worker.log.read_bytes()


def test_a_submission_fails_in_bounded_time_and_names_the_url(remote, queue, start, monkeypatch):
    start()
    assert queue.enqueue(abs, -1).result(timeout=20) == 1
    monkeypatch.setattr("nbqueue.store.connection.SILENCE", 2.0)
    monkeypatch.setattr("nbqueue.store.link._PATIENCE", 1.0)
    remote.pull_out()
    began = time.monotonic()
    with pytest.raises(errors.ServerUnreachable, match=remote.url):
        queue.enqueue(abs, -2)
    with pytest.raises(errors.ServerUnreachable, match=remote.url):
        queue.map(abs, range(1000))
    assert time.monotonic() - began < 30
    remote.plug_in()
    assert queue.enqueue(abs, -3).result(timeout=60) == 3
    assert queue.map(abs, range(1000)).results(timeout=60) == list(range(1000))


def test_a_wait_that_hears_nothing_ends_with_an_error_that_says_how_to_come_back(remote, queue, monkeypatch):
    job = queue.enqueue(abs, -1)
    monkeypatch.setattr("nbqueue.store.connection.SILENCE", 2.0)
    monkeypatch.setattr("nbqueue.store.link._PATIENCE", 1.0)
    remote.pull_out()
    with pytest.raises(errors.ServerUnreachable, match=remote.url) as caught:
        job.result(timeout=60)
    assert f"q.batch('{job.batch.id}') comes back" in caught.value.__notes__[0]
    remote.plug_in()
    assert job.is_queued


def test_a_worker_takes_jobs_again_after_its_servers_host_lost_its_power(remote, queue, start):
    """Its blocking wait was acknowledged: TCP itself has nothing to send, and never learns that nobody is there."""
    worker = start(LOWERED)
    assert queue.enqueue(abs, -1).result(timeout=20) == 1
    waits = lambda: b"cmd=blmpop" in queue.store.run("CLIENT", "LIST")  # noqa: E731
    wait_until(lambda: waits() and not remote.unacknowledged(worker.pid))
    remote.destroy()
    remote.build()
    remote.serve()
    assert [queue.enqueue(abs, -i).result(timeout=8) for i in range(5)] == list(range(5))


def test_a_subscription_is_made_again_after_its_servers_host_lost_its_power(remote, queue, start, work, monkeypatch):
    """A client that only listens sends nothing that could fail."""
    monkeypatch.setitem(connection._KEEPALIVE, "TCP_KEEPIDLE", 1)
    start()
    job = queue.enqueue(work)
    channel = queue.store.key(f"batch:{job.batch.id}")
    waiting = Waiting(job)
    wait_until(lambda: queue.store.run("PUBSUB", "NUMSUB", channel)[1] == 1)
    wait_until(lambda: not remote.unacknowledged(os.getpid()))
    remote.destroy()
    remote.build()
    remote.serve()
    wait_until(lambda: queue.store.run("PUBSUB", "NUMSUB", channel)[1] == 1, 10)
    work.go.touch()
    waiting.join(60)
    assert waiting.result == "kept"
    is_kept_once(work, job)
