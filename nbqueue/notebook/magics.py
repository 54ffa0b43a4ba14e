"""Magics: `%load_ext nbqueue` brings `%nbqueue` and `%%enqueue`."""

from __future__ import annotations

import shlex
from typing import Any

import click
from IPython import display as ipython_display
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from nbqueue import errors
from nbqueue.client import launch
from nbqueue.client.queues import Queue
from nbqueue.command import cli
from nbqueue.notebook import enqueue_magic
from nbqueue.view.words import many

display: Any = ipython_display.display

_LINES = 40
"""Lines of a log that are shown."""


@magics_class
class NbqueueMagics(Magics):
    """`%nbqueue`."""

    @line_magic
    def nbqueue(self, line: str) -> None:
        """The command line, from a cell.

        %nbqueue worker [QUEUE...] [-n N]   see to it that N processes on this machine run jobs (default: the CPUs)
        %nbqueue stop [QUEUE]               have its workers finish what they do, and leave
        %nbqueue info                       queues, workers and recent batches
        %nbqueue batches                    recent batches, those of this notebook first
        %nbqueue batch ID                   what became of a batch: its counts, and what failed, grouped
        %nbqueue cancel ID | retry ID       a batch, or a job ('k3f9x2:17')
        %nbqueue schedules                  what recurs, and when it is due; --help tells how to steer it
        %nbqueue empty QUEUE                cancel all jobs that wait in a queue
        %nbqueue log                        the last lines of what this machine's workers say
        %nbqueue server status|stop|log     the embedded server

        Workers that are started here go on when the kernel is restarted, and leave after an hour without work.
        """
        try:
            _run(line)
        except errors.UsageError as error:
            raise UsageError(str(error)) from None


def _run(line: str) -> None:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise errors.UsageError(f"%nbqueue {line}: {error}") from None
    commands = {"worker": _worker, "stop": _stop, "batches": _batches, "log": _log}
    if words and words[0] in commands:
        commands[words[0]](words[1:])
    else:
        _command_line(words)


def install(shell: Any) -> None:
    """Bring the magics."""
    shell.register_magics(NbqueueMagics)
    enqueue_magic.install(shell)


def _worker(words: list[str]) -> None:
    queues, children = _parse_worker(words)
    for name in queues or ["default"]:
        workers = Queue(name).start_workers(children)
    display(workers)


def _parse_worker(words: list[str]) -> tuple[list[str], int | None]:
    """Queues and number of processes; the other options of `nbqueue worker` are for those that are started by hand."""

    @click.command("%nbqueue worker", add_help_option=False)
    @click.argument("queues", nargs=-1)
    @click.option("-n", "--children", type=click.IntRange(1))
    def parse(queues: tuple[str, ...], children: int | None) -> tuple[list[str], int | None]:
        return list(queues), children

    try:
        found: tuple[list[str], int | None] = parse.main(words, standalone_mode=False)
    except click.ClickException as error:
        raise errors.UsageError(
            f"%nbqueue worker: {error.format_message()} It knows queues and -n; 'nbqueue worker --help' in a "
            "terminal shows all options"
        ) from None
    return found


def _stop(words: list[str]) -> None:
    n = Queue(words[0] if words else "default").stop_workers()
    print(f"{many(n, 'worker')} left" if n else "no workers")


def _batches(words: list[str]) -> None:
    display(Queue(words[0] if words else "default"))


def _log(words: list[str]) -> None:
    for path in sorted(launch.log_directory().glob("worker-*.log")):
        print(f"{path}:")
        print("\n".join(path.read_text("utf-8", "replace").splitlines()[-_LINES:]))


def _command_line(words: list[str]) -> None:
    try:
        cli.main(words, prog_name="%nbqueue")
    except SystemExit:  # what it is about has been said
        return
