"""The table of keys names them all, and no other module does."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import nbqueue
from nbqueue.store import keys
from nbqueue.store.keys import CANCELED_RUN, ENDED, UNDONE, EndedRun

PACKAGE = Path(nbqueue.__file__).parent
TABLE = keys.__doc__ or ""


def test_no_other_module_makes_names_of_keys() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path != Path(keys.__file__):
            assert not re.search(r"\bkey\(f?\"|\"nbq:|f\"(batch|queue|worker|code):", path.read_text("utf-8")), path


def test_the_table_names_every_key_of_the_scripts() -> None:
    for path in (Path(str(resources.files("nbqueue.store"))) / "lua").rglob("*.lua"):
        code = re.sub(r"--.*", "", path.read_text("utf-8"))
        for name in re.findall(r"':(\w+)'", code) + re.findall(r"prefix \.\. '(\w+)'", code):
            assert re.search(rf"[:`]{name}\b", TABLE), f"{name}, of {path.name}"


def test_a_key_tells_its_namespace_and_a_channel_its_batch() -> None:
    assert keys.namespace_of(keys.prefix("mine") + keys.WORKERS.encode()) == "mine"
    assert keys.batch_of(keys.batch("k3f9x2")) == "k3f9x2"


def test_entries_of_what_ended_are_read_as_what_they_say() -> None:
    read = [EndedRun.read(entry) for entry in (b"17", b"10-40", b"c10-40", b"r5-6")]
    assert read == [
        EndedRun(17, 18, ENDED),
        EndedRun(10, 40, ENDED),
        EndedRun(10, 40, CANCELED_RUN),
        EndedRun(5, 6, UNDONE),
    ]
    assert keys.read_run(b"s10-40") == keys.read_run(b"10-40") == (10, 40)
