"""What `nbqueue` offers, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import nbqueue


def in_a_fresh_interpreter(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_listed_is_what_is_there() -> None:
    public = {name for name in dir(nbqueue) if not name.startswith("_")}
    assert public == {*nbqueue.__all__, "load_ipython_extension"}
    assert len(nbqueue.__all__) == len(set(nbqueue.__all__))


def test_a_star_import_gives_what_is_listed() -> None:
    given: dict[str, object] = {}
    exec("from nbqueue import *", given)
    assert given.keys() - {"__builtins__"} == set(nbqueue.__all__)


@pytest.mark.parametrize("name", nbqueue.__all__)
def test_each_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(nbqueue, name))


@pytest.mark.parametrize(("name", "home"), nbqueue._HOMES.items())
def test_each_name_is_that_of_its_home(name: str, home: str) -> None:
    value = getattr(nbqueue, name)
    assert value.__module__ == home
    assert value is getattr(importlib.import_module(home), name)


def test_other_names_are_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'nbqueue' has no attribute 'Que'"):
        nbqueue.Que  # noqa: B018


def test_the_errors_are_there_at_once() -> None:
    assert in_a_fresh_interpreter("import nbqueue; print(nbqueue.errors.WaitTimeout.__name__)") == "WaitTimeout"


def test_the_import_loads_the_errors_and_nothing_else() -> None:
    code = "import sys; import nbqueue; print(sorted(name for name in sys.modules if name.startswith('nbqueue')))"
    assert in_a_fresh_interpreter(code) == "['nbqueue', 'nbqueue.errors']"
    code = "import sys; before = {*sys.modules}; import nbqueue; print(sorted({*sys.modules} - before))"
    heavy = ("redis", "IPython", "ipywidgets", "cloudpickle", "psutil", "tqdm", "rich", "click", "importlib.metadata")
    assert not [name for name in heavy if f"'{name}'" in in_a_fresh_interpreter(code)]


def test_the_queue_is_made_without_a_notebook_and_without_a_look_at_processes() -> None:
    code = "import sys; from nbqueue import q; print(*sys.modules)"
    assert not {"IPython", "ipywidgets", "psutil", "rich", "cronsim", "zoneinfo"} & set(
        in_a_fresh_interpreter(code).split()
    )


def test_a_client_is_imported_where_there_are_no_terminals_and_no_limits() -> None:
    code = "import sys\nfor name in ('fcntl', 'termios', 'resource'): sys.modules[name] = None\n"
    assert in_a_fresh_interpreter(f"{code}import nbqueue.client.queues\nprint('as on Windows')") == "as on Windows"
