"""`%%enqueue`: a cell runs in the background."""

from __future__ import annotations

import hashlib
import keyword
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

import nbqueue
from nbqueue import errors
from nbqueue.cells.changes import changed_in_place
from nbqueue.cells.names_read import Names, names_of
from nbqueue.cells.run import pack_cell, pack_settings, size_in_words
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob
from nbqueue.client.job import Job
from nbqueue.client.queues import Queue
from nbqueue.notebook import front_end, kernel
from nbqueue.notebook.between import Between, job_in_words, state_of
from nbqueue.notebook.kernel import NOTEBOOK
from nbqueue.payload.pickling import can_pickle, stored_names
from nbqueue.payload.surroundings import Collector
from nbqueue.payload.variables import size_of_variable
from nbqueue.store.description import CellDescription
from nbqueue.view.words import many

_MENTIONED = 1_000_000
"""Bytes of a variable up to which it goes along where the cell only mentions its name in a text."""

_RECENT = 100
"""Batches among which a former run of the cell is looked for."""

_WORD = re.compile(r"[^\W\d]\w*")

_LAST = re.compile(r"_{1,3}|_\d+")
"""The names of what the last cells returned."""


@magics_class
class EnqueueMagics(Magics):
    """`%%enqueue`.

    Parameters
    ----------
    shell : InteractiveShell
    between : Between
        What binds the variables that come back.
    """

    shell: Any

    def __init__(self, shell: Any, between: Between) -> None:
        super().__init__(shell)
        self._between = between
        self._changed: set[str] = set()
        """Variables of which it was said that a change of theirs stays where it is made."""
        self._told: dict[str, Any] = {}
        """Environment variables of which it was said that they go along."""

    @magic_arguments()
    @argument("name", nargs="?", help="the variable that becomes the job, at once")
    @argument(
        "-i",
        "--inputs",
        action="append",
        nargs="+",
        help="variables that go along: 'auto', those that the cell reads (the default); 'all'; or names: -i df model",
    )
    @argument(
        "-o", "--outputs", action="append", nargs="+", help="variables that come back when it has finished: -o df model"
    )
    @argument("-q", "--queue", default="", help="a queue's name, or a variable that is a Queue")
    @argument("--timeout", default=None, help="stop it after so long: 90s, 5m, 2h")
    @argument("-l", "--label", default=None, help="what it is called where people read it")
    @argument("--no-settings", action="store_true", help="leave the notebook's settings here, such as seeds and styles")
    @argument("--env", action="append", nargs="+", help="with a URL: environment variables that go along")
    @argument("--wait", action="store_true", help="wait for it here")
    @argument("--replace", action="store_true", help="cancel the former run of this cell if it has not ended")
    @cell_magic
    def enqueue(self, line: str, cell: str) -> None:
        """Run this cell in a worker process, and go on working.

        It gets copies of the variables that it reads; magics, `!commands`, top-level `await`, figures and tables work
        as they do here, and what it puts out appears below as it comes. It goes on when the kernel is restarted.

            %%enqueue training -o model
            model = fit(data)
            model.score(test)

            training.result()      the value of the last expression: waits for it
            training.show()        draws all that it has put out, in any cell, later too
            training.cancel()
            training.variables     what -o has brought, as a dict: also after a restart or a retry, when nothing is
                                   bound by itself

        The variables of -o are unbound until it has finished, and bound when no cell runs, before the next one, or in
        `training.wait()` and `training.result()`. If it fails or is canceled they have their former values again.
        """
        if {"-h", "--help"} & set(line.split()):
            self.shell.run_line_magic("pinfo", "%%enqueue")
            return
        try:
            self._enqueue(parse_argstring(self.enqueue, line), cell)
        except errors.UsageError as error:
            raise UsageError(str(error)) from None

    def _enqueue(self, options: Any, cell: str) -> None:
        name = options.name or ""
        returns = _names_in(options.outputs)
        for word in [name, *returns]:
            if word and (not word.isidentifier() or keyword.iskeyword(word)):
                raise UsageError(f"%%enqueue: {word!r} is not the name of a variable")
        if name and name in returns:
            raise UsageError(f"%%enqueue: {name!r} cannot be both the job and a variable that it brings")
        queue = self._queue(options.queue)
        try:
            found = names_of(cell, self.shell.transform_cell)
        except SyntaxError:
            self.shell.showsyntaxerror(f"the cell behind %%enqueue, In[{self.shell.displayhook.prompt_count}]")
            raise UsageError("nothing was queued") from None
        if unsent := sorted({"In", "Out"} & found.reads):
            raise UsageError(
                f"the cell reads {', '.join(unsent)}, which stays here: assign what it needs to a variable"
            )
        inputs = _names_in(options.inputs) or ["auto"]
        variables = self._variables(inputs[0] if len(inputs) == 1 else ",".join(inputs), found, cell)
        key = self._key(cell)
        self._refuse_second_run(queue, key, options.replace)
        packed = pack_cell(variables, self.shell.user_ns, list(_submodules(variables, cell)))
        if words := size_in_words(variables, len(packed)):
            print(words, file=sys.stderr)
        for word in set(returns) - found.binds - found.mentions - found.reads:
            print(f"%%enqueue: the cell does not seem to assign {word!r}", file=sys.stderr)
        self._tell_of_changes(cell, variables, found, returns)
        if not options.no_settings:
            self._tell_of_environment(queue, _names_in(options.env))
        label = _unquoted(options.label or "") or name or _first_line(cell)
        job = queue.enqueue_cell(
            cell, packed, CellDescription(key, name, front_end.execution(), tuple(returns)), label=label,
            number=self.shell.displayhook.prompt_count, job_timeout=options.timeout,
            settings=None if options.no_settings else pack_settings(), environment=_names_in(options.env),
        )  # fmt: skip
        self._begin(job, name, returns)
        if options.wait:
            job.wait()
            notebook = kernel.current()
            if notebook is not None:
                notebook.finish_cell()
            if job.is_failed or job.is_canceled:
                raise errors.JobFailed(f"job {job.id} {job.get_status()}: {_reason(job)}")

    def _tell_of_changes(self, cell: str, variables: Mapping[str, Any], found: Names, returns: Sequence[str]) -> None:
        """Say once which variables of the notebook the cell changes where it runs, and not here."""
        seen = changed_in_place(cell, self.shell.transform_cell) & variables.keys() & found.reads - set(returns)
        changed = {name for name in seen if not isinstance(variables[name], types.ModuleType | type)} - self._changed
        if changed:
            self._changed |= changed
            names = ", ".join(sorted(changed))
            print(
                f"The cell changes {names} where it runs; here {names} will be as before. "
                f"With -o {' '.join(sorted(changed))} the change comes back",
                file=sys.stderr,
            )

    def _tell_of_environment(self, queue: Queue, named: list[str]) -> None:
        """Say once which environment variables go along."""
        settings = queue.session.codes.attached((), named).settings
        changes = {} if settings is None else Collector().environment()
        if not queue.session.is_embedded:
            changes = {name: value for name, value in changes.items() if name in named}
        news = {name: value for name, value in changes.items() if self._told.get(name, self) != value}
        if news:
            self._told.update(news)
            words = ", ".join(
                f"{name} ({'deleted' if value is None else many(len(value), 'character')})"
                for name, value in sorted(news.items())
            )
            print(f"Environment variables go along with the cell: {words}", file=sys.stderr)

    def _begin(self, job: CellJob, name: str, returns: list[str]) -> None:
        notebook = kernel.current()
        arrived = notebook.show_cell(job, tuple(returns)) if notebook is not None else None
        if arrived is None:
            print(f"job {job.id}: " + (f"{name}.show()" if name else f"q.fetch_job({job.id!r}).show()"))
        if returns:
            self._between.expect(job, returns, arrived)
        if name:
            self.shell.user_ns[name] = job

    def _queue(self, word: str) -> Queue:
        held = self.shell.user_ns.get(word)
        if isinstance(held, Queue):
            return held
        if word:
            return Queue(word)
        queue: Queue = nbqueue.q
        return queue

    def _key(self, cell: str) -> str:
        """Which cell of the notebook it is."""
        return front_end.cell_id() or hashlib.sha256(cell.encode()).hexdigest()[:16]

    def _refuse_second_run(self, queue: Queue, key: str, is_replaced: bool) -> None:
        execution = front_end.execution()  # one that queues several is not its own former run
        for state in queue.store.batches(_RECENT, queue.name):
            former = state.description.cell
            if state.done or former is None or former.key != key or (execution and former.execution == execution):
                continue
            job = CellJob(Batch(queue.session, state.id), 0)
            if is_replaced:
                job.cancel()
                print(f"The former run of this cell, job {job.id}, was canceled.", file=sys.stderr)
                continue
            notebook = kernel.current()
            if notebook is not None:
                notebook.show_cell(job)
            raise UsageError(
                f"the former run of this cell, job {job.id}, is {state_of(job)}: nothing was queued. "
                "Cancel it above, or run the cell with %%enqueue --replace"
            )

    def _variables(self, inputs: str, found: Names, cell: str) -> dict[str, Any]:
        """What goes along with the cell."""
        namespace = self.shell.user_ns
        own = {name for name in namespace if name in self.shell.user_ns_hidden} | {"In", "Out"}
        own = {name for name in own if not _LAST.fullmatch(name)}
        if inputs == "auto":
            wanted = found.reads
        elif inputs == "all":
            wanted = frozenset(name for name in namespace if not name.startswith("_"))
        else:
            wanted = frozenset(inputs.split(","))
            if unknown := sorted(wanted - namespace.keys() - {name for name, _ in NOTEBOOK.promises.jobs_of(wanted)}):
                raise UsageError(f"%%enqueue -i: there is no variable {', '.join(unknown)}")
        needed = found.reads if inputs == "all" else wanted
        if late := NOTEBOOK.promises.jobs_of(needed):
            words = "; ".join(f"{name!r} comes from {job_in_words(job)}" for name, job in late)
            raise errors.UsageError(f"the cell reads what is not there yet: {words}. Nothing was queued")
        variables = {name: namespace[name] for name in sorted(wanted - own) if name in namespace}
        if inputs == "all":
            others = sorted(variables.keys() - found.reads)
            left = [name for name in others if not can_pickle(variables[name])]
            if left:
                print(f"%%enqueue -i all: {', '.join(left)} cannot be sent, and stay here", file=sys.stderr)
            variables = {name: value for name, value in variables.items() if name not in left}
        for name in sorted(found.mentions - own - variables.keys()):
            if inputs == "auto" and name in namespace and _is_small(namespace[name]):
                variables[name] = namespace[name]
        if inputs == "auto":  # a file that it reads may name what it does not
            variables = {**stored_names(_WORD.findall(cell), namespace), **variables}
        return variables


