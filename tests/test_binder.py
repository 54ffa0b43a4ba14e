"""The environment that `binder/` describes, built as repo2docker does, runs the quick start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="nbq-"))
    yield directory
    shutil.rmtree(directory)


def test_what_binder_builds_runs_the_quick_start(scratch):
    version = (ROOT / "binder" / "runtime.txt").read_text().strip()
    python = shutil.which(version.replace("-", "")) or sys.executable
    runs = subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0
    subprocess.run([python if runs else sys.executable, "-m", "venv", scratch / "venv"], check=True)
    programs = scratch / "venv" / "bin"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("NBQUEUE_", "PYTHONPATH"))},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "NBQUEUE_HOME": str(scratch / "home"), "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_DATA_DIR": str(scratch / "data"), "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
    }  # fmt: skip

    def run(*command: str | Path, directory: Path = ROOT) -> None:
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr

    run("pip", "install", "-q", "-r", "binder/requirements.txt")
    run(ROOT / "binder" / "postBuild")
    (scratch / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "quickstart.ipynb", scratch / "notebooks")
    try:
        run("jupyter", "execute", "quickstart.ipynb", directory=scratch / "notebooks")
    finally:
        run("nbqueue", "server", "stop")
