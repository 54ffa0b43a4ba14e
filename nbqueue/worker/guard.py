"""The guard of a worker: kills the process groups of its children when the worker is gone, however it went.

Started as a script of its own (`python -I -S guard.py`), so that it is small; it imports nothing of nbqueue. On its
standard input it is told '+<process group>' and '-<process group>'; the end of the input is the end of the worker.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
