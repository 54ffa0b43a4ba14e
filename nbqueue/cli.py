"""The command line: `nbqueue worker | server | demo | info | batch | cancel | retry | empty`."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from nbqueue import __version__, errors


class _Words(click.Group):
    """Says what went wrong in one line, with exit code 2: never a traceback for a user's mistake."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.NbqueueError as error:
            click.echo(f"nbqueue: {error}", err=True)
            sys.exit(2)
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.exit(0)


@click.group(cls=_Words, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nbqueue")
def main() -> None:
    """Run functions of a notebook in worker processes, durably and fast."""


def _server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--namespace", default="default", show_default=True, help="Apart from other namespaces.")(
        command
    )
    return click.option("-u", "--url", help="Redis to use; else NBQUEUE_URL, else the embedded server.")(command)


@main.command()
@click.argument("queues", nargs=-1)
@click.option("-n", "--children", type=click.IntRange(1), help="Processes that execute jobs.  [default: the CPUs]")
@_server_options
@click.option("--name", default="", help="What it is called.  [default: made up]")
@click.option("--environment", help="Whose jobs it runs; else NBQUEUE_ENVIRONMENT, else this Python's.")
@click.option("-b", "--burst", is_flag=True, help="Leave when there is nothing to do.")
@click.option("--max-jobs", type=click.IntRange(1), help="Leave after so many jobs.")
@click.option("--max-idle-time", type=float, help="Leave after so many seconds without a job.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Imported by each child when it starts.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def worker(
    queues: tuple[str, ...], children: int | None, url: str | None, namespace: str, name: str, environment: str | None,
    burst: bool, max_jobs: int | None, max_idle_time: float | None, preload: tuple[str, ...], verbose: bool, quiet: bool,
) -> None:  # fmt: skip
    """Run jobs of QUEUES (default: 'default'), the first before the next.

    Ctrl-C or SIGTERM once: finish what runs, then leave. Twice: now.
    """
    from nbqueue import machine
    from nbqueue.connection import connect
    from nbqueue.worker import Options, Worker

    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    if any(character in name for character in " :{}"):
        raise errors.UsageError(f"--name {name!r}: a word without spaces, colons and braces is accepted")
    connection = connect(url, namespace=namespace, environment=environment)
    if not connection.has_key:
        logging.getLogger("nbqueue.worker").warning(
            "no NBQUEUE_KEY: whoever can write to %s can have this worker run any code", connection.store.url
        )
    modules = tuple(part for text in preload for part in text.split(",") if part)
    connection.store.run("PING")
    options = Options(queues or ("default",), children or machine.cpus(), name, burst, max_jobs, max_idle_time, modules)
    Worker(connection, options).work()


@main.group()
def server() -> None:
    """The embedded server."""


@server.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def server_status(as_json: bool) -> None:
    """Whether it runs, where its data are, what it uses."""
    from nbqueue import server as embedded

    status = embedded.status()
    facts = {
        "running": status.running, "pid": status.pid, "server": f"{status.family} {status.version or ''}".strip(),
        "socket": str(status.socket or ""), "data": str(status.directory), "bytes on disk": status.bytes_on_disk,
        "memory": status.memory_used, "memory limit": status.memory_limit, "log": str(status.log),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value is not None and value != "":
            click.echo(f"{name:>14}  {_readable(name, value)}")


def _readable(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name != "pid":
        return f"{value / 2**20:,.1f} MB"
    return str(value)


@server.command("stop")
def server_stop() -> None:
    """Stop it; its data stay, and the next use starts it again."""
    from nbqueue import server as embedded

    click.echo("stopped" if embedded.stop() else "it was not running")


@server.command("log")
def server_log() -> None:
    """The last lines of its log."""
    from nbqueue import server as embedded

    path = embedded.log_path()
    if not path.exists():
        raise errors.UsageError(f"there is no log at {path}: it never ran")
    click.echo("\n".join(path.read_text("utf-8", "replace").splitlines()[-50:]))


@main.command()
@click.option("-n", "--children", type=click.IntRange(1), help="Processes that execute jobs.  [default: the CPUs]")
def demo(children: int | None) -> None:
    """Real work on real input: measure the sources of Python's standard library."""
    from nbqueue import demo as tour

    tour.run(children)


@main.command()
@_server_options
@click.option("-i", "--interval", type=float, metavar="SECONDS", help="Repeat.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(url: str | None, namespace: str, interval: float | None, as_json: bool) -> None:
    """Queues, workers and recent batches."""
    from nbqueue import overview
    from nbqueue.connection import connect

    store = connect(url, namespace=namespace).store
    while True:
        seen = overview.look(store)
        if as_json:
            click.echo(json.dumps(seen.as_json()))
        else:
            if interval is not None:
                click.clear()
            overview.show(seen)
        if interval is None:
            return
        time.sleep(interval)


def _batch(url: str | None, namespace: str, id: str) -> Any:
    from nbqueue.client import Queue

    return Queue(connection=url, namespace=namespace).batch(id)


@main.command()
@click.argument("id")
@_server_options
def batch(id: str, url: str | None, namespace: str) -> None:
    """What became of batch ID: its counts, and what failed, grouped."""
    from nbqueue import overview

    overview.show_batch(_batch(url, namespace, id))


@main.command()
@click.argument("id")
@_server_options
def cancel(id: str, url: str | None, namespace: str) -> None:
    """Cancel a batch, or one job ('k3f9x2:17')."""
    batch, _, index = id.partition(":")
    found = _batch(url, namespace, batch)
    if index:
        done = found.queue.fetch_job(id).cancel()
        click.echo(f"job {id} is canceled" if done else f"job {id} had ended")
    else:
        click.echo(f"{found.cancel():,} jobs of batch {id} are canceled")


def _retry(id: str, url: str | None, namespace: str) -> None:
    batch, _, index = id.partition(":")
    found = _batch(url, namespace, batch)
    if index:
        done = found.queue.fetch_job(id).retry()
        click.echo(f"job {id} is queued again" if done else f"job {id} has neither failed nor been canceled")
    else:
        click.echo(f"{found.retry():,} jobs of batch {id} are queued again")


@main.command()
@click.argument("id")
@_server_options
def retry(id: str, url: str | None, namespace: str) -> None:
    """Run again what failed or was canceled of a batch, or one job ('k3f9x2:17')."""
    _retry(id, url, namespace)


@main.command()
@click.argument("id")
@_server_options
def requeue(id: str, url: str | None, namespace: str) -> None:
    """RQ's name for retry."""
    _retry(id, url, namespace)


@main.command()
@click.argument("queue")
@_server_options
def empty(queue: str, url: str | None, namespace: str) -> None:
    """Cancel all jobs that wait in QUEUE; those that run go on."""
    from nbqueue.client import Queue

    n = Queue(queue, connection=url, namespace=namespace).empty()
    click.echo(f"{n:,} jobs of queue {queue} are canceled")
