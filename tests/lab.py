"""A real JupyterLab in a real browser, on loopback, with a profile and a configuration of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def browser_path() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def notebook(*cells: str) -> dict[str, Any]:
    """A notebook of code cells without outputs."""
    return {
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [
            {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": source, "outputs": [],
             "execution_count": None}
            for number, source in enumerate(cells)
        ],
    }  # fmt: skip


class Lab:
    """A Jupyter server in a directory of its own."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("config", "data", "runtime", "notebooks"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.notebooks = directory / "notebooks"
        self._set("notification", {"fetchNews": "false", "checkForUpdates": False})
        self._log = (directory / "lab.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}",
             "--allow-root", "--IdentityProvider.token=", f"--ServerApp.root_dir={self.notebooks}",
             "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
             "--LabApp.extension_manager=readonly"],
            stdout=self._log, stderr=self._log,
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(directory / "config"),
                 "JUPYTER_DATA_DIR": str(directory / "data"), "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
                 "JUPYTERLAB_SETTINGS_DIR": str(directory / "config" / "settings"),
                 "JUPYTERLAB_WORKSPACES_DIR": str(directory / "config" / "workspaces"),
                 "IPYTHONDIR": str(directory / "ipython"), **environment},
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}"
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.directory / "lab.log").read_text()
                assert time.monotonic() < deadline, "JupyterLab does not answer"
                time.sleep(0.1)

    def write(self, name: str, *cells: str) -> Path:
        path = self.notebooks / name
        path.write_text(json.dumps(notebook(*cells)))
        return path

    def use_theme(self, name: str) -> None:
        self._set("themes", {"theme": name})

    def _set(self, what: str, values: dict[str, Any]) -> None:
        folder = self.directory / "config" / "settings" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{what}.jupyterlab-settings").write_text(json.dumps(values))

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


class Page:
    """A notebook that is open in the browser."""

    def __init__(self, lab: Lab, page: Any, name: str) -> None:
        self.lab, self.page, self.name = lab, page, name
        self.open()

    def open(self) -> None:
        """Load the page (anew), and wait for a kernel that is idle."""
        self.page.goto(f"{self.lab.url}/lab/tree/{self.name}?reset", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        self.wait_idle()

    def wait_idle(self) -> None:
        self.page.wait_for_function(
            """() => {
                const kernel = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
                return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
            }""",
            timeout=60_000,
        )

    def cell(self, number: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def run(self, number: int) -> None:
        """Start a cell; does not wait for its end."""
        cell = self.cell(number)
        cell.locator(".jp-InputArea-editor").click()
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")

    def run_to_end(self, number: int) -> None:
        """Run a cell and wait until it has its number."""
        self.run(number)
        self.page.wait_for_function(
            """number => {
                const cells = document.querySelectorAll('.jp-Notebook .jp-Cell');
                return /^\\[\\d+\\]:$/.test(cells[number].querySelector('.jp-InputPrompt').textContent.trim());
            }""",
            arg=number, timeout=60_000,
        )  # fmt: skip

    def output(self, number: int) -> Any:
        return self.cell(number).locator(".jp-Cell-outputWrapper")

    def text(self, number: int) -> str:
        return re.sub(r"\s+", " ", self.output(number).inner_text())

    def save(self) -> dict[str, Any]:
        """Save it, and what the file then holds."""
        self.page.keyboard.press("Escape")
        path = self.lab.notebooks / self.name
        before = path.stat().st_mtime_ns
        deadline = time.monotonic() + 20
        pressed_at = float("-inf")
        while True:
            now = time.monotonic()
            assert now < deadline, "the notebook was not saved"
            if now - pressed_at > 2:  # once more: while it still ends an earlier save, JupyterLab begins no other
                self.page.keyboard.press("Control+s")
                pressed_at = now
            self.page.wait_for_timeout(50)
            if path.stat().st_mtime_ns != before:
                try:
                    found: dict[str, Any] = json.loads(path.read_text())
                except ValueError:  # it is being written
                    continue
                return found

    def picture(self, path: Path) -> None:
        self.page.locator(".jp-Notebook").first.screenshot(path=str(path))

    # The kernel

    def _ask(self, method: str, path: str) -> Any:
        """A request to the Jupyter server, as the page makes it."""
        return self.page.evaluate(
            """async ([method, path]) => {
                const token = (document.cookie.match(/_xsrf=([^;]+)/) || [])[1];
                const answer = await fetch(path, {method, headers: {'X-XSRFToken': token}});
                return answer.status === 204 ? null : await answer.json();
            }""",
            [method, path],
        )

    def _session(self) -> Any:
        return next(found for found in self._ask("GET", "/api/sessions") if found["path"] == self.name)

    def restart_kernel(self) -> None:
        self._ask("POST", f"/api/kernels/{self._session()['kernel']['id']}/restart")
        self.wait_idle()

    def shut_down_kernel(self) -> None:
        self._ask("DELETE", f"/api/sessions/{self._session()['id']}")

    def kill_kernel(self) -> None:
        """At once: nothing of it can say goodbye."""
        self._ask("DELETE", f"/api/kernels/{self._session()['kernel']['id']}")
