"""`%%enqueue` in a real kernel, with a real worker, by the protocol."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import wait_until
from kernels import Kernel, has_text
from test_headless import environment  # noqa: F401 - a fixture

from nbqueue import machine
from nbqueue.cells.messages import area_of

LOAD = """
%load_ext nbqueue
from nbqueue import q
from pathlib import Path
import time

def hold(path):
    while not Path(path).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def kernel(environment, monkeypatch, tmp_path) -> Iterator[Kernel]:  # noqa: F811
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kernel = Kernel()
    kernel.run(f"{LOAD}\n%cd -q {tmp_path}")
    yield kernel
    kernel.run("for batch in q.batches(): batch.cancel()\nfor batch in q.batches(): batch.wait(30).delete()")
    kernel.close()


def has_ended(found: Any) -> bool:
    """The panel of a job has become plain HTML."""
    content = found["content"]
    return (
        found["msg_type"] == "update_display_data"
        and re.search(r"· (finished|failed|canceled)", content["data"].get("text/html", "")) is not None
    )


def enqueue(kernel: Kernel, code: str) -> str:
    """Run a cell that enqueues to its end; its id."""
    id = kernel.execute_to_end(code)
    assert not [content for kind, content in kernel.outputs_of(id) if kind == "error"]
    return id


def natives(kernel: Kernel, id: str) -> list[tuple[str, dict[str, Any]]]:
    """What stands under a cell, the panel and its caption aside."""
    shown = area_of(kernel.outputs_of(id)).outputs
    assert all(kind == "display_data" for kind, _ in shown[:2])
    assert "later:" in shown[0][1]["data"]["text/html"]
    return shown[2:]


def test_what_the_cell_puts_out_appears_under_it_in_order_while_others_run(kernel):
    kernel.run("factor = 3\ndef triple(x): return factor * x\nfrom IPython.display import display, HTML")
    id = enqueue(kernel, (
        "%%enqueue job\nprint('one')\ndisplay(HTML('<b>two</b>'))\n!echo three\nimport sys\n"
        "print('four', file=sys.stderr)\nimport asyncio\nawait asyncio.sleep(0)\nhold('go')\ntriple(5)"
    ))  # fmt: skip
    kernel.heard(has_text("four"))
    other = enqueue(kernel, "print('beside'); Path('go').touch(); time.sleep(0.5); print('after')")
    kernel.heard(has_ended)
    shown = natives(kernel, id)
    assert [kind for kind, _ in shown] == ["stream", "display_data", "stream", "stream", "execute_result"]
    assert shown[0][1]["text"] == "one\n"
    assert shown[1][1]["data"]["text/html"] == "<b>two</b>"
    assert shown[2][1]["text"].replace("\r", "") == "three\n"
    assert shown[3][1] == {"name": "stderr", "text": "four\n"}
    assert shown[4][1]["data"] == {"text/plain": "15"}
    assert natives_of_other(kernel, other) == "beside\nafter\n"
    assert kernel.run("job.result(), job.is_finished") == "(15, True)"


def natives_of_other(kernel: Kernel, id: str) -> str:
    return "".join(content["text"] for kind, content in kernel.outputs_of(id) if kind == "stream")


def test_variables_come_back_between_cells_and_are_unbound_until_then(kernel):
    kernel.run("model = 'former'")
    enqueue(kernel, "%%enqueue training -o model,score\nhold('go')\nmodel = [1, 2]\nscore = len(model)")
    said = kernel.run_wrong("model")
    assert said.startswith("NameError: name 'model' is not defined")
    assert "'model' comes from training (job " in said and "training.wait() waits for it" in said
    said = kernel.run_wrong("%%enqueue\nprint(model)")
    assert "'model' comes from training" in said and "Nothing was queued" in said
    assert kernel.run("len(q.batches())") == "1"
    assert (
        kernel.run(
            "Path('go').touch()\nended = training._wait_for_record(30, None)\ntime.sleep(0.5)\n'model' in globals()"
        )
        == "False"
    ), "not in the middle of a cell"
    kernel.heard(has_text("model and score are here"))
    assert kernel.run("model, score") == "([1, 2], 2)"
    assert kernel.run("training.variables") == "{'model': [1, 2], 'score': 2}"


