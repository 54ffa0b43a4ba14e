"""The server's process: killed, frozen, robbed of its socket and of its lock, loading, damaged."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from servers import connect, get, kill, needs_root, output_of, pid_of, pids_of, place_of, put, python, until

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server import embedded, process
from nbqueue.server.place import _socket_name


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGINT])
def test_it_survives_whoever_started_it(own_home: Path, last: signal.Signals) -> None:
    starter = python(f"print(embedded.ensure(Path({str(own_home)!r})).url, flush=True); time.sleep(60)", session=True)
    with starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        pid = pid_of(own_home)
        assert os.getsid(pid) != os.getsid(starter.pid)
        if last is signal.SIGINT:
            os.killpg(starter.pid, signal.SIGHUP)
        os.killpg(starter.pid, last)
        starter.wait(20)
    assert embedded.ensure(own_home).url == url
    assert pid_of(own_home) == pid
    if sys.platform == "linux":
        assert {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)} == {"/dev/null"}


def test_a_stale_socket_is_replaced(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    kill(own_home)
    assert running.socket.is_socket()
    assert get(embedded.ensure(own_home), "a") == "1"


def test_a_server_that_lost_its_socket_is_replaced_and_keeps_its_data(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "UNHEARD_LIMIT", 1.0)
    running = embedded.ensure(own_home)
    put(running, a="1")
    pid = pid_of(own_home)
    shutil.rmtree(running.socket.parent)
    assert embedded.ensure(own_home) == running
    assert pid_of(own_home) != pid
    assert get(running, "a") == "1"
    assert len(pids_of(own_home)) == 1


def test_several_that_notice_a_lost_socket_at_once_replace_it_once(own_home: Path) -> None:
    put(embedded.ensure(own_home), a="1")
    embedded.ensure(own_home).socket.unlink()
    code = f"""
home, process.UNHEARD_LIMIT = Path({str(own_home)!r}), 1.0
print(embedded.ensure(home).url, embedded.status(home).pid)
"""
    processes = [python(code) for _ in range(4)]
    assert len({output_of(process) for process in processes}) == 1
    assert get(embedded.ensure(own_home), "a") == "1"


def test_a_server_that_lost_its_socket_can_be_stopped(own_home: Path) -> None:
    embedded.ensure(own_home).socket.unlink()
    assert embedded.stop(own_home) is True
    assert not pids_of(own_home)


def test_a_server_that_lost_its_lock_file_is_replaced_and_keeps_its_data(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    pid = pid_of(own_home)
    (running.directory / "lock").unlink()
    assert embedded.ensure(own_home) == running
    assert pid not in pids_of(own_home) and len(pids_of(own_home)) == 1
    assert get(running, "a") == "1"


def test_a_child_that_rewrites_does_not_outlive_a_killed_server_for_long(own_home: Path, short: Path) -> None:
    running = embedded.ensure(own_home)
    with connect(running) as client:
        client.mset({f"key{number}": "x" for number in range(3000)})
        client.config_set("rdb-key-save-delay", 100_000)  # the rewrite would take five minutes
        client.bgrewriteaof()
    pid = pid_of(own_home)
    children = set()
    assert until(lambda: children.update(set(process.processes_of(place_of(own_home))) - {pid}) or children)
    kill(own_home, pid)
    began = time.monotonic()
    assert get(embedded.ensure(own_home), "key2999") == "x"
    assert time.monotonic() - began < process.UNHEARD_LIMIT, "it need not be waited for"
    assert not children & set(pids_of(short))
    assert not list(running.directory.glob("temp-*"))


def test_a_lock_that_nobody_answers_for_is_said(any_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "UNHEARD_LIMIT", 0.3)
    embedded.ensure(any_home)
    embedded.stop(any_home)
    lock = embedded.status(any_home).directory / "lock"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ServerError, match=r"is in use .* another container"):
            embedded.ensure(any_home)
    assert embedded.ensure(any_home)


def test_who_looks_on_while_another_starts_waits(any_home: Path) -> None:
    embedded.ensure(any_home)
    embedded.stop(any_home)
    lock = (embedded.status(any_home).directory / "lock").open("rb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    release = threading.Timer(0.5, lock.close)  # the other one dies before it has started anything
    release.start()
    assert embedded.ensure(any_home)
    release.join()


@pytest.fixture
def slow_to_load(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose server takes two seconds to load its data."""
    with connect(embedded.ensure(own_home)) as client:
        for begin in range(0, 20_000, 1000):
            pipeline = client.pipeline(transaction=False)
            for number in range(begin, begin + 1000):
                pipeline.set(f"key{number}", "x")
            pipeline.execute()
    embedded.stop(own_home)
    options = process.configuration
    monkeypatch.setattr(process, "configuration", lambda *where: options(*where) + b"key-load-delay 100\n")
    return own_home


