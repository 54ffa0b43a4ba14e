"""What a cell reads and binds: a table, each cell executed with exactly what it reads, and random programs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from nbqueue.cells.names_read import Names, names_of

VALUES = """
import types, contextlib
a = b = c = n = r = x = y = z = 3
xs, t, d, s = [1, 2], (1, 2), {"k": 1}, "word"
f = g = lambda *args, **kwargs: args[0] if args else 0
h = types.SimpleNamespace(value=1, run=f)
C = type("C", (), {"RED": 3, "__match_args__": ("one",)})
deco = lambda function: function
suppress = contextlib.suppress
df = types.SimpleNamespace(query=f, sql=f)
async def fetch(*args): return 1
"""

# The cell, what it reads, what it binds, what it mentions.
Row = tuple[str, str, str] | tuple[str, str, str, str]

STATEMENTS: list[Row] = [
    ("x", "x", ""),
    ("y = x", "x", "y"),
    ("x = 1\nx", "", "x"),
    ("x = x", "x", "x"),
    ("x += 1", "x", "x"),
    ("x = 1\nx += y", "y", "x"),
    ("xs[n] += 1", "xs n", ""),
    ("h.value += x", "h x", ""),
    ("h.other = x", "h x", ""),
    ("y = z = x\nz", "x", "y z"),
    ("a, (b, *c) = 1, t\nb", "t", "a b c"),
    ("del x", "x", ""),
    ("x = 1\ndel x", "", "x"),
    ("del xs[n - n]", "xs n", ""),
    ("x: int = y", "int y", "x"),
    ("x: C = 1\nx", "C", "x"),
    ("x: int", "int", ""),
    ("import os.path, json as j\nos, j", "", "os j"),
    ("from os import path as p, sep\np, sep", "", "p sep"),
    ("from math import *\nx", "x", ""),
    ("print(f'{x!r:>{n}} {y=}')", "print x n y", ""),
    ("assert x, y", "x y", ""),
    ("pass", "", ""),
    ("", "", ""),
]  # fmt: skip

BRANCHES: list[Row] = [
    ("if a:\n    x = 1\nx", "a x", "x"),
    ("if a:\n    x = 1\nelse:\n    x = 2\nx", "a", "x"),
    ("if a:\n    x = 1\nelse:\n    raise ValueError\nx", "a ValueError", "x"),
    ("if False:\n    x\ny", "y", ""),
    ("if True:\n    x = 1\nx", "", "x"),
    ("x if a else y", "x a y", ""),
    ("(m := a) and m", "a", "m"),
    ("a and (m := 1)\nm", "a m", "m"),
    ("a < (m := 4) < (k := 5)\nm\nk", "a k", "m k"),
    ("for i in xs:\n    y = i\ny", "xs y", "i y"),
    ("for i in range(3):\n    y = i\ny, i", "range", "i y"),
    ("for i in range(3):\n    if a: continue\n    y = i\ny", "range a y", "i y"),
    ("for i in range(3):\n    if a: break\n    y = i\ny", "range a y", "i y"),
    ("for i in [1]:\n    pass\nelse:\n    y = i\ny", "", "i y"),
    ("for xs[0], h.value in [(1, 2)]: pass", "xs h", ""),
    ("while n > 0:\n    n -= 1\n    y = 1\ny", "n y", "n y"),
    ("while True:\n    y = 1\n    break\ny", "", "y"),
    ("while (line := f()):\n    pass\nline", "f", "line"),
    ("try:\n    y = f()\nexcept Exception as e:\n    print(e)\ny", "f Exception print y", "y e"),
    ("try:\n    y = f()\nexcept Exception:\n    y = 0\ny", "f Exception", "y"),
    ("try:\n    y = f()\nexcept Exception:\n    raise\ny", "f Exception", "y"),
    ("try:\n    y = f()\nexcept* ValueError as e:\n    y = 0\nelse:\n    z = y\nz", "f ValueError z", "y e z"),
    ("try:\n    y = f()\nfinally:\n    y", "f y", "y"),
    ("try:\n    f()\nfinally:\n    y = 1\ny", "f", "y"),
    ("with open('/dev/null') as file:\n    text = file.read()\ntext", "open", "file text"),
    ("with suppress(Exception):\n    y = f()\ny", "suppress Exception f y", "y"),
    ("with open('/dev/null') as one, open(one.name) as two: pass", "open", "one two"),
    ("match t:\n    case [p, *q]: r = p\n    case _: r = 0\nr", "t", "p q r"),
    ("match x:\n    case 1 | 2: r = 1\n    case {'k': v, **rest} if v > a: r = v\nr", "x a r", "r v rest"),
    ("match x:\n    case C.RED: r = 1\n    case int(w) as whole: r = w\n    case r: pass\nr", "x C int", "r w whole"),
]  # fmt: skip

SCOPES: list[Row] = [
    ("[i * x for i in xs]", "x xs", ""),
    ("[i for i in xs if i > n]\ni = 1", "xs n", "i"),
    ("[j for i in xs for j in range(i, n)]", "xs range n", ""),
    ("{k: v for k, v in d.items()}, {i for i in xs}, list(i for i in xs)", "d xs list", ""),
    ("[(m := i, m) for i in xs]\nm", "xs m", "m"),
    ("any((hit := i) > 1 for i in xs)", "any xs", "hit"),
    ("(lambda p, q=x: p + q + y)(1)", "x y", ""),
    ("f = lambda: y\ny = 1\nf()", "", "f y"),
    ("g(lambda: y)\ny = 1", "g y", "y"),
    ("def f(p, *q, r=x, **s):\n    local = y\n    return local + p\nf(1)", "x y", "f"),
    ("def f():\n    return y\ny = 1\nf()", "", "f y"),
    ("def f():\n    return y\nf()\ny = 1", "y", "f y"),
    ("def f():\n    return y", "y", "f"),
    ("def f():\n    return g(1)\ndef g(p):\n    return p * x\nf()", "x", "f g"),
    ("def f(p):\n    return p and f(p - p)\nf(1)", "", "f"),
    ("@deco\ndef f(p: C) -> int:\n    return p\nf(1)", "deco C int", "f"),
    ("from __future__ import annotations\ndef f(p: C): pass", "", "annotations f"),
    ("def f():\n    global z\n    z = x\n    return z\nf()", "x", "f z"),
    ("def f():\n    global n\n    n += 1\nf()", "n", "f n"),
    ("def f():\n    k = 1\n    def g():\n        nonlocal k\n        k += x\n        return k\n    return g()\nf()",
     "x", "f"),
    ("def f():\n    import os\n    for i in xs: pass\n    return [i for i in os.sep if (w := i)], w\nf()", "xs", "f"),
    ("def f():\n    try: pass\n    except C as e: e\n    match x:\n        case [p]: p\nf()", "C x", "f"),
    ("async def f():\n    return await fetch(x)\nawait f()", "fetch x", "f"),
    ("async def f():\n    async for i in fetch(): i\n    async with fetch() as w: w", "fetch", "f"),
    ("class A(C, metaclass=type):\n    one = x\n    two = one\n    def run(self):\n        return y\nA().run()",
     "C type x y", "A"),
    ("class A:\n    def run(self):\n        return y\ny = 1\nA().run()", "", "A y"),
    ("class A:\n    x = x\n    y = [x for _ in xs]", "x xs", "A"),
    ("class A:\n    x = 1\n    class B:\n        y = x", "x", "A"),
    ("class A:\n    def first(self=0): return y\n    z = first()\ny = 1", "y", "A y"),
    ("class A:\n    global z\n    z = 1\nz", "", "A z"),
    ("@deco\nclass A: pass", "deco", "A"),
    ("def f():\n    class x:\n        x = x\n    return x\nf()", "x", "f"),
    ("class A:\n    x = 1\n    del x\n    x", "x", "A"),
    ("(yield_ := x)\nyield_", "x", "yield_"),
    ("eval('x + 1')\nexec('y = x')\ny", "eval exec x", "y"),
    ("globals()['x']\nglobals()['y'] = 1\ny", "globals x", "y"),
]  # fmt: skip

MAGICS: list[Row] = [
    ("%time y = f(x)\ny", "get_ipython f x", "y"),
    ("%time f(x)", "get_ipython f x", ""),
    ("z = %time f(x)\nz", "get_ipython f x", "z"),
    ("%timeit -n 1 -r1 y = f(x)", "get_ipython f x", ""),
    ("%timeit -n 1 -r 1 -q f(x)", "get_ipython f x", ""),
    ("%prun -q -s cumulative y = f(x)\ny", "get_ipython f x", "y", "cumulative"),
    ("%%time\ny = f(x)\nz = y\n", "get_ipython f x", "y z"),
    ("%%timeit -n 1 -r 1 w = f(x)\nq = w + y", "get_ipython f x y", ""),
    ("%%capture out --no-stderr\ny = f(x)\n%time z = y", "get_ipython f x", "out y z"),
    ("%%time\n%timeit -n1 -r1 f(x)\nlines = !echo {y} $z", "get_ipython f x y z", "lines"),
    ("!echo $x {y + n} $$HOME '$a'", "get_ipython x y n", ""),
    ("!echo {h.value} {xs[0:1]} $h.value", "get_ipython h xs", ""),
    ("!echo a | awk '{print $1}'", "get_ipython", ""),
    ("lines = !echo {x}\nlines", "get_ipython x", "lines"),
    ("!!echo $x", "get_ipython x", ""),
    ("def f(p):\n    !echo {p} {x}\nf(1)", "get_ipython x", "f"),
    ("for i in xs:\n    !echo {i}", "get_ipython xs", "i"),
    ("%cd -q {s[:0]}.", "get_ipython s", ""),
    ("%env WORD=$s", "get_ipython s", ""),
    ("%matplotlib --list", "get_ipython", ""),
    ("x?", "get_ipython", "", "x"),
    ("h.value??", "get_ipython", "", "h value"),
    ("%whos int", "get_ipython", "", "int"),
    ("%%bash --out lines\necho $x", "get_ipython", "lines"),
    ("%%script bash --err problems\necho {x}", "get_ipython", "problems"),
    ("%%sx\necho $x", "get_ipython x", ""),
    ("%%html\n<b>$x</b>", "get_ipython", ""),
    ("get_ipython().run_line_magic('time', 'f(x)')", "get_ipython f x", ""),
    ("get_ipython().ex('y = x')\ny", "get_ipython x", "y"),
    ("get_ipython().getoutput('echo $x')", "get_ipython x", ""),
    ("df.query('a > @x and b < 3')", "df x", "", "a and b"),
    ("df.sql('select * from t')", "df", "", "select from t"),
]  # fmt: skip

if sys.version_info >= (3, 12):
    SCOPES += [
        ("def f[T: C](p: T) -> T:\n    return p\nf(1)", "C", "f"),
        ("class A[T](C):\n    def run(self) -> T: return x\nA().run()", "C x", "A"),
        ("type A[T] = list[T] | C\nA.__value__", "list C", "A"),
    ]

TABLE = STATEMENTS + BRANCHES + SCOPES + MAGICS

# Magics that are not there, or that need what is not installed.
UNKNOWN: list[Row] = [
    ("%memit f(x)", "get_ipython f x", ""),
    ("%lprun -f g f(x)", "get_ipython f x", "", "g"),
    ("%%sql\nselect * from df where a > {{n}}", "get_ipython", "", "select from df where a n"),
    ("%%R -i x -o y\ny <- x + 1", "get_ipython", "", "i x o y"),
    ("%%mystery\nnew = f(x)", "get_ipython", "new", "new f x"),
    ("%mystery {x} word", "get_ipython x", "", "word"),
]  # fmt: skip


def names(cell: str) -> Names:
    return names_of(cell, TransformerManager().transform_cell)


@pytest.mark.parametrize("row", TABLE + UNKNOWN, ids=lambda row: row[0])
def test_a_cell_reads_and_binds_what_the_table_says(row: Row) -> None:
    cell, reads, binds, *mentions = row
    found = names(cell)
    assert found.reads == set(reads.split())
    assert found.binds == set(binds.split())
    if mentions:
        assert found.mentions == set(mentions[0].split())
    else:
        assert not found.mentions


RUNNER = """
import ast, json, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
values = {}
exec(sys.argv[1], values)
shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}), display_page=True)
own = set(shell.user_ns)
errors = []
shell._showtraceback = lambda *args: None
for cell, reads in json.load(open(sys.argv[2])):
    for name in set(shell.user_ns) - own:
        del shell.user_ns[name]
    shell.user_ns.update({name: values[name] for name in reads if name in values})
    result = shell.run_cell(cell)
    errors.append([cell, repr(result.error_before_exec or result.error_in_exec)])
