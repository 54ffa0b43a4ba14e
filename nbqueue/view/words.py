"""Numbers, sizes and times as people read them.

A panel has room and moves: `number`, `clock`, `took`. A table in a terminal has columns: `short`, `duration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from nbqueue.store.requests.running import Progress


def number(n: int) -> str:
    """A number in full: '1,234,567'."""
    return f"{n:,}"


def short(n: int) -> str:
    """A number in at most six characters: '99,999', '123k', '4.56M'."""
    if n < 100_000:
        return number(n)
    return f"{n // 1000}k" if n < 1_000_000 else f"{n / 1e6:.3g}M"


def many(n: int, one: str, plural: str = "") -> str:
    """A number and what it counts: '1 job', '1,000 jobs'."""
    return f"{number(n)} {one if n == 1 else plural or one + 's'}"


def size(bytes: int) -> str:
    """Bytes: '5 MB', '1.5 GB'."""
    return f"{bytes / 2**20:,.0f} MB" if bytes < 2**30 else f"{bytes / 2**30:,.1f} GB"


def rate(per_second: float) -> str:
    """Something per second, or per minute: '1,200/s', '4.1/s', '6.0/min'."""
    if per_second >= 100:
        return f"{number(round(per_second))}/s"
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{60 * per_second:.1f}/min"


def clock(seconds: float) -> str:
    """Seconds that go on, as '0:07', '12:03' or '1:00:00'."""
    minutes, left = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def until(seconds: float, *, is_again: bool, repeats: bool) -> str:
    """What somebody does who waits for a time, or to be tried again: 'starts in 0:42'."""
    if seconds <= 0:
        return "is due"
    does = "starts" if not is_again else "runs again" if repeats else "waits for its retry"
    return f"{does} in {clock(math.ceil(seconds))}"


def waits_for(*ids: str) -> str:
    """What somebody does who waits for others: 'waits for job k3f9x2:17', 'waits for batch k3f9x2'."""
    named = [f"{'job' if ':' in id else 'batch'} {id}" for id in ids[:3]]
    return f"waits for {listed(named + ['others'] * (len(ids) > 3))}" if ids else "waits for other jobs"


def took(seconds: float) -> str:
    """Seconds that have ended: 'under 1 ms', '38 ms', '0.46 s', '6.1 s', '12:03'."""
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2g} s" if seconds < 9.95 else clock(seconds)


def duration(seconds: float) -> str:
    """Seconds in one unit: '3.1 s', '12 min', '5 h', '8 d'."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for limit, unit, name in ((99, 1, "s"), (5940, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def percent(share: float) -> str:
    """A part, from 0 to 1, in full percent: '42 %'; 100 % only when nothing is left."""
    return f"{math.floor(100 * share)} %"


def progress_in_words(progress: Progress, seconds: float) -> str:
    """How far a job is that has run for some seconds: '8 of 20 · epoch 8 · 1:18 left'."""
    done, total = _amount(progress.done), progress.total
    words = [f"{done} of {_amount(total)}" if total is not None else f"{done} done", progress.text]
    share = progress.share
    if share and share < 1 and seconds > 1 and (left := seconds * (1 - share) / share) < _LONGEST:
        words.append(f"{clock(left)} left")
    return " · ".join(filter(None, words))


_LONGEST, _LARGEST = 1e8, 1e15
"""Seconds that are still told, and what is written in full."""


def _amount(n: float) -> str:
    return number(int(n)) if abs(n) < _LARGEST and n == int(n) else f"{n:,.4g}"


def time_of_day(seconds: float) -> str:
    """When that was, by this host's clock and zone: '09:41:00'."""
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
