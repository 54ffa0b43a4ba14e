"""Cells run outside of a kernel: in order, as a kernel would, stopped at any moment."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cell_interpreter import Interpreter, fold
from conftest import wait_until

from nbqueue.cells.carriage_returns import collapse

INLINE = "module://matplotlib_inline.backend_inline"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    """One interpreter for the tests that leave nothing behind: that they do not is tested by the way."""
    interpreter = Interpreter(tmp_path_factory.mktemp("shared"), MPLBACKEND=INLINE)
    yield interpreter
    interpreter.end()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Interpreter]:
    interpreter = Interpreter(tmp_path)
    yield interpreter
    interpreter.end()


def outputs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    assert answer["restored"]
    return fold(answer["messages"])


def text(answer: dict[str, Any], name: str = "stdout") -> str:
    return "".join(output["text"] for output in outputs(answer) if output.get("name") == name)


def error(answer: dict[str, Any]) -> dict[str, Any]:
    (found,) = [output for output in outputs(answer) if output["type"] == "error"]
    return found


# Like a kernel --------------------------------------------------------------------------------------------------------

# Each is run in a kernel and by a Cell; what they leave in the notebook must be the same.
CELLS = {
    "order": "import sys\nprint('one')\nprint('two', file=sys.stderr)\ndisplay(3, 'four')\nprint('five')\n6",
    "value": "x = 21\n2 * x",
    "silenced": "21 * 2;",
    "not silenced in the middle": "1; 2",
    "no value": "None",
    "table": "import pandas\npandas.DataFrame({'a': [1, 2], 'b': ['x', '<y>']})",
    "wide table": "import pandas\npandas.DataFrame({f'column_{i}': range(100) for i in range(40)})",
    "html": "from IPython.display import HTML, Markdown, Latex, JSON, Image\n"
            "display(HTML('<b>b</b>'), Markdown('*m*'), JSON({'a': [1, None, 2.5]}, expanded=True))\nLatex('$x$')",
    "bytes": "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(16), format='png')",
    "rich repr": "class A:\n    def _repr_html_(self): return '<i>a</i>'\n    def _repr_mimebundle_(self, **options):\n"
                 "        return {'text/plain': 'a', 'application/x': {'n': (1, 2)}}, {'application/x': {'k': 1}}\nA()",
    "own display": "class A:\n    def _ipython_display_(self): print('mine')\nA()",
    "metadata": "display({'text/plain': 'x'}, raw=True, metadata={'a': 1})",
    "figures": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('between')\nplt.plot([2, 1]);",
    "figure as value": "from matplotlib.figure import Figure\nFigure()",
    "magic inline": "%matplotlib inline\nimport matplotlib.pyplot as plt\nfigure, _ = plt.subplots()\nplt.close()\n1",
    "updates": "h = display('a', display_id=True)\nprint('b')\nh.update('c')\nh.display('d')\nh.update('e')",
    "cleared": "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('here')",
    "cleared later": "from IPython.display import clear_output\nfor i in range(5):\n    clear_output(wait=True)\n"
                     "    print(i); display(i)",
    "cleared last": "from IPython.display import clear_output\nprint('stays')\nclear_output(wait=True)",
    "display clears": "display(1)\ndisplay(2, clear=True)",
    "carriage return": "for i in range(30):\n    print(f'\\r{i} of 30 {\"=\" * (30 - i)}', end='')\nprint()",
    "progress": "from tqdm import tqdm\nfor i in tqdm(range(200), ncols=40, bar_format='{percentage:3.0f}% {bar}'):\n"
                "    pass",
    "unicode": "print('äöü 漢字 🎈')\n'äöü 漢字 🎈'",
    "time": "%time y = 1\n%time y + 1",
    "cell time": "%%time\nz = 2\nz + 1",
    "timeit": "%timeit -n 1 -r 1 1",
    "capture": "%%capture taken\nprint('quiet'); display(1)\n5",
    "captured": "from IPython.utils.capture import capture_output\nwith capture_output() as taken:\n"
                "    print('x'); display(1)\ntaken.show()\nlen(taken.outputs), taken.stdout",
    "redirected": "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f:\n    print('x')\n"
                  "f.getvalue()",
    "command": "!echo one; echo two >&2; exit 3\n_exit_code",
    "command's output": "lines = !echo one; echo two\nlines",
    "interpolation": "v = 'x y'\n!echo {v} $v '$v' {len(v)}",
    "bash": "%%bash --no-raise-error\necho one\necho two >&2\nexit 2",
    "bash fails": "%%bash\necho one\nexit 2",
    "bash into a variable": "%%bash --out lines\necho one",
    "await": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    print('in')\n    return 5\nawait f()",
    "async for": "async def g():\n    yield 1\n    yield 2\nasync for i in g(): print(i)\n[i async for i in g()]",
    "names": "In[-1], type(Out).__name__, get_ipython().user_ns is globals(), __name__",
    "all results": "get_ipython().ast_node_interactivity = 'all'\n1",
    "help": "len?",
    "unknown magic": "%nosuch",
    "usage": "%%time x\n1",
    "warning": "import warnings as w\nwith w.catch_warnings():\n    w.simplefilter('always')\n    w.warn('careful')",
    "logging": "import logging\nlogging.getLogger('some').warning('careful')",
    "exception": "def f(x):\n    y = x + 1\n    return 1 / (y - 1)\nprint('before')\nf(0)\nprint('never')",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "syntax": "x = (1 +\ny = 2",
    "indentation": "if True:\n  x = 1\n    y = 2",
    "return outside": "return 5",
    "await in a lambda": "f = lambda: await g()",
    "name": "nosuch + 1",
    "in a magic": "%time 1 / 0",
    "in a capture": "%%capture\n1 / 0",
    "exception group": "raise ExceptionGroup('several', [ValueError(1), KeyError(2)])",
    "interrupt": "raise KeyboardInterrupt",
    "broken repr": "class A:\n    def __repr__(self): raise ValueError('broken')\nA()",
    "own traceback": "class E(Exception):\n    def _render_traceback_(self): return ['mine', 'all']\nraise E",
    "deep": "def f(n): return f(n + 1)\nf(0)",
    "future": "from __future__ import annotations\ndef f(x: nosuch): pass\nf.__annotations__",
    "main": "import __main__, pickle\nclass A: pass\n__main__.b = 1\ntype(pickle.loads(pickle.dumps(A()))) is A, b",
    "comment": "# nothing",
    "empty": "",
}  # fmt: skip

KERNEL = """
import json, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel()
answers = {}
for name, cell in json.load(open(sys.argv[1])).items():
    messages = []
    def hook(message):
        if message["header"]["msg_type"] not in ("status", "execute_input"):
            messages.append([message["header"]["msg_type"], message["content"]])
    reply = client.execute_interactive(cell, output_hook=hook, allow_stdin=False, store_history=True, timeout=60)
    # What help shows, a kernel sends to the pager.
    for payload in reply["content"].get("payload", []):
        messages.append(["display_data", {"data": payload["data"], "metadata": {}, "transient": {}}])
    client.execute_interactive("%reset -f", timeout=60)
    client.execute_interactive("get_ipython().ast_node_interactivity = 'last_expr'", timeout=60)
    answers[name] = messages