def test_an_idle_kernel_binds_what_comes(kernel):
    enqueue(kernel, "%%enqueue -o value\nvalue = 7")
    kernel.heard(has_text("value is here"))
    assert kernel.run("value") == "7"


def test_nothing_is_bound_in_the_middle_of_a_cell_that_awaits(kernel):
    enqueue(kernel, "%%enqueue job -o value\nhold('go')\nvalue = 7")
    seen = kernel.run(
        "import asyncio\nseen = []\nPath('go').touch()\n"
        "while not job.is_finished: await asyncio.sleep(0.01)\n"
        "for _ in range(50):\n    await asyncio.sleep(0.01)\n    seen.append('value' in globals())\nany(seen)"
    )
    assert seen == "False"
    assert kernel.run("value") == "7"


def test_waiting_for_the_job_binds_its_variables_in_the_cell_that_waits(kernel):
    enqueue(kernel, "%%enqueue job -o value\ntime.sleep(0.3)\nvalue = 7\n'last'")
    assert kernel.run("job.wait()\nvalue") == "7"
    enqueue(kernel, "%%enqueue job -o value\ntime.sleep(0.3)\nvalue = 8\n'last'")
    assert kernel.run("job.result(), value") == "('last', 8)"
    enqueue(kernel, "%%enqueue job -o value\ntime.sleep(0.3)\nvalue = 9\n'last'")
    assert kernel.run("(await job), value") == "('last', 9)"


def test_the_former_value_is_back_when_the_job_fails_or_is_canceled(kernel):
    kernel.run("value = 'former'")
    enqueue(kernel, "%%enqueue job -o value,fresh\nvalue = fresh = 1\n1 / 0")
    kernel.heard(has_ended)
    assert kernel.run("value, 'fresh' in globals()") == "('former', False)"
    enqueue(kernel, "%%enqueue job -o value\nvalue = 1\nhold('never')")
    said = kernel.run_wrong("value")
    assert "comes from job" in said
    kernel.run("job.cancel(); job.wait(20)")
    assert kernel.run("value, job.get_status()") == "('former', 'canceled')"


def test_a_name_that_was_assigned_meanwhile_is_left_alone(kernel):
    enqueue(kernel, "%%enqueue job -o value\nhold('go')\nvalue = 'theirs'")
    kernel.run("value = 'mine'; Path('go').touch()")
    kernel.heard(has_text("was assigned meanwhile and is left alone"))
    assert kernel.run("value, job.variables['value']") == "('mine', 'theirs')"


def test_what_does_not_come_back_is_named_and_does_not_take_the_rest_with_it(kernel):
    id = enqueue(kernel, "%%enqueue job -o good,lock,absent\nimport threading\ngood, lock = 1, threading.Lock()\nlock")
    assert "does not seem to assign 'absent'" in natives_of_other(kernel, id)
    kernel.heard(has_text("good is here", "the cell did not assign", "cannot come back from the worker"))
    assert kernel.run("good, 'lock' in globals()") == "(1, False)"
    said = kernel.run_wrong("job.result()")
    assert "the value of the last expression" in said and "cannot come back from the worker" in said


def test_an_error_is_shown_with_the_lines_of_the_cell_and_raised_by_result(kernel):
    id = enqueue(kernel, "%%enqueue job\ndef inner():\n    raise KeyError('no such row')\ninner()")
    kernel.heard(has_ended)
    ((kind, content),) = natives(kernel, id)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))
    assert kind == "error" and content["ename"] == "KeyError"
    assert "----> 2     raise KeyError('no such row')" in text and "----> 3 inner()" in text
    panel = area_of(kernel.outputs_of(id)).outputs[1][1]["data"]["text/html"]
    assert "failed after" in panel and "Traceback" not in panel, "it is told once"
    again = kernel.execute_to_end("job.show()")
    assert [kind for kind, _ in natives(kernel, again)] == ["error"]
    panel = area_of(kernel.outputs_of(again)).outputs[1][1]["data"]["text/html"]
    assert "failed after" in panel and "Traceback" not in panel, "also when it is shown again"
    assert kernel.run_wrong("job.result()").startswith("KeyError: 'no such row'")


