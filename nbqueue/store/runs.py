"""Runs of neighbouring jobs, as plain data: put together, taken away, cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbqueue.store.requests.request import Run


def size_of(runs: Iterable[Run]) -> int:
    """How many jobs they are."""
    return sum(stop - start for start, stop in runs)


def united(runs: Iterable[Run]) -> list[Run]:
    """The same jobs by their index, in as few runs as there can be.

    Examples
    --------
    >>> united([(4, 6), (0, 3), (3, 4)])
    [(0, 6)]
    """
    found: list[Run] = []
    for start, stop in sorted(runs):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def without(runs: Iterable[Run], others: Iterable[Run]) -> Iterator[Run]:
    """The jobs of runs that are in none of the others, in the order of the runs.

    Examples
    --------
    >>> list(without([(0, 10)], [(8, 12), (2, 3)]))
    [(0, 2), (3, 8)]
    """
    taken = united(others)
    for begin, stop in runs:
        start = begin
        for other, end in taken if start < stop else ():
            if other >= stop:
                break
            if end > start:
                if other > start:
                    yield start, other
                start = end
        if start < stop:
            yield start, stop


def cut(runs: Iterable[Run], first: int, most: int) -> Iterator[Run]:
    """The jobs from a position on, `most` at most.

    Examples
    --------
    >>> list(cut([(0, 2), (5, 9)], 1, 3))
    [(1, 2), (5, 7)]
    """
    for begin, end in runs:
        if most <= 0:
            return
        skipped = min(first, end - begin)
        first -= skipped
        start = begin + skipped
        stop = min(end, start + most)
        if start < stop:
            yield start, stop
            most -= stop - start
