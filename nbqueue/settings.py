"""The settings of the environment: the one place that reads `NBQUEUE_*`, when asked and never on import."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from nbqueue import errors


def url() -> str | None:
    """`NBQUEUE_URL`: the Redis to use where none is given."""
    return os.environ.get("NBQUEUE_URL") or None


def key() -> bytes | None:
    """`NBQUEUE_KEY`: what payloads are signed with on a Redis given by URL; text, or 'hex:' and bytes in hex."""
    value = os.environ.get("NBQUEUE_KEY")
    if not value:
        return None
    if not value.startswith("hex:"):
        return os.fsencode(value)
    try:
        return bytes.fromhex(value[4:])
    except ValueError:
        raise errors.UsageError("NBQUEUE_KEY: hex digits are needed after 'hex:'") from None


def environment() -> str | None:
    """`NBQUEUE_ENVIRONMENT`: the name of the environment that jobs need and workers serve."""
    return os.environ.get("NBQUEUE_ENVIRONMENT") or None


def autostart() -> bool:
    """`NBQUEUE_AUTOSTART=0` keeps the embedded server's queues from starting a worker by themselves."""
    return os.environ.get("NBQUEUE_AUTOSTART", "1").strip().lower() not in ("0", "no", "false", "off")


def home() -> Path:
    """`NBQUEUE_HOME`, or the user's state directory: where the embedded server, its key and the logs are kept."""
    value = os.environ.get("NBQUEUE_HOME")
    if value:
        return Path(value).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("nbqueue"))


def server_binary() -> str | None:
    """`NBQUEUE_SERVER`: the valkey-server or redis-server that the embedded server runs."""
    return os.environ.get("NBQUEUE_SERVER") or None


def notebook() -> str | None:
    """The path of the notebook that this kernel belongs to, where its front end tells."""
    return os.environ.get("JPY_SESSION_NAME") or os.environ.get("__vsc_ipynb_file__") or None  # noqa: SIM112


def local_environment() -> str:
    """The environment of this interpreter on the embedded server: version, and which installation of it."""
    return f"{python_environment()}-{hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]}"


def python_environment() -> str:
    """The environment of this interpreter on a Redis given by URL, which other machines share."""
    return f"py{sys.version_info.major}.{sys.version_info.minor}"


def environment_in_words(environment: str) -> str:
    """The words for an environment in messages: 'Python 3.11', or its own name."""
    version, _, installation = environment.partition("-")
    if version.startswith("py") and version[2:].replace(".", "").isdigit():
        return f"Python {version[2:]}" + (f" ({installation})" if installation else "")
    return f"environment {environment}"
