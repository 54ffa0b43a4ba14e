"""Functions of a notebook, each called here and as a job: what they return has to be the same.

Run as a script, so that all of it is in `__main__`, as in a notebook; prints what came out as JSON. A function that is
marked with `case` is a row; what it returns is compared. The ideas come from the tests and the issues of cloudpickle,
from those of other queues, and from what people write in notebooks.
"""

import abc
import asyncio
import collections
import concurrent.futures
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import inspect
import io
import itertools
import json
import logging
import math
import multiprocessing
import operator
import os
import pathlib
import pickle
import random
import re
import string
import sys
import types
import typing
import warnings
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import numpy as np
import pandas as pd

CASES: dict[str, Any] = {}


def case(function):
    CASES[function.__name__] = function
    return function


# Functions


RATE = 3
TABLE = {"a": [1, 2], "b": {"c": 3}}
seen: set[int] = set()
log = logging.getLogger("cases")


@case
def a_global_number():
    return RATE * 2


@case
def a_global_container():
    return TABLE["a"] + [TABLE["b"]["c"]]


@case
def a_global_set_that_is_changed():
    seen.add(1)
    return sorted(seen)


@case
def a_default_list_that_is_changed(found=[]):  # noqa: B006
    found.append(1)
    return found


@case
def a_global_that_is_set():
    global RATE
    before, RATE = RATE, 4
    after, RATE = RATE, before
    return before, after


@case
def a_function_that_calls_another():
    return a_global_number() + helper(2)


def helper(x):
    return x + RATE


@case
def a_recursive_function(n=10):
    return n if n < 2 else a_recursive_function(n - 1) + a_recursive_function(n - 2)


@case
def mutually_recursive_functions():
    return is_even(10), is_odd(10)


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


def make_adder(n):
    def add(x=1):
        return x + n

    return add


CASES["a closure"] = make_adder(5)


def make_counter():
    count = 0

    def step():
        nonlocal count
        count += 1
        return count

    return step


CASES["a closure that counts"] = make_counter()
CASES["a lambda"] = lambda: RATE + 1
CASES["a lambda in a default"] = lambda f=lambda x: x * RATE: f(2)
CASES["a partial"] = functools.partial(helper, 7)
CASES["a partial of a partial"] = functools.partial(functools.partial(pow, 2), 5)
CASES["a partial with keywords"] = functools.partial(sorted, [3, 1, 2], reverse=True)
CASES["a builtin"] = functools.partial(len, [1, 2])
CASES["a method of a builtin"] = "a-b".upper
CASES["an unbound method of a builtin"] = functools.partial(str.upper, "x")
CASES["an operator"] = functools.partial(operator.itemgetter(1), [1, 2])
CASES["a method caller"] = functools.partial(operator.methodcaller("split", "-"), "a-b")
CASES["a class as the function"] = functools.partial(fractions.Fraction, 1, 3)
CASES["a ufunc"] = functools.partial(np.add, 1, 2)


@case
def keyword_only(*, a=1, b=2):
    return a, b


@case
def positional_only(a=1, /, b=2):
    return a, b


@case
def variable_arguments(*args, **kwargs):
    return args, kwargs


@case
def its_own_name():
    return its_own_name.__name__, its_own_name.__qualname__, its_own_name.__module__, its_own_name.__doc__


@case
def its_annotations(x: int = 1, y: "Point | None" = None) -> "list[Point]":
    return sorted(its_annotations.__annotations__)


@case
def its_type_hints(x: "Point | None" = None) -> "list[Point]":
    return {name: str(hint) for name, hint in typing.get_type_hints(its_type_hints).items()}


@case
def its_signature():
    return str(inspect.signature(keyword_only))


@case
def an_attribute_of_a_function():
    return tagged.tag


def tagged():
    return 0


tagged.tag = ["x"]


@case
def a_generator():
    return list(squares(4))


def squares(n):
    for i in range(n):
        yield i * i


@case
def a_generator_that_is_sent_to():
    generator = averager()
    next(generator)
    return [generator.send(x) for x in (1, 3)]


def averager():
    total, count = 0, 0
    average = None
    while True:
        total += yield average
        count += 1
        average = total / count


@case
async def a_coroutine():
    await asyncio.sleep(0)
    return RATE


