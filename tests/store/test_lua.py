"""The headers of the Lua files say what their bodies do."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import resources

import pytest

from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.script import includes, on_demand

FOLDER = resources.files("nbqueue.store") / "lua"
REQUESTS = submitting, running, steering, looking
FOLDERS = {module: module.__name__.rpartition(".")[2] for module in REQUESTS}


def names_in(folder: str) -> list[str]:
    return sorted(entry.name.removesuffix(".lua") for entry in (FOLDER / folder).iterdir())


NAMES = [f"{folder}/{name}" for folder in FOLDERS.values() for name in names_in(folder)]
INCLUDES = [f"include/{name}" for name in names_in("include")]


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text("utf-8")


def defined(text: str) -> set[str]:
    """The names that a file defines for those that include it."""
    return set(re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE))


def all_included(name: str) -> set[str]:
    """What a file includes, and what that includes."""
    found: set[str] = set()
    for other in includes(text_of(name)):
        found |= {f"include/{other}"} | all_included(f"include/{other}")
    return found


def header_and_body(name: str) -> tuple[list[str], str]:
    lines = text_of(name).splitlines()
    length = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return [line[2:] for line in lines[:length]], "\n".join(lines[length:])


def without_comments(body: str) -> str:
    return "\n".join(re.sub(r"--.*", "", line) for line in body.splitlines())


def described(header: list[str]) -> tuple[set[int], int | None]:
    """The numbers of the arguments that a header names, and from which on it names the rest."""
    named = set()
    rest = None
    for line in header:
        found = re.match(r" ARGV\[(\d+)(\.\.\.)?\]\s+\S", line)
        if found and found[2]:
            rest = int(found[1])
        elif found:
            named.add(int(found[1]))
    return named, rest


def used(body: str) -> tuple[set[int], set[int]]:
    """The numbers of the arguments that a body names, and those from which on it takes the rest."""
    numbers = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", body)}
    for first, last in re.findall(r"unpack\(ARGV, (\d+), (\d+)\)", body):
        numbers |= set(range(int(first), int(last) + 1))
    rest = {int(number) for number in re.findall(r"for i = (\d+), #ARGV", body)}
    rest |= {int(number) for number in re.findall(r"local position = (\d+)\n", body)}
    pairs = [int(number) for number in re.findall(r"ARGV\[(\d+) \+ 2 \* i\]", body)]
    return numbers, rest | set(sorted(pairs)[:1])


def test_each_file_stands_for_a_function_of_the_same_name_and_each_function_for_a_file() -> None:
    makers = {
        f"{FOLDERS[module]}/{node.name}"
        for module in REQUESTS
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns).startswith("Request[")
    }
    assert sorted(makers) == sorted(NAMES)
    assert {entry.name for entry in FOLDER.iterdir()} == {*FOLDERS.values(), "include"}


@pytest.mark.parametrize("name", NAMES)
def test_a_function_sends_the_script_of_its_own_name(name: str) -> None:
    (maker,) = (getattr(module, name.partition("/")[2]) for module in REQUESTS if name.startswith(FOLDERS[module]))
    tree = ast.parse(inspect.getsource(maker))
    sent = [
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "request_to"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert sent == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_what_the_file_does_which_key_it_takes_and_what_it_returns(name: str) -> None:
    header, body = header_and_body(name)
    assert re.match(r" [A-Z].*", header[0]), "the first line says what it does"
    text = "\n".join(header)
    assert re.search(r"^ KEYS\[1\]  prefix of all keys$", text, re.MULTILINE)
    assert not re.search(r"KEYS\[[^1]", text + body)
    assert re.search(r"^ Returns  \S", text, re.MULTILINE)
    assert "\nreturn " in body, "what it returns"
    words = [line.split("[")[0].split()[0] for line in header if re.match(r" (KEYS|ARGV|Returns)", line)]
    assert words == sorted(words, key=["KEYS", "ARGV", "Returns"].index), "keys, arguments, then what it returns"


@pytest.mark.parametrize("name", NAMES)
def test_a_header_names_the_arguments_that_the_body_uses_and_no_others(name: str) -> None:
    header, body = header_and_body(name)
    named, rest = described(header)
    numbers, rests = used(without_comments(body))
    assert rests == ({rest} if rest else set()), "where the rest begins"
    if rest:
        numbers = {number for number in numbers if number < rest}
    assert numbers == named
    assert named == set(range(1, len(named) + 1)), "numbered without a gap"
    assert rest in (None, len(named) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_header_says_is_returned_is_returned_by_the_body(name: str) -> None:
    """Words in quotes: 'ok', 'lost', ..."""
    header, body = header_and_body(name)
    start = next(n for n, line in enumerate(header) if line.startswith(" Returns"))
    promised = set(re.findall(r"'(\w+)'", " ".join(header[start:])))
    assert {word for word in promised if f"'{word}'" not in body} == set()


@pytest.mark.parametrize("name", [*INCLUDES, *NAMES])
def test_no_line_is_longer_than_120_characters(name: str) -> None:
    for number, line in enumerate(text_of(name).splitlines(), 1):
        assert len(line) <= 120, f"{name}.lua:{number}"
        assert line == line.rstrip(), f"{name}.lua:{number}"
        assert "\t" not in line, f"{name}.lua:{number}"


@pytest.mark.parametrize("name", [*INCLUDES, *NAMES])
def test_a_file_includes_what_it_uses_by_name_and_nothing_else(name: str) -> None:
    text = text_of(name)
    words = set(re.findall(r"\w+", without_comments(text)))
    own = {
        word for word in re.findall(r"local (?:function )?([\w, ]+?)(?: =|\(|\n)", text) for word in word.split(", ")
    }
    used = {include for include in INCLUDES if include != name and words & (defined(text_of(include)) - own)}
    assert used == {f"include/{other}" for other in [*includes(text), *(file for _, file in on_demand(text))]}
    assert all(function in defined(text_of(f"include/{file}")) for function, file in on_demand(text))
    assert name not in all_included(name), "in a circle"


def test_what_is_included_is_used() -> None:
    everything = "".join(text_of(name) for name in [*INCLUDES, *NAMES])
    for include in INCLUDES:
        for function in re.findall(r"^local function (\w+)", text_of(include), re.MULTILINE):
            assert len(re.findall(rf"\b{function}\(", everything)) > 1, function


@pytest.mark.parametrize("name", INCLUDES)
def test_an_include_says_what_it_is_for(name: str) -> None:
    assert re.match(r"-- [A-Z]", text_of(name))
