"""Real work on real input: measure the sources of Python's standard library.

A script, as a notebook is one: what it defines lives in `__main__` and is sent to the workers by value. `nbqueue demo`
runs it, and so does `python -m nbqueue.command.demo [CHILDREN [FOLDER]]`.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nbqueue import Queue, settings
from nbqueue.server import embedded

if TYPE_CHECKING:
    from rich.console import Console

    from nbqueue import Batch


BLOCKS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With,
    ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip
"""The statements that nest others."""


class Measures(NamedTuple):
    """The measures of a source file."""

    path: str
    size: int
    lines: int
    functions: int
    nesting: int


def measure(path: str) -> Measures:
    """Parse a source file; count its lines, its functions, and how deep its statements are nested."""
    source = Path(path).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the sources are not our business
            tree = ast.parse(source, path)
    except SyntaxError as error:
        # Without the place, which the cause has: identical mistakes are then one group of failures.
        raise SyntaxError(error.msg) from error
    functions, nesting = 0, 0
    rest: list[tuple[ast.AST, int]] = [(tree, 0)]
    while rest:
        node, depth = rest.pop()
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        nesting = max(nesting, depth)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, BLOCKS):
                is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child.col_offset == node.col_offset
                rest.append((child, depth + (not is_elif)))
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                rest.append((child, depth))
    return Measures(path, len(source), len(source.splitlines()), functions, nesting)


def sources(folder: Path) -> list[str]:
    """The source files in a folder, without packages that were installed there."""
    paths = (path for path in folder.rglob("*.py") if path.is_file())
    return sorted(str(path) for path in paths if not {"site-packages", "dist-packages"} & {*path.parts})


def run(children: int | None = None, folder: Path | None = None) -> None:
    """Measure all source files of a folder, by default those of the standard library, and show what was found.

    Parameters
    ----------
    children : int, optional
        Processes that shall run jobs; by default as many as there are CPUs, or what already serves the queue.
    folder : path, optional
    """
    from rich.console import Console

    console = Console(highlight=False)
    folder = folder or Path(sysconfig.get_path("stdlib"))
    paths = sources(folder)
    q = Queue()
    note = prepare(q, children)
    try:
        console.print(f"Measuring {len(paths):,} source files in {folder}", markup=False, soft_wrap=True)
        batch = q.map(measure, paths, label="demo")
        try:
            results: list[Measures] = batch.results(errors="skip")
        except KeyboardInterrupt:
            batch.cancel()
            raise
        if results:
            show_measures(console, results, folder)
        show_failures(console, batch, folder)
        show_rate(console, batch, results)
    finally:
        console.print(note, markup=False, soft_wrap=True)
        q.close()


def prepare(q: Queue, children: int | None) -> str:
    """See to it that there are a server and workers; returns what was started, and how to stop it."""
    is_embedded = settings.url() is None
    did_run = not is_embedded or embedded.status().running
    serving = {w.id for w in q.workers() if q.name in w.queues and w.environment == q.environment}
    workers = serving
    if children is not None or not serving:
        workers = {worker.id for worker in q.start_workers(children)}
    started = [] if did_run else ["the embedded server"]
    if workers - serving:
        started.append("a worker (it leaves after an hour without work)")
    words = f"Started {' and '.join(started)}" if started else "Nothing had to be started"
    how = "nbqueue server stop" if is_embedded else f"{sys.executable} -c 'from nbqueue import q; q.stop_workers()'"
    return f"{words}. To stop {'the server and its workers' if is_embedded else 'the workers'}: {how}"


def show_measures(console: Console, results: list[Measures], folder: Path) -> None:
    """The largest files, the most deeply nested ones, and the totals."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", max_width=44, overflow="ellipsis", no_wrap=True)
    for name in ("lines", "functions", "nesting"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, lines: int, functions: int, nesting: int, style: str = "") -> None:
        table.add_row(Text(name), f"{lines:,}", f"{functions:,}", str(nesting), style=style)

    for title, ordered in (
        ("The largest", sorted(results, key=lambda m: (-m.lines, m.path))),
        ("The most deeply nested", sorted(results, key=lambda m: (-m.nesting, m.path))),
    ):
        table.add_row(Text(title, style="bold"))
        for one in ordered[:5]:
            add(f"  {Path(one.path).relative_to(folder)}", one.lines, one.functions, one.nesting)
    add(
        f"All {len(results):,} files", sum(m.lines for m in results), sum(m.functions for m in results),
        max(m.nesting for m in results), "bold",
    )  # fmt: skip
    console.print()
    console.print(table)


def show_failures(console: Console, batch: Batch, folder: Path) -> None:
    """The files that could not be measured, grouped by what was wrong."""
    from rich.table import Table
    from rich.text import Text

    groups = batch.failures()
    if not groups:
        return
    number = sum(group.count for group in groups)
    console.print(f"\n{number:,} {'file' if number == 1 else 'files'} could not be measured", style="bold")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for group in groups:
        example = Path(group.job.args[0]).relative_to(folder)
        grid.add_row(f"  {group.count:,} x", Text(f"{group.type}: {group.message}"))
        grid.add_row("", Text(f"such as {example} (job {group.job.id})", style="dim"))
    console.print(grid)
    console.print(f"  Their tracebacks: nbqueue batch {batch.id}")


def show_rate(console: Console, batch: Batch, results: list[Measures]) -> None:
    """The time that it took, and the work in it."""
    state = batch.state
    seconds = max((state.ended_at or batch.session.now()) - state.submitted_at, 1e-3)
    size = sum(m.size for m in results) / 1e6
    console.print(
        f"\n{state.ended:,} files, {size:,.1f} MB in {seconds:.1f} s: {state.ended / seconds:,.0f} files/s "
        f"(the work took {state.busy:.1f} s)"
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    run(int(given[0]) or None if given else None, Path(given[1]).resolve() if given[1:] else None)