@case
async def coroutines_together():
    return await asyncio.gather(*(double_later(i) for i in range(3)))


async def double_later(x):
    await asyncio.sleep(0)
    return 2 * x


@case
def an_async_generator():
    async def collect():
        return [x async for x in counting(3)]

    return asyncio.run(collect())


async def counting(n):
    for i in range(n):
        yield i


@case
def a_decorated_function():
    return doubled()


def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)

    return wrapper


@twice
def doubled():
    """Its words."""
    return RATE


CASES["a decorated function as the function"] = doubled


@case
def words_of_a_decorated_function():
    return doubled.__doc__, doubled.__name__, doubled.__wrapped__()


@functools.lru_cache
def slow(x):
    return x * RATE


@case
def a_cached_function():
    return slow(2), slow(2), slow.cache_parameters()


@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


CASES["a recursive cached function"] = functools.partial(fib, 50)


@functools.singledispatch
def describe(value):
    return "something"


@describe.register
def _(value: int):
    return "an int"


@describe.register(list)
def _list(value):
    return f"a list of {[describe(item) for item in value]}"


@case
def a_single_dispatch():
    return describe(1.5), describe(1), describe([1, "a"]), describe.dispatch(bool).__name__, describe.__name__


@case
def a_context_manager():
    with opened("x") as name:
        return name


@contextlib.contextmanager
def opened(name):
    yield name + "!"


@case
def a_comprehension_with_a_walrus():
    return [y for x in range(5) if (y := x * RATE) % 2]


@case
def a_match():
    match {"kind": "point", "at": [1, 2]}:
        case {"kind": "point", "at": [x, y]}:
            return x, y


@case
def an_f_string():
    return f"{RATE!r:>4} {TABLE['a'][0]:.2f}"


@case
def a_try_with_finally():
    found = []
    try:
        found.append(1)
        raise KeyError("x")
    except KeyError as error:
        found.append(str(error))
    finally:
        found.append(3)
    return found


@case
def an_import_inside():
    import statistics

    return statistics.mean([1, 2, 3])


@case
def an_imported_submodule():
    import xml.etree.ElementTree as ET

    return ET.fromstring("<a b='1'/>").attrib


@case
def a_submodule_by_attribute():
    return concurrent.futures.Future.__name__


@case
def a_compiled_pattern():
    return PATTERN.findall("a1b22")


PATTERN = re.compile(r"\d+")


@case
def a_global_lambda():
    return square(4)


square = lambda x: x * x  # noqa: E731


@case
def an_exec():
    scope: dict[str, Any] = {}
    exec("y = 2 + 3", scope)
    return scope["y"]


@case
def an_eval_of_a_global():
    return eval("RATE + 1") if RATE else None


@case
def the_globals():
    return globals()["RATE"] if RATE else None


@case
def the_main_module():
    return sys.modules["__main__"].helper is helper


@case
def the_name():
    return __name__


@case
def an_unused_module_that_is_global():
    return string.ascii_lowercase[:3]


@case
def a_logger():
    return log.name


@case
def a_star_import_of_math():
    return math.floor(math.pi), math.inf > 1


# Classes


class Point:
    count = 0
    known: ClassVar[dict[str, Any]] = {}

    def __init__(self, x=0, y=0):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __repr__(self):
        return f"Point({self.x}, {self.y})"

    def __add__(self, other):
        return Point(self.x + other.x, self.y + other.y)

    def norm(self):
        return math.hypot(self.x, self.y)

    @property
    def double(self):
        return Point(2 * self.x, 2 * self.y)

    @double.setter
    def double(self, value):
        self.x, self.y = value.x / 2, value.y / 2

    @staticmethod
    def origin():
        return Point()

    @classmethod
    def of(cls, pair):
        return cls(*pair)


class Point3(Point):
    def __init__(self, x=0, y=0, z=0):
        super().__init__(x, y)
        self.z = z

    def norm(self):
        return math.hypot(super().norm(), self.z)

    @property
    def double(self):
        flat = super().double
        return Point3(flat.x, flat.y, 2 * self.z)