def test_a_cell_that_is_killed_or_out_of_time_says_so_in_its_panel(kernel):
    enqueue(kernel, "%%enqueue --timeout 1s\nprint('before')\nwhile True:\n    pass")
    kernel.heard(has_text("failed after", "JobTimeout", "job_timeout of 1 seconds"))


@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"])
def test_the_last_words_of_a_cell_whose_process_dies_are_kept(kernel, death):
    enqueue(
        kernel,
        "%%enqueue job\nimport ctypes, os, sys, time\nfor i in range(200):\n    print('line', i)\ntime.sleep(0.3)\n"
        "print('é' * 100_000)\ntime.sleep(0.2)\nfor i in range(200):\n    print('then', i)\n"
        f"print('last words'); sys.stderr.write('to stderr\\n'); print('very last', end='')\n{death}",
    )
    text = kernel.run("job.wait(30)\nprint(job.get_status())\njob.output")
    lines = ast.literal_eval(text).splitlines()
    assert lines[:200] == [f"line {i}" for i in range(200)]
    assert lines[200] == "é" * 100_000
    assert lines[201:404] == [*(f"then {i}" for i in range(200)), "last words", "to stderr", "very last"]


def test_what_is_cleared_is_replaced_and_the_panel_stays(kernel):
    kernel.run("from IPython.display import clear_output, display, HTML")
    id = enqueue(kernel, (
        "%%enqueue job\nprint('before')\nfor i in range(4):\n    clear_output(wait=True)\n    print('frame', i)\n"
        "    display(HTML(f'<i>{i}</i>'))\n    time.sleep(0.3)\nprint('end')"
    ))  # fmt: skip
    kernel.heard(has_ended)
    kernel.run("'what followed it has come'")
    cleared = [kind for kind, _ in kernel.outputs_of(id)].count("clear_output")
    assert cleared <= 2, "once for good, if anything cannot be updated, and once at the end"
    shown = natives(kernel, id)
    assert [(kind, content.get("text") or content["data"]["text/html"]) for kind, content in shown] == [
        ("stream", "frame 3\n"), ("display_data", "<i>3</i>"), ("stream", "end\n"),
    ]  # fmt: skip
    again = enqueue(kernel, "job.show()")
    drawn = natives(kernel, again)
    assert [kind for kind, _ in drawn] == ["stream", "display_data", "stream"]
    assert "finished in" in area_of(kernel.outputs_of(again)).outputs[1][1]["data"]["text/html"]


def test_a_second_run_of_a_cell_is_refused_while_the_first_one_runs_or_replaces_it(kernel):
    cell = "%%enqueue job\nhold('go')"
    enqueue(kernel, cell)
    said = kernel.run_wrong(cell)
    assert "the former run of this cell, job " in said and "%%enqueue --replace" in said
    assert kernel.run("len(q.batches())") == "1"
    enqueue(kernel, cell.replace("job", "second --replace"))
    assert kernel.run("job.wait(20).get_status()") == "'canceled'"
    kernel.run("Path('go').touch(); second.result(20)")


