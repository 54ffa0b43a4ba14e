"""Numbers, sizes and durations as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from datetime import datetime

from nbqueue.view.seen import BatchSeen


def shares(counts: list[int], width: int) -> list[int]:
    """Cells of a bar for each count: `width` in all, at least one for each that is not 0.

    Examples
    --------
    >>> shares([998, 1, 0, 0, 1], 10)
    [8, 1, 0, 0, 1]
    """
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    cells = [max(1, math.floor(n * width / total)) if n else 0 for n in counts]
    most = counts.index(max(counts))
    cells[most] += width - sum(cells)
    return cells


def short(number: int) -> str:
    """A number in at most six characters: 99,999, 123k, 4.56M."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number // 1000}k" if number < 1_000_000 else f"{number / 1e6:.3g}M"


def size(bytes: int) -> str:
    """Bytes as people read them: '1.5 GB'."""
    return f"{bytes / 2**20:,.0f} MB" if bytes < 2**30 else f"{bytes / 2**30:,.1f} GB"


def duration(seconds: float) -> str:
    """Seconds as people read them: '3.1 s', '12 min', '5 h', '8 d'."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for limit, unit, name in ((99, 1, "s"), (5940, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def pace(batch: BatchSeen, now: float) -> str:
    """How a batch goes: '577 jobs/s, done in 3.1 s, 2 min ago'."""
    rate = f"{short(round(batch.rate)) if batch.rate >= 10 else f'{batch.rate:.2g}'} jobs/s"
    if batch.ended_at is not None and batch.state in ("done", "canceled"):
        words = [f"{batch.state} in {duration(batch.elapsed)}", f"{duration(now - batch.ended_at)} ago"]
        return ", ".join(([rate] if batch.finished + batch.failed > 0 else []) + words)
    words = [f"{batch.state} for {duration(batch.elapsed)}"]
    if batch.rate:
        words.insert(0, rate)
        words += [f"{duration(batch.eta)} left"] if batch.eta is not None and batch.state == "running" else []
    return ", ".join(words)


def number(n: int) -> str:
    return f"{n:,}"


def clock(seconds: float) -> str:
    """Seconds as '0:07', '12:03' or '1:00:00'."""
    minutes, left = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def took(seconds: float) -> str:
    """How long something took that has ended: 'under 1 ms', '38 ms', '0.46 s', '6.1 s', '12:03'."""
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2g} s" if seconds < 9.95 else clock(seconds)


def time_of_day(seconds: float) -> str:
    """When that was, by this host's clock and zone."""
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}"


def many(n: int, one: str, plural: str = "") -> str:
    """A number and what it counts."""
    return f"{number(n)} {one if n == 1 else plural or one + 's'}"