CASES["an instance"] = lambda: Point(1, 2)
CASES["instances in containers"] = lambda: ({"a": [Point(1, 2)]}, {Point(1, 1)}, (Point(), Point(3)))
CASES["a method"] = Point(3, 4).norm
CASES["a method of a subclass"] = Point3(3, 4, 12).norm
CASES["a property with super"] = lambda: (Point3(1, 2, 3).double.z, Point3(1, 2, 3).double.x)
CASES["a class method"] = functools.partial(Point.of, (1, 2))
CASES["a static method"] = Point.origin
CASES["a class of a notebook as the function"] = functools.partial(Point, 1, 2)
CASES["an operator of a class"] = lambda: Point(1, 2) + Point(3, 4)
CASES["isinstance"] = lambda: (isinstance(Point3(), Point), issubclass(Point3, Point), type(Point()) is Point)
CASES["a class that comes back"] = lambda: Point
CASES["classes that come back"] = lambda: [Point, Point3, Kind]
CASES["a method that comes back"] = lambda: Point(3, 4).norm()
CASES["a bound method that comes back"] = lambda: Point(3, 4).norm.__self__
CASES["the mro"] = lambda: [kind.__name__ for kind in Point3.__mro__]


@case
def a_class_attribute():
    Point.count += 1
    Point.known["a"] = 1
    return Point.count, Point.known


@case
def a_class_attribute_once_more():
    Point.count += 1
    return Point.count, Point.known


@case
def a_setter():
    point = Point()
    point.double = Point(4, 6)
    return point


@case
def a_copy():
    return copy.copy(Point(1, 2)), copy.deepcopy([Point(1, 2)])


@case
def a_pickle_of_an_instance():
    return pickle.loads(pickle.dumps(Point(1, 2)))


@case
def a_pickle_of_a_function():
    return pickle.loads(pickle.dumps(helper)) is helper


@case
def a_class_in_a_function():
    class Local:
        def __init__(self, x):
            self.x = x

        def twice(self):
            return 2 * self.x

    return Local(4).twice(), Local.__qualname__


class Outer:
    class Inner:
        class Innermost:
            depth = 3

        def __init__(self):
            self.x = 1

        def __eq__(self, other):
            return type(other) is Outer.Inner and self.x == other.x


CASES["a nested class"] = lambda: Outer.Inner()
CASES["a nested class in a nested class"] = lambda: Outer.Inner.Innermost.depth
CASES["the name of a nested class"] = lambda: Outer.Inner.Innermost.__qualname__


class Slotted:
    __slots__ = ("__hidden", "x", "y")

    def __init__(self, x, y):
        self.x, self.y, self.__hidden = x, y, x + y

    def hidden(self):
        return self.__hidden

    def __eq__(self, other):
        return type(other) is Slotted and (self.x, self.y, self.hidden()) == (other.x, other.y, other.hidden())


CASES["slots"] = lambda: Slotted(1, 2)
CASES["slots are slots"] = lambda: hasattr(Slotted(1, 2), "__dict__")
CASES["a private slot"] = Slotted(1, 2).hidden


class SlottedMore(Slotted):
    __slots__ = ("z",)

    def __eq__(self, other):
        return (type(other) is SlottedMore and super().__eq__(other) is NotImplemented) or self.z == other.z


@case
def slots_of_a_subclass():
    made = SlottedMore(1, 2)
    made.z = 3
    return made.z, made.x, hasattr(made, "__dict__")


class OneSlot:
    __slots__ = "only"

    def __init__(self, only):
        self.only = only

    def __eq__(self, other):
        return self.only == other.only


CASES["a slot that is a text"] = lambda: OneSlot(1)


@dataclasses.dataclass
class Row:
    name: str
    values: list[int] = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=0, repr=False, compare=False)
    shared: ClassVar[int] = 5


CASES["a dataclass"] = lambda: Row("a", [1])
CASES["fields of a dataclass"] = lambda: [field.name for field in dataclasses.fields(Row)]
CASES["a dataclass as a dict"] = lambda: dataclasses.asdict(Row("a", [1]))
CASES["a dataclass replaced"] = lambda: dataclasses.replace(Row("a"), name="b")


@dataclasses.dataclass(slots=True)
class SlotRow:
    x: int
    y: int = 2


CASES["a dataclass with slots"] = lambda: SlotRow(1)
CASES["a dataclass with slots has slots"] = lambda: hasattr(SlotRow(1), "__dict__")


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenRow:
    x: int


