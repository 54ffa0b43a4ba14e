"""The notebooks of `notebooks/` run as they are, and hold how each of their batches ended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_headless import environment  # noqa: F401 - a fixture

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def panels(notebook) -> list[str]:
    """The plain text of each panel."""
    return [
        output["data"]["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if re.search(r"\((batch \w{6}|job \w{6}:\d+)\)$", output.get("data", {}).get("text/plain", ""))
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_says_how_each_batch_ended(path, environment, monkeypatch):  # noqa: F811
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    committed = nbformat.read(path, 4)
    found = nbformat.read(path, 4)
    nbclient.NotebookClient(found, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for notebook in (committed, found):
        assert panels(notebook), "no batch is shown"
        assert all(re.search(r": (finished|failed|canceled)", text) for text in panels(notebook))
    assert [len(cell.outputs) > 0 for cell in committed.cells if cell.cell_type == "code"] == [
        len(cell.outputs) > 0 for cell in found.cells if cell.cell_type == "code"
    ]


def test_no_committed_notebook_names_a_path_of_the_machine_that_ran_it():
    for path in NOTEBOOKS:
        assert not re.search(r"/(root|home|Users|work)/", path.read_text())
