"""A reason why jobs do not start, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nbqueue import settings
from nbqueue.store.requests.looking import WorkerState


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why no job of a queue starts."""

    kind: Literal["paused", "unserved", "full"]
    words: str
    command: str = ""
    """The command for a terminal that helps; '' if `words` say it."""
    where: str = ""
    """The place to run the command."""

    def __str__(self) -> str:
        return f"{self.words}. Run: {self.command}   ({self.where})" if self.command else self.words


def paused(queue: str) -> Problem:
    """The whole queue is paused."""
    return Problem("paused", f"queue {queue} is paused: Queue({queue!r}).resume() lets its jobs start")


def suspended() -> Problem:
    """All workers are."""
    return Problem("paused", "the workers are suspended: `nbqueue resume` lets jobs start")


def unserved(queue: str, environment: str, workers: Sequence[WorkerState]) -> Problem:
    """No worker listens; with who listens instead, and what to run."""
    wanted = settings.environment_in_words(environment)
    words = [f"no worker for queue {queue} and {wanted}"]
    others: dict[str, int] = {}
    for worker in workers:
        if worker.environment != environment:
            name = settings.environment_in_words(worker.environment)
        else:
            name = f"{wanted}, queue {' '.join(worker.queues)}"
        others[name] = others.get(name, 0) + 1
    for name, number in others.items():
        words.append(f"there {'is' if number == 1 else 'are'} {number} for {name}")
    return Problem("unserved", "; ".join(words), f"nbqueue worker {queue}", "where the jobs shall run")
