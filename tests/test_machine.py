"""This machine and its processes; memory limits and disks on the files of machines that this is not."""

from __future__ import annotations

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psutil
import pytest
from conftest import wait_until

from nbqueue import machine


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/user/job\n", {"user/memory.max": "1000", "user/job/memory.max": "max"}, 1000),
        ("0::/user/job\n", {"memory.max": "3000", "user/job/memory.max": "2000"}, 2000),
        ("0::/seen/from/the/host\n", {"memory.max": "4000"}, 4000),
        ("3:cpu:/\n2:cpu,memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "5000"}, 5000),
        ("2:memory:/gone\n", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("2:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("", {}, None),
    ],
)
def test_the_memory_limit_is_the_least_of_the_cgroups(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "cgroup").write_text(groups)
    for name, value in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    assert machine.memory(tmp_path / "cgroup", tmp_path / "mount") == (limit or whole)
    assert machine.memory(tmp_path / "none", tmp_path / "none") == whole


def test_the_file_system_of_a_directory_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "server:/home /home autofs rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "scratch /home/me/my\\040data lustre rw 0 0\n"
    )
    kinds = {
        path: machine.file_system(Path(path), mounts) for path in ("/var", "/home/me", "/home/me/my data/x", "/homes")
    }
    assert kinds == {"/var": "ext4", "/home/me": "nfs4", "/home/me/my data/x": "lustre", "/homes": "ext4"}
    assert machine.file_system(Path("/"), tmp_path / "none") == ""


def test_what_was_added_to_the_path_is_absolute_and_what_imports_pass_over_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "", "beside", Path("/a/path/object"), "/added"])
    assert machine.added_path()[-2:] == [str(tmp_path / "beside"), "/added"]
    assert not [entry for entry in machine.added_path() if entry.startswith(sys.prefix + os.sep)]


SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input is closed."""
    with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_start_of_a_process_is_the_same_for_whoever_asks(sleeper: subprocess.Popen[bytes]) -> None:
    code = f"from nbqueue import machine; print(machine.started({sleeper.pid}))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert machine.started(sleeper.pid) == asked.stdout.strip() != ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel keeps the time of the clock")
def test_the_start_of_a_process_does_not_change_when_the_clock_is_set(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine.started(sleeper.pid)
    linux = psutil._pslinux  # type: ignore[attr-defined]
    boot_time = linux.boot_time

    def an_hour_later() -> float:
        linux.BOOT_TIME = boot_time() + 3600.0  # where older versions keep it
        return float(linux.BOOT_TIME)

    monkeypatch.setattr(linux, "BOOT_TIME", None, raising=False)
    monkeypatch.setattr(linux, "boot_time", an_hour_later)
    assert psutil.boot_time() - boot_time() == 3600.0
    assert machine.started(sleeper.pid) == before
    assert machine.is_alive(sleeper.pid, before)


def test_a_later_process_of_the_same_id_is_told_apart(sleeper: subprocess.Popen[bytes]) -> None:
    since = machine.started(sleeper.pid)
    assert machine.is_alive(sleeper.pid, since) and machine.is_alive(sleeper.pid, "")
    assert not machine.is_alive(sleeper.pid, machine.started(os.getpid()))


def test_a_zombie_is_dead_and_so_is_what_has_gone(sleeper: subprocess.Popen[bytes]) -> None:
    since = machine.started(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    wait_until(lambda: not machine.is_alive(sleeper.pid, since))
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE
    sleeper.wait()
    assert not machine.is_alive(sleeper.pid, since) and not machine.is_alive(sleeper.pid, "")
    assert machine.started(sleeper.pid) == ""
    assert machine.memory_of(sleeper.pid) == 0


def test_a_process_of_another_user_that_proc_hides_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    def hide(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(psutil, "Process", hide)
    assert machine.is_alive(1, "17.00")


def test_memory_is_what_a_process_holds(sleeper: subprocess.Popen[bytes]) -> None:
    before = machine.memory_of(os.getpid())
    ballast = b"x" * 50_000_000
    assert machine.memory_of(os.getpid()) - before > 40_000_000, len(ballast)
    assert 1_000_000 < machine.memory_of(sleeper.pid) < 100_000_000


def test_a_tree_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    code = f"""
import os, subprocess, sys, time
from pathlib import Path
depth = int(sys.argv[1])
if depth:
    [subprocess.Popen([sys.executable, __file__, str(depth - 1)]) for _ in range(2)]
(Path({str(tmp_path)!r}) / f"{{os.getpid()}}.pid").touch()
time.sleep(600)
"""
    (tmp_path / "tree.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "tree.py"), "2"]) as root:
        wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 7)
        pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
        machine.kill_tree(root.pid)
    wait_until(lambda: not any(machine.is_alive(pid, "") for pid in pids))
    machine.kill_tree(root.pid)  # there is none any more


def test_processes_are_listed_with_their_command_lines(sleeper: subprocess.Popen[bytes]) -> None:
    assert dict(machine.commands())[sleeper.pid] == " ".join(SLEEPER)


@pytest.mark.skipif(os.getuid() != 0, reason="starts a process of another user, which root may")
def test_processes_of_other_users_are_not_listed() -> None:
    with subprocess.Popen(["sleep", "600"], user=65534) as other:
        assert other.pid not in dict(machine.commands())
        machine.kill_tree(other.pid)


def start_subprocess() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def start_process() -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    process.close()


def start_in_a_terminal() -> None:
    pexpect.run("true")


@pytest.mark.parametrize("start", [start_subprocess, start_process, start_in_a_terminal])
def test_a_fork_is_known_to_be_a_start(start: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forks is asked in the middle of it, as a signal would find it."""
    found: list[bool] = []
    for module, name in [(os, "fork"), (os, "posix_spawn"), (pty, "fork"), (subprocess, "_fork_exec")]:
        fork = getattr(module, name)

        def asked(*args: object, _fork: Callable[..., object] = fork, **kwargs: object) -> object:
            found.append(machine.is_starting_process(sys._getframe()))
            return _fork(*args, **kwargs)

        monkeypatch.setattr(module, name, asked)
    start()
    assert found
    assert all(found)
    assert not machine.is_starting_process(sys._getframe())


@pytest.mark.parametrize(
    ("chosen", "name"),
    [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("UTC", "UTC"), ("", "UTC"),
     ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"), ("<+03>-3", None)],
)  # fmt: skip
def test_the_time_zone_has_a_name_where_that_can_be_told(monkeypatch, chosen, name):
    monkeypatch.setenv("TZ", chosen)
    time.tzset()
    try:
        assert machine.time_zone() == name
        monkeypatch.setenv("TZ", "America/New_York")
        assert machine.time_zone() is None, "this process goes by another one"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_time_zone_of_the_machine_is_that_of_its_links_and_files(monkeypatch, tmp_path):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        monkeypatch.delenv("TZ")
        (tmp_path / "zoneinfo" / "Asia").mkdir(parents=True)
        (tmp_path / "zoneinfo" / "Asia" / "Tokyo").touch()
        (tmp_path / "localtime").symlink_to(tmp_path / "zoneinfo" / "Asia" / "Tokyo")
        (tmp_path / "timezone").write_text("Asia/Tokyo\n")
        nothing = tmp_path / "nothing"
        assert machine.time_zone(tmp_path / "localtime", nothing) == "Asia/Tokyo"
        assert machine.time_zone(nothing, tmp_path / "timezone") == "Asia/Tokyo"
        assert machine.time_zone(nothing, nothing) is None
    finally:
        monkeypatch.undo()
        time.tzset()
