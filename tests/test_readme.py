"""The README, as a reader tries it: every snippet runs, in order, and what it says about results is true."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import Batch, Job, Queue, machine
from nbqueue.command.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
STATED = "# -> "
"""What stands in front of a result in a snippet; words may follow it."""

KERNEL = """
import json, pathlib, sys
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config, colors="nocolor")
results = []
for statement in json.loads(sys.argv[1]):
    done = shell.run_cell(statement)
    done.raise_error()
    results.append(repr(done.result))
pathlib.Path(sys.argv[2]).write_text(json.dumps([results, shell.user_ns["batch"].id]))
shell.user_ns["q"].close()
"""


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def statements(block: str) -> list[tuple[str, str | None]]:
    """The statements of a snippet, each with the result that a comment on its last line states, if one does."""
    lines = block.splitlines()
    tree = compile(block, "README.md", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = []
    for node in tree.body:
        rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        stated = rest.removeprefix(STATED) if rest.startswith(STATED) else None
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        found.append(("\n".join(lines[first - 1 : node.end_lineno]), stated))
    return found


def states(stated: str, result: str) -> bool:
    """Whether a comment begins with this result, and goes on with words if at all."""
    return stated.startswith(result) and stated[len(result) :][:1] in ("", ",", ":", ";")


@pytest.fixture
def read(fresh, tmp_path, monkeypatch):
    """A reader's notebook in which all snippets were run, where nothing ran before: results and the batch."""
    monkeypatch.setenv("NBQUEUE_AUTOSTART", "1")
    source = [statement for block in blocks() for statement, _ in statements(block)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KERNEL, json.dumps(source), tmp_path / "results"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results, batch = json.loads((tmp_path / "results").read_text())
    assert len(results) == len(source)
    return results, batch


def test_the_snippets_run_and_return_what_they_say(read):
    results, _ = read
    stated = [pair for block in blocks() for pair in statements(block)]
    checked = [(text, result) for (_, text), result in zip(stated, results, strict=True) if text is not None]
    assert len(checked) == README.count(STATED) > 2
    assert [text for text, result in checked if not states(text, result)] == []


def test_the_commands_run(read):
    _, batch = read
    (line,) = re.findall(r"`nbqueue (worker \|.*?)`", README)
    commands = [command.split() for command in line.split(" | ")]
    words = {"ID": batch, "JOB": f"{batch}:0", "QUEUE": "default"}
    more = {"worker": ["--burst", "-n", "1"], "demo": [str(ROOT / "benchmarks")]}
    for command in commands:
        arguments = [words.get(word, word) for word in command] + more.get(command[0], [])
        done = nbqueue_command(*arguments)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert nbqueue_command(*[word for word in command if word not in words], "--help").returncode == 0
    assert {command[0] for command in commands} == set(main.commands)
    pids = [worker["pid"] for worker in json.loads(nbqueue_command("info", "--json").stdout)["workers"]]
    assert pids
    assert nbqueue_command("server", "stop").stdout == "stopped\n"
    wait_until(lambda: not any(machine.is_alive(pid, "") for pid in pids))


def nbqueue_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nbqueue", *arguments], capture_output=True, text=True, timeout=60)


def test_what_is_named_in_the_text_exists():
    kinds = {"q": Queue, "batch": Batch, "job": Job}
    named = {(kinds[name], attribute) for name, attribute in re.findall(r"\b(q|batch|job)\.(?!py`)([a-z_]\w*)", README)}
    assert len(named) > 10
    assert [pair for pair in named if not hasattr(*pair)] == []
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", README))
    package = Path(nbqueue.__file__).parent
    assert len(named) > 10
    assert [name for name in named if not (package / name).exists() and not (ROOT / name).exists()] == []
    packages = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert packages <= named, "each has its paragraph"


def test_the_table_of_variables_is_complete():
    variables = set(re.findall(r"^\| `(NBQUEUE_\w+)", README, re.MULTILINE))
    assert variables == set(re.findall(r"`(NBQUEUE_\w+)", (Path(nbqueue.__file__).parent / "settings.py").read_text()))