CASES["a frozen dataclass with slots"] = lambda: FrozenRow(1)


@dataclasses.dataclass(frozen=True, order=True)
class Ordered:
    x: int


CASES["a frozen dataclass in a set"] = lambda: {Ordered(1), Ordered(2)}
CASES["an ordered dataclass"] = lambda: sorted([Ordered(2), Ordered(1)])


@dataclasses.dataclass(kw_only=True)
class KeywordRow:
    x: int
    y: dataclasses.InitVar[int] = 3

    def __post_init__(self, y):
        self.x += y


CASES["a dataclass with an InitVar"] = lambda: KeywordRow(x=1).x


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    CRIMSON = 1  # noqa: PIE796 - an alias

    def shout(self):
        return self.name + "!"


CASES["an enum member"] = lambda: Color.RED
CASES["an enum member is itself"] = lambda: Color.RED is Color(1) and Color["RED"] is Color.RED
CASES["an alias of an enum"] = lambda: (Color.CRIMSON, list(Color.__members__))
CASES["a method of an enum"] = lambda: Color.GREEN.shout()
CASES["enum members as keys"] = lambda: {Color.RED: 1, Color.GREEN: 2}
CASES["an enum"] = lambda: list(Color)


class Planet(enum.Enum):
    EARTH = (5.97e24, 6.37e6)
    MARS = (6.42e23, 3.39e6)

    def __init__(self, mass, radius):
        self.mass, self.radius = mass, radius

    @property
    def gravity(self):
        return 6.67e-11 * self.mass / self.radius**2


CASES["an enum with attributes"] = lambda: (Planet.EARTH.gravity, Planet.MARS.mass, Planet.EARTH)


class Labelled(enum.Enum):
    def __new__(cls, value, label):
        made = object.__new__(cls)
        made._value_ = value
        made.label = label
        return made

    A = (1, "one")
    B = (2, "two")


CASES["an enum with __new__"] = lambda: (Labelled.A.label, Labelled(2), Labelled.B.value)


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


CASES["a flag"] = lambda: Access.READ | Access.WRITE
CASES["members of a flag"] = lambda: (Access.BOTH, Access.READ in Access.BOTH, ~Access.READ, list(Access.__members__))


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Word(enum.StrEnum):
    YES = enum.auto()


CASES["an int enum"] = lambda: (Number.ONE + Number.TWO, Number.TWO)
CASES["a str enum"] = lambda: (Word.YES, f"{Word.YES}")
CASES["an int flag"] = lambda: Permission.R | Permission.W


class Permission(enum.IntFlag):
    R = 4
    W = 2


Kind = enum.Enum("Kind", "SMALL LARGE")
CASES["an enum by its function"] = lambda: Kind.SMALL

Pair = collections.namedtuple("Pair", "left right")
CASES["a named tuple"] = lambda: Pair(1, 2)
CASES["a named tuple replaced"] = lambda: Pair(1, 2)._replace(left=3)


class Employee(NamedTuple):
    name: str
    id: int = 3

    def shout(self):
        return self.name.upper()


CASES["a typed named tuple"] = lambda: (Employee("a"), Employee("a").shout(), Employee._field_defaults)


class Movie(TypedDict, total=False):
    title: str
    year: int


CASES["a typed dict"] = lambda: (Movie(title="x"), sorted(Movie.__optional_keys__), Movie.__name__)

UserId = NewType("UserId", int)


@case
def a_new_type(x: UserId = UserId(3)) -> UserId:
    return UserId(x), UserId.__name__, UserId.__supertype__


T = TypeVar("T")
K = TypeVar("K", bound=int)


class Stack(Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    def push(self, item: T) -> typing.Self:
        self.items.append(item)
        return self

    def __eq__(self, other):
        return type(other) is Stack and self.items == other.items


CASES["a generic"] = lambda: Stack[int]().push(1).push(2)
CASES["an alias of a generic"] = lambda: (str(Stack[int]), Stack[int] == Stack[int], Stack.__parameters__ == (T,))


class IntStack(Stack[int]):
    def total(self):
        return sum(self.items)


CASES["a subclass of a generic"] = lambda: IntStack().push(1).push(2).total()


class Mapper(Generic[K, T], collections.abc.Mapping):
    def __init__(self, **items):
        self.data = items

    def __getitem__(self, key):
        return self.data[key]

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)


