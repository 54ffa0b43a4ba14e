"""Embedded servers of a test's own: of both families, in homes with short paths, none left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from nbqueue import machine
from nbqueue.server import embedded
from nbqueue.server.binary import carried_binary, find_binary
from nbqueue.server.place import Place, find_place

ROOT = Path(__file__).parents[1]
BINARIES = {"valkey": carried_binary(), "redis": shutil.which("redis-server")}
BEFORE = """
import sys, os, time
from pathlib import Path
from nbqueue.errors import ServerError
from nbqueue.server import embedded, process
from nbqueue.server.key import signing_key
"""
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user, which root may")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a short path, a runtime directory in it, and no server left behind."""
    root = Path(tempfile.mkdtemp(prefix="nbq", dir="/tmp"))
    runtime = root / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("NBQUEUE_HOME", raising=False)
    monkeypatch.delenv("NBQUEUE_SERVER", raising=False)
    yield root
    for pid in pids_of(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
    try:
        assert until(lambda: not pids_of(root)), f"left over: {pids_of(root)}"
    finally:
        for pid in pids_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root)


@pytest.fixture(params=["valkey", "redis"])
def family(request: pytest.FixtureRequest, short: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    binary = BINARIES[request.param]
    if binary is None:
        pytest.skip(f"no {request.param} server here")
    monkeypatch.setenv("NBQUEUE_SERVER", str(binary))
    return str(request.param)


@pytest.fixture
def own_home(short: Path, family: str) -> Path:
    """A home for a server of each family (`home` is the one that the other tests share)."""
    return short / "home"


@pytest.fixture
def any_home(short: Path) -> Path:
    """A home for what does not depend on the family."""
    if not any(BINARIES.values()):
        pytest.skip("no server here")
    return short / "home"


def until(condition: Callable[[], object], timeout: float = 20.0) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def pids_of(where: Path) -> list[int]:
    """The servers, and their children, whose command line names something below this directory."""
    return [
        pid for pid, line in machine.commands() if f"{where}/" in line and re.search("-server |-aof-rewrite ", line)
    ]


def connect(running: embedded.RunningServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(running.socket), socket_timeout=30, decode_responses=True)


def put(running: embedded.RunningServer, **values: str) -> None:
    with connect(running) as client:
        client.mset(values)


def get(running: embedded.RunningServer, key: str) -> str | None:
    with connect(running) as client:
        return client.get(key)


def pid_of(home: Path) -> int:
    pid = embedded.status(home).pid
    assert pid is not None
    return pid


def place_of(home: Path) -> Place:
    return find_place(home, find_binary())


def kill(home: Path, pid: int | None = None) -> None:
    """What the kernel does when memory is short, or a container is stopped."""
    pid = pid or pid_of(home)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not any(pid == other for other, line in machine.commands() if line))


def python(code: str, *, before: Sequence[str] = (), session: bool = False) -> subprocess.Popen[str]:
    """Another process that runs this after `BEFORE`, by means of the command `before` if there is one."""
    code = f"{BEFORE}\n{code}"
    return subprocess.Popen(
        [*before, sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=session,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    with process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out.strip()
