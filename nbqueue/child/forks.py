"""How a copy of a child ends that a job has made with `os.fork`, when it comes out of the job's function.

It must not go on as if it were the child: the runs, the socket and the page are those of the child, which lives.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from typing import NoReturn


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process as the end of a script does: tell the error, wait for threads, flush.

    What was registered with `atexit` is not run, as in the processes of `multiprocessing`: most of it is the child's,
    whose temporary directories and the like are still in use.

    Parameters
    ----------
    error : BaseException, optional
        What the function has raised; None if it has returned.
    """
    code = 1
    try:
        code = _told(error)
        if error is not None:
            traceback.clear_frames(error.__traceback__)  # closes, and so flushes, the files of functions
        threading._shutdown()  # type: ignore[attr-defined] # executors end their threads in it only
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _told(error: BaseException | None) -> int:
    """The exit code that an exception stands for, which is written to stderr if it is not `SystemExit`."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
