"""What is asked about this machine, on the files of machines that this is not."""

from __future__ import annotations

import multiprocessing
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

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
