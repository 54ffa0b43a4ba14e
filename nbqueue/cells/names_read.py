"""Which names a notebook's cell reads, and which it binds, by its source. IPython's transformation is handed in.

The statements are walked in the order in which they run, with the set of names that the cell has certainly bound so
far: a name that is read while it is not in that set must come from outside. What a function reads counts where the
function is first mentioned, for that is the earliest moment at which it can be called.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_EVERY_MODULE = _words("__name__ __doc__ __builtins__ __builtin__ __loader__ __package__ __spec__")

# Magics, by what they do with their text. All others may do anything: the words in theirs are `mentions`.
_RUN_HERE = _words("time prun debug")

_RUN_IN_A_FUNCTION = _words("timeit memit mprun lprun snakeviz pyinstrument scalene")

_INSPECT = _words("pinfo pinfo2 pdef pdoc pfile psource psearch")

_SHELL = _words("system sx !")

_WITHOUT_NAMES = _words("""
    alias alias_magic autoawait autocall automagic autoreload bookmark cat cd colors conda config cp dhist dirs env gui
    killbgscripts ldir less load_ext ls lsmagic mamba man matplotlib micromamba mkdir more mv notebook page pip popd
    pprint precision pushd pwd pylab quickref rehashx reload_ext rm rmdir set_env unalias unload_ext uv xmode
""")

_OTHER_LANGUAGES = _words("""
    HTML SVG bash cmd file html javascript js latex markdown perl pypy python python2 python3 ruby script sh svg
    writefile
""")

_WORD = re.compile(r"[^\W\d]\w*")

_DOLLAR = re.compile(r"(.*?)\$(\$?[\w\.]+)(?=([^']*'[^']*')*[^']*$)")
"""As IPython's `DollarFormatter`, which leaves alone what stands in single quotes."""

_AT = re.compile(r"@([^\W\d]\w*)")

_Function = ast.FunctionDef | ast.AsyncFunctionDef

_State = set[str] | None
"""The names that are certainly bound; None where the program never comes."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a cell has to do with the names around it.

    Builtins are among them: the caller knows which names there are, and takes what it has.
    """

    reads: frozenset[str]
    """Read before the cell has certainly bound them itself."""
    mentions: frozenset[str]
    """Words in texts that are handed to something that may read variables by name: unknown magics, SQL. Worth having
    if it costs nothing."""
    binds: frozenset[str]
    """Assigned, imported or defined at the cell's level, at least on some path."""


def names_of(raw_cell: str, transform: Callable[[str], str]) -> Names:
    """Find the names that a cell reads and binds.

    Parameters
    ----------
    raw_cell : str
        The cell as it was typed, with magics, `!commands` and top-level `await`.
    transform : callable
        What IPython makes Python of a cell with: `get_ipython().transform_cell`, or
        `TransformerManager().transform_cell`, which leaves out automagic.

    Returns
    -------
    Names
        Reads are overestimated where it cannot be known whether the cell binds a name in time, never
        underestimated but for what hides in computed strings: `eval(text)`, `globals()[name]`.

    Raises
    ------
    SyntaxError
        The cell is not valid; nothing would run.

    Examples
    --------
    >>> from IPython.core.inputtransformer2 import TransformerManager
    >>> sorted(names_of("%time y = f(x)", TransformerManager().transform_cell).reads)
    ['f', 'get_ipython', 'x']
    """
    walker = _Walker(transform)
    walker.block(ast.parse(transform(raw_cell)).body)
    return walker.end()


@dataclass
class _Frame:
    """A scope while it is walked. The one of a function, a lambda or a comprehension is a `function`."""

    kind: Literal["module", "class", "function"]
    bound: _State
    own: frozenset[str] = frozenset()
    """The names that are local to it."""
    to_module: frozenset[str] = frozenset()
    """Names declared `global`."""
    deleted: frozenset[str] = frozenset()
    """In a class: names that it deletes, which are looked up outside again."""
    is_comprehension: bool = False
    reads: set[str] = field(default_factory=set)
    later: dict[str, set[str]] = field(default_factory=dict)
    """What the functions and classes defined here read when they are used."""
    loops: list[_Loop] = field(default_factory=list)


