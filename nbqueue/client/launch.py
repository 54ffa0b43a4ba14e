"""Starting workers that go on by themselves, detached from the kernel or terminal that started them, and telling
workers to leave.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbqueue import errors, machine, settings
from nbqueue.store.requests import running
from nbqueue.store.requests.looking import WorkerState
from nbqueue.store.store import Store

IDLE_TIME = 3600
"""Seconds without work after which a worker that was started from a notebook leaves."""

_KERNELS_OWN = ("JPY_", "PYDEVD_", "VSCODE_", "MPLBACKEND", "FORCE_COLOR", "CLICOLOR", "PAGER", "GIT_PAGER", "TERM")
"""Beginnings of the environment variables of a kernel that mean nothing to a worker, or mislead it."""


def log_directory() -> Path:
    """The directory of the logs of workers that were started in the background."""
    directory = settings.home() / "logs"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # the home cannot be written to: the server's data are in a temporary directory then, too
        directory = Path(tempfile.gettempdir()) / f"nbqueue-{os.getuid()}" / "logs"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def start_worker(
    queues: Sequence[str],
    children: int,
    *,
    namespace: str,
    url: str | None,
    key: bytes | None,
    environment: str,
    max_idle_time: float | None = IDLE_TIME,
) -> int:
    """Start a worker in a session of its own, with this interpreter; returns its process id.

    The kernel's interrupt, restart and shutdown do not touch it. It writes to a file in `log_directory()`. The key goes
    by the environment, never by the command line, which all users of a machine can read.
    """
    arguments = [sys.executable, "-m", "nbqueue", "worker", *queues, "-n", str(children),
                 "--namespace", namespace, "--environment", environment]  # fmt: skip
    if max_idle_time is not None:
        arguments += ["--max-idle-time", str(max_idle_time)]
    inherited = inherited_environment()
    if url is not None:
        inherited["NBQUEUE_URL"] = url
    if key is not None:
        inherited["NBQUEUE_KEY"] = f"hex:{key.hex()}"
    log = log_directory() / f"worker-{namespace}.log"
    if log.exists() and log.stat().st_size > 2**20:
        log.replace(log.with_suffix(".old.log"))
    # Started by a process that ends at once: so it is nobody's child, and no zombie of the kernel's when it leaves.
    starter = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=2, start_new_session=True).pid)"
    with log.open("ab") as out:
        started = subprocess.run(
            [sys.executable, "-I", "-S", "-c", starter, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, env={**inherited, "NBQUEUE_LOG": str(log)},
            check=True,
        )  # fmt: skip
    return int(started.stdout)


def inherited_environment() -> dict[str, str]:
    """The environment variables of this process, without those of a kernel that mean nothing to a worker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_KERNELS_OWN)}


def stop_worker(store: Store, worker: WorkerState) -> None:
    """Tell a worker to finish what runs and leave.

    By an order; where the server takes none, because its disk is full, by SIGTERM, if the worker is on this machine.

    Raises
    ------
    ServerError
        The worker could not be told.
    """
    try:
        store.call(running.order(worker.id, "stop"))
    except errors.ServerError:
        fields = worker.fields
        if fields.get("machine") != machine.identity() or not machine.is_alive(int(fields["pid"]), fields["started"]):
            raise
        try:
            os.kill(int(fields["pid"]), signal.SIGTERM)
        except PermissionError:  # it is another user's
            pass
        else:
            return
        raise