client.stop_channels()
manager.shutdown_kernel(now=True)
json.dump(answers, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, Any]]]:
    """What a real kernel says to each cell."""
    import json
    import os

    directory = tmp_path_factory.mktemp("kernel")
    (directory / "cells.json").write_text(json.dumps(CELLS))
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, "cells.json", "answers.json"], cwd=directory, capture_output=True, text=True,
        env={**os.environ, "IPYTHONDIR": str(directory), "JUPYTER_PLATFORM_DIRS": "1", "MPLBACKEND": INLINE},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[tuple[str, Any]]] = json.loads((directory / "answers.json").read_text())
    return answers


def without_chance(said: str) -> str:
    """A text less what differs from run to run: times, addresses, the names of the cell's file."""
    said = re.sub(r"[\d.e+]+ ?(ns|us|µs|μs|ms|s)\b", "TIME", collapse(said))
    said = re.sub(r"0x[0-9a-f]+", "0x", said)
    said = re.sub(r"<cell-\w+>|[^\s\"]*ipykernel_\d+/\d+\.py", "FILE", said)
    said = re.sub(r"\((FILE|\d+\.py)(, line \d+)?\)", "(FILE)", said)
    return re.sub(r"File .*?site-packages/(IPython|ipykernel).*?\n", "IPYTHON\n", said)