@dataclass
class _Loop:
    breaks: list[_State] = field(default_factory=list)
    continues: list[_State] = field(default_factory=list)


class _Walker(ast.NodeVisitor):
    """Walks statements in the order in which they run.

    It is long because Python's syntax is: a method for each kind of node that binds or reads, and all know the frame.
    """

    def __init__(self, transform: Callable[[str], str]) -> None:
        self._transform = transform
        self._module = _Frame("module", set(_OF_EVERY_MODULE))
        self._frames = [self._module]
        self._binds: set[str] = set()
        self._mentions: set[str] = set()
        self._annotations_run = True

    def end(self) -> Names:
        # A function that is never used here may come back to where its globals are missing.
        for name in list(self._module.later):
            self._load(name)
        reads = frozenset(self._module.reads)
        return Names(reads, frozenset(self._mentions - reads), frozenset(self._binds))

    # Frames and names -------------------------------------------------------------------------------------------------

    @property
    def _frame(self) -> _Frame:
        return self._frames[-1]

    def _load(self, name: str, depth: int = -1) -> None:
        frame = self._frames[depth]
        if frame.bound is None or (frame.kind == "function" and name in frame.own):
            return
        if frame.kind == "class":
            outside = frame.later.get(name, set()) if name in frame.bound else {name}
            for other in outside:
                # What a class assigns, it looks up in the module, not in a function around it, however far out.
                around = [outer for outer in self._frames[:depth] if outer.kind == "function"]
                is_skipping = other == name and name in frame.own and any(name in outer.own for outer in around)
                self._load(other, 0 if is_skipping else self._outside(depth))
            return
        todo, seen = [name], set[str]()
        while todo:
            found = todo.pop()
            if found not in seen:
                seen.add(found)
                todo.extend(frame.later.get(found, ()))
        frame.reads |= seen - frame.bound

    def _outside(self, depth: int) -> int:
        """The frame around: inner scopes do not see the names of classes."""
        depth -= 1
        while self._frames[depth].kind == "class":
            depth -= 1
        return depth

    def _store(self, name: str) -> None:
        frame = self._frame
        if frame.bound is None:
            return
        if frame.kind == "module" or name in frame.to_module:
            self._binds.add(name)
        if frame.kind == "class" and name in frame.to_module and self._module.bound is not None:
            self._module.bound.add(name)
        if (frame.kind != "function" or name in frame.to_module) and name not in frame.deleted:
            frame.bound.add(name)

    def _mention(self, text: str) -> None:
        frame = self._frame
        if frame.bound is not None:
            self._mentions |= set(_WORD.findall(text)) - frame.bound - frame.own

    def _inside(self, frame: _Frame, walk: Callable[[], object]) -> set[str]:
        """What is read in a scope of its own, of what is not its own."""
        self._frames.append(frame)
        walk()
        self._frames.pop()
        return frame.reads

    def _read_now(self, names: Iterable[str]) -> None:
        """Load what an inner scope reads, at once."""
        depth = self._outside(-1) if self._frame.kind == "class" else -1
        for name in names:
            self._load(name, depth)

    def _read_later(self, definition: str, names: set[str]) -> None:
        """Load what an inner scope reads when `definition` is mentioned."""
        if self._frame.kind == "function":
            self._read_now(names)
        elif self._frame.bound is not None:
            self._frame.later.setdefault(definition, set()).update(names)

    # Statements -------------------------------------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.AST]) -> None:
        for statement in statements:
            self.visit(statement)

    def _from(self, state: _State, *parts: Sequence[ast.AST]) -> _State:
        """Walk from a state on; the state in which it ends."""
        self._frame.bound = _copy(state)
        for part in parts:
            self.block(part)
        return self._frame.bound

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        before = self._frame.bound
        body, orelse = (node.body, node.orelse) if isinstance(node, ast.If) else ([node.body], [node.orelse])
        known = node.test.value if isinstance(node.test, ast.Constant) else None
        then = self._from(before if known is None or known else None, body)
        otherwise = self._from(None if known else before, orelse)
        self._frame.bound = _join(then, otherwise)

    visit_IfExp = visit_If

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        before = self._frame.bound
        loop = _Loop()
        self._frame.loops.append(loop)
        round_ = self._from(before, [node.target], node.body)
        self._frame.loops.pop()
        through = _join(round_, *loop.continues) if _has_items(node.iter) else before
        self._frame.bound = _join(self._from(through, node.orelse), *loop.breaks)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        before = self._frame.bound
        loop = _Loop()
        self._frame.loops.append(loop)
        self._from(before, node.body)
        self._frame.loops.pop()
        is_endless = isinstance(node.test, ast.Constant) and node.test.value
        self._frame.bound = _join(self._from(None if is_endless else before, node.orelse), *loop.breaks)

    def visit_Break(self, node: ast.Break) -> None:
        self._frame.loops[-1].breaks.append(self._frame.bound)
        self._frame.bound = None

    def visit_Continue(self, node: ast.Continue) -> None:
        self._frame.loops[-1].continues.append(self._frame.bound)
        self._frame.bound = None

    def visit_Return(self, node: ast.Return) -> None:
        self.generic_visit(node)
        self._frame.bound = None

    def visit_Raise(self, node: ast.Raise) -> None:
        self.generic_visit(node)
        self._frame.bound = None

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        before = self._frame.bound
        ends = [self._from(before, node.body, node.orelse)]
        for handler in node.handlers:
            self._frame.bound = _copy(before)
            if handler.type is not None:
                self.visit(handler.type)
            if handler.name is not None:
                self._store(handler.name)
            self.block(handler.body)
            ends.append(self._frame.bound)
        if node.finalbody:
            self._from(before, node.finalbody)  # nothing of the body may have run
        self._frame.bound = self._from(_join(*ends), node.finalbody)

    visit_TryStar = visit_Try

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        self.block(node.items)
        before = _copy(self._frame.bound)
        self.block(node.body)
        if any(_swallows(item.context_expr) for item in node.items):
            self._frame.bound = _join(before, self._frame.bound)

    visit_AsyncWith = visit_With

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        before = self._frame.bound
        ends: list[_State] = []
        for case in node.cases:
            guard = [] if case.guard is None else [case.guard]
            ends.append(self._from(before, [case.pattern], guard, case.body))
        last = node.cases[-1]
        if last.guard is not None or not (isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None):
            ends.append(before)
        self._frame.bound = _join(*ends)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name is not None:
            self._store(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._store(node.rest)

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)
        if node.msg is not None:
            self._maybe([node.msg])

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(node.value, ast.Lambda) and len(node.targets) == 1 and isinstance(target, ast.Name):
            self._read_later(target.id, self._lambda(node.value))
        else:
            self.visit(node.value)
        self.block(node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._load(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._annotations_run and self._frame.kind != "function":
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            self._annotations_run &= all(alias.name != "annotations" for alias in node.names)
        for alias in node.names:
            if alias.name != "*":
                self._store(alias.asname or alias.name.partition(".")[0])

    visit_ImportFrom = visit_Import

    # Definitions ------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: _Function) -> None:
        self.block(node.decorator_list)
        self._defaults(node.args)
        parameters: list[ast.AST] = getattr(node, "type_params", [])
        if self._annotations_run:
            arguments = _all_arguments(node.args)
            annotations = [argument.annotation for argument in arguments if argument.annotation is not None]
            if node.returns is not None:
                annotations.append(node.returns)
            self._read_now(self._generic(parameters, [*parameters, *annotations]))
        self._read_later(node.name, self._body(node, node.body, _names_of_type_parameters(parameters)))
        self._store(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._read_now(self._lambda(node))

    def _lambda(self, node: ast.Lambda) -> set[str]:
        self._defaults(node.args)
        return self._body(node, [node.body], frozenset())

    def _defaults(self, arguments: ast.arguments) -> None:
        self.block(arguments.defaults)
        self.block([default for default in arguments.kw_defaults if default is not None])

    def _body(self, node: _Function | ast.Lambda, body: Sequence[ast.AST], known: frozenset[str]) -> set[str]:
        """What a function reads when it is called, of what is not its own."""
        stored, to_module, to_outer = _stores(body)
        own = stored | {argument.arg for argument in _all_arguments(node.args)} | known
        frame = _Frame("function", set(), frozenset(own - to_module - to_outer), frozenset(to_module))
        return self._inside(frame, lambda: self.block(body))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.block(node.decorator_list)
        parameters: list[ast.AST] = getattr(node, "type_params", [])
        self._read_now(self._generic(parameters, [*parameters, *node.bases, *node.keywords]))
        if self._frame.bound is None:
            return
        stored, to_module, to_outer = _stores(node.body)
        own = frozenset(stored - to_module - to_outer)
        frame = _Frame("class", {"__module__", "__qualname__"}, own, frozenset(to_module), frozenset(_deleted(node)))
        known = _names_of_type_parameters(parameters)
        if known:
            around = _Frame("function", set(), known)
            self._read_now(self._inside(around, lambda: self._inside(frame, lambda: self.block(node.body))))
        else:
            self._inside(frame, lambda: self.block(node.body))
        self._read_later(node.name, set[str]().union(*frame.later.values()) - known)
        self._store(node.name)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        parameters: list[ast.AST] = getattr(node, "type_params", [])
        value, name = node.value, node.name.id  # type: ignore[attr-defined]  # from Python 3.12 on
        self._read_later(name, self._generic(parameters, [*parameters, value]))
        self._store(name)

    def _generic(self, parameters: list[ast.AST], parts: Sequence[ast.AST]) -> set[str]:
        """What is read where a function's or class's type parameters are known."""
        frame = _Frame("function", set(), _names_of_type_parameters(parameters))
        return self._inside(frame, lambda: self.block(parts))

    # Expressions ------------------------------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        # Deleting needs a value. Afterwards there is none: what is read then, no value from outside can help.
        if isinstance(node.ctx, ast.Store):
            self._store(node.id)
        else:
            self._load(node.id)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        name = node.target.id
        if not self._frame.is_comprehension:
            self._store(name)
            return
        for frame in reversed(self._frames):
            if not frame.is_comprehension:
                if frame.kind == "module" or name in frame.to_module:
                    self._binds.add(name)
                break
            if frame.bound is not None:
                frame.bound.add(name)

    def _maybe(self, nodes: Sequence[ast.AST]) -> None:
        """Walk what may be skipped."""
        before = _copy(self._frame.bound)
        self.block(nodes)
        self._frame.bound = before

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._maybe(node.values[1:])

    def visit_Compare(self, node: ast.Compare) -> None:
        self.visit(node.left)
        self.visit(node.comparators[0])
        self._maybe(node.comparators[1:])

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        first = node.generators[0]
        self.visit(first.iter)
        targets = set[str]().union(*(_stores([generator.target])[0] for generator in node.generators))
        frame = _Frame("function", set(), frozenset(targets), is_comprehension=True)

        def walk() -> None:
            for generator in node.generators:
                if generator is not first:
                    self.visit(generator.iter)
                self.visit(generator.target)
                self.block(generator.ifs)
            self.block([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

        self._read_now(self._inside(frame, walk))

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.generic_visit(node)
        table, key = node.value, node.slice
        if not (isinstance(table, ast.Call) and isinstance(table.func, ast.Name) and isinstance(key, ast.Constant)):
            return
        if table.func.id in ("globals", "locals", "vars") and isinstance(key.value, str):
            self.visit(ast.Name(key.value, node.ctx))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if not texts:
            return
        if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            self._code(texts[0])
        elif isinstance(node.func, ast.Attribute):
            self._method(node.func, texts)

    def _method(self, function: ast.Attribute, texts: list[str]) -> None:
        of, name = function.value, function.attr
        is_shells = isinstance(of, ast.Call) and isinstance(of.func, ast.Name) and of.func.id == "get_ipython"
        match name, texts:
            case "run_line_magic", [magic, line]:
                self._line_magic(magic, line)
            case "run_cell_magic", [magic, line, cell]:
                self._cell_magic(magic, line, cell)
            case "magic", [line] if is_shells:
                magic, _, rest = line.strip().partition(" ")
                self._line_magic(magic, rest)
            case (("system" | "system_raw" | "system_piped" | "getoutput"), [command]) if is_shells:
                self._expand(command)
            case (("ex" | "ev" | "run_cell"), [code]) if is_shells:
                self._code(code)
            case (("query" | "eval"), [text, *_]):
                for found in _AT.findall(text):  # pandas
                    self._load(found)
                self._mention(text)
            case (("sql" | "execute"), [text, *_]):
                self._mention(text)  # DuckDB finds tables among variables
            case _:
                pass

    # Magics -----------------------------------------------------------------------------------------------------------

    def _line_magic(self, name: str, line: str) -> None:
        if name in _RUN_HERE:
            self._code(self._without_options(line))
        elif name in _RUN_IN_A_FUNCTION:
            self._code_in_a_function(self._without_options(line))
        elif name in _INSPECT:
            self._mention(line)
        else:
            self._expand(line)
            if name not in _WITHOUT_NAMES and name not in _SHELL:
                self._mention(line)

    def _cell_magic(self, name: str, line: str, cell: str) -> None:
        if name in _RUN_HERE:
            self._code(f"{self._without_options(line)}\n{cell}")
        elif name in _RUN_IN_A_FUNCTION:
            self._code_in_a_function(f"{self._without_options(line)}\n{cell}")
        elif name == "capture":
            self._expand(line)
            self._code(cell)
            for word in line.split():
                if word.isidentifier():
                    self._store(word)
        elif name in _SHELL:
            self._expand(line)
            self._expand(cell)
        else:
            self._expand(line)
            for word in re.findall(r"--(?:out|err|proc)[ =]+(\w+)", line):
                self._store(word)
            if name not in _OTHER_LANGUAGES:
                self._mention(line)
                self._mention(cell)
                self._binds |= self._bound_by(cell)

    def _without_options(self, line: str) -> str:
        """The statement after a magic's options: the longest rest that is one."""
        rest = line.strip()
        while rest:
            try:
                ast.parse(self._transform(rest))
            except SyntaxError:
                word, _, shorter = rest.partition(" ")
                if not line.lstrip().startswith("-"):
                    break
                if not word.startswith("-"):
                    self._mention(word)
                rest = shorter.lstrip()
            else:
                return rest
        self._mention(rest)
        return ""

    def _code(self, text: str) -> None:
        """Walk code that runs at this place."""
        try:
            tree = ast.parse(self._transform(text))
        except SyntaxError:  # whoever is handed it will say so
            self._mention(text)
        else:
            self.block(tree.body)

    def _code_in_a_function(self, text: str) -> None:
        """Walk code that is put into a function and called."""
        self._read_now(self._inside(_Frame("function", set(), self._bound_by(text)), lambda: self._code(text)))

    def _bound_by(self, text: str) -> frozenset[str]:
        try:
            return frozenset(_stores(ast.parse(self._transform(text)).body)[0])
        except SyntaxError:  # not Python
            return frozenset()

    def _expand(self, command: str) -> None:
        """Read what IPython puts in the place of `{expression}` and `$name`; all of it or nothing."""
        try:
            trees = [ast.parse(text.strip(), mode="eval") for text in _fields(command)]
        except (SyntaxError, ValueError):  # such as awk '{print $1}': IPython leaves all of it as it is
            return
        for tree in trees:
            self.visit(tree.body)


def _copy(state: _State) -> _State:
    return None if state is None else set(state)


def _join(*states: _State) -> _State:
    """What is certain whichever way was taken."""
    reached = [state for state in states if state is not None]
    return set.intersection(*reached) if reached else None


def _has_items(node: ast.expr) -> bool:
    """Whether a loop over it certainly runs once."""
    match node:
        case ast.List(elts) | ast.Tuple(elts) | ast.Set(elts):
            return any(not isinstance(element, ast.Starred) for element in elts)
        case ast.Constant(str(text) | bytes(text)):
            return bool(text)
        case ast.Call(ast.Name("range"), [ast.Constant(int(stop))], []):
            return stop > 0
        case ast.Call(ast.Name("range"), [ast.Constant(int(start)), ast.Constant(int(stop))], []):
            return stop > start
        case ast.Call(ast.Name("trange"), [ast.Constant(int(stop)), *_], _):
            return stop > 0
        case ast.Call(ast.Name("enumerate" | "tqdm" | "reversed" | "sorted" | "list"), [inner, *_], _):
            return _has_items(inner)
    return False


def _swallows(node: ast.expr) -> bool:
    """Whether a context manager may end an exception, so that what follows its block runs without all of it."""
    function = node.func if isinstance(node, ast.Call) else node
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("suppress", "raises", "assertRaises", "ExitStack", "AsyncExitStack")


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    several = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *several]


def _names_of_type_parameters(parameters: list[ast.AST]) -> frozenset[str]:
    return frozenset(parameter.name for parameter in parameters)  # type: ignore[attr-defined]  # from Python 3.12 on


def _stores(nodes: Sequence[ast.AST]) -> tuple[set[str], set[str], set[str]]:
    """The names that a scope stores, those that it declares `global`, and those that it declares `nonlocal`."""
    stored, to_module, to_outer = set[str](), set[str](), set[str]()
    todo: list[tuple[ast.AST, bool]] = [(node, False) for node in nodes]
    while todo:
        node, in_comprehension = todo.pop()
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                stored.add(name)
                todo += [(part, in_comprehension) for part in [*node.decorator_list, *node.args.defaults]]
                continue
            case ast.ClassDef(name):
                stored.add(name)
                todo += [(part, in_comprehension) for part in [*node.decorator_list, *node.bases]]
                continue
            case ast.Lambda():
                todo += [(part, in_comprehension) for part in node.args.defaults]
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                in_comprehension = True
            case ast.NamedExpr(ast.Name(name)):
                stored.add(name)
            case ast.Name(name, ast.Store() | ast.Del()) if not in_comprehension:
                stored.add(name)
            case ast.Import(aliases) | ast.ImportFrom(names=aliases):
                stored |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                stored.add(name)
            case ast.MatchMapping(rest=str(name)):
                stored.add(name)
            case ast.Global(names):
                to_module.update(names)
            case ast.Nonlocal(names):
                to_outer.update(names)
        todo += [(child, in_comprehension) for child in ast.iter_child_nodes(node)]
    return stored, to_module, to_outer


def _deleted(node: ast.AST) -> Iterator[str]:
    """The names that are deleted in it."""
    for part in ast.walk(node):
        match part:
            case ast.Name(name, ast.Del()) | ast.ExceptHandler(name=str(name)):
                yield name


def _fields(command: str) -> Iterator[str]:
    """The expressions in a command, as IPython's `DollarFormatter` finds them."""
    for literal, name, spec, _ in string.Formatter().parse(command):
        yield from (found for _, found, _ in _DOLLAR.findall(literal) if not found.startswith("$"))
        if name is not None:
            yield f"{name}:{spec}" if spec else name
