"""The options that the server runs with.

It writes before it answers (`appendfsync no`), so its death loses nothing. Against a power cut the workers call
`embedded.sync` once a second.
"""

from __future__ import annotations

import os
from pathlib import Path

from nbqueue import machine
from nbqueue.server.place import Place


def configuration(place: Place, socket: Path) -> bytes:
    """The text of its configuration file."""
    options: dict[str, str | Path] = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "dir": place.directory,
        "logfile": place.log,
        "pidfile": place.pid_file,
        "daemonize": "yes",
        "supervised": "no",
        "set-proc-title": "no",
        "proc-title-template": "{title} {unixsocket}",  # of the child that rewrites: `processes_of` looks for it
        "appendonly": "yes",
        "appendfsync": "no",  # written before it is answered; `everysec` puts that off while an fsync is slow
        "aof-use-rdb-preamble": "no",
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "64mb",
        "save": "",
        "maxmemory": str(machine.memory() // 2),
        "maxmemory-policy": "noeviction",
        "hash-max-listpack-entries": "128",
        "lazyfree-lazy-expire": "yes",  # a batch of a million jobs that expires would stall everybody
        "lazyfree-lazy-server-del": "yes",
        "lazyfree-lazy-user-del": "yes",
    }
    lines = [name.encode() + b" " + _quoted(value) for name, value in options.items()]
    return b"\n".join([*lines, b"client-output-buffer-limit pubsub 64mb 16mb 120", b""])


def _quoted(value: str | Path) -> bytes:
    """A value as the servers read it, whatever bytes a path has."""
    plain = frozenset(range(32, 127)) - frozenset(b'"\\')
    return b'"%b"' % b"".join(b"%c" % byte if byte in plain else b"\\x%02x" % byte for byte in os.fsencode(value))
