"""Classes that travel by value, and come back as what they were.

cloudpickle takes a class apart, and restores it into the class of the same id if there is one, attribute by attribute:
who reads a result has its own class changed. Here a class that is there is neither made again nor touched. One that is
not is made without what its bases do when they are inherited from: that was done where it was defined.
"""

from __future__ import annotations

import abc
import enum
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nbqueue.payload.scope import entered

_UNLIMITED = (type, abc.ABCMeta)
"""Metaclasses that make any class from its bases and a namespace."""

_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})
"""Attributes of an enum's members that it makes itself."""

Fill = Callable[[Any, Any], Any]
"""Sets the attributes of a class that is empty."""


class _Ids:
    """Which class has which id: those that were sent, and those that came."""

    def __init__(self) -> None:
        self._ids: dict[int, tuple[weakref.ref[type], str]] = {}  # a metaclass may forbid to hash its classes
        self.sent = weakref.WeakValueDictionary[str, type]()
        self.unfilled: dict[str, type] = {}
        """Those that were made, and not given their attributes yet."""
        self.lock = threading.RLock()

    def of(self, cls: type) -> str:
        """The id of a class, which gets one if it has none."""
        with self.lock:
            known = self._ids.get(id(cls))
            if known is not None:
                return known[1]
            name = uuid.uuid4().hex
            self.sent[name] = cls
            self.note(cls, name)
            return name

    def note(self, cls: type, name: str) -> None:
        """A class has this id."""
        key = id(cls)

        def forget(reference: weakref.ref[type]) -> None:
            known = self._ids.get(key)
            if known is not None and known[0] is reference:
                del self._ids[key]

        self._ids[key] = weakref.ref(cls, forget), name

    def has(self, cls: type) -> bool:
        return id(cls) in self._ids

    def find(self, name: str) -> type | None:
        scope = entered()
        found = None if scope is None else scope.classes.get(name)
        return found or self.sent.get(name)

    def add(self, name: str, cls: type) -> None:
        """A class was made that nobody has."""
        self.note(cls, name)
        self.unfilled[name] = cls
        scope = entered()
        if scope is None:
            self.sent[name] = cls
        else:
            scope.is_touched = True
            scope.classes[name] = cls


_ids = _Ids()


# Taking apart


def reduce_class(cls: type, reduced: tuple[Any, ...], is_importable: Callable[[Any], bool]) -> tuple[Any, ...]:
    """How a class is pickled, from how cloudpickle does it."""
    (attributes, _), fill = reduced[2], reduced[5]
    for name, value in list(attributes.items()):
        if type(value) is types.MemberDescriptorType and value.__objclass__ is cls:
            del attributes[name]  # made by `__slots__`; cloudpickle misses those of private names
    if isinstance(cls, enum.EnumMeta):
        return _reduce_enum(cls, attributes, fill)
    maker = next(metaclass for metaclass in type.mro(type(cls)) if is_importable(metaclass))
    own = vars(cls)
    bases = cls.__bases__ if maker in _UNLIMITED else own.get("__orig_bases__", cls.__bases__)
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for name in ("__slots__", "__orig_bases__"):
        if name in own:
            namespace[name] = own[name]
    if isinstance(own.get("__dict__"), property):
        namespace["__dict__"] = own["__dict__"]
    arguments = maker, type(cls), cls.__name__, bases, namespace, _ids.of(cls)
    return _make_class, arguments, (_ids.of(cls), fill, attributes, {}, _names_for(cls)), None, None, _fill_class


def _reduce_enum(cls: Any, attributes: dict[str, Any], fill: Fill) -> tuple[Any, ...]:
    members = {name: member.value for name, member in cls.__members__.items()}
    attributes = {name: value for name, value in attributes.items() if name not in members}
    of_members = {}
    for name, member in cls.__members__.items():
        own = {key: value for key, value in vars(member).items() if key not in _OF_MEMBERS}
        if own:
            of_members[name] = own
    arguments = cls.__bases__, cls.__name__, cls.__qualname__, members, cls.__module__, _ids.of(cls)
    state = _ids.of(cls), fill, attributes, of_members, _names_for(cls)
    return _make_enum, arguments, state, None, None, _fill_class


def _names_for(cls: type) -> dict[str, Any]:
    """Names of `__main__` that are looked up there by name: its own, and those in its annotations' texts."""
    main = sys.modules["__main__"].__dict__
    if cls.__module__ != "__main__":
        return {}
    names = named_in(vars(cls).get("__annotations__"), main)
    if main.get(cls.__name__) is cls:
        names[cls.__name__] = cls
    return names


def named_in(annotations: Any, namespace: dict[str, Any]) -> dict[str, Any]:
    """The types and modules of a namespace that are named in annotations that are texts."""
    names: dict[str, Any] = {}
    if type(annotations) is not dict:
        return names
    for text in annotations.values():
        if type(text) is str:
            for word in _words(text):
                value = namespace.get(word)
                if isinstance(value, type | types.ModuleType) or type(value).__module__ == "typing":
                    names[word] = value
    return names


def _words(text: str) -> Iterator[str]:
    word = ""
    for character in text + " ":
        if character.isidentifier() or (word and character.isdigit()):
            word += character
        elif word:
            yield word
            word = ""


# Putting together


def _make_class(
    maker: Any, metaclass: Any, name: str, bases: tuple[Any, ...], namespace: dict[str, Any], class_id: str
) -> type:
    with _ids.lock:
        known = _ids.find(class_id)
        if known is not None:
            return known
        with _not_told(bases):
            if maker in _UNLIMITED:
                made: type = maker.__new__(metaclass, name, bases, dict(namespace))
            else:
                made = types.new_class(name, bases, {"metaclass": metaclass}, lambda scope: scope.update(namespace))
        _ids.add(class_id, made)
        return made


def _make_enum(
    bases: tuple[Any, ...], name: str, qualname: str, members: dict[str, Any], module: str, class_id: str
) -> type:
    with _ids.lock:
        known = _ids.find(class_id)
        if known is not None:
            return known
        metaclass: Any = type(bases[-1])
        namespace = metaclass.__prepare__(name, bases)
        for member, value in members.items():
            namespace[member] = value
        with _not_told(bases):
            made: type = metaclass.__new__(metaclass, name, bases, namespace)
        made.__module__, made.__qualname__ = module, qualname
        _ids.add(class_id, made)
        return made


@contextmanager
def _not_told(bases: tuple[Any, ...]) -> Iterator[None]:
    """Bases that came by value do not learn of a new subclass: where it was defined, they did."""
    told = [
        base
        for base in {id(base): base for kind in bases for base in getattr(kind, "__mro__", ())}.values()
        if _ids.has(base) and "__init_subclass__" in vars(base)
    ]
    before = [vars(base)["__init_subclass__"] for base in told]
    for base in told:
        type.__setattr__(base, "__init_subclass__", classmethod(_learn_nothing))
    try:
        yield
    finally:
        for base, method in zip(told, before, strict=True):
            type.__setattr__(base, "__init_subclass__", method)


def _learn_nothing(cls: type, /, **kwargs: Any) -> None:
    """In the place of `__init_subclass__`."""


def _fill_class(cls: type, state: tuple[str, Fill, dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]) -> None:
    class_id, fill, attributes, of_members, names = state
    if _ids.unfilled.get(class_id) is not cls:
        return
    fill(cls, (attributes, {}))
    for name, own in of_members.items():
        vars(cls)["_member_map_"][name].__dict__.update(own)
    scope = entered()
    if scope is not None:
        scope.globals(names)
    with _ids.lock:
        _ids.unfilled.pop(class_id, None)
