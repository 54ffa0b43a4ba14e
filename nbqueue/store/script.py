"""The Lua scripts."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Script:
    """A Lua file, with what it uses of the prelude in front.

    Each call makes the functions of the prelude anew: those that are not used cost time.
    """

    _known: dict[str, Script] = {}  # noqa: RUF012 - scripts do not change while a process runs

    def __init__(self, name: str) -> None:
        folder = resources.files(__package__) / "lua"
        body = (folder / f"{name}.lua").read_text("utf-8")
        self.text = (_used_of((folder / "prelude.lua").read_text("utf-8"), body) + body).encode()
        self.sha = hashlib.sha1(self.text).hexdigest().encode()

    @classmethod
    def named(cls, name: str) -> Script:
        if name not in cls._known:
            cls._known[name] = cls(name)
        return cls._known[name]


def _used_of(prelude: str, body: str) -> str:
    """Those definitions of the prelude that a script needs, in their order."""
    definitions = re.split(r"(?m)^(?=local )", re.sub(r"(?m)^--.*\n", "", prelude))
    kept: list[str] = []
    for definition in reversed(definitions):  # what a definition uses stands before it
        name = re.match(r"local (?:function )?(\w+)", definition)
        if name and re.search(rf"\b{name[1]}\b", body):
            kept.insert(0, definition)
            body += definition
    return "".join(kept)
