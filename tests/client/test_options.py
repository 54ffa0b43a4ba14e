"""Options: defined once, validated, and kept apart from the function's own arguments."""

from __future__ import annotations

import pytest

from nbqueue import errors
from nbqueue.client import options as options_
from nbqueue.client.options import JobOptions, Options


def fetch(url, timeout=1, meta=None, priority=0):
    return url, timeout, meta, priority


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(options_, "_told", set())


def test_each_option_is_defined_and_described_once():
    assert JobOptions.of({}) == JobOptions()
    for name in Options.__annotations__:
        value = {"at_front": True, "meta": {"a": 1}, "priority": 2.0, "share": True, "seed": 3, "retry": 2, "repeat": 2,
                 "on_success": print, "on_failure": print, "on_stopped": print, "depends_on": "k3f9x2"}  # fmt: skip
        needs = {"job_id": "7d"} if name == "unique" else {}
        chosen = JobOptions.of({**needs, name: value.get(name, name == "unique" or "7d")})
        apart = chosen.due, chosen.callbacks, chosen.depends.on
        assert (chosen, *apart) != (JobOptions(at_front=name == "result_ttl"), "", (), ()), name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"job_timeout": 0}, "job_timeout=0"),
        ({"job_timeout": "soon"}, "'90s', '5m'"),
        ({"result_ttl": -2}, "result_ttl=-2"),
        ({"failure_ttl": "soon"}, "failure_ttl='soon'"),
        ({"priority": "high"}, "priority='high'"),
        ({"jobtimeout": 3}, "jobtimeout: not an option"),
    ],
)
def test_what_makes_no_sense_is_named(q, given, words):
    with pytest.raises(errors.UsageError, match=words):
        JobOptions.of(given)
    with pytest.raises(errors.UsageError, match=words):
        q.map(abs, [1], **given)
    with pytest.raises(errors.UsageError, match=words):
        q.options(**given)


def test_all_arguments_behind_options_are_the_functions_own(q, worker):
    chosen = q.options(job_timeout=60, label="mine")
    job = chosen.enqueue(fetch, "u", timeout=3, meta="m", priority=9)
    assert job.result(timeout=20) == ("u", 3, "m", 9)
    assert (job.batch.label, job.batch.description.timeout) == ("mine", 60)
    assert chosen.map(fetch, ["a"]).results(timeout=20) == [("a", 1, None, 0)]
    assert chosen.starmap(fetch, [("a", 2)]).results(timeout=20) == [("a", 2, None, 0)]
    batch = chosen.enqueue_many([(fetch, ("a",), {"meta": {}})])
    assert batch.results(timeout=20) == [("a", 1, {}, 0)]
    assert batch.description.timeout == 60


def test_without_a_label_calls_with_options_share_a_batch(q):
    assert q.options(job_timeout=60).enqueue(abs, 1).batch == q.enqueue(abs, 2, job_timeout=60).batch
    assert q.options(job_timeout=61).enqueue(abs, 1).batch != q.enqueue(abs, 2).batch


def test_an_argument_that_both_claim_is_told_once_and_taken_for_the_option(q):
    with pytest.warns(errors.OptionWarning, match=r"fetch\(\) has a parameter 'priority'.*q\.options"):
        job = q.enqueue(fetch, "u", priority=2)
    assert job.kwargs == {}
    q.enqueue(fetch, "u", priority=2)  # a second warning would be an error
    q.enqueue(fetch, "u", timeout=2)  # no option
    q.enqueue(pow, 2, 3, job_timeout=3)


def test_a_function_and_its_arguments_may_be_called_as_ours_are(q, worker):
    def echo(func, iterable=None, self=None):
        return func, iterable, self

    assert q.enqueue(echo, func=1, iterable=2, self=3).result(timeout=20) == (1, 2, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("job_timout", "job_timout: not an option. Did you mean 'job_timeout'?"),
        ("timeout", "Did you mean 'job_timeout'?"),
        ("result_tll", "Did you mean 'result_ttl'?"),
        ("progres", "Did you mean 'progress'?"),
        ("zzz", "zzz: not an option$"),
    ],
)
def test_an_option_that_there_is_none_of_is_refused_with_one_that_is_close(q, given, words):
    words = words.replace("?", r"\?")
    for submit in (
        lambda **options: q.map(abs, [1], **options),
        lambda **options: q.starmap(abs, [(1,)], **options),
        lambda **options: q.enqueue_many([(abs, (1,))], **options),
        q.options,
    ):
        with pytest.raises(errors.UsageError, match=words):
            submit(**{given: 3})
    assert q.enqueue(fetch, "u", timeout=3).kwargs == {"timeout": 3}  # the function's own


def test_where_no_progress_is_shown_none_is_proposed(q):
    with pytest.raises(errors.UsageError, match="progress: not an option$"):
        JobOptions.of({"progress": False})
