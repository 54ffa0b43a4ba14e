"""The outputs of a cell in the background, sent as if it had run in the cell that shows its panel, below that."""

from __future__ import annotations

from typing import Any

from nbqueue.cells.joiner import Content
from nbqueue.cells.messages import MOST_READ, Native, decode_message
from nbqueue.client.job import Job
from nbqueue.notebook.panels.display import Bundle, Display
from nbqueue.notebook.panels.redraw import REDRAW, Relay


class Outputs:
    """The outputs of one cell in the background.

    Parameters
    ----------
    job : Job
    shell : InteractiveShell
        Of the kernel; what it runs now is the cell under which they appear.
    caption : dict
        What stands above the panel, by MIME type.
    """

    def __init__(self, job: Job, shell: Any, caption: Bundle) -> None:
        self._job = job
        self._kernel = shell.kernel
        self._parent = shell.get_parent()
        self._caption = caption
        self._relay = Relay("")
        self._panel: Display[Any] | None = None
        self._unsent: list[Native] = []
        self._after = ""

    @property
    def shown(self) -> list[Native]:
        """Those that are to be seen now."""
        return self._relay.area.outputs

    def begin(self, panel: Display[Any]) -> None:
        """Draw the caption, and read what there is already."""
        self._panel, self._relay = panel, Relay(f"{panel.id}-slot")
        self._send("display_data", {"data": self._caption, "metadata": {}, "transient": {}})
        before: list[Native] = []
        while messages := self._read():
            before += messages
        self._unsent = list(self._relay.begin_with(before))

    def relay(self) -> None:
        """Send what has come."""
        self._send_all(self._unsent)
        self._unsent = []
        while True:
            messages = self._read()
            self._send_all(self._relay.take(messages))
            if len(messages) < MOST_READ:
                return

    def finish(self) -> None:
        """Send all of it once more as it is, if anything was cleared."""
        self._send_all(self._relay.finish())

    def _read(self) -> list[Native]:
        """What has come since the last time; from the beginning if the cell was started again."""
        found = self._job.batch.session.store.shown(self._job.batch.id, self._after, MOST_READ)
        if not found:
            return []
        messages = [decode_message(kind, content) for _, kind, content in found]
        last = found[-1][0]
        if self._after and last.partition("-")[0] != self._after.partition("-")[0]:
            messages.insert(0, ("clear_output", {"wait": False}))
        self._after = last
        return messages

    def _send_all(self, messages: list[Native]) -> None:
        for kind, content in messages:
            if (kind, content) == REDRAW:
                assert self._panel is not None
                transient = {"display_id": self._panel.id}
                self._send("display_data", {"data": self._caption, "metadata": {}, "transient": {}})
                self._send("display_data", {"data": self._panel.bundle, "metadata": {}, "transient": transient})
            else:
                self._send(kind, content)

    def _send(self, kind: str, content: Content) -> None:
        """Pinned to the cell that shows it, whichever runs now."""
        self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=self._parent, ident=kind.encode())