def test_inputs_can_be_named_and_what_cannot_be_sent_is_named_before_anything_is_queued(kernel):
    kernel.run("import threading\nlock = threading.Lock(); rows = (i for i in range(3)); a = 1; b = 2")
    said = kernel.run_wrong("%%enqueue\nwith lock:\n    print(a)")
    assert said.startswith("CannotPickle: variable 'lock'")
    said = kernel.run_wrong("%%enqueue\nlist(rows)")
    assert "variable 'rows'" in said and "generator" in said and "Pass a list" in said
    said = kernel.run_wrong("%%enqueue\nq.enqueue(abs, -1)")
    assert "variable 'q'" in said and "Queue" in said and "`from nbqueue import q` is the queue" in said
    assert kernel.run("len(q.batches())") == "0"
    assert "there is no variable nothing" in kernel.run_wrong("%%enqueue -i a,nothing\na")
    enqueue(kernel, "%%enqueue job -i a\nsorted(name for name in ('a', 'b') if name in globals())")
    assert kernel.run("job.result(30)") == "['a']"
    id = enqueue(kernel, "%%enqueue job -i all\nsorted(name for name in ('a', 'b', 'lock') if name in globals())")
    assert re.search(r"lock, .*rows cannot be sent, and stay here", natives_of_other(kernel, id))
    assert kernel.run("job.result(30)") == "['a', 'b']"


def test_functions_of_the_notebook_see_what_the_cell_assigns(kernel):
    kernel.run("level = 1\ndef read(): return level")
    enqueue(kernel, "%%enqueue job\nlevel = 5\nread()")
    assert kernel.run("job.result(30), level") == "(5, 1)"


def test_a_cell_reads_a_file_that_the_notebook_wrote(kernel):
    kernel.run("import pickle\nclass Model:\n    a = 7\nPath('model').write_bytes(pickle.dumps(Model()))")
    enqueue(kernel, "%%enqueue job -o b\nwith open('model', 'rb') as file:\n    b = pickle.load(file).a")
    kernel.run("job.wait()")
    assert kernel.run("b") == "7"


def test_a_job_shows_what_it_displayed(kernel):
    kernel.run("def draw(n):\n    display({'text/html': f'<i>{n}</i>', 'text/plain': 'an n'}, raw=True)\n    return n")
    id = enqueue(kernel, "q.enqueue(draw, 7).wait().show()")
    assert [
        content["data"]["text/html"]
        for kind, content in kernel.outputs_of(id)
        if kind == "display_data" and content["data"]["text/plain"] == "an n"
    ] == ["<i>7</i>"]
    id = enqueue(kernel, "batch = q.map(draw, [1, 2], progress=False)\nbatch.wait()\nbatch.rich_output()[1]")
    assert [content["data"]["text/html"] for kind, content in kernel.outputs_of(id) if kind == "execute_result"] == [
        "<i>2</i>"
    ]


def test_a_widget_is_replaced_by_a_sentence(kernel):
    id = enqueue(
        kernel, "%%enqueue job\nimport ipywidgets\nfrom IPython.display import display\ndisplay(ipywidgets.IntSlider())"
    )
    kernel.heard(has_ended)
    ((_, content),) = natives(kernel, id)
    assert "A widget made in the background has no counterpart here" in content["data"]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in content["data"]


def test_a_progress_bar_is_kept_in_a_few_messages(kernel):
    enqueue(kernel, "%%enqueue job\nfrom tqdm import tqdm\nfor i in tqdm(range(20)): time.sleep(0.1)")
    kernel.run("job.wait(30)")
    assert "20/20" in kernel.run("job.output")
    kept = int(kernel.run("q.connection.xlen(q.store.key(f'batch:{job.batch.id}:shown'))"))
    assert kept <= 3


def test_wait_waits_and_a_failure_stops_the_notebook(kernel):
    enqueue(kernel, "%%enqueue --wait -o value\nvalue = 3")
    assert kernel.run("value") == "3"
    said = kernel.run_wrong("%%enqueue --wait\nprint('before')\n1 / 0")
    assert re.search(r"JobFailed: job .* failed: ZeroDivisionError: division by zero", said)


def test_after_a_restart_the_job_goes_on_and_show_draws_it(kernel, tmp_path):
    enqueue(
        kernel, "%%enqueue job -o value\nprint('before the restart')\nhold('go')\nprint('after it')\nvalue = 9\nvalue"
    )
    kernel.heard(has_text("before the restart"))
    kernel.restart()
    kernel.run("from nbqueue import q\njob = q.last()[0]")
    id = enqueue(kernel, "job.show()")
    (tmp_path / "go").touch()
    kernel.heard(has_ended)
    text = "".join(content["text"] for kind, content in natives(kernel, id) if kind == "stream")
    assert text == "before the restart\nafter it\n"
    assert kernel.run("job.result(), job.variables") == "(9, {'value': 9})"


