"""What a job reaches of the process that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbqueue.store.requests.running import Shown

if TYPE_CHECKING:
    from nbqueue.protocol.descriptors import Descriptors  # a client on Windows has none


@dataclass(frozen=True, slots=True)
class Running:
    """The child of a worker that runs the present job."""

    show: Callable[[Shown], None]
    """Has Redis keep a Jupyter message for those who look at the job. One thread at a time."""
    stop: type[BaseException]
    """Raised inside a job that shall end."""
    descriptors: Descriptors
    """Where what is written to the descriptors 1 and 2 can be read."""


class _Process:
    """Of this process."""

    running: Running | None = None


def use(running: Running | None) -> None:
    """This process runs jobs from now on, or none any more."""
    _Process.running = running


def running() -> Running | None:
    """The child that this process is; None where no worker started it."""
    return _Process.running
