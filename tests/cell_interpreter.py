"""Runs cells in a fresh interpreter: what `test_cell` starts as a process, and how it talks to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


class Stop(BaseException):
    """What is raised into a cell from outside."""


class Interpreter:
    """A process that runs cells, one after the other."""

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self.log = directory / "interpreter.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", __file__, *options], cwd=directory, text=True, process_group=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "IPYTHONDIR": str(directory / "ipython"), **environment},
            )  # fmt: skip

    def run(self, cell: str, setup: str = "", **options: Any) -> dict[str, Any]:
        """Run a cell in the namespace that `setup` makes; what came of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"cell": cell, "setup": setup, **options}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.log.read_text()
        result: dict[str, Any] = json.loads(answer)
        return result

    def end(self) -> None:
        """Let it end by itself; it must have nothing to complain about."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0, self.log.read_text()
        self._process.stdout.close()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed outside of cells goes to the log
    options = dict(option.split("=") for option in sys.argv[1:])

    from nbqueue.cells.shell import Cell
    from nbqueue.machine import interrupt_group, is_starting_process

    messages: list[tuple[str, Any]] = []
    request: dict[str, Any] = {}

    def emit(kind: str, content: dict[str, Any]) -> None:
        messages.append((kind, json.loads(json.dumps(content))))
        awaited = request.get("stop_on")
        if awaited and awaited in content.get("text", ""):
            is_stopping.set()
            threading.Thread(target=insist).start()
        if request.get("fail_on") and request["fail_on"] in content.get("text", ""):
            raise ConnectionError("the other side has gone")

    is_stopping = threading.Event()
    has_stopped = threading.Event()

    def insist() -> None:
        # One signal is not enough: if it comes just before a system call that sleeps, that sleeps on.
        while not has_stopped.wait(0.02):
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if is_stopping.is_set() and not is_starting_process(frame):
            is_stopping.clear()
            has_stopped.set()
            interrupt_group()
            raise Stop

    signal.signal(signal.SIGUSR1, on_signal)
    cell = Cell(emit, stop=Stop, **{name: int(value) for name, value in options.items()})
    for line in sys.stdin:
        request.clear()
        request.update(json.loads(line))
        messages.clear()
        has_stopped.clear()
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(request["setup"], namespace)
        answer: dict[str, Any] = {}
        streams, module, given = (sys.stdout, sys.stderr, sys.stdin), sys.modules["__main__"], dict(namespace)
        sweep = Interruption(request["interrupt"]) if "interrupt" in request else None
        try:
            if sweep is not None:
                sys.setprofile(sweep)
            try:
                result = cell.run(
                    request["cell"], namespace, number=request.get("number", 1), silent=request.get("silent", False)
                )
            finally:
                sys.setprofile(None)
                is_stopping.clear()
                has_stopped.set()
            answer["value"] = repr(result.value)
            assert result.namespace is namespace
            if result.error is not None:
                answer["error"] = repr(result.error)
                answer["lines"] = lines_of(result.error)
            del result
        except BaseException as error:
            answer["raised"] = repr(error)
            answer["lines"] = lines_of(error)
        if sweep is not None:
            answer["was_interrupted"] = sweep.left < 0
        answer["messages"] = messages
        answer["bound"] = sorted(name for name in namespace if name not in given)
        answer["restored"] = (sys.stdout, sys.stderr, sys.stdin) == streams and sys.modules["__main__"] is module
        if "then" in request:
            answer["then"] = repr(eval(request["then"], {**globals(), "namespace": namespace}))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    cell.close()
    answers.close()


def lines_of(error: BaseException) -> list[tuple[str, int]]:
    found, frames = [], error.__traceback__
    while frames is not None:
        found.append((frames.tb_frame.f_code.co_filename, frames.tb_lineno))
        frames = frames.tb_next
    return found


class Interruption:
    """Raises `Stop` at the n-th call or return: these are where the interpreter looks for signals."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_return"):
            self.left -= 1
            if self.left == -1:
                sys.setprofile(None)
                raise Stop


def fold(messages: list[tuple[str, dict[str, Any]]], clean: Callable[[str], str] = str) -> list[dict[str, Any]]:
    """The outputs that a notebook is left with."""
    outputs: list[dict[str, Any]] = []
    is_cleared = False
    for kind, content in messages:
        if kind == "clear_output" and content["wait"]:
            is_cleared = True
            continue
        if kind == "clear_output":
            outputs.clear()
            continue
        if kind == "update_display_data":
            for output in outputs:
                if output.get("id") == content["transient"]["display_id"]:
                    output["data"] = content["data"]
            continue
        if is_cleared:
            outputs.clear()
            is_cleared = False
        if kind == "stream":
            if outputs and outputs[-1].get("name") == content["name"]:
                outputs[-1]["text"] = clean(outputs[-1]["text"] + content["text"])
            else:
                outputs.append({"type": kind, "name": content["name"], "text": clean(content["text"])})
        elif kind == "error":
            outputs.append({"type": kind, **content, "traceback": clean("\n".join(content["traceback"]))})
        else:
            output = {"type": kind, "data": content["data"], "metadata": content["metadata"]}
            if "display_id" in content.get("transient", {}):
                output["id"] = content["transient"]["display_id"]
            if kind == "execute_result":
                output["number"] = content["execution_count"]
            outputs.append(output)
    return outputs


if __name__ == "__main__":
    main()