CASES["an abstract mapping"] = lambda: (dict(Mapper(a=1)), Mapper(a=1).get("b", 2))


class Speaks(Protocol):
    def speak(self) -> str: ...


@typing.runtime_checkable
class HasNorm(Protocol):
    def norm(self) -> float: ...


class Dog(Speaks):
    def speak(self):
        return "woof"


CASES["a protocol"] = lambda: (Dog().speak(), isinstance(Point(), HasNorm), isinstance(1, HasNorm))


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

    @property
    @abc.abstractmethod
    def name(self): ...

    @classmethod
    def __subclasshook__(cls, other):
        return True if other is float else NotImplemented


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2

    @property
    def name(self):
        return "square"


Shape.register(int)


@case
def an_abstract_class():
    try:
        Shape()
    except TypeError as error:
        return Square(2).area(), Square(2).name, isinstance(1, Shape), isinstance(1.5, Shape), "abstract" in str(error)


class Meta(type):
    made: ClassVar[list[str]] = []

    def __new__(cls, name, bases, namespace, **kwargs):
        made = super().__new__(cls, name, bases, namespace)
        made.tags = sorted(kwargs)
        return made

    def __init__(cls, name, bases, namespace, **kwargs):
        super().__init__(name, bases, namespace)
        Meta.made.append(name)

    def __len__(cls):
        return 7

    @property
    def shout(cls):
        return cls.__name__.upper()


class Made(metaclass=Meta, fast=1):
    x = 1


CASES["a metaclass"] = lambda: (Made.tags, len(Made), Made.shout, Made.x, Meta.made)
CASES["an instance of a class with a metaclass"] = lambda: type(type(Made())).__name__


class ComparedByName(type):
    def __eq__(cls, other):
        return isinstance(other, type) and cls.__name__ == other.__name__

    def __hash__(cls):
        return hash(cls.__name__)


class Odd(metaclass=ComparedByName):
    x = 2


CASES["a metaclass that compares classes"] = lambda: Odd.x


class Plugin:
    registry: ClassVar[list[str]] = []

    def __init_subclass__(cls, /, name, **kwargs):
        super().__init_subclass__(**kwargs)
        Plugin.registry.append(name)
        cls.name = name


class First(Plugin, name="first"):
    pass


class Second(First, name="second"):
    pass


CASES["a registry of subclasses"] = lambda: (Plugin.registry, Second.name, First.name, Second().name)


class Field:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__.get(self.name, 0)

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value * 2


class Model:
    width = Field()

    @functools.cached_property
    def area(self):
        return self.width**2

    def __init__(self, width):
        self.width = width

    def __getstate__(self):
        return {"stored": self.__dict__["width"]}

    def __setstate__(self, state):
        self.__dict__["width"] = state["stored"]

    def __eq__(self, other):
        return type(other) is Model and self.width == other.width


CASES["a descriptor"] = lambda: (Model(2).width, Model.width.name)
CASES["a cached property"] = lambda: Model(2).area
CASES["a state of its own"] = lambda: Model(3)


class Reduced:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def __reduce__(self):
        return Reduced, (self.a, self.b)

    def __eq__(self, other):
        return (self.a, self.b) == (other.a, other.b)


CASES["a reduction of its own"] = lambda: Reduced(1, Point(2))


class NewArgs(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))

    def __getnewargs__(self):
        return tuple(self)


CASES["arguments of __new__"] = lambda: NewArgs(1, 2)


class Bag(dict):
    def __missing__(self, key):
        return f"no {key}"

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


CASES["a subclass of dict"] = lambda: (Bag(a=1), Bag(a=1)["b"], Bag(a=1).a)


class Numbers(list):
    unit = "m"

    def total(self):
        return sum(self)


CASES["a subclass of list"] = lambda: (Numbers([1, 2]), Numbers([1, 2]).total(), type(Numbers([1])) is Numbers)


class Text(str):
    def shout(self):
        return Text(self.upper())


CASES["a subclass of str"] = lambda: Text("a").shout()


class Length(float):
    pass


CASES["a subclass of float"] = lambda: (Length(1.5), type(Length(1.5)))
CASES["a default dict"] = lambda: collections.defaultdict(make_list, a=[1])


