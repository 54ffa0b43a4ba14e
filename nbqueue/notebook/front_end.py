"""The front end of this kernel: which cell it runs, and whether anybody looks."""

from __future__ import annotations

import sys
from typing import Any

from IPython.core.getipython import get_ipython


def execution() -> str:
    """The cell that runs, by the id of the message that asked for it; each time that a cell runs it is another one."""
    return str(_parent().get("header", {}).get("msg_id", ""))


def cell_id() -> str:
    """The cell that runs, as its notebook calls it; '' where the front end does not tell."""
    return str(_parent().get("metadata", {}).get("cellId") or "")


def _parent() -> dict[str, Any]:
    shell = get_ipython()
    parent = shell.get_parent() if shell is not None and hasattr(shell, "get_parent") else {}
    return parent or {}


def is_headless() -> bool:
    """True where nobody is at the keyboard, and nothing draws widgets: nbclient, papermill, nbconvert."""
    kernel = getattr(get_ipython(), "kernel", None)
    return not getattr(kernel, "_allow_stdin", True)


def draws_widgets() -> bool:
    """True where widgets that change by themselves are drawn. Colab does not: googlecolab/colabtools#3373."""
    return not is_headless() and "google.colab" not in sys.modules
