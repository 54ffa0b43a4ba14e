"""How long the jobs of a batch take, as far as a worker has seen it."""

from __future__ import annotations

LONG_JOB = 0.05
"""Seconds; behind a job that takes longer, nothing is kept waiting."""

_MOST_BATCHES = 1000


class Costs:
    """Seconds that a job takes, by batch; those of batches that were not seen for long are forgotten."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def learn(self, batch: str, mean: float) -> None:
        """Some of its jobs took so long on average."""
        former = self._means.pop(batch, mean)
        while len(self._means) > _MOST_BATCHES:
            self._means.pop(next(iter(self._means)))
        self._means[batch] = 0.5 * former + 0.5 * mean

    def of(self, batch: str) -> float:
        """Seconds that a job of it takes; one that was never seen counts as long."""
        return self._means.get(batch, LONG_JOB)
