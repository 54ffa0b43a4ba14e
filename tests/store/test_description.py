"""What never changes of a batch: written once, read by workers and by those who look."""

from __future__ import annotations

import dataclasses

import pytest

from nbqueue import errors
from nbqueue.store.description import ONE, CellDescription, Description, RetryDescription

FULL = Description(
    label="score", function="score", calls=ONE, directory="/tmp", path=("/a", "/b"), host="h", pid=7,
    notebook="/n.ipynb", queue="default", is_single=True, timeout=2.5, ttl=9.0, share=True, seed=7, schedule="nightly",
    retry=RetryDescription(2, (1.0, 2.0), 2.0, 60.0, 0.5, ("builtins:OSError",)),
    repeat=RetryDescription(3), modules="ab", settings="cd", compiled=("fast",), serializer="json",
    versions={"numpy": "2.4"}, callbacks={"on_success": ("ef", 60.0)}, meta={"a": [1]},
    cell=CellDescription("key", "training", "e1", ("x", "y")),
)  # fmt: skip


@pytest.mark.parametrize("description", [Description(), FULL, Description(label="ü", cell=CellDescription())])
def test_what_is_written_is_read(description):
    assert Description.from_json(description.to_json()) == description
    assert Description.from_json(description.to_json().encode()) == description


def test_each_field_has_a_value_in_this_test():
    for field in dataclasses.fields(Description):
        assert getattr(FULL, field.name) != getattr(Description(), field.name), field.name


def test_defaults_take_no_room_and_what_a_later_version_adds_is_passed_over():
    assert Description().to_json() == "{}"
    assert Description.from_json('{"label": "x", "colour": 3, "cell": {"key": "k", "size": 1}}') == Description(
        label="x", cell=CellDescription(key="k")
    )


def test_what_json_cannot_hold_is_named():
    with pytest.raises(errors.UsageError, match="meta"):
        Description(meta={"x": object()}).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(ValueError):
        Description.from_json(text)
