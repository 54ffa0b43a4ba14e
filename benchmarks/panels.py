"""What live panels cost the kernel: ten of them, 100,000 jobs, in a real kernel whose messages are counted."""

from __future__ import annotations

import ast
import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.figures import Figure, Measure, Sizes, System
from nbqueue import Queue

PANELS = 10
SECONDS = 8.0

_SUBMIT = """
import threading, time
from nbqueue import q

def work(x):
    time.sleep(0.001)
    if x % 1000 == 7:
        raise ValueError("one in a thousand")
    return x

batches = [q.map(work, range({jobs})) for _ in range({panels})]
"""
_FIRST = """
from nbqueue import q
def half(x): return x / 2
q.map(half, range(100))
"""
_CLOCK = """
clock = next(time.pthread_getcpuclockid(t.ident) for t in threading.enumerate() if t.name == "nbqueue-panels")
time.clock_gettime(clock), time.process_time()
"""
_END = "for batch in batches: batch.cancel(); batch.delete()"


def measure_panels(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Two readings of the clocks of the refreshing thread and of the kernel, and what it sent in between."""
    from jupyter_client.manager import start_new_kernel

    with tempfile.TemporaryDirectory(prefix="nbq-") as home:  # nothing runs there
        manager, client = start_new_kernel(env={**os.environ, "NBQUEUE_HOME": home})
        try:
            yield Figure(System.NBQUEUE, Measure.PANELS_FIRST, _first_minute(client), 1)
            _run(client, "from nbqueue.server import embedded as server\nq.stop_workers()\nserver.stop()")
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
    manager, client = start_new_kernel()
    try:
        _run(client, _SUBMIT.format(jobs=sizes.jobs // 2, panels=PANELS))
        thread, _ = _run(client, _CLOCK)
        began = time.perf_counter()
        updates = list(_updates(client, SECONDS))
        took = time.perf_counter() - began
        thread = _run(client, _CLOCK)[0] - thread
        _run(client, _END)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    rounds = took / 0.25
    yield Figure(System.NBQUEUE, Measure.PANELS_CPU, 100 * thread / took, PANELS)
    yield Figure(System.NBQUEUE, Measure.PANELS_BYTES, sum(updates) / rounds / PANELS, PANELS)


def _first_minute(client: Any) -> float:
    """Seconds until a panel shows a job that has finished; the kernel is ready, and has imported nothing."""
    import re

    began = time.perf_counter()
    client.execute(_FIRST)
    while True:
        message = client.get_iopub_msg(timeout=60)
        values = [str(message["content"].get("data", {}).get("state", {}).get("value", ""))]
        values.append(str(message["content"].get("data", {}).get("text/html", "")))
        if any(re.search(r"<b>[1-9]\d*</b> of 100 finished", value) for value in values):
            return time.perf_counter() - began


def _run(client: Any, code: str) -> Any:
    """Run a cell; its result, if it is a literal."""
    found: list[str] = []

    def hear(message: Any) -> None:
        if message["msg_type"] == "execute_result":
            found.append(message["content"]["data"]["text/plain"])

    reply = client.execute_interactive(code, timeout=120, output_hook=hear)
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"]["traceback"]))
    return ast.literal_eval(found[0]) if found else None


def _updates(client: Any, seconds: float) -> Iterator[int]:
    """Bytes of each message about a widget."""
    import queue

    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            message = client.get_iopub_msg(timeout=left)
        except queue.Empty:
            return
        if message["msg_type"] == "comm_msg":
            yield len(json.dumps(message["content"]))
