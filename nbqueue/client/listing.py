"""Parts of the list of a queue's jobs that are in one state: whole batches are passed over by what they count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from nbqueue.store.requests.looking import Counted
from nbqueue.store.requests.request import Run
from nbqueue.store.runs import cut
from nbqueue.store.store import Store

Count = Callable[[], int]


def window(start: int, end: int, count: Count) -> tuple[int, float]:
    """The first position of a slice as Redis means it, and how many there are at most.

    Parameters
    ----------
    start, end : int
        The last one is part of it; below 0 they are counted from the end, -1 is the last.
    count : callable
        How many there are in all, asked only where that matters.

    Examples
    --------
    >>> window(2, 4, lambda: 100), window(0, -1, lambda: 100), window(-3, -2, lambda: 100)
    ((2, 3), (0, inf), (97, 2))
    """
    n = count() if start < 0 or end < -1 else 0
    first = max(0, n + start) if start < 0 else start
    if end == -1:
        return first, math.inf
    last = n + end if end < 0 else end
    return first, max(0, last - first + 1)


def part(
    batches: Iterable[Counted], runs_of: Callable[[str], Iterable[Run]], first: int, most: float
) -> Iterator[tuple[str, Run]]:
    """Batches and runs of a part of a list. Only those batches are read that it touches.

    Parameters
    ----------
    batches : iterable of Counted
    runs_of : callable
        The runs of a batch.
    first : int
        A position, by what the batches count.
    most : float
        Positions at most.
    """
    for batch in batches:
        if most <= 0:
            return
        if first >= batch.count:
            first -= batch.count
            continue
        n = int(min(most, batch.count - first))
        for run in cut(runs_of(batch.batch), first, n):
            yield batch.batch, run
        most -= n
        first = 0


def ids(found: Iterable[tuple[str, Run]]) -> Iterator[str]:
    """The ids of the jobs of runs."""
    for batch, (start, stop) in found:
        for index in range(start, stop):
            yield f"{batch}:{index}"


def waiting(store: Store, queue: str) -> list[Counted]:
    """The batches of a queue that have jobs which wait, in the order in which they are taken from next."""

    def turn(batch: Counted) -> float:
        return math.inf if batch.tag is None else batch.tag

    return sorted(store.counted(queue, "queued"), key=turn)


def position(store: Store, queue: str, batch: str, index: int) -> int | None:
    """How many jobs of a queue wait before one; None if it does not wait."""
    before = 0
    for other in waiting(store, queue):
        if other.batch != batch:
            before += other.count
            continue
        for start, stop in store.waiting(batch):
            if start <= index < stop:
                return before + index - start
            before += stop - start
        return None
    return None
