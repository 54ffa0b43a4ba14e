"""Who a worker is, and how it shall be."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a worker shall be.

    Parameters
    ----------
    queues : sequence of str
        Listened to in this order: what the first has goes before what the next has.
    children : int
        How many processes execute jobs.
    burst : bool
        Leave when there is nothing to do.
    max_jobs, max_idle_time : int, float, optional
        Leave after so many jobs, or so many seconds without one.
    preload : sequence of str
        Modules that children import when they start.
    """

    queues: Sequence[str] = ("default",)
    children: int = 1
    name: str = ""
    burst: bool = False
    max_jobs: int | None = None
    max_idle_time: float | None = None
    preload: Sequence[str] = ()


class Identity:
    """Who a worker is, for all its parts.

    Parameters
    ----------
    options : Options
        Without a name, one is made up.
    environment : str
        What it serves.
    """

    def __init__(self, options: Options, environment: str) -> None:
        self.options = options
        self.environment = environment
        self.name = options.name or f"w-{secrets.token_hex(3)}"
        self.id = f"{self.name}.{secrets.token_hex(4)}"
        """Leases are held under it. A process that was started again under the name of a dead one, or of one that
        lives, must neither keep these alive nor settle them: it has another id."""
