"""The key that payloads are signed with: one, private, and refused where it is not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from servers import needs_root, output_of, python, until

from nbqueue.errors import ServerError
from nbqueue.server.key import _make_key, signing_key


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
print(signing_key(gate.parent / "home").hex())
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
