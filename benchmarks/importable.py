"""Functions that the others' workers import: RQ and Huey run nothing that is defined in `__main__`."""

from __future__ import annotations

import os
import time
from typing import Any

from huey import RedisHuey

from benchmarks.figures import NAP

URL = os.environ.get("NBQUEUE_BENCHMARKS_URL", "redis://localhost")


def plus_one(x: int) -> int:
    return x + 1


def same(value: Any) -> Any:
    return value


def nap(x: int) -> int:
    time.sleep(NAP)
    return x


# Telling a waiting client of a result costs Huey commands: it is off where many run, and on for one at a time.
many = RedisHuey("many", url=URL, blocking=True, notify_result=False)
single = RedisHuey("single", url=URL, blocking=True, notify_result=True)

many_plus_one = many.task()(plus_one)
many_same = many.task()(same)
many_nap = many.task()(nap)
single_plus_one = single.task()(plus_one)