def _names_in(given: list[list[str]] | None) -> list[str]:
    """The names that an option was given: `-o a b`, `-o a,b`, `-o a, b`, `-o "a, b"` and `-o a -o b` are the same."""
    words = [_unquoted(word) for words in given or () for word in words]
    return [name for word in words for name in word.replace(",", " ").split()]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _reason(job: Job) -> str:
    error = job.exception() if job.is_failed else None
    return "its outputs are with it" if error is None else f"{type(error).__name__}: {error}"


def _submodules(variables: Mapping[str, Any], cell: str) -> Iterator[types.ModuleType]:
    """The modules inside packages that a cell names, such as `xml.dom`, if they are imported here."""
    words = set(_WORD.findall(cell))
    for package in variables.values():
        if isinstance(package, types.ModuleType) and hasattr(package, "__path__"):
            within = f"{package.__name__}."
            for name, module in sys.modules.copy().items():
                if name.startswith(within) and words.issuperset(name.removeprefix(within).split(".")):
                    yield module


def _first_line(cell: str) -> str:
    line = next((line.strip() for line in cell.splitlines() if line.strip()), "cell")
    return line if len(line) <= 40 else line[:39] + "…"


def _is_small(value: Any) -> bool:
    return can_pickle(value) and size_of_variable(value) <= _MENTIONED


def install(shell: Any) -> None:
    """Bring `%%enqueue`."""
    if NOTEBOOK.between is None:
        NOTEBOOK.between = Between(shell, NOTEBOOK.promises)
    shell.register_magics(EnqueueMagics(shell, NOTEBOOK.between))
