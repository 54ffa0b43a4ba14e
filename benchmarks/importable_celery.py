"""Functions that Celery's workers import."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

from benchmarks.figures import NAP

_URL = os.environ.get("NBQUEUE_BENCHMARKS_URL", "redis://localhost").replace("unix://", "redis+socket://")

app = Celery("benchmarks", broker=_URL, backend=_URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@app.task
def plus_one(x: int) -> int:
    return x + 1


@app.task
def same(value: Any) -> Any:
    return value


@app.task
def nap(x: int) -> int:
    time.sleep(NAP)
    return x
