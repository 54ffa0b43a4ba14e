"""Settings of the notebook on which results depend go along with jobs, and end with their batch."""

from __future__ import annotations

import textwrap

import pytest
from conftest import run_as_notebook

HEAD = """
import os, sys, warnings, decimal, random
from nbqueue import Queue
q = Queue(namespace=sys.argv[1], progress=False)
def both(function):
    return q.enqueue(function).result(timeout=30), q.map(lambda x: function(), [1, 2]).results(timeout=30)
"""

ROWS = {
    "environment": (
        "os.environ['COLOR'] = 'green'\nos.environ.pop('HOME')\n"
        "def work(): return os.environ.get('COLOR'), os.environ.get('HOME')",
        ("green", None),
    ),
    "decimal": ("decimal.getcontext().prec = 50\ndef work(): return len(str(decimal.Decimal(1) / 3))", 52),
    "traps of decimal": (
        "decimal.getcontext().traps[decimal.DivisionByZero] = False\ndef work(): return str(decimal.Decimal(1) / 0)",
        "Infinity",
    ),
    "warnings": (
        "warnings.simplefilter('error')\ndef work():\n    try:\n        warnings.warn('careful')\n"
        "    except UserWarning as error:\n        return str(error)",
        "careful",
    ),
    "one warning": (
        "warnings.filterwarnings('error', message='care.*')\ndef work():\n    try:\n        warnings.warn('careful')\n"
        "    except UserWarning as error:\n        return str(error)",
        "careful",
    ),
    "mpmath": (
        "import mpmath\nmpmath.mp.dps = 50\ndef work(): return len(str(mpmath.mpf(1) / 3)), mpmath.mp.dps",
        (52, 50),
    ),
    "mp of mpmath": (
        "from mpmath import mp\nmp.dps = 50\ndef work(): return len(str(mp.mpf(1) / 3)), mp.dps",
        (52, 50),
    ),
    "numpy": (
        "import numpy as np\nnp.seterr(divide='raise')\ndef work():\n    try:\n        np.float64(1) / np.float64(0)\n"
        "    except FloatingPointError:\n        return 'raised'",
        "raised",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_setting_goes_along(q, worker, namespace, name):
    if "mpmath" in name:
        pytest.importorskip("mpmath")
    source, expected = ROWS[name]
    run = run_as_notebook(HEAD + textwrap.dedent(source) + "\nprint(repr(both(work)))", namespace)
    assert run.stdout.strip() == repr((expected, [expected] * 2)), run.stderr


def test_it_ends_with_its_batch(q, workers, namespace):
    workers.start(children=1)

    def see():
        import decimal
        import os
        import warnings

        return (
            "COLOR" in os.environ,
            decimal.getcontext().prec,
            [str(one) for one in warnings.filters if one[0] == "error"],
        )

    before = q.enqueue(see).result(timeout=20)
    source = (
        "os.environ['COLOR'] = 'green'\ndecimal.getcontext().prec = 50\nwarnings.simplefilter('error')\n"
        "def work(): return os.environ['COLOR'], decimal.getcontext().prec\nprint(both(work))"
    )
    run = run_as_notebook(HEAD + source, namespace)
    assert run.stdout.strip() == "(('green', 50), [('green', 50), ('green', 50)])", run.stderr
    assert q.enqueue(see).result(timeout=20) == before


def test_settings_that_change_between_single_calls_are_those_of_each(q, worker, namespace):
    source = """
        jobs = []
        for color in ("red", "green", "red"):
            os.environ["COLOR"] = color
            jobs.append(q.enqueue(os.getenv, "COLOR"))
        print([job.result(timeout=30) for job in jobs])
        """
    run = run_as_notebook(HEAD + textwrap.dedent(source), namespace)
    assert run.stdout.strip() == "['red', 'green', 'red']", run.stderr


def test_the_environment_does_not_go_to_a_server_that_others_may_read(q, workers, namespace):
    from nbqueue.server import embedded

    url = embedded.ensure().url
    workers.start("--url", url)
    source = f"""
        os.environ["TOKEN"] = "secret"
        decimal.getcontext().prec = 50
        def work(): return os.environ.get("TOKEN"), decimal.getcontext().prec
        other = Queue(connection={url!r}, namespace=sys.argv[1], progress=False)
        print(other.enqueue(work).result(timeout=30))
        """
    run = run_as_notebook(HEAD + textwrap.dedent(source), namespace)
    assert run.stdout.strip() == "(None, 50)", run.stderr
