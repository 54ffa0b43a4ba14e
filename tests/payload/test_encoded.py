"""`payload/serializers.py`: what is found by which name, and what becomes of a value."""

from __future__ import annotations

import json
import pickle
import types

import cloudpickle
import pytest

from nbqueue import errors
from nbqueue.payload.serializers import (
    STORED,
    Encoded,
    Encoding,
    Json,
    Pickle,
    chosen,
    find_serializer,
    name_of_importable,
)


class Importable:
    dumps = staticmethod(pickle.dumps)
    loads = staticmethod(pickle.loads)

    class Inner:
        dumps = staticmethod(pickle.dumps)
        loads = staticmethod(pickle.loads)


def refuse(name):
    raise AssertionError(f"{name} is not stored")


@pytest.mark.parametrize(
    ("serializer", "name"),
    [
        (Json, "json"),
        (Pickle, "pickle"),
        (pickle, "pickle:"),
        (Importable, f"{__name__}:Importable"),
        (Importable.Inner, f"{__name__}:Importable.Inner"),
    ],
)
def test_what_can_be_imported_is_found_by_its_name(serializer, name):
    assert name_of_importable(serializer) == name
    assert find_serializer(name, refuse) is serializer
    assert pickle.loads(pickle.dumps(Encoding(name, serializer).encode_result(3))) == 3


def test_what_cannot_has_no_name_and_is_found_by_who_reads(monkeypatch):
    class Local(Importable):
        pass

    main = types.ModuleType("__main__")
    main.dumps, main.loads = pickle.dumps, pickle.loads
    for serializer in (Local, Importable(), types.SimpleNamespace(dumps=repr, loads=eval), main):
        assert name_of_importable(serializer) is None
    encoding = Encoding(f"{STORED}ab", Local)
    placeholder = pickle.loads(pickle.dumps(encoding.encode_call((1,), {"b": 2})))
    assert type(placeholder) is Encoded
    assert placeholder.decode(find_serializer(placeholder.name, {f"{STORED}ab": Local}.get)) == ((1,), {"b": 2})
    cloudpickle.register_pickle_by_value(json)
    try:
        assert name_of_importable(json) is None
    finally:
        cloudpickle.unregister_pickle_by_value(json)


def test_modules_with_names_of_ours_are_ours():
    assert (chosen(json), chosen(pickle), chosen("json"), chosen("pickle")) == (Json, Pickle, Json, Pickle)
    assert (chosen(cloudpickle), chosen("cloudpickle"), chosen(None)) == (None, None, None)
    assert chosen("test_encoded.Importable") is Importable


@pytest.mark.parametrize("value", [{1: 2}, [{"a": {True: 1}}], ({"a": ({None: 1},)},), {"a": {2.5: 1}}])
def test_json_refuses_keys_that_would_become_texts(value):
    with pytest.raises(TypeError, match="is no text, and would come back as one"):
        Json.dumps(value)


def test_json_says_of_what_holds_itself_that_it_does():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        Json.dumps(value)


@pytest.mark.parametrize("made", ["text", b"bytes", bytearray(b"bytes"), memoryview(b"bytes")])
def test_bytes_and_texts_are_given_back_as_such(made):
    encoding = Encoding("x:", types.SimpleNamespace(dumps=lambda value: made))
    assert encoding.encode_result(1).data == (made if isinstance(made, str) else bytes(made))


def test_what_is_no_call_is_not_taken_for_one():
    for data in ("[1, 2, 3]", "3", '[["a"], 3]'):
        with pytest.raises(errors.PayloadError, match="the arguments cannot be read by the serializer json"):
            Encoded("json", data, True).decode(Json)