print("\\n" + json.dumps(errors))
"""


def test_each_cell_runs_with_exactly_what_it_reads(tmp_path: Path) -> None:
    cells = tmp_path / "cells.json"
    cells.write_text(json.dumps([[row[0], sorted(names(row[0]).reads)] for row in TABLE]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER, VALUES, str(cells)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(TABLE)
    missing = [(cell, error) for cell, error in results if "NameError" in error]
    assert not missing
    assert sum(error == "None" for _, error in results) > 0.9 * len(TABLE), results


def test_a_cell_that_is_not_valid_is_refused() -> None:
    with pytest.raises(SyntaxError):
        names("x = = 1")


AUTOMAGIC = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
from nbqueue.cells.names_read import names_of
shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
print(*sorted(names_of("time f(x)", shell.transform_cell).reads))
"""


def test_automagic_is_seen_where_the_shell_transforms() -> None:
    done = subprocess.run([sys.executable, "-c", AUTOMAGIC], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["f", "get_ipython", "x"]


# Random programs -----------------------------------------------------------------------------------------------------

UNIVERSE = ["a", "b", "c", "d"]

# V: a variable, E: an expression, B: an indented block, W: a block that is indented twice.
EXPRESSIONS = [
    "V", "V", "1", "use(E, E)", "(E and E)", "(E if E else E)", "(V := E)", "[E for V in items(E) if E]",
    "[(V := i) for i in items(E)]", "(lambda V=1: E)()",
]  # fmt: skip
SIMPLE = ["V = E\n", "V = use(V, 1)\n", "V += use(E, 1)\n", "use(E, 1)\n", "del V\n", "import sys as V\n"]
COMPOUND = [
    "if E:\nBelse:\nB",
    "if E:\nB",
    "for V in items(E):\nB    if use(E): break\nelse:\nB",
    "for V in range(2):\nB    if use(E): continue\nB",
    "for V in items(E):\nB    raise Oops\n",
    "while True:\nB    break\n",
    "try:\nB    oops(E)\nexcept Oops as V:\nB",
    "try:\nB    oops(E)\nfinally:\nB",
    "with suppress(Oops):\n    oops(E)\nB",
    "match E:\n    case [V, *_]:\nW    case V:\nW",
    "def V(V=1, *_):\nB",
    "def V(*_):\n    global V\nB",
    "class V:\nB",
    "class V:\n    def run(self, *_):\nW    V = run(1)\n",
]


@st.composite
def texts(draw: st.DrawFn, templates: list[str], depth: int) -> str:
    """A template in which each capital is replaced by something drawn."""
    parts = []
    for part in re.split("(?<![A-Za-z])([VEBW])(?![a-z])", draw(st.sampled_from(templates))):
        if part == "V":
            parts.append(draw(st.sampled_from(UNIVERSE)))
        elif part == "E":
            parts.append(draw(texts(EXPRESSIONS if depth > 0 else EXPRESSIONS[:3], depth - 1)))
        elif part in ("B", "W"):
            parts.append(indent(draw(blocks(depth - 1)), "    " if part == "B" else "        "))
        else:
            parts.append(part)
    return "".join(parts)


@st.composite
def blocks(draw: st.DrawFn, depth: int) -> str:
    """Some statements."""
    kinds = st.sampled_from([SIMPLE, COMPOUND] if depth > 0 else [SIMPLE])
    return "".join(draw(texts(draw(kinds), depth)) for _ in range(draw(st.integers(1, 4))))


class Oops(Exception):
    pass


def run(program: str, given_names: set[str]) -> tuple[str, dict[str, Any]]:
    """How a program ends where only the given names are; each decision depends on how many came before."""
    made = 0

    def use(*values: Any) -> int:
        nonlocal made
        made += 1
        for value in values:
            if callable(value) and made < 50:
                value(1)
        return made % 3

    def oops(value: Any) -> None:
        if use(value) == 1:
            raise Oops

    from contextlib import suppress

    tools = {"use": use, "oops": oops, "Oops": Oops, "suppress": suppress,
             "items": lambda value: [1] * use(value)}  # fmt: skip
    space: dict[str, Any] = {**tools, **dict.fromkeys(given_names, 1), "__name__": "program"}
    try:
        exec(compile(program, "program", "exec"), space)
    except (Oops, TypeError, AttributeError, RecursionError, ValueError) as error:
        return type(error).__name__, space
    except NameError as error:
        return f"{type(error).__name__} {error}", space
    return "ended", space


def is_valid(program: str) -> bool:
    try:
        compile(program, "program", "exec")
    except SyntaxError:  # a name that is both a parameter and global, an iteration variable that is assigned
        return False
    return True


programs = blocks(3).filter(is_valid)


@settings(max_examples=300, deadline=None)
@given(programs)
@example("class a:\n def run(self, *_):\n  def c(*_):\n   class a:\n    c += use(a, 1)\n  a = use(c, 1)\n a = run(1)\n")
def test_a_random_program_runs_alike_with_nothing_but_what_it_reads(program: str) -> None:
    found = names_of(program, str)
    ended, before = run(program, set(UNIVERSE))
    alike, after = run(program, set(found.reads) & set(UNIVERSE))
    assert alike == ended, f"{program}\nreads {sorted(found.reads)}"
    assigned = {name for name in UNIVERSE if name in after and after[name] is not before.get(name) and name in before}
    assert assigned - found.reads <= found.binds, program


def test_the_programs_are_not_all_trivial() -> None:
    sizes = []

    @settings(max_examples=100, deadline=None, database=None)
    @given(programs)
    def collect(program: str) -> None:
        sizes.append((len(list(ast.walk(ast.parse(program)))), run(program, set(UNIVERSE))[0]))

    collect()
    assert sum(size > 30 and ended == "ended" for size, ended in sizes) > 10