def compared(messages: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    found = fold(messages, without_chance)
    for output in found:
        output.pop("id", None)
        output.pop("number", None)
        if output["type"] == "error":
            # IPython 9.18 takes wrong lines for what is above where a kernel gives files their names.
            output["traceback"] = output["traceback"].splitlines()[-1]
            output["evalue"] = without_chance(output["evalue"])
        if "data" in output and "text/plain" in output["data"]:
            output["data"]["text/plain"] = without_chance(output["data"]["text/plain"])
    return found


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_leaves_what_it_leaves_in_a_kernel(
    name: str, shared: Interpreter, kernel: dict[str, list[tuple[str, Any]]]
) -> None:
    answer = shared.run(CELLS[name])
    assert answer["restored"]
    assert compared(answer["messages"]) == compared(kernel[name])


# Better than a kernel -------------------------------------------------------------------------------------------------


def test_the_value_and_the_namespace_come_back(shared: Interpreter) -> None:
    answer = shared.run("y = 2 * x\n[y, y]", "x = 21", then="namespace['y']")
    assert answer["value"] == "[42, 42]"
    assert answer["then"] == "42"
    assert "y" in answer["bound"]
    assert shared.run("5;")["value"] == "None"
    assert shared.run("5", silent=True) | {"bound": []} == {
        "value": "None", "messages": [], "restored": True, "bound": []
    }  # fmt: skip


def test_functions_see_what_the_cell_assigns_to_their_globals(shared: Interpreter) -> None:
    assert shared.run("factor = 3\nscaled(2)", "factor = 2\ndef scaled(x): return factor * x")["value"] == "6"


def test_the_number_of_the_cell_is_the_notebooks(shared: Interpreter) -> None:
    answer = shared.run("1 / 0", number=7)
    assert "In[7]" in plain(error(answer))
    assert outputs(shared.run("In[7], len(Out)", number=7))[0]["number"] == 7


def plain(found: dict[str, Any]) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(found["traceback"].splitlines()))


