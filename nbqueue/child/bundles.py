"""Displays as data by MIME type, of which JSON can be made."""

from __future__ import annotations

import base64
import datetime
import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_WIDGET = "application/vnd.jupyter.widget-view+json"


def as_json_bundle(data: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The data and the metadata of a display, as a kernel's session makes them; a widget is its text.

    Raises
    ------
    TypeError
        JSON cannot be made of it.
    """
    data, metadata = dict(data), dict(metadata or {})
    if data.pop(_WIDGET, None) is not None:
        metadata.pop(_WIDGET, None)
        if not data.keys() - {"text/plain"}:
            data["text/plain"] = (
                "A widget made in the background has no counterpart here, for its state is in the worker's process: "
                + data.get("text/plain", "")
            )
    return {"data": _as_json(data), "metadata": _as_json(metadata)}


def is_bar_of_tqdm(data: Mapping[str, Any]) -> bool:
    """Whether it is a widget that a panel shows as the job's own bar."""
    view = data.get(_WIDGET)
    widgets = getattr(sys.modules.get("ipywidgets.widgets.widget"), "_instances", {})
    model = view.get("model_id") if isinstance(view, dict) else None
    return type(widgets.get(model)).__module__ == "tqdm.notebook"


def _as_json(value: Any) -> Any:
    """What a kernel's session makes of a value in a message."""
    match value:
        case None | bool() | str():
            return value
        case bytes() | memoryview():
            return base64.b64encode(value).decode()
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case datetime.date():
            return value.isoformat()
        case dict():
            return {str(key): _as_json(part) for key, part in value.items()}
        case _ if isinstance(value, Iterable):
            return [_as_json(part) for part in value]
    raise TypeError(f"{type(value).__name__} in rich output: JSON cannot be made of it")