def test_it_waits_until_the_data_are_loaded(slow_to_load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = []
    answer = process.ping
    monkeypatch.setattr(process, "ping", lambda place: replies.append(answer(place)) or replies[-1])
    assert get(embedded.ensure(slow_to_load), "key19999") == "x"
    assert any(reply and reply.startswith("-LOADING") for reply in replies)


def test_it_does_not_wait_for_ever_for_the_data(slow_to_load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOADING_LIMIT", 0.2)
    with pytest.raises(ServerError, match=r"is still loading its data after 0.2 seconds.*server\.log"):
        embedded.ensure(slow_to_load)
    assert embedded.status(slow_to_load).running
    assert embedded.stop(slow_to_load)


def test_a_server_that_does_not_answer_is_said(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOADING_LIMIT", 0.5)
    embedded.ensure(own_home)
    os.kill(pid_of(own_home), signal.SIGSTOP)
    with pytest.raises(ServerError, match=r"does not answer after 0.5 seconds"):
        embedded.ensure(own_home)


def test_a_damaged_file_is_named_kept_and_can_be_repaired_as_told(own_home: Path, family: str) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    put(running, b="2")
    put(running, c="3")
    embedded.stop(own_home)
    newest = embedded.data_files(running.directory)[-1]
    content = newest.read_bytes()
    where = content.index(b"*3", content.index(b"MSET") + 1)  # the second write
    newest.write_bytes(content[:where] + b"??" + content[where + 2 :])
    damaged = newest.read_bytes()

    with pytest.raises(ServerError) as caught:
        embedded.ensure(own_home)
    words = str(caught.value)
    assert str(newest) in words and str(embedded.log_path(own_home)) in words and f"{family}-check-aof" in words
    assert "Bad file format" in words, "the last lines of the log"
    assert newest.read_bytes() == damaged
    assert not pids_of(own_home)

    command = re.search("run: (.*)", words)
    assert command
    subprocess.run(command[1], shell=True, input=b"y\n", stdout=subprocess.DEVNULL, check=True)
    assert get(embedded.ensure(own_home), "a") == "1"


def test_the_log_is_bounded(own_home: Path) -> None:
    log = embedded.log_path(own_home)
    log.parent.mkdir(parents=True)
    for _ in range(2):
        with log.open("ab") as file:
            file.write(b"old\n" * (1 << 19))
        embedded.ensure(own_home)
        assert 0 < log.stat().st_size < 100_000
        assert sorted(path.name for path in log.parent.glob("server.log*")) == ["server.log", "server.log.1"]
        embedded.stop(own_home)


@needs_root
def test_a_socket_in_a_directory_that_became_another_users_is_not_talked_to(
    any_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = embedded.ensure(any_home)
    os.chown(running.socket.parent, 65534, 65534)
    assert process.ping(place_of(any_home)) is None
    os.chown(running.socket.parent, 0, 0)
    assert process.ping(place_of(any_home)) == "+PONG"


def test_a_server_is_found_by_its_command_line(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    pid = pid_of(own_home)
    assert dict(machine.commands())[pid].endswith(f" {running.directory}/server.conf")
    assert process.processes_of(place_of(own_home)) == {pid: False}


def test_only_servers_are_taken_for_servers(any_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(any_home)
    place.directory.mkdir(parents=True)
    socket = f"/run/{_socket_name(place)}"
    (place.directory / "address").write_text(socket)
    (place.directory / "server.pid").write_text("5\n")
    commands = {
        1: f"vim {place.configuration}",
        2: f"/opt/redis-server {place.configuration}",
        3: f"/opt/redis-server {place.configuration}.old",
        4: f"redis-aof-rewrite {socket}",
        5: f"/opt/kv {place.configuration}",
        6: f"redis-cli -s {socket}",
        7: f"grep redis-aof-rewrite {socket}",
    }
    with monkeypatch.context() as patch:
        patch.setattr(machine, "commands", commands.items)
        assert process.processes_of(place) == {2: False, 4: True, 5: False}
