"""The options of the server: what they keep, with a disk that is slow and a server that is killed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import BINARIES, connect, kill, pid_of, until

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server import embedded, process


def test_no_port_listens(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    with connect(running) as client:
        assert client.config_get("port") == {"port": "0"}
    if sys.platform != "linux":
        return
    links = []
    for link in Path(f"/proc/{pid_of(own_home)}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just closed that
            links.append(str(link.readlink()))
    tables = [Path(f"/proc/net/{kind}") for kind in ("tcp", "tcp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    assert not {f"socket:[{line[9]}]" for line in lines} & set(links)


def test_it_runs_with_the_options_that_keep_what_was_accepted(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    wanted = {
        "appendonly": "yes",
        "appendfsync": "no",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": str(64 << 20),
        "unixsocketperm": "700",
        "proto-max-bulk-len": str(512 << 20),
        "lazyfree-lazy-expire": "yes",
        "maxmemory": str(machine.memory() // 2),
    }
    with connect(running) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        limits = client.config_get("client-output-buffer-limit")["client-output-buffer-limit"]
    assert f"pubsub {64 << 20} {16 << 20} 120" in limits


@pytest.fixture
def gate(short: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; as long as it exists an fsync of the servers started from now on takes long."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    source, library = Path(__file__).with_name("slow_fsync.c"), short / "slow.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("SLOW_FSYNC_GATE", str(short / "gate"))
    return short / "gate"


def lost_when_killed_during_an_fsync(home: Path, gate: Path, appendfsync: str | None = None) -> list[int]:
    """Write, and kill the server while an fsync is running. Which of the answered writes are gone?"""
    with connect(embedded.ensure(home)) as client:
        if appendfsync:
            client.config_set("appendfsync", appendfsync)
        client.set("key", 0)
        gate.touch()
        client.set("key", 1)
        if not appendfsync:
            client.bgrewriteaof()  # who else would call fsync
        assert until(gate.with_name("gate.entered").exists), "the library is not in use"
        for number in range(2000):
            client.set(f"key{number}", "x")
        kill(home, client.info("server")["process_id"])
    gate.unlink()
    with connect(embedded.ensure(home)) as client:
        return [number for number in range(2000) if not client.exists(f"key{number}")]


def test_a_server_killed_while_the_disk_is_slow_loses_nothing_it_answered(
    own_home: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_FSYNC_MS", "300")
    for _ in range(3):
        assert lost_when_killed_during_an_fsync(own_home, gate) == []


def test_the_same_with_everysec_does_lose_some(own_home: Path, gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with `everysec` the write waits for a running fsync, the answer does not."""
    monkeypatch.setenv("SLOW_FSYNC_MS", "5000")
    lost = lost_when_killed_during_an_fsync(own_home, gate, "everysec")
    if not lost:
        pytest.skip("nothing was lost this time: the machine took more than two seconds for the writes")


@pytest.mark.skipif(not BINARIES["redis"], reason="no redis-server here")
def test_a_server_that_refuses_its_configuration_is_quoted(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_SERVER", str(BINARIES["redis"]))
    monkeypatch.setattr(process, "configuration", lambda *where: b"no-such-option yes\n")
    with pytest.raises(ServerError, match=r"(?s)ended while it was starting.*no-such-option"):
        embedded.ensure(short / "home")
