"""A real kernel, spoken to by Jupyter's protocol."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from typing import Any

import pytest

jupyter_client = pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")


class Kernel:
    """A real kernel, and all it has said."""

    def __init__(self) -> None:
        self._manager, self._client = jupyter_client.manager.start_new_kernel()
        self.messages: list[Any] = []

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()
        self._manager.cleanup_resources()

    def restart(self) -> None:
        """As the front end's button does."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=60)

    def execute(self, code: str) -> str:
        return str(self._client.execute(code, allow_stdin=True))

    def execute_to_end(self, code: str) -> str:
        """Run a cell to its end, however it ends, and take its reply; its id.

        ipykernel 7.0 to 7.3 may lose a request that comes while they send the reply to the one before, also without
        nbqueue: ipython/ipykernel#1529.
        """
        id = self.execute(code)
        self.hear(
            lambda found: (
                found["parent_header"].get("msg_id") == id and found["content"].get("execution_state") == "idle"
            )
        )
        while self._client.get_shell_msg(timeout=30)["parent_header"].get("msg_id") != id:
            pass  # those of cells whose end nobody has waited for
        return id

    def run(self, code: str) -> str:
        """Run a cell to its end; its result as text."""
        id = self.execute_to_end(code)
        of_cell = lambda found: found["parent_header"].get("msg_id") == id  # noqa: E731
        raised = [found["content"] for found in self.messages if of_cell(found) and found["msg_type"] == "error"]
        assert not raised, raised
        results = [found for found in self.messages if of_cell(found) and found["msg_type"] == "execute_result"]
        return str(results[0]["content"]["data"]["text/plain"]) if results else ""

    def run_wrong(self, code: str) -> str:
        """Run a cell that raises; what it says."""
        id = self.execute_to_end(code)
        mine = [found for found in self.messages if found["parent_header"].get("msg_id") == id]
        raised = [found["content"] for found in mine if found["msg_type"] == "error"]
        texts = [found["content"]["text"] for found in mine if found["msg_type"] == "stream"]
        usage = [text for text in texts if text.startswith("UsageError")]  # which IPython prints
        assert raised or usage, "it raised nothing"
        return "".join([f"{error['ename']}: {error['evalue']}\n" for error in raised] + texts)

    def outputs_of(self, id: str) -> list[tuple[str, dict[str, Any]]]:
        """Type and content of all that has come for a cell, or later under it."""
        kinds = ("stream", "display_data", "update_display_data", "execute_result", "error", "clear_output")
        return [
            (found["msg_type"], found["content"])
            for found in self.messages
            if found["parent_header"].get("msg_id") == id and found["msg_type"] in kinds
        ]

    def hear(self, wanted: Callable[[Any], bool], seconds: float = 30.0) -> Any:
        """The next message of a kind."""
        deadline = time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, f"the message did not come: {self.messages[-3:]}"
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            self.messages.append(message)
            if wanted(message):
                return message

    def heard(self, wanted: Callable[[Any], bool], seconds: float = 30.0) -> Any:
        """A message of a kind that has come before, or comes."""
        found = next(filter(wanted, self.messages), None)
        return found if found is not None else self.hear(wanted, seconds)

    def button(self, name: str) -> str:
        """The id of a button's comm, of the newest one of that name."""
        opened = [
            found["content"]["comm_id"]
            for found in self.messages
            if found["msg_type"] == "comm_open" and found["content"]["data"].get("state", {}).get("description") == name
        ]
        return str(opened[-1])

    def click(self, name: str) -> None:
        content = {"comm_id": self.button(name), "data": {"method": "custom", "content": {"event": "click"}}}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))


def has_text(*words: str) -> Callable[[Any], bool]:
    """Messages that draw a panel with these words."""
    return lambda found: all(word in json.dumps(found["content"], ensure_ascii=False) for word in words)