def test_a_retry_makes_the_panel_live_again(kernel, tmp_path):
    id = enqueue(
        kernel,
        "%%enqueue job\nprint('first' if not Path('go').exists() else 'second')\nhold('go')\n"
        "if not Path('fixed').exists(): 1 / 0",
    )
    kernel.run("Path('go').touch(); job.wait(30);")
    kernel.heard(has_ended)
    kernel.run("Path('fixed').touch(); job.retry()")
    kernel.heard(lambda found: has_ended(found) and "finished" in found["content"]["data"]["text/html"])
    kernel.run("'what followed it has come'")
    assert natives(kernel, id) == [("stream", {"name": "stdout", "text": "second\n"})]


def test_what_a_former_run_has_put_out_goes_although_a_retry_puts_nothing_out(kernel, tmp_path):
    id = enqueue(
        kernel,
        "%%enqueue job\nif not Path('fixed').exists(): print('first'); hold('go'); 1 / 0",
    )
    kernel.heard(has_text("first"))
    kernel.run("Path('go').touch(); job.wait(30);")
    kernel.heard(has_ended)
    assert kernel.run("'first' in job.output, 'ZeroDivisionError' in job.output") == "(True, True)"
    kernel.run("Path('fixed').touch(); job.retry()")
    kernel.heard(lambda found: has_ended(found) and "finished" in found["content"]["data"]["text/html"])
    assert kernel.run("job.output") == "''"
    assert natives(kernel, id) == []


def test_the_magic_documents_itself_and_refuses_nonsense(kernel):
    assert "is not the name of a variable" in kernel.run_wrong("%%enqueue 3x\n1")
    assert "cannot be both" in kernel.run_wrong("%%enqueue a -o a\na = 1")
    assert "invalid syntax" in kernel.run_wrong("%%enqueue\n1 +")
    assert kernel.run("len(q.batches())") == "0"
    assert "former values again" in kernel.run("get_ipython().find_magic('enqueue', 'cell').__doc__")


def test_several_jobs_of_one_cell_are_not_its_former_runs(kernel):
    kernel.run("for i in (1, 2):\n    get_ipython().run_cell_magic('enqueue', f'job{i}', f'hold(\"go\"); {i}')")
    assert kernel.run("Path('go').touch(); job1.result(30), job2.result(30)") == "(1, 2)"


def test_options_can_be_given_again(kernel):
    kernel.run("a, b = 1, 2")
    enqueue(kernel, "%%enqueue job -i a -i b -o c -o d --label 'two words'\nc, d = a, b")
    assert kernel.run("job.wait(30); c, d, job.batch.label") == "(1, 2, 'two words')"


def test_what_is_changed_in_place_comes_back_without_a_warning(kernel):
    kernel.run("rows = [1]")
    id = enqueue(kernel, "%%enqueue job -o rows\nrows.append(2)")
    assert "assign" not in natives_of_other(kernel, id)
    assert kernel.run("job.wait(30); rows") == "[1, 2]"


def test_mistakes_are_told_in_a_line(kernel):
    for cell, words in [
        ("%%enqueue\nOut[1]", "the cell reads Out, which stays here"),
        ("%%enqueue --timeout 0\n1", "seconds above 0 are accepted"),
        ("%%enqueue class\n1", "'class' is not the name of a variable"),
        ("%%enqueue -i absent\n1", "there is no variable absent"),
    ]:
        said = kernel.run_wrong(cell)
        assert said.startswith("UsageError") and words in said and "Traceback" not in said
    said = kernel.run_wrong("%%enqueue\nx = 1\n1 +")
    assert said.startswith("SyntaxError: invalid syntax") and "line 2" in said
    assert "nothing was queued" in said and "Traceback" not in said
    assert kernel.run("len(q.batches())") == "0"


