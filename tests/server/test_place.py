"""Where the server's files are: homes of any name, of another user, read-only, full, copied."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from servers import BINARIES, get, kill, needs_root, output_of, place_of, put, python

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server import embedded
from nbqueue.server.key import signing_key
from nbqueue.server.place import choose_socket


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
        code = f"home = Path({str(home)!r}); print(embedded.ensure(home).url, signing_key(home).hex())"
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
import fcntl, psutil, shutil  # which that user may not read
os.setgid(65534); os.setuid(65534)
home = Path({str(short / "home")!r})
running = embedded.ensure(home)
print(running.note)
print(embedded.stop(home), running.directory.parent)
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
for use in (embedded.ensure, signing_key):
    try: use(home)
    except ServerError as error: print(repr(str(error)))
(home / "ballast").unlink()
embedded.ensure(home)
embedded.stop(home)
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
