"""The command line: `nbqueue worker | enqueue | info | batch | cancel | retry | schedules | ...`."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nbqueue import __version__, errors, machine, settings
from nbqueue.view.words import many

if TYPE_CHECKING:
    from nbqueue.backend import Backend
    from nbqueue.client.batch import Batch
    from nbqueue.client.queues import Queue
    from nbqueue.client.schedules import Schedule
    from nbqueue.server.embedded import ServerStatus
    from nbqueue.store.requests.looking import WorkerState
    from nbqueue.store.store import Store

_MISTAKE, _INTERRUPTED = 2, 130
"""Exit codes: a mistake of the user, Ctrl-C."""

_PATIENCE, _PATIENCE_IF_BUSY = 10.0, 3.0
"""Seconds that `server stop` gives workers to leave, and where all that are left have jobs."""


class _Words(click.Group):
    """Says what went wrong in one line, with exit code 2: never a traceback for a user's mistake."""

    group_class = type  # groups in it are of this class too

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # by itself, click before 8.2 calls this a success
            click.echo(ctx.get_help(), err=True)
            ctx.exit(_MISTAKE)
        return super().parse_args(ctx, args)

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        try:
            sys.exit(super().main(args, *more, **options) or 0)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" See: {context.command_path} --help" if context is not None else ""
            _give_up(error.format_message() + hint)
        except click.Abort:  # Ctrl-C
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed
            sys.exit(0)
        except (errors.NbqueueError, OSError) as error:
            _give_up(str(error))


def _give_up(message: str) -> NoReturn:
    click.echo(f"nbqueue: {' '.join(message.split())}", err=True)
    sys.exit(_MISTAKE)


def _word(value: str) -> str:
    """The name of a queue, a namespace, a worker."""
    if not re.fullmatch(r"[^\s{}:]+", value):
        raise click.BadParameter(f"{value!r}: a word without spaces, colons and braces is accepted.")
    return value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e9:
        raise click.BadParameter(f"{value!r}: seconds above 0 are accepted.")
    return seconds


@click.group(cls=_Words, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nbqueue")
def main() -> None:
    """Run functions of a notebook in worker processes, durably and fast."""


def _server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--namespace",
        type=_word,
        metavar="NAME",
        default="default",
        show_default=True,
        help="Apart from other namespaces.",
    )(command)
    return click.option("-u", "--url", help="Redis to use; else NBQUEUE_URL, else the embedded server.")(command)


def _connect(url: str | None, namespace: str, environment: str | None = None) -> Backend:
    from nbqueue.backend import connect

    try:
        return connect(url, namespace=namespace, environment=environment)
    except ValueError as error:  # redis-py's words for a URL, int's for its port
        if isinstance(error, errors.NbqueueError):
            raise
        raise errors.UsageError(f"the URL of the server or NBQUEUE_KEY makes no sense: {error}") from error


def _store(url: str | None, namespace: str) -> Store:
    """The state, after a look whether its server is there: somebody at a terminal does not want to wait for that."""
    store = _connect(url, namespace).store
    try:
        store.open().close()
    except TypeError as error:  # an option in the URL that redis-py does not know
        raise errors.UsageError(f"the URL of the server makes no sense: {error}") from error
    return store


def _queue(url: str | None, namespace: str, name: str = "default") -> Queue:
    from nbqueue.client.queues import Queue

    _store(url, namespace).close()
    return Queue(name, connection=url, namespace=namespace)