def test_a_traceback_shows_the_lines_of_the_cell_and_is_coloured(shared: Interpreter) -> None:
    answer = shared.run("def f(x):\n    y = x + 1\n    return 1 / (y - 1)\n\nf(0)", number=3)
    found = error(answer)
    assert (found["ename"], found["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert "Cell In[3], line 5" in plain(found)
    assert "----> 3     return 1 / (y - 1)" in plain(found)
    assert "\x1b[" in found["traceback"]
    (first, _), (second, line) = answer["lines"]
    assert first == second == f"<cell-{first[6:18]}>"
    assert line == 3
    again = shared.run("def f(x):\n    y = x + 1\n    return 1 / (y - 1)\n\nf(0)", number=9)
    assert again["lines"] == answer["lines"], "the file's name depends on the source alone"


def test_a_chained_error_points_at_the_right_lines(shared: Interpreter) -> None:
    shown = plain(error(shared.run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e")))
    assert "----> 2     1 / 0" in shown
    assert "----> 4     raise KeyError('k') from e" in shown


def test_the_source_can_be_found_by_the_name_of_the_file(shared: Interpreter) -> None:
    answer = shared.run("def f():\n    return 5", then="__import__('inspect').getsource(namespace['f'])")
    assert answer["then"] == repr("def f():\n    return 5\n")


def test_an_error_that_cannot_be_shown_is_reported(shared: Interpreter) -> None:
    answer = shared.run("class E(Exception):\n    def __str__(self): raise ValueError\nraise E")
    assert error(answer)["ename"] == "E"
    long = error(shared.run("raise ValueError('x' * 10**7)"))
    assert len(long["traceback"]) < 300_000
    assert "characters were cut here" in long["traceback"]


def test_namespaces_do_not_leak_from_one_cell_to_the_next(shared: Interpreter) -> None:
    shared.run("from __future__ import annotations\nsecret = 5\n_ = 6\nsecret")
    names = shared.run("sorted(globals())")["value"]
    assert "secret" not in names
    for cell, value in [("_, __, ___, len(In), len(Out)", "('', '', '', 2, 0)"),
                        ("_1", None), ("_i", "''"), ("secret", None)]:  # fmt: skip
        answer = shared.run(cell)
        assert answer.get("value") == value or "NameError" in answer["error"], cell
    assert "NameError" in shared.run("def f(x: nosuch): pass")["error"], "the compiler's flags do not stay"


@pytest.mark.parametrize("end", ["big", "1 / 0", "[big]", "get_ipython().user_ns['big']"])
def test_the_shell_lets_go_of_the_variables(end: str, shared: Interpreter) -> None:
    cell = f"import weakref\nclass Big: pass\nbig = Big()\nget_ipython().found = weakref.ref(big)\n{end}"
    assert shared.run(cell)["restored"]
    assert shared.run("import gc\ngc.collect()\nget_ipython().found()")["value"] == "None"


def test_figures_do_not_leak_from_one_cell_to_the_next(shared: Interpreter) -> None:
    shared.run("import matplotlib.pyplot as plt\n%config InlineBackend.close_figures = False\nplt.plot([1]);")
    shared.run(
        "%config InlineBackend.close_figures = True\n%matplotlib agg\nimport matplotlib.pyplot as plt\nplt.plot([1]);"
    )
    answer = shared.run("import matplotlib.pyplot as plt\nprint(plt.get_fignums())\nplt.plot([2]);")
    assert text(answer) == "[]\n"
    assert ["image/png" in output["data"] for output in outputs(answer)[1:]] == [True], "the backend is inline again"


def test_figures_are_inline_without_a_magic_and_without_a_word_of_the_environment(fresh: Interpreter) -> None:
    answer = fresh.run(
        "import matplotlib.pyplot as plt\nplt.plot([1]);", then="__import__('os').environ.get('MPLBACKEND')"
    )
    assert ["image/png" in output["data"] for output in outputs(answer)] == [True]
    assert answer["then"] == "None"


def test_matplotlib_and_pandas_may_have_been_imported_before(tmp_path: Path) -> None:
    interpreter = Interpreter(tmp_path, MPLBACKEND=INLINE)
    early = "import pandas, matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot"
    wide = interpreter.run("pandas.DataFrame({f'c{i}': [1] for i in range(40)})", early)
    assert "c15" not in outputs(wide)[0]["data"]["text/html"]
    answer = interpreter.run("import matplotlib.pyplot as plt\nplt.plot([1]);", early.replace("matplotlib.use", "str"))
    assert ["image/png" in output["data"] for output in outputs(answer)] == [True]
    interpreter.end()


def test_displays_have_ids_that_are_used_again_after_clear_output(shared: Interpreter) -> None:
    answer = shared.run(
        "from IPython.display import clear_output\nimport time\ndisplay(1)\ndisplay(2)\nprint('a', flush=True)\n"
        "clear_output(wait=True)\nprint('b', flush=True)\ndisplay(3)\ndisplay(4, display_id='mine')\ndisplay(5)"
    )
    ids = {content["data"]["text/plain"]: content["transient"]["display_id"]
           for kind, content in answer["messages"] if kind == "display_data"}  # fmt: skip
    assert ids["4"] == "mine"
    assert ids["3"].rpartition("-")[2] == "0"
    assert ids["5"].rpartition("-")[2] == "1"
    assert ids.get("1", ids["3"]) == ids["3"]
    other = shared.run("display(1)")["messages"][0][1]["transient"]["display_id"]
    assert other != ids["3"], "ids of different cells differ"


def test_a_widget_is_replaced_by_a_sentence(shared: Interpreter) -> None:
    answer = shared.run("import ipywidgets\ndisplay(ipywidgets.IntSlider())\nipywidgets.HTML('x')")
    for output in outputs(answer):
        assert list(output["data"]) == ["text/plain"]
        assert "A widget made in the background has no counterpart here" in output["data"]["text/plain"]
    assert "IntSlider" in outputs(answer)[0]["data"]["text/plain"]


def test_a_widgets_other_forms_are_kept(shared: Interpreter) -> None:
    answer = shared.run(
        "display({'application/vnd.jupyter.widget-view+json': {}, 'text/html': 'h', 'text/plain': 'p'}, raw=True)"
    )
    assert outputs(answer)[0]["data"] == {"text/html": "h", "text/plain": "p"}


def test_json_is_made_of_rich_output_or_it_is_said_why_not(shared: Interpreter) -> None:
    made = "{'a': numpy.float64(1.5), 'b': numpy.arange(2), 'c': datetime.date(2024, 1, 2), 3: b'x'}"
    show = "display({{'application/json': {}}}, raw=True)"
    answer = shared.run(f"import numpy, datetime\n{show.format(made)}\n{show.format('object()')}")
    data = outputs(answer)[0]["data"]["application/json"]
    assert data == {"a": 1.5, "b": [0, 1], "c": "2024-01-02", "3": "eA=="}
    assert "TypeError" in answer["error"]


def test_nobody_can_be_asked(shared: Interpreter) -> None:
    for cell in ("input('name? ')", "import sys\nsys.stdin.readline()", "breakpoint()"):
        answer = shared.run(cell)
        assert "cannot ask for input" in answer["error"], cell
    assert "no screen for qt" in text(shared.run("%gui qt"), "stderr")
    (Path(shared.log.parent) / "script.py").write_text("loaded = 1\n")
    answer = shared.run("%load script.py")
    assert "cannot change the notebook" in text(answer, "stderr")
    assert "loaded = 1" in text(answer)
    answer = shared.run("exit()")
    assert answer["error"] == "SystemExit()"
    assert error(answer)["ename"] == "SystemExit"
    assert not text(answer, "stderr"), "IPython would advise to use 'exit'"


def test_threads_print_and_display_in_the_cell(shared: Interpreter) -> None:
    answer = shared.run(
        "import threading\ndef work(i):\n    for _ in range(1000): print(f'{i}\\n', end='')\n    display(i)\n"
        "threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()"
    )
    lines = text(answer).split()
    assert sorted(lines) == sorted(str(i) for i in range(4) for _ in range(1000))
    assert sorted(output["data"]["text/plain"] for output in outputs(answer) if "data" in output) == list("0123")


def test_a_thread_that_outlives_its_cell_prints_to_the_log(fresh: Interpreter) -> None:
    fresh.run(
        "import threading, sys\ngate = threading.Event()\nfile = sys.stdout\n"
        "def work():\n    gate.wait()\n    file.write('late and held\\n'); print('late'); display('late display')\n"
        "t = threading.Thread(target=work, daemon=True); t.start(); get_ipython().gate = gate; get_ipython().t = t"
    )
    answer = fresh.run("1", then="(lambda s: (s.gate.set(), s.t.join()))(__import__('IPython').get_ipython())")
    assert [kind for kind, _ in answer["messages"]] == ["execute_result"]
    wait_until(lambda: "late display" in fresh.log.read_text())
    assert "late and held" in fresh.log.read_text()


def test_a_fork_prints_to_the_log_and_does_not_hang(fresh: Interpreter) -> None:
    answer = fresh.run(
        "import os, warnings\nwarnings.simplefilter('ignore')\nprint('parent')\nif (pid := os.fork()) == 0:\n"
        "    print('forked', flush=True); display('shown'); os._exit(0)\nos.waitpid(pid, 0)[1]"
    )
    assert answer["value"] == "0"
    assert text(answer) == "parent\n"
    assert "forked" in fresh.log.read_text()
    assert "shown" in fresh.log.read_text()


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("print('to its end', flush=True)", 0, "to its end"), ("sys.exit()", 0, None), ("sys.exit(3)", 3, None),
        ("exit", 0, None), ("sys.exit('words')", 1, "words"), ("1 / 0", 1, "ZeroDivisionError"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["", "await asyncio.sleep(0)\n"])
def test_a_fork_ends_where_it_leaves_the_cell(
    shared: Interpreter, way: str, end: str, code: int, told: str | None
) -> None:
    # That the loop still hears of the end of a thread.
    waits = "await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.05), 9); assert time.monotonic() - began < 8"
    before = len(shared.log.read_text())
    answer = shared.run(
        "import asyncio, os, sys, time, warnings\nbegan = time.monotonic()\nwarnings.simplefilter('ignore')\n"
        f"{way}print('parent')\npid = os.fork()\nif pid == 0:\n    {end}\n"
        "else:\n    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        + (f"    {waits}\n" if way else "")
        + "    print('end')\ncode if pid else None"
    )
    assert answer["value"] == repr(code)
    assert text(answer) == "parent\nend\n"
    log = shared.log.read_text()[before:]
    assert "SystemExit" not in log
    if told is None:
        assert log == ""
    else:
        assert told in log and log.count("Traceback") == (0 if end.startswith(("print", "sys")) else 1)
    assert shared.run("6 * 7")["value"] == "42"


def test_output_is_handed_on_while_the_cell_runs(shared: Interpreter) -> None:
    # The signal that ends the cell is sent when its output comes.
    answer = shared.run("print('ready')\nwhile True: pass", stop_on="ready")
    assert answer["raised"] == "Stop()"


def test_a_burst_is_joined_and_a_message_is_bounded(shared: Interpreter) -> None:
    answer = shared.run("for i in range(200_000): print(i)")
    assert text(answer) == "".join(f"{i}\n" for i in range(200_000))
    assert len(answer["messages"]) < 100
    assert max(len(content["text"]) for _, content in answer["messages"]) <= 64 * 1024
    wide = shared.run("print('ä' * 100_000)")
    assert max(len(content["text"].encode()) for _, content in wide["messages"]) <= 64 * 1024
    assert text(shared.run("print('a\\udc80b')")) == "a\\udc80b\n"


def test_what_is_beyond_the_limit_is_cut_and_said_to_be(tmp_path: Path) -> None:
    interpreter = Interpreter(tmp_path, "limit=20000")
    answer = interpreter.run("print('x' * 19_990)\nprint('y' * 100)\nprint('z')\ndisplay(1)\n2")
    assert text(answer).startswith("x" * 19_990 + "\n" + "y" * 9)
    assert "z" not in text(answer)
    assert text(answer, "stderr").count("the limit of 20 KB is reached; further text was cut") == 1
    assert [output["data"]["text/plain"] for output in outputs(answer) if "data" in output] == ["1", "2"]
    answer = interpreter.run("for i in range(100): display(i)\nprint('after')\n1 / 0")
    assert "further rich output was cut" in text(answer, "stderr")
    assert text(answer) == "after\n"
    assert error(answer)["ename"] == "ZeroDivisionError"
    answer = interpreter.run(
        "from IPython.display import clear_output\nfor i in range(100):\n    clear_output(wait=True)\n"
        "    print('x' * 1000)\n    display(i)"
    )
    assert text(answer) == "x" * 1000 + "\n", "what was cleared does not count"
    assert not text(answer, "stderr")
    interpreter.end()


def test_an_emit_that_fails_is_heard_at_the_end_and_the_shell_goes_on(fresh: Interpreter) -> None:
    answer = fresh.run("print('bad', flush=True)\nprint('x' * 50_000_000)\nreached = 1", fail_on="bad")
    assert answer["raised"] == "ConnectionError('the other side has gone')"
    assert "reached" in answer["bound"]
    assert text(fresh.run("print('good')")) == "good\n"


def test_asyncio_tasks_do_not_outlive_their_cell(shared: Interpreter) -> None:
    answer = shared.run(
        "import asyncio\nasync def work():\n    try: await asyncio.sleep(600)\n    finally: print('ended')\n"
        "tasks = [asyncio.create_task(work()) for _ in range(2)]\nawait asyncio.sleep(0)"
    )
    assert text(answer) == "ended\nended\n"
    assert "2 asyncio tasks that the cell had started" in text(answer, "stderr")
    assert shared.run("import asyncio\nasyncio.run(asyncio.sleep(0, 5))")["value"] == "5"


# Stopped --------------------------------------------------------------------------------------------------------------

STOPPED = {
    "loop": "print('ready')\nwhile True: pass",
    "sleep": "import time\nprint('ready')\ntime.sleep(600)",
    "except Exception": "print('ready')\nwhile True:\n    try: pass\n    except Exception: pass",
    "in a function": "def f():\n    while True: pass\nprint('ready')\nf()",
    "in a thread's join": "import threading\nt = threading.Thread(target=threading.Event().wait, daemon=True)\n"
                          "t.start()\nprint('ready')\nt.join()",
    "time": "print('ready')\n%time while True: pass",
    "capture": "%%capture --no-stdout\nprint('ready')\nwhile True: pass",
    "script": "%run -i script.py\nprint('went on')",
    "await": "import asyncio\nprint('ready')\nawait asyncio.sleep(600)",
    "in a coroutine": "async def f():\n    while True: pass\nprint('ready')\nawait f()",
    "in another task": "import asyncio\nasync def f():\n    print('ready')\n    while True: pass\n"
                       "t = asyncio.create_task(f())\nawait asyncio.sleep(600)",
    "in a callback": "import asyncio\ndef f():\n    print('ready')\n    while True: pass\n"
                     "asyncio.get_running_loop().call_soon(f)\nawait asyncio.sleep(600)",
    "gather": "import asyncio\nprint('ready')\nawait asyncio.gather(*[asyncio.sleep(600) for _ in range(5)])",
    "repr": "class A:\n    def __repr__(self):\n        print('ready')\n        while True: pass\nA()",
    "figure": "%matplotlib inline\nimport matplotlib.pyplot as plt\nfrom matplotlib.artist import Artist\n"
              "class A(Artist):\n    def draw(self, r):\n        print('ready')\n        while True: pass\n"
              "plt.gca().add_artist(A());",
    "command": "!echo ready; sleep 611.25; true",
    "command's output": "print('ready')\nlines = !sleep 612.25; true",
    "bash": "%%bash\necho ready\nsleep 613.25; true",
    "subprocess": "import subprocess\nprint('ready')\nsubprocess.run(['sleep', '614.25'])",
    "shell": "import subprocess\nprint('ready')\nsubprocess.run('sleep 615.25; true', shell=True)",
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_cell_ends_without_a_word_and_the_shell_goes_on(name: str, shared: Interpreter) -> None:
    (shared.log.parent / "script.py").write_text("print('ready')\nwhile True: pass\n")
    answer = shared.run(STOPPED[name], stop_on="ready")
    assert answer["raised"] == "Stop()"
    assert [output["type"] for output in outputs(answer)] == ["stream"]
    assert not text(answer, "stderr")
    number = re.search(r"61\d\.25", STOPPED[name])
    if number is not None:
        wait_until(lambda: number[0] not in commands())
    answer = shared.run("import asyncio\nprint('good')\nawait asyncio.sleep(0, 6)")
    assert text(answer) == "good\n"
    assert answer["value"] == "6"


def commands() -> str:
    """All command lines of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_text(errors="replace"))
    return "".join(found)


@pytest.mark.parametrize("wait", ["for _ in iter(int, 1): pass", "await asyncio.sleep(600)"])
def test_what_a_stopped_cell_has_to_clean_up_it_does(wait: str, shared: Interpreter) -> None:
    cell = f"import asyncio\nprint('ready')\ntry:\n    {wait}\nfinally:\n    print('cleaned')"
    answer = shared.run(cell, stop_on="ready")
    assert answer["raised"] == "Stop()"
    assert text(answer) == "ready\ncleaned\n"


def test_the_traceback_of_a_stop_has_the_lines_of_the_cell(shared: Interpreter) -> None:
    answer = shared.run("def f():\n    for _ in iter(int, 1): pass\nprint('ready')\nf()", stop_on="ready")
    assert [line for file, line in answer["lines"] if file.startswith("<cell-")] == [4, 2]
    assert not [file for file, _ in answer["lines"] if "IPython" in file]


def test_no_magic_is_loaded_in_a_cell_where_a_stop_could_hit_it(fresh: Interpreter) -> None:
    loaded = "import sys\nlen([name for name in sys.modules if name.startswith('IPython.core.magics.')])"
    first = fresh.run(loaded)["value"]
    fresh.run("%%bash\ntrue")
    fresh.run("%lsmagic")
    fresh.run("%timeit -n 1 -r 1 pass")
    assert fresh.run(loaded)["value"] == first


def test_a_stop_at_any_moment_leaves_the_shell_usable(fresh: Interpreter) -> None:
    """A signal can come whenever a function is called or has returned: at such moments of a run, a few apart."""
    cell = "import sys\nprint('a')\ndisplay(x)\nprint('b', file=sys.stderr)\n%time y = 1\nx"
    moment = swallowed = 0
    while True:
        answer = fresh.run(cell, "x = 1", interrupt=moment)
        assert answer["restored"], moment
        if not answer["was_interrupted"]:
            break
        swallowed += answer.get("raised") != "Stop()"
        after = fresh.run("print('one'); display(2)\nIn[-1]\n%time z = 3\nz", "x = 1")
        assert [output["type"] for output in outputs(after)] == [
            "stream",
            "display_data",
            "stream",
            "execute_result",
        ], moment
        assert after["value"] == "3", moment
        moment += 5
    assert answer["value"] == "1"
    assert moment > 500
    assert swallowed <= moment / 5 / 100, "IPython 8 has an `except: pass` in %time"


# The module -----------------------------------------------------------------------------------------------------------


def test_ipython_is_imported_with_cells_only() -> None:
    code = "import sys, nbqueue.child.main, nbqueue.cells.names_read, nbqueue.cells.capture\n"
    code += "print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_history_of_the_user_is_not_touched(fresh: Interpreter) -> None:
    fresh.run("1")
    assert not list(fresh.log.parent.glob("**/history.sqlite*"))
