"""Coroutines that are run here, to their end."""

from __future__ import annotations

import contextvars
import inspect
from typing import Any


def finished(found: Any) -> Any:
    """What a call returned; of one that is a coroutine, what that returns."""
    if not inspect.iscoroutine(found):
        return found
    import asyncio  # here, because only coroutines need it

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(found)
    from concurrent.futures import ThreadPoolExecutor  # beside a loop that runs, as in a notebook

    with ThreadPoolExecutor(1, "nbqueue-coroutine") as executor:
        return executor.submit(contextvars.copy_context().run, asyncio.run, found).result()
