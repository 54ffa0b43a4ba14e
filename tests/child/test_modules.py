"""Local modules travel with the jobs: every job runs the version that was there when it was submitted."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import pytest
from conftest import run_as_notebook

from nbqueue import Queue, errors


def write(directory, **files):
    for name, text in files.items():
        path = directory / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def notebook(directory, namespace, source, *arguments):
    """Run a script in a directory, as a notebook that lies there runs."""
    head = """
        import importlib, os, sys
        sys.path.insert(0, "")
        from nbqueue import Queue
        q = Queue(namespace=sys.argv[1], progress=False)
        """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(source), namespace, *arguments],
        capture_output=True, text=True, timeout=60, cwd=directory,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_an_edited_module_is_picked_up_by_the_next_batch_and_all_jobs_of_one_run_one_version(
    q, worker, namespace, tmp_path
):
    write(
        tmp_path, helpers="def version(x): return 1", more="import helpers\ndef twice(x): return 2 * helpers.version(x)"
    )
    printed = notebook(
        tmp_path, namespace,
        """
        import helpers, more, time
        found, batches = [], []
        for version in range(1, 6):
            with open("helpers.py", "w") as file:
                file.write(f"def version(x): return {version}")
            importlib.reload(helpers)
            found.append(set(q.map(helpers.version, range(20)).results(timeout=30)))
            found.append(set(q.map(lambda x: more.twice(x), range(20)).results(timeout=30)))
            found.append({q.enqueue(lambda: helpers.version(0)).result(timeout=30)})
        print(found == [{n} for version in range(1, 6) for n in (version, 2 * version, version)], found)
        """,
    )  # fmt: skip
    assert printed.startswith("True"), printed


def test_jobs_that_were_submitted_before_an_edit_keep_their_version(q, workers, namespace, tmp_path):
    write(tmp_path, helpers="version = 1")
    source = """
        import helpers
        for version in (1, 2, 3):
            with open("helpers.py", "w") as file:
                file.write(f"version = {version}")
            print(q.map(lambda x: helpers.version, range(6)).id)
        """
    ids = notebook(tmp_path, namespace, source).split()
    (tmp_path / "helpers.py").unlink()
    workers.start()
    assert [set(q.batch(id).results(timeout=20)) for id in ids] == [{1}, {2}, {3}]
    sources = [q.batch(id).local_modules for id in ids]
    assert [files["helpers"] for files in sources] == ["version = 1", "version = 2", "version = 3"]


def test_two_projects_with_a_module_of_one_name_run_their_own(q, workers, namespace, tmp_path):
    workers.start(children=1)
    for name in ("one", "two"):
        write(tmp_path / name, helpers=f"name = {name!r}\nclass Thing:\n    name = {name!r}")
    source = """
        import helpers
        print(set(q.map(lambda x: (helpers.name, helpers.Thing().name), range(40)).results(timeout=30)))
        """
    for name in ("one", "two", "one"):
        assert notebook(tmp_path / name, namespace, source) == f"{{({name!r}, {name!r})}}"


def test_batches_of_two_projects_that_take_turns_run_their_own(q, workers, namespace, tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, helpers=f"name = {name!r}")
    source = """
        import helpers
        def work(x):
            import time
            time.sleep(0.01)
            return helpers.name
        print(q.map(work, range(60)).id)
        """
    ids = [notebook(tmp_path / name, namespace, source) for name in ("one", "two")]
    workers.start()
    assert [set(q.batch(id).results(timeout=30)) for id in ids] == [{"one"}, {"two"}]


def test_a_package_in_front_of_an_installed_one_is_the_one_that_runs(q, workers, namespace, tmp_path):
    workers.start(children=1)
    write(tmp_path / "mine", tqdm__in____init__="version = 'mine'", click="version = 'mine'")
    source = """
        import sys
        sys.path.insert(0, "mine")
        for name in ("tqdm", "click"):
            sys.modules.pop(name, None)
        import tqdm, click
        print(set(q.map(lambda x: (tqdm.version, click.version), range(20)).results(timeout=30)))
        """
    installed = lambda: importlib.import_module("click").__file__  # noqa: E731
    before = q.enqueue(installed).result(timeout=20)
    assert "site-packages" in before
    assert notebook(tmp_path, namespace, source) == "{('mine', 'mine')}"
    assert q.enqueue(installed).result(timeout=20) == before


PACKAGE = {
    "pack__in____init__": "from .a import one\nfrom . import b",
    "pack__in__a": "from . import b\nfrom .sub.deep import depth\ndef one(): return b.two() - 1 + depth - 3",
    "pack__in__b": "def two():\n    from pack.late import three\n    return three() - 1",
    "pack__in__late": "def three(): return 3",
    "pack__in__sub__in____init__": "",
    "pack__in__sub__in__deep": "from ..b import two\ndepth = 3\nclass Thing:\n    x = 3",
    "space__in__part": "value = 5",
    "single": "import sibling\ndef work():\n    import later\n    return sibling.x + later.y",
    "sibling": "x = 10",
    "later": "import laterest\ny = laterest.z",
    "laterest": "z = 20",
    "only_inside": "w = 7",
}


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("lambda: pack.one()", 1),
        ("pack.one", 1),
        ("lambda: pack.sub.deep.Thing().x", 3),
        ("lambda: space.part.value", 5),
        ("lambda: single.work()", 30),
        ("single.work", 30),
        ("inside", 7),
        ("lambda: importlib.import_module('pack.late').three()", 3),
        ("lambda: importlib.reload(sibling).x", 10),
        ("lambda: [pack.sub.deep.Thing.x for _ in range(1)][0]", 3),
        ("lambda: __import__('inspect').getsource(pack.one).strip()[:3] == 'def' and 1", 1),
        ("lambda: loaded.a + loaded.b", 3),
    ],
)
def test_what_a_module_imports_travels_too(q, workers, namespace, tmp_path, function, value):
    """The worker is started elsewhere, and finds none of these files where they were."""
    workers.start(children=1)
    write(tmp_path / "project", **PACKAGE)
    (tmp_path / "elsewhere.py").write_text("a = 1\nb = 2\n")
    source = f"""
        import importlib.util, shutil
        import pack, space.part, single, sibling
        spec = importlib.util.spec_from_file_location("loaded", "../elsewhere.py")
        loaded = sys.modules["loaded"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        def inside():
            import only_inside
            return only_inside.w
        print(q.enqueue({function}).id)
        """
    id = notebook(tmp_path / "project", namespace, source)
    assert q.fetch_job(id).result(timeout=20) == value


def test_what_an_edited_module_imports_now_travels_with_the_next_submission(q, namespace, tmp_path):
    write(tmp_path, helpers="x = 1", new="y = 2")
    printed = notebook(
        tmp_path, namespace,
        """
        import helpers
        found = [sorted(q.map(lambda x: helpers.x, [1]).local_modules)]
        with open("helpers.py", "w") as file:
            file.write("import new\\nx = new.y")
        found.append(sorted(q.map(lambda x: helpers.x, [1]).local_modules))
        print(found)
        """,
    )  # fmt: skip
    assert printed == "[['helpers'], ['helpers', 'new']]"


def test_modules_are_not_needed_where_they_were(q, workers, namespace, tmp_path):
    write(tmp_path / "project", **PACKAGE)
    source = """
        import pack, single
        print(q.map(lambda x: (pack.one(), single.work()), range(3)).id)
        """
    id = notebook(tmp_path / "project", namespace, source)
    (tmp_path / "project").rename(tmp_path / "moved")
    workers.start()
    assert q.batch(id).results(timeout=20) == [(1, 30)] * 3


def test_an_instance_of_a_local_class_goes_and_comes_back_as_such(q, worker, namespace, tmp_path):
    write(tmp_path, helpers="class Thing:\n    def __init__(self, x): self.x = x")
    printed = notebook(
        tmp_path, namespace,
        """
        from helpers import Thing
        import helpers
        back = q.map(lambda thing: Thing(thing.x + 1), [Thing(1), Thing(2)]).results(timeout=30)
        print([type(thing) is Thing and thing.x for thing in back], Thing is helpers.Thing)
        """,
    )  # fmt: skip
    assert printed == "[2, 3] True"


def test_the_state_of_a_module_lasts_as_long_as_its_batch(q, workers, namespace, tmp_path):
    workers.start(children=1)
    write(tmp_path, helpers="seen = []\ndef add(x):\n    seen.append(x)\n    return len(seen)")
    printed = notebook(
        tmp_path, namespace,
        "import helpers\nfor _ in range(2): print(q.map(helpers.add, range(3)).results(timeout=30))",
    )  # fmt: skip
    assert printed == "[1, 2, 3]\n[1, 2, 3]"


def test_a_traceback_shows_the_module_as_it_ran(q, worker, namespace, tmp_path):
    write(tmp_path, helpers="def work(x):\n    raise ValueError('as it ran')  # first")
    printed = notebook(
        tmp_path, namespace,
        """
        import helpers
        job = q.enqueue(helpers.work, 1)
        with open("helpers.py", "w") as file:
            file.write("\\n\\n\\n# something else")
        job.wait(timeout=30)
        print(job.exc_info)
        """,
    )  # fmt: skip
    assert "raise ValueError('as it ran')  # first" in printed


def test_modules_can_be_kept_here_and_installed_ones_sent(q, workers, namespace, tmp_path):
    write(tmp_path / "project", helpers="x = 1", private="y = 2")
    source = """
        import helpers, private, click
        for choice in (True, False, ["-private"], ["click"]):
            other = Queue(namespace=sys.argv[1], progress=False, local_modules=choice)
            names = other.map(lambda x: helpers.x, [1]).local_modules
            print(sorted(names.keys() & {"helpers", "private", "click"}))
        """
    printed = notebook(tmp_path / "project", namespace, source)
    assert printed.splitlines() == [
        "['helpers', 'private']", "[]", "['helpers']", "['click', 'helpers', 'private']",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", ["helpers", [1], ["-"]])
def test_a_choice_of_modules_that_makes_no_sense_is_refused(choice):
    with pytest.raises(errors.UsageError, match="local_modules="):
        Queue(local_modules=choice)


def test_a_job_runs_in_the_directory_of_its_submission_also_after_chdir(q, worker, namespace, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    source = """
        for name in ("one", "two"):
            os.chdir(os.path.join(sys.argv[2], name))
            print(os.path.basename(q.enqueue(os.getcwd).result(timeout=30)))
        """
    assert notebook(tmp_path, namespace, source, str(tmp_path)) == "one\ntwo"


def test_a_package_that_is_compiled_in_part_stays_whole_where_it_is(q, worker, namespace, tmp_path):
    write(tmp_path, mixed__in____init__="x = 1", mixed__in__more="y = 2", plain="z = 3")
    (tmp_path / "mixed" / "_fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    printed = notebook(
        tmp_path, namespace,
        """
        import mixed, plain
        batch = q.map(lambda x: (mixed.x, plain.z), [1])
        print(batch.results(timeout=30), sorted(batch.local_modules), batch.description.compiled)
        def work():
            import mixed._fast
        job = q.enqueue(work)
        job.wait(timeout=30)
        print("is compiled, and only Python sources travel" in job.exc_info or job.exc_info)
        """,
    )  # fmt: skip
    assert printed.splitlines() == ["[(1, 3)] ['plain'] ('mixed._fast',)", "True"]


def test_what_a_job_submits_runs_with_the_modules_of_the_job(q, workers, namespace, tmp_path):
    workers.start()
    write(tmp_path, helpers="version = 1")
    printed = notebook(
        tmp_path, namespace,
        """
        import helpers
        def outer(namespace):
            from nbqueue import Queue
            seen = helpers.version
            with open("helpers.py", "w") as file:
                file.write("version = 2")
            return seen, Queue(namespace=namespace, progress=False).enqueue(lambda: helpers.version).id
        seen, id = q.enqueue(outer, sys.argv[1]).result(timeout=30)
        print(seen, q.fetch_job(id).result(timeout=30), q.enqueue(lambda: helpers.version).result(timeout=30))
        """,
    )  # fmt: skip
    assert printed == "1 1 2"


def test_a_missing_data_file_is_explained(q, worker, namespace, tmp_path):
    write(tmp_path, helpers="def read():\n    return open('missing.csv')")
    printed = notebook(
        tmp_path, namespace,
        """
        import helpers
        job = q.enqueue(helpers.read)
        job.wait(timeout=30)
        print(job.exc_info)
        """,
    )  # fmt: skip
    assert "missing.csv" in printed
    assert f"ran in {tmp_path}" in printed
    assert "data files do not travel" in printed


def test_what_a_notebook_does_not_import_costs_it_nothing(q, worker, namespace):
    run = run_as_notebook(
        """
        import sys
        from nbqueue import Queue
        q = Queue(namespace=sys.argv[1], progress=False)
        print(q.map(abs, [-1]).local_modules)
        """,
        namespace,
    )
    assert run.stdout == "{}\n", run.stderr