def test_the_last_result_and_modules_inside_packages_go_along(kernel):
    kernel.run("import xml.dom.minidom, sys\n6 * 7")
    enqueue(kernel, "%%enqueue job\n_, xml.dom.minidom.parseString('<a/>').documentElement.tagName")
    assert kernel.run("job.result(30)") == "(42, 'a')"


def test_a_cell_runs_in_a_fresh_interpreter_where_the_notebook_is(kernel, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    (there / "beside.py").write_text("name = 'beside'")
    look = "Path.cwd(), os.environ.get('LEFT'), 'left' in sys.path, sys.getrecursionlimit()"
    kernel.run(f"import os, sys\nsys.path.append({str(there)!r})\nimport beside\nbefore = {look}")
    pids = set()
    for version in range(3):  # two children
        (there / "beside.py").write_text(f"name = 'version {version}{'!' * version}'")
        enqueue(kernel, "%%enqueue job\n%cd -q /\n%pdb on\nos.environ['LEFT'] = '1'\nsys.path.append('left')\n"
                        "sys.setrecursionlimit(500)\nos.getpid(), beside.name")  # fmt: skip
        pid, name = ast.literal_eval(kernel.run("job.result(30)"))
        assert name == f"version {version}{'!' * version}"
        pids.add(pid)
        enqueue(kernel, f"%%enqueue job\n{look}")
        assert kernel.run("job.result(30) == before") == "True"
        kernel.execute_to_end("%%enqueue job\n1 / 0")
        assert "ZeroDivisionError" in kernel.run("job.wait(30).exc_info")
    assert len(pids) == 3
    for pid in pids:
        wait_until(lambda pid=pid: not machine.is_alive(pid, ""))


def test_a_fork_ends_where_it_leaves_the_cell(kernel):
    for leave, code in (("sys.exit(3)", 3), ("1 / 0", 1), ("print('end')", 0)):
        enqueue(kernel, "%%enqueue job\nimport os, sys\nprint('parent')\npid = os.fork()\n"
                        f"if pid == 0:\n    {leave}\n"
                        "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None")  # fmt: skip
        assert kernel.run("job.result(30)") == f"{code}"
        output = kernel.run("job.output")
        assert output.startswith("'parent\\n") and output.endswith(f"\\n{code}\\n'")
        assert ("ZeroDivisionError" in output, "\\nend\\n" in output) == (code == 1, code == 0)
    enqueue(kernel, "%%enqueue job\n6 * 7")
    assert kernel.run("job.result(30)") == "42"


def test_what_jobs_leave_behind_no_cell_and_no_later_job_finds(kernel):
    kernel.run("import os\ndef leave(_):\n    os.chdir('/')\n    os.environ['LEFT'] = '1'")
    assert kernel.run("q.map(leave, range(40), progress=False).wait(30).done") == "True"
    assert kernel.run("set(q.map(lambda _: Path.cwd(), range(40), progress=False)) == {Path.cwd()}") == "True"
    enqueue(kernel, "%%enqueue job\nos.environ.get('LEFT')")
    assert kernel.run("job.result(30) is None") == "True"


@pytest.mark.parametrize("option", ["-o a b", "-o a,b", "-o a, b", '-o "a, b"', "-o a -o b"])
def test_all_ways_to_name_two_variables_are_the_same(kernel, option):
    enqueue(kernel, f"%%enqueue job {option}\na = 1\nb = 2")
    kernel.run("job.wait(60)")
    assert kernel.run("job.variables") == "{'a': 1, 'b': 2}"


SETTINGS = {
    "random": ("import random\nrandom.seed(5)\nrandom.random()", "random.random()"),
    "numpy's random numbers": ("import numpy as np\nnp.random.seed(5)", "float(np.random.rand())"),
    "how numpy prints": ("import numpy as np\nnp.set_printoptions(precision=2)", "str(np.array([1/3]))"),
    "pandas": ("import pandas as pd\npd.set_option('display.precision', 2)", "str(pd.Series([1/3]))"),
    "matplotlib": (
        "import matplotlib.pyplot as plt\nplt.rcParams['axes.facecolor'] = 'red'",
        "(plt.rcParams['axes.facecolor'], plt.rcParams['lines.linewidth'])",
    ),
    "environment": ("import os\nos.environ['COLOR'] = 'green'", "os.environ['COLOR']"),
    "decimal": ("import decimal\ndecimal.getcontext().prec = 40", "str(decimal.Decimal(1) / 3)"),
    "warnings": (
        "import warnings\nwarnings.filterwarnings('error', message='mine')",
        "[one[0] for one in warnings.filters if 'mine' in str(one)]",
    ),
    "logging": (
        "import logging\nlogging.basicConfig(level='INFO', format='%(levelname)s of mine: %(message)s', force=True)",
        "(logging.root.level, logging.root.handlers[0].formatter._fmt)",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_notebook_go_along(kernel, name):
    for module in ("numpy", "pandas", "matplotlib"):
        if module in SETTINGS[name][0]:
            pytest.importorskip(module)
    setup, shown = SETTINGS[name]
    kernel.run(setup)
    enqueue(kernel, f"%%enqueue job\n{shown}")
    found = kernel.run("job.result(timeout=60)")
    enqueue(kernel, f"%%enqueue without --no-settings\n{shown}")
    assert kernel.run(f"{shown}") == found, "it is what the cell would have given here"
    assert kernel.run("without.wait(60); without.is_failed or without.result()") != found


def test_environment_variables_that_go_along_are_told_once(kernel):
    kernel.run("import os\nos.environ['COLOR'] = 'green'")
    first = enqueue(kernel, "%%enqueue one\n1")
    second = enqueue(kernel, "%%enqueue two\n2")
    texts = [natives_of_other(kernel, id) for id in (first, second)]
    assert "COLOR (5 characters)" in texts[0]
    assert "COLOR" not in texts[1]


def test_a_task_that_a_cell_starts_without_awaiting_it_ends_with_it(kernel):
    enqueue(kernel, (
        "%%enqueue job\nimport asyncio\nasync def work():\n    await asyncio.sleep(0.1)\n    print('worked')\n"
        "task = asyncio.create_task(work())\nprint('started')"
    ))  # fmt: skip
    kernel.run("job.wait(60)")
    assert kernel.run("job.is_finished") == "True"
    kernel.heard(has_text("worked"))


def test_a_change_in_place_is_told_once(kernel):
    kernel.run("rows = []\nx = 1")
    first = enqueue(kernel, "%%enqueue one\nrows.append(x)\nown = []\nown.append(1)")
    second = enqueue(kernel, "%%enqueue two\nrows.append(x)")
    third = enqueue(kernel, "%%enqueue three -o rows\nrows.append(x)  # brought")
    texts = [natives_of_other(kernel, id) for id in (first, second, third)]
    assert "With -o rows the change comes back" in texts[0]
    assert "own" not in texts[0]
    assert "the change comes back" not in texts[1] + texts[2]
    kernel.run("three.wait(60)")
    assert kernel.run("rows") == "[1]"


def test_another_backend_of_matplotlib_does_not_fail_a_cell(kernel):
    pytest.importorskip("matplotlib")
    id = enqueue(kernel, "%%enqueue job\n%matplotlib qt\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    kernel.run("job.wait(60)")
    assert kernel.run("job.is_finished") == "True"
    kernel.heard(lambda found: "image/png" in found["content"].get("data", {}))
    assert "its figures come inline" in natives_of_other(kernel, id)


def test_what_programs_and_c_code_write_is_shown_under_the_cell_in_order(kernel):
    id = enqueue(kernel, (
        "%%enqueue job\nimport os, subprocess\nprint('one')\nos.system('echo two')\nprint('three')\n"
        "subprocess.run(['echo', 'four'])\nos.write(1, b'five\\n')\nprint('six')"
    ))  # fmt: skip
    kernel.heard(has_ended)
    texts = [content["text"] for kind, content in natives(kernel, id) if kind == "stream"]
    assert "".join(texts).split() == ["one", "two", "three", "four", "five", "six"]
