"""nbqueue: run functions of a notebook in worker processes, durably and fast.

from nbqueue import q

batch = q.map(func, items)
batch.results()

Beside the packages stand what several of them use: `settings.py` (the environment variables), `backend.py` (which
server is meant, and the way to it), `machine.py` (CPUs, memory, who is alive) and `errors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue import errors

if TYPE_CHECKING:
    from nbqueue.child.current import CurrentJob, get_current_job
    from nbqueue.child.progress import set_progress, track
    from nbqueue.client.attempts import Attempt
    from nbqueue.client.batch import Batch, FailureGroup
    from nbqueue.client.callback import Callback
    from nbqueue.client.cell_job import CellJob
    from nbqueue.client.commands import send_stop_job_command
    from nbqueue.client.decorator import job
    from nbqueue.client.depending import Dependency
    from nbqueue.client.explaining import Explanation, explain
    from nbqueue.client.fleet import Workers
    from nbqueue.client.job import Job
    from nbqueue.client.latest_result import Result
    from nbqueue.client.printed import Line
    from nbqueue.client.queues import Queue, call
    from nbqueue.client.retries import Repeat, Retry
    from nbqueue.client.rich import RichOutput
    from nbqueue.client.schedules import Schedule
    from nbqueue.client.submitter import Submitter
    from nbqueue.command.worker import Worker
    from nbqueue.errors import RetryLater
    from nbqueue.store.requests.running import Progress

    q: Queue

__version__ = "0.1.0"

__all__ = [
    # Submitting
    "Queue",
    "Submitter",
    "Dependency",
    "Callback",
    "call",
    "explain",
    "Explanation",
    "Repeat",
    "Retry",
    "Schedule",
    "job",
    "q",
    # In a job
    "CurrentJob",
    "RetryLater",
    "get_current_job",
    "set_progress",
    "track",
    # What comes of it
    "Attempt",
    "Batch",
    "CellJob",
    "FailureGroup",
    "Job",
    "Line",
    "Progress",
    "RichOutput",
    "Result",
    # Who does it
    "Worker",
    "Workers",
    "send_stop_job_command",
    # What can go wrong
    "errors",
]

_HOMES = {
    "Attempt": "nbqueue.client.attempts",
    "Batch": "nbqueue.client.batch",
    "Callback": "nbqueue.client.callback",
    "CellJob": "nbqueue.client.cell_job",
    "CurrentJob": "nbqueue.child.current",
    "Dependency": "nbqueue.client.depending",
    "Explanation": "nbqueue.client.explaining",
    "FailureGroup": "nbqueue.client.batch",
    "Job": "nbqueue.client.job",
    "Line": "nbqueue.client.printed",
    "Progress": "nbqueue.store.requests.running",
    "Queue": "nbqueue.client.queues",
    "Repeat": "nbqueue.client.retries",
    "Retry": "nbqueue.client.retries",
    "RetryLater": "nbqueue.errors",
    "RichOutput": "nbqueue.client.rich",
    "Result": "nbqueue.client.latest_result",
    "Schedule": "nbqueue.client.schedules",
    "Submitter": "nbqueue.client.submitter",
    "Worker": "nbqueue.command.worker",
    "Workers": "nbqueue.client.fleet",
    "call": "nbqueue.client.queues",
    "get_current_job": "nbqueue.child.current",
    "explain": "nbqueue.client.explaining",
    "job": "nbqueue.client.decorator",
    "send_stop_job_command": "nbqueue.client.commands",
    "set_progress": "nbqueue.child.progress",
    "track": "nbqueue.child.progress",
}
"""Where the names are that are loaded when they are first used."""


def _install_panels() -> None:
    """In a kernel, batches are shown in panels; there and in IPython's terminal, errors without our own frames."""
    import sys

    if "IPython.core.getipython" in sys.modules:
        shell = sys.modules["IPython.core.getipython"].get_ipython()
        if shell is not None:
            from nbqueue.notebook import tracebacks

            tracebacks.install(shell)
    if "ipykernel" in sys.modules:
        from nbqueue.notebook import kernel

        kernel.install()


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext nbqueue`: the magics, and panels."""
    from nbqueue.notebook import magics

    _install_panels()
    magics.install(shell)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import nbqueue` is fast, and `q` is made on first use."""
    import importlib

    if name in ("q", "Queue"):
        _install_panels()
    if name == "q":
        from nbqueue.client.queues import Queue

        value: Any = Queue()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'nbqueue' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "load_ipython_extension", *(name for name in globals() if name.startswith("__"))]
