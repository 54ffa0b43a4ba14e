"""The Lua scripts."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable


class Script:
    """A Lua file, with the files in front that it includes.

    Each call makes the functions of these anew: those that are not used cost time. Where that is much, a file says
    `-- on demand: resolve of resolving`: then the functions of that file, and of those that it includes, are made when
    this one of them is called.
    """

    _known: dict[str, Script] = {}  # noqa: RUF012 - scripts do not change while a process runs

    def __init__(self, name: str) -> None:
        folder = resources.files(__package__) / "lua"
        body = (folder / f"{name}.lua").read_text("utf-8")
        known: set[str] = set()
        included = _included(folder / "include", body, known)
        for function, file in on_demand(body):
            text = "".join(_included(folder / "include", f"-- include: {file}", known.copy()))
            included.append(f"local function {function}(...)\n{text}return {function}(...)\nend\n")
        self.text = "".join([*included, _without_comments(body)]).encode()
        self.sha = hashlib.sha1(self.text).hexdigest().encode()

    @classmethod
    def named(cls, name: str) -> Script:
        """The script of a file such as 'running/claim'."""
        if name not in cls._known:
            cls._known[name] = cls(name)
        return cls._known[name]


def includes(text: str) -> list[str]:
    """What the line `-- include: keys, runs` of a file names; it may go on after a comma."""
    line = re.search(r"(?m)^-- include: ((?:.+,\n-- +)*.+)$", text)
    return re.split(r",\s+(?:--\s+)?", line[1]) if line else []


def on_demand(text: str) -> list[tuple[str, str]]:
    """What lines such as `-- on demand: resolve of resolving` name: a function, and the file that it is of."""
    return re.findall(r"(?m)^-- on demand: (\w+) of (\w+)$", text)


def _included(folder: Traversable, text: str, known: set[str]) -> list[str]:
    """The text of what a file includes, each once, after what it includes itself."""
    found: list[str] = []
    for name in includes(text):
        if name not in known:
            known.add(name)
            body = (folder / f"{name}.lua").read_text("utf-8")
            found += [*_included(folder, body, known), _without_comments(body)]
    return found


def _without_comments(text: str) -> str:
    return re.sub(r"(?m)^ *--.*\n", "", text)