def make_list():
    return []


@functools.total_ordering
class Version:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n

    def __lt__(self, other):
        return self.n < other.n


CASES["a total ordering"] = lambda: (Version(1) <= Version(2), max([Version(1), Version(3)]).n)


class Callable_:
    def __init__(self, n):
        self.n, self.calls = n, 0

    def __call__(self):
        self.calls += 1
        return self.n, self.calls


CASES["an object that is called"] = Callable_(3)


class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n


counter = Counter()
CASES["a method that changes its object"] = counter.add


@case
def an_object_that_is_global_and_changes():
    return counter.add(), counter.add()


class Machine:
    def __init__(self):
        self.step = self.first

    def first(self):
        return "first"


CASES["a method in an attribute"] = lambda: Machine().step()


class Node:
    def __init__(self, name):
        self.name, self.others, self.parent = name, [], None


@case
def a_circle_of_objects():
    a, b = Node("a"), Node("b")
    a.others.append(b)
    b.parent = a
    back = copy.deepcopy(a)
    return back.others[0].parent is back


class MultiA:
    def who(self):
        return ["A"]


class MultiB(MultiA):
    def who(self):
        return ["B", *super().who()]


class MultiC(MultiA):
    def who(self):
        return ["C", *super().who()]


class MultiD(MultiB, MultiC):
    def who(self):
        return ["D", *super().who()]


CASES["several bases"] = lambda: MultiD().who()


class ClassGetItem:
    def __class_getitem__(cls, key):
        return cls.__name__, key


CASES["a class that is indexed"] = lambda: ClassGetItem[3]


class Iterates:
    def __iter__(self):
        yield from range(3)


CASES["an iterator of its own"] = lambda: list(Iterates())


class Manager:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return True


@case
def a_context_manager_of_its_own():
    with Manager():
        raise ValueError
    return "out"


made_by_type = type("MadeByType", (Point,), {"z": 3})
CASES["a class made by type"] = lambda: (made_by_type(1, 2).z, made_by_type(1, 2).norm() > 2)


@case
def hints_of_a_class():
    return {name: str(hint) for name, hint in typing.get_type_hints(Row).items()}


@case
def an_annotated_class():
    return {name: str(hint) for name, hint in typing.get_type_hints(Linked).items()}


class Linked:
    next: "Linked | None"
    kind: Color


@case
def a_weak_reference():
    point = Point(1, 2)
    return weakref.ref(point)() is point


# Errors


class ApiError(Exception):
    def __init__(self, code, *, body=None):
        super().__init__(f"code {code}")
        self.code, self.body = code, body


@case
def an_error_that_is_caught():
    try:
        raise ApiError(404, body="x")
    except ApiError as error:
        return error.code, error.body, str(error)


@case
def an_error_group():
    found = []
    try:
        raise ExceptionGroup("several", [ValueError(1), ApiError(2)])
    except* ApiError as group:
        found += [error.code for error in group.exceptions]
    except* ValueError:
        found.append("value")
    return found


# Values


