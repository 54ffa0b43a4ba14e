"""Settings of the notebook that go along with a cell, beside those that go along with every job.

The random numbers that the cell would draw here, how numpy, pandas and matplotlib show what they show, and the root
logger. Of libraries that are imported only, and only what differs from their defaults.
"""

from __future__ import annotations

import importlib
import logging
import random
import sys
from collections.abc import Callable
from typing import Any

_PRINTING = {
    "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec", "precision": 8, "suppress": False, "linewidth": 75,
    "nanstr": "nan", "infstr": "inf", "sign": "-", "formatter": None,
}  # fmt: skip
"""numpy's defaults."""

_OF_THE_SCREEN = (
    "backend",
    "interactive",
    "toolbar",
    "webagg",
    "tk.",
    "savefig.directory",
    "datapath",
    "figure.max_open",
)
"""Parameters of matplotlib that belong to the process that shows figures."""

Settings = dict[str, Any]


def collect() -> Settings:
    """The settings as they are now."""
    found: Settings = {"random": random.getstate()}
    for name, look in (
        ("numpy.random", _numpy_random),
        ("numpy", _numpy_printing),
        ("pandas", _pandas),
        ("matplotlib", _matplotlib),
    ):
        module = sys.modules.get(name)
        if module is not None:
            try:
                value = look(module)
            except Exception:  # noqa: BLE001 - a library that is half imported, or keeps them elsewhere by now
                continue
            if value:
                found[name] = value
    root = _logging()
    if root:
        found["logging"] = root
    return found


def apply(settings: Settings) -> list[str]:
    """Have these settings; returns what could not be set, in words."""
    problems = []
    for name, value in settings.items():
        try:
            _APPLY[name](value)
        except Exception as error:  # noqa: BLE001 - another version of the library has other settings
            problems.append(f"the settings of {name} stayed in the notebook: {type(error).__name__}: {error}")
    return problems


def _numpy_random(module: Any) -> Any:
    return module.get_state(legacy=False)


def _numpy_printing(module: Any) -> Settings:
    now = module.get_printoptions()
    return {name: now[name] for name, usual in _PRINTING.items() if name in now and now[name] != usual}


def _pandas(module: Any) -> Settings:
    registered = module._config.config._registered_options
    found = {}
    for name, option in registered.items():
        value = module.get_option(name)
        is_usual = value is option.defval or value == option.defval
        if not is_usual and not callable(value) and name not in ("display.max_columns", "display.width"):
            found[name] = value
    usual = {"display.max_columns": (0, 20), "display.width": (80,)}  # a terminal's, a notebook's
    found.update({name: module.get_option(name) for name in usual if module.get_option(name) not in usual[name]})
    return found


def _set_pandas(options: Settings) -> None:
    pandas: Any = importlib.import_module("pandas")
    for name, value in options.items():
        pandas.set_option(name, value)


def _matplotlib(module: Any) -> Settings:
    usual = module.rcParamsDefault
    return {
        name: value
        for name, value in dict.items(module.rcParams)
        if not name.startswith(_OF_THE_SCREEN) and value != dict.get(usual, name)
    }


def _set_matplotlib(parameters: Settings) -> None:
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.rcParams.update(parameters)


def _set_numpy_random(state: Any) -> None:
    import numpy as np

    np.random.set_state(state)


def _set_numpy_printing(options: Settings) -> None:
    import numpy as np

    np.set_printoptions(**options)


def _logging() -> Settings:
    root = logging.root
    found: Settings = {}
    if root.level != logging.WARNING:
        found["level"] = root.level
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler and handler.formatter is not None:
            found["format"], found["datefmt"] = handler.formatter._fmt, handler.formatter.datefmt
            break
    return found


def _set_logging(options: Settings) -> None:
    if "format" in options:
        logging.basicConfig(format=options["format"], datefmt=options["datefmt"], force=True)
    if "level" in options:
        logging.root.setLevel(options["level"])


_APPLY: dict[str, Callable[[Any], None]] = {
    "random": random.setstate,
    "numpy.random": _set_numpy_random,
    "numpy": _set_numpy_printing,
    "pandas": _set_pandas,
    "matplotlib": _set_matplotlib,
    "logging": _set_logging,
}
