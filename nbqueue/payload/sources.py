"""The sources of notebooks and scripts, which travel with code of theirs so that tracebacks show it."""

from __future__ import annotations

import linecache
import pickle
import re
import sys
from collections.abc import Iterable
from typing import Any

from nbqueue.payload.pickling import Again, AgainFromFile, Seen, pickle_again, pickle_frames, unpickle_frames
from nbqueue.payload.records import Pieces, Record, split_frames, with_sizes


def pack_with_sources(obj: Any, seen: Seen | None = None) -> Pieces:
    """An object, pickled, behind the sources of the code in it."""
    seen = seen or Seen()
    return _with_sources(pickle_frames(obj, seen=seen), seen.files)


def pack_again(obj: Any, known: memoryview, seen: Seen) -> Pieces | None:
    """The same; None if the object is still pickled as it was in what was packed before."""
    _, *before = split_frames(known)
    frames = pickle_again(obj, before, seen=seen)
    return None if frames is None else _with_sources(frames, seen.files)


class Sourced:
    """An object that was packed with sources, to be loaded as often as one wants."""

    def __init__(self, record: Record) -> None:
        sources, *frames = split_frames(record.body)
        self._sources: tuple[dict[str, str], dict[str, str]] | None = pickle.loads(sources)
        self._frames = Again(frames) if record.file is None else AgainFromFile(record.file, 1)

    def load(self) -> Any:
        """The object, anew; tracebacks know its sources from now on."""
        if self._sources is not None:
            _learn(*self._sources)
            self._sources = None
        return self._frames.load()


def unpack_with_sources(data: memoryview) -> Any:
    """The object, once."""
    sources, *frames = split_frames(data)
    _learn(*pickle.loads(sources))
    return unpickle_frames(frames)


def _with_sources(frames: Pieces, files: Iterable[str]) -> Pieces:
    sources = {name: "".join(linecache.getlines(name)) for name in sorted(files)}
    labels = {name: label for name in sources if (label := _label_of(name))}
    return with_sizes([pickle.dumps((sources, labels), 5), *frames])


def _label_of(name: str) -> str:
    """How IPython calls the file that it makes up for a cell; '' for other files."""
    shells: Any = sys.modules.get("IPython.core.interactiveshell")
    if shells is None or not shells.InteractiveShell.initialized():
        return ""
    found = shells.InteractiveShell.instance().compile.format_code_name(name)
    return "" if found is None else " ".join(found)


_labels: dict[str, str] = {}


def _learn(sources: dict[str, str], labels: dict[str, str]) -> None:
    for name, text in sources.items():
        if text and not linecache.getlines(name):
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    _labels.update(labels)


def learn_label(name: str, label: str) -> None:
    """A file that was made up for a cell is called so where people read it."""
    _labels[name] = label


def with_labels(text: str) -> str:
    """A traceback in which cells are called as IPython calls them.

    Examples
    --------
    >>> learn_label("/tmp/ipykernel_7/1.py", "Cell In[3]")
    >>> with_labels('  File "/tmp/ipykernel_7/1.py", line 2, in f')
    '  Cell In[3], line 2, in f'
    """
    return _FILE.sub(lambda found: _labels.get(found[1]) or found[0], text) if _labels else text


_FILE = re.compile(r'File "([^"\n]+)"')
"""How a traceback names a file."""