@main.command()
@click.argument("queues", nargs=-1, type=_word)
@click.option("-n", "--children", type=click.IntRange(1), help="Processes that execute jobs.  [default: the CPUs]")
@_server_options
@click.option("--name", type=_word, metavar="NAME", help="What it is called.  [default: made up]")
@click.option("--environment", help="Whose jobs it runs; else NBQUEUE_ENVIRONMENT, else this Python's.")
@click.option("-b", "--burst", is_flag=True, help="Leave when there is nothing to do.")
@click.option("--max-jobs", type=click.IntRange(1), help="Leave after so many jobs.")
@click.option("--max-idle-time", type=_seconds, metavar="SECONDS", help="Leave after this time without a job.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Imported by each child when it starts.")
@click.option("--with-scheduler", is_flag=True, help="Not needed: workers start what is due.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def worker(
    queues: tuple[str, ...],
    children: int | None,
    url: str | None,
    namespace: str,
    name: str | None,
    environment: str | None,
    burst: bool,
    max_jobs: int | None,
    max_idle_time: float | None,
    preload: tuple[str, ...],
    with_scheduler: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Run jobs of QUEUES (default: 'default'), the first before the next.

    Ctrl-C or SIGTERM once: finish what runs, then leave. Twice: now.
    """
    from nbqueue.command.worker import serve
    from nbqueue.worker.identity import Options

    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    backend = _connect(url, namespace, environment)
    given = {"NBQUEUE_URL": url, "NBQUEUE_ENVIRONMENT": environment}
    if with_scheduler:
        logging.getLogger("nbqueue.worker").info("--with-scheduler is not needed: all workers start what is due")
    modules = tuple(part for text in preload for part in text.split(",") if part)
    options = Options(
        queues or ("default",), children or machine.cpus(), name or "", burst, max_jobs, max_idle_time, modules
    )
    serve(backend, options, {name: value for name, value in given.items() if value is not None})


@main.command(context_settings={"ignore_unknown_options": True})  # -3 is a number
@click.argument("function")
@click.argument("arguments", nargs=-1)
@_server_options
@click.option("--queue", type=_word, metavar="NAME", default="default", show_default=True, help="Where it waits.")
@click.option("--timeout", metavar="TIME", help="How long it may take: 90, 90s, 5m, 2h.")
@click.option("--in", "delay", metavar="TIME", help="Not before so much time has passed.")
@click.option("--at-front", is_flag=True, help="Before all others that wait.")
def enqueue(
    function: str,
    arguments: tuple[str, ...],
    url: str | None,
    namespace: str,
    queue: str,
    timeout: str | None,
    delay: str | None,
    at_front: bool,
) -> None:
    """Submit a call of FUNCTION ('package.module.function') with ARGUMENTS, and write the job's id.

    What Python reads as a value is one (3, 2.5, None, "[1, 2]"), all else is text. `name=value` is a keyword argument.
    """
    args = [_value(text) for text in arguments if not _KEYWORD.match(text)]
    kwargs = {found[1]: _value(found[2]) for text in arguments if (found := _KEYWORD.match(text))}
    given = {"job_timeout": timeout, "delay": delay, "at_front": at_front}
    chosen: Any = {name: value for name, value in given.items() if value}
    where = _queue(url, namespace, queue)
    sys.path.insert(0, "")  # as `python -m` finds modules
    job = where.options(**chosen).enqueue(function, *args, **kwargs)
    click.echo(job.id)
    problem = job.batch.session.attend(job.batch.state)
    if problem is not None:
        click.echo(f"nbqueue: {problem}", err=True)


_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def _value(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@main.group()
def server() -> None:
    """The embedded server."""


@server.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def server_status(as_json: bool) -> None:
    """Whether it runs, where its data are, what it uses."""
    from nbqueue.server import embedded

    status = embedded.status()
    facts = {
        "running": status.running, "pid": status.pid, "server": f"{status.family} {status.version or ''}".strip(),
        "socket": str(status.socket or ""), "data": str(status.directory), "bytes on disk": status.bytes_on_disk,
        "large values": status.large_values.bytes, "files of large values": status.large_values.number,
        "memory": status.memory_used, "memory limit": status.memory_limit, "log": str(status.log),
        "problem": _problem(status),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(facts))
        return
    files = facts.pop("files of large values")
    facts["large values"] = f"{_readable('large values', facts['large values'])} in {files:,} files"
    for name, value in facts.items():
        if value is not None and value != "":
            click.echo(f"{name:>14}  {_readable(name, value)}")


def _problem(status: ServerStatus) -> str:
    if not status.unwritten:
        return ""
    return (
        f"it cannot write to its disk, and takes nothing more until it can: make room for {status.directory}. "
        f"{status.unwritten:,} bytes that it has taken are not written yet"
    )


def _readable(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name != "pid":
        return f"{value / 2**20:,.1f} MB"
    return str(value)


@server.command("stop")
def server_stop() -> None:
    """Stop it and its workers; its data stay, and the next use starts it again."""
    from nbqueue.server import embedded

    status = embedded.status()
    left = _dismiss_workers() if status.pid is not None else 0
    unwritten = embedded.status().unwritten
    click.echo("stopped" if embedded.stop() else "it was not running")
    if left:
        click.echo(f"{left} of its workers are still busy, and go on when it runs again", err=True)
    if unwritten:
        click.echo(f"{unwritten:,} bytes that it had taken could not be written to its disk, and are lost", err=True)


def _dismiss_workers() -> int:
    """Tell the workers of the embedded server, which would wait for it, to leave; returns how many are still there."""
    from nbqueue.client import launch
    from nbqueue.server import embedded
    from nbqueue.store.reaper import vanished
    from nbqueue.store.requests import looking
    from nbqueue.store.store import Store

    url = embedded.ensure().url
    reader = Store(url)
    stores = [Store(url, namespace) for namespace in reader.namespaces()]
    reader.close()
    here, began = machine.identity(), time.monotonic()

    def present() -> list[tuple[Store, WorkerState]]:
        found = [(store, worker) for store in stores for worker in store.call(looking.workers())]
        return [(store, worker) for store, worker in found if not vanished(worker, here)]

    for store, worker in present():
        with contextlib.suppress(errors.ServerError):  # it cannot be told, and is waited for all the same
            launch.stop_worker(store, worker)
    while True:
        workers = present()
        patience = _PATIENCE_IF_BUSY if all(worker.leases for _, worker in workers) else _PATIENCE
        if not workers or time.monotonic() - began > patience:
            break
        time.sleep(0.05)
    for store in stores:
        store.close()
    return len(workers)


@server.command("log")
def server_log() -> None:
    """The last lines of its log."""
    from nbqueue.server import embedded

    path = embedded.log_path()
    if not path.exists():
        raise errors.UsageError(f"there is no log at {path}: it never ran")
    click.echo("\n".join(path.read_text("utf-8", "replace").splitlines()[-50:]))


@main.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, resolve_path=True))
@click.option("-n", "--children", type=click.IntRange(1), help="Processes that execute jobs.  [default: the CPUs]")
def demo(folder: str | None, children: int | None) -> None:
    """Real work on real input: measure the sources of Python's standard library, or those in FOLDER."""
    import runpy

    if settings.url() is not None:
        _store(None, "default").close()
    sys.argv[1:] = [str(children or 0), *([folder] if folder else [])]
    # As `python -m nbqueue.command.demo` would: what it defines lives in __main__, like that of a notebook.
    runpy.run_module(f"{__package__}.demo", run_name="__main__", alter_sys=True)


@main.command()
@_server_options
@click.option("-i", "--interval", type=_seconds, metavar="SECONDS", help="Repeat.")
@click.option("--json", "as_json", is_flag=True, help="For programs; with -i a line each time.")
def info(url: str | None, namespace: str, interval: float | None, as_json: bool) -> None:
    """Queues, workers and recent batches."""
    from nbqueue.command.terminal import show
    from nbqueue.view.seen import look

    store = _store(url, namespace)
    while True:
        seen = look(store)
        if as_json:
            click.echo(json.dumps(seen.as_json()))
        else:
            if interval is not None:
                click.clear()
            show(seen)
        if interval is None:
            return
        time.sleep(interval)


def _batch(url: str | None, namespace: str, id: str) -> Batch:
    return _queue(url, namespace).batch(id)


@main.command()
@click.argument("id")
@_server_options
def batch(id: str, url: str | None, namespace: str) -> None:
    """What became of batch ID: its counts, and what failed, grouped."""
    from nbqueue.command.terminal import show_batch

    show_batch(_batch(url, namespace, id.partition(":")[0]))


@main.command()
@click.argument("id")
@_server_options
def debug(id: str, url: str | None, namespace: str) -> None:
    """Call the function of job ID again, here, and look with pdb at where it fails."""
    import pdb
    import traceback

    job = _queue(url, namespace).fetch_job(id)
    try:
        value = job.debug()
    except errors.NbqueueError:
        raise
    except Exception as error:  # noqa: BLE001 - is what is looked at
        traceback.print_exception(error)
        if sys.stdin.isatty():
            pdb.post_mortem(error.__traceback__)
        sys.exit(1)
    click.echo(f"job {id} returns here: {value!r}")


@main.command()
@click.argument("id")
@_server_options
def cancel(id: str, url: str | None, namespace: str) -> None:
    """Cancel a batch, or one job ('k3f9x2:17', or its job_id)."""
    id = _meant(url, namespace, id)
    if ":" in id:
        done = _queue(url, namespace).fetch_job(id).cancel()
        click.echo(f"job {id} is canceled" if done else f"job {id} had ended")
    else:
        click.echo(f"{many(_batch(url, namespace, id).cancel(), 'job')} of batch {id} canceled")


def _meant(url: str | None, namespace: str, id: str) -> str:
    """The id of the job that was given this name; any other text as it is."""
    store = _store(url, namespace)
    batch = None if ":" in id or store.batch(id) is not None else store.named(id)
    store.close()
    return id if batch is None else f"{batch}:0"


def _retry(id: str, url: str | None, namespace: str) -> None:
    id = _meant(url, namespace, id)
    found = _batch(url, namespace, id.partition(":")[0])
    if ":" in id:
        done = _queue(url, namespace).fetch_job(id).retry()
        click.echo(f"job {id} is queued again" if done else f"job {id} has neither failed nor been canceled")
    else:
        n = found.retry()
        done = n > 0
        click.echo(f"{many(n, 'job')} of batch {id} queued again")
    problem = found.session.attend(found.state) if done else None
    if problem is not None:
        click.echo(f"nbqueue: {problem}", err=True)


@main.command()
@click.argument("id")
@_server_options
def retry(id: str, url: str | None, namespace: str) -> None:
    """Run again what failed or was canceled of a batch, or one job ('k3f9x2:17', or its job_id)."""
    _retry(id, url, namespace)


@main.command()
@click.argument("id", required=False)
@_server_options
@click.option("-a", "--all", "all_failed", is_flag=True, help="All that failed in the queue.")
@click.option("-q", "--queue", type=_word, metavar="NAME", default="default", show_default=True, help="With --all.")
def requeue(id: str | None, url: str | None, namespace: str, all_failed: bool, queue: str) -> None:
    """RQ's name for retry; with --all for all jobs of a queue that failed."""
    if (id is None) != all_failed:
        raise click.UsageError("either the ID of a batch or a job is needed, or --all")
    if id is not None:
        _retry(id, url, namespace)
        return
    where = _queue(url, namespace, queue)
    n = where.failed_job_registry.requeue_all()
    click.echo(f"{many(n, 'job')} of queue {queue} queued again")
    problem = where.session.fleet.attend(queue, where.environment) if n else None
    if problem is not None:
        click.echo(f"nbqueue: {problem}", err=True)


@main.command()
@_server_options
def suspend(url: str | None, namespace: str) -> None:
    """Let no worker take anything, of any queue; what runs ends."""
    _queue(url, namespace).suspend_workers()
    click.echo("the workers are suspended")


@main.command()
@_server_options
def resume(url: str | None, namespace: str) -> None:
    """Go on after suspend."""
    was = _queue(url, namespace).resume_workers()
    click.echo("the workers go on" if was else "they were not suspended")


@main.command()
@click.option("--older-than", metavar="TIME", required=True, help="Since they have ended: 90s, 5m, 2h, 7d.")
@_server_options
def purge(older_than: str, url: str | None, namespace: str) -> None:
    """Delete batches that have ended, with their results."""
    from nbqueue.client.batch import Batch
    from nbqueue.client.options import seconds

    session = _queue(url, namespace).session
    before = session.store.now() - seconds(older_than, "--older-than")
    old = [state for state in session.store.batches(10**9) if state.ended_at is not None and state.ended_at < before]
    for state in old:
        Batch(session, state.id).delete()
    click.echo(f"{many(len(old), 'batch', 'batches')} deleted")


@main.command()
@click.argument("queue", type=_word)
@_server_options
def empty(queue: str, url: str | None, namespace: str) -> None:
    """Cancel all jobs that wait in QUEUE; those that run go on."""
    from nbqueue.view.seen import look

    names = [seen.name for seen in look(_store(url, namespace)).queues]
    if queue not in names:
        there = f"there are: {', '.join(names)}" if names else "there is none at all"
        raise errors.NotFound(f"there is no queue {queue} with a batch or a worker; {there}")
    click.echo(f"{many(_queue(url, namespace, queue).empty(), 'job')} of queue {queue} canceled")


@main.command()
@click.option("--remove", metavar="NAME", help="Forget this one; its runs stay.")
@click.option("--pause", metavar="NAME", help="Let this one start nothing.")
@click.option("--resume", metavar="NAME", help="Let it go on, at its next time.")
@click.option("--run", metavar="NAME", help="Start a run of this one now, and write the job's id.")
@click.option("--queue", type=_word, metavar="NAME", help="The queue that is meant.  [default: all]")
@_server_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def schedules(
    remove: str | None,
    pause: str | None,
    resume: str | None,
    run: str | None,
    queue: str | None,
    url: str | None,
    namespace: str,
    as_json: bool,
) -> None:
    """What recurs: when it is due, what became of its last run. Or steer one of them."""
    from nbqueue.client.schedules import schedules as find
    from nbqueue.command.terminal import show_schedules
    from nbqueue.view.recurring import ScheduleSeen

    found = find(_queue(url, namespace, queue or "default").session, queue or "")
    for name, steer in ((pause, _pause), (resume, _resume), (run, _run), (remove, _remove)):
        if name is not None:
            steer(_schedule(found, name))
    if any(name is not None for name in (pause, resume, run, remove)):
        return
    seen = [ScheduleSeen(schedule.state) for schedule in found]
    if as_json:
        click.echo(json.dumps([one.as_json() for one in seen]))
        return
    show_schedules(seen)
    for problem in dict.fromkeys(str(one.problem or "") for one in found if not one.state.is_paused):
        if problem:
            click.echo(f"nbqueue: {problem}", err=True)


def _schedule(found: list[Schedule], name: str) -> Schedule:
    meant = [schedule for schedule in found if schedule.name == name]
    if len(meant) > 1:
        queues = " and ".join(schedule.queue for schedule in meant)
        raise errors.UsageError(f"there are schedules {name!r} in queues {queues}: say which with --queue")
    if not meant:
        names = ", ".join(repr(schedule.name) for schedule in found)
        raise errors.NotFound(
            f"there is no schedule {name!r}; " + (f"there are: {names}" if names else "there is none at all")
        )
    return meant[0]


def _pause(schedule: Schedule) -> None:
    schedule.pause()
    click.echo(f"schedule {schedule.name} is paused")


def _resume(schedule: Schedule) -> None:
    schedule.resume()
    click.echo(f"schedule {schedule.name} goes on at {schedule.next_run:%Y-%m-%d %H:%M:%S %Z}")


def _run(schedule: Schedule) -> None:
    click.echo(schedule.run_now().id)


def _remove(schedule: Schedule) -> None:
    schedule.remove()
    click.echo(f"schedule {schedule.name} is removed")