CASES["an array"] = lambda: np.arange(12).reshape(3, 4)[::2]
CASES["an array of objects"] = lambda: np.array([Point(1, 2), None], dtype=object)
CASES["a structured array"] = lambda: np.array([(1, "a")], dtype=[("x", "i4"), ("y", "U3")])
CASES["an array in Fortran order"] = lambda: np.asfortranarray(np.arange(6).reshape(2, 3)).flags.f_contiguous
CASES["a masked array"] = lambda: np.ma.array([1, 2], mask=[0, 1]).sum()
CASES["a number of numpy"] = lambda: np.float32(1.5)
CASES["a frame"] = lambda: pd.DataFrame({"a": [1, 2], "b": list("xy")})
CASES["a categorical"] = lambda: pd.Series(list("aab"), dtype="category")
CASES["a time zone"] = lambda: pd.Timestamp("2026-01-01", tz="UTC")
CASES["a date"] = lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CASES["a decimal"] = lambda: decimal.Decimal("1.10")
CASES["a path"] = lambda: pathlib.Path("a") / "b"
CASES["a complex number"] = lambda: 1 + 2j
CASES["bytes"] = lambda: (b"a", bytearray(b"b"), bytes(memoryview(b"c")))
CASES["a range and a slice"] = lambda: (range(1, 10, 2), slice(1, 2))
CASES["an ellipsis"] = lambda: (..., NotImplemented, None)
CASES["types"] = lambda: (int, type(None), type(...), list[int], int | None, types.SimpleNamespace(a=1))
CASES["a frozen set"] = lambda: frozenset({1, 2})
CASES["an ordered dict"] = lambda: collections.OrderedDict(a=1)
CASES["a counter"] = lambda: collections.Counter("aab")
CASES["a deque"] = lambda: collections.deque([1, 2], maxlen=2)
CASES["views of a dict"] = lambda: (list({"a": 1}.keys()), list({"a": 1}.items()))
CASES["a big int"] = lambda: 3**200
CASES["not a number"] = lambda: math.isnan(float("nan"))
CASES["text with anything in it"] = lambda: "\U0001f600 \x00 é"
CASES["deep nesting"] = lambda: functools.reduce(lambda inner, _: [inner], range(100), 1)
CASES["a function that comes back"] = lambda: make_adder(3)(4)
CASES["a shared object stays shared"] = lambda: (lambda a: (a, a))([1])[0] is not None
CASES["a simple namespace"] = lambda: types.SimpleNamespace(a=Point(1))
CASES["a mapping proxy"] = lambda: dict(types.MappingProxyType({"a": 1}))
CASES["chained iterators"] = lambda: list(itertools.chain([1], (2, 3)))
CASES["a string buffer"] = lambda: io.StringIO("x").read()
CASES["json"] = lambda: json.loads(json.dumps({"a": [1, None]}))
CASES["a random generator with a seed"] = lambda: random.Random(3).random()
CASES["a numpy generator with a seed"] = lambda: np.random.default_rng(3).random()
CASES["warnings that are caught"] = lambda: warned()
CASES["the working directory"] = os.getcwd
CASES["a module"] = lambda: math


def warned():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    return [str(warning.message) for warning in caught]


# Processes and threads in a job


@case
def a_pool_of_processes():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(helper, [1, 2, 3])


@case
def a_pool_of_processes_with_objects():
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(Point.norm, [Point(3, 4), Point(6, 8)]))


@case
def a_pool_of_threads():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(helper, [1, 2, 3]))


@case
def an_importable_module_reloaded():
    return importlib.reload(string).digits[:2]


class Outermost:
    def __init__(self, items: Iterable[int]):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __bool__(self):
        return bool(self.items)

    def __contains__(self, item):
        return item in self.items


CASES["special methods"] = lambda: (len(Outermost([1])), bool(Outermost([])), 1 in Outermost([1]))


# Running them


def run() -> None:
    from nbqueue import Queue

    q = Queue(namespace=sys.argv[1], progress=False)
    untouched = (Point.count, dict(Point.known), sorted(seen), counter.n, list(Plugin.registry), list(Meta.made))
    jobs = {name: q.enqueue(function) for name, function in CASES.items()}
    report = {}
    for name, job in jobs.items():
        try:
            report[name] = {"job": job.result(timeout=60)}
        except Exception as error:
            report[name] = {"error": f"{type(error).__name__}: {error}"}
    now = (Point.count, dict(Point.known), sorted(seen), counter.n, list(Plugin.registry), list(Meta.made))
    wrong = {} if now == untouched else {"the notebook": f"{untouched} became {now}"}
    q.close()
    for name, function in CASES.items():
        expected = called(function)
        found = report[name]
        if "error" in found or not same(found["job"], expected):
            wrong[name] = f"{found.get('error') or found.get('job')!r} instead of {expected!r}"
        Point.count, Point.known, counter.n = 0, {}, 0
        seen.clear()
        a_default_list_that_is_changed.__defaults__[0].clear()
    print(json.dumps({"rows": len(CASES), "wrong": wrong}))


def called(function):
    value = function()
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and bool(np.array_equal(a, b))
    if isinstance(a, pd.DataFrame | pd.Series):
        return a.equals(b)
    if isinstance(a, types.SimpleNamespace):
        return same(vars(a), vars(b))
    if isinstance(a, list | tuple) and len(a) == len(b):
        return all(map(same, a, b))
    return bool(a == b)


if __name__ == "__main__":
    run()
