"""What an error of a job may come from that has to do with where it ran: said beside the error."""

from __future__ import annotations

import os
import re

from nbqueue import machine
from nbqueue.payload.explain import hint_for_unpickling
from nbqueue.payload.versions import differences
from nbqueue.store.description import Description


def add_hints(error: BaseException, description: Description, *, is_loading: bool) -> None:
    """Add to an error what its job's user cannot see from where it was submitted.

    Parameters
    ----------
    error : BaseException
    description : Description
        Of its batch.
    is_loading : bool
        It was raised while the function or its arguments were unpickled.
    """
    hint = hint_for_unpickling(error) if is_loading else ""
    if hint:
        error.add_note(f"nbqueue: the function or its arguments could not be made again in the worker: {hint}")
    if isinstance(error, FileNotFoundError):
        name = error.filename
        if isinstance(name, str) and not os.path.isabs(name):  # noqa: PTH117 - it may be anything
            error.add_note(
                f"nbqueue: the job ran in {_directory()} on {machine.name()}; local modules travel with it, "
                "data files do not travel"
            )
    if isinstance(error, AttributeError) and (lacking := _NOT_IN_MAIN.search(str(error))):
        error.add_note(
            f"nbqueue: {lacking[1]} is of the notebook, and travels with functions that name it: name it in this one, "
            f"for instance by a line `{lacking[1]}` before the file is read"
        )
    elif isinstance(error, ImportError | AttributeError):
        _add_versions(error, description)
    if isinstance(error, ImportError) and error.name:
        top, last = error.name.partition(".")[0], error.name.rpartition(".")[2]
        compiled = [
            name for name in description.compiled if name.partition(".")[0] == top or name.rpartition(".")[2] == last
        ]
        if compiled:
            error.add_note(
                f"nbqueue: {', '.join(compiled)} is compiled, and only Python sources travel with jobs: install it "
                f"where workers run (the job ran on {machine.name()})"
            )


def _add_versions(error: ImportError | AttributeError, description: Description) -> None:
    """Name the packages of other versions than where the job was submitted: one that the error names, else all."""
    found = differences(description.versions)
    text = f"{error} {getattr(error, 'name', None) or ''} {type(getattr(error, 'obj', None)).__module__}"
    named = [one for one in found if one[0] in text]
    if found:
        words = ", ".join(
            f"{name} is {there} where the job was submitted and {here or 'not installed'} on {machine.name()}"
            for name, there, here in named or found
        )
        error.add_note(f"nbqueue: {words}, which may explain it")


_NOT_IN_MAIN = re.compile(r"Can't get attribute '(\w+)' on <module '__main__'")
"""What unpickling says of a class that is not there."""


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - as it is, to be read
    except OSError:
        return "a directory that was deleted"
