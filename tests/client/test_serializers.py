"""`Queue(serializer=...)`: what makes bytes of arguments and results in the place of cloudpickle."""

from __future__ import annotations

import collections
import json
import math
import pickle
import sys
import types
import zlib

import cloudpickle
import pytest
from conftest import run_as_notebook, wait_until

from nbqueue import Job, Queue, errors
from nbqueue.payload.records import VERSION
from nbqueue.store.requests import looking


class Reversed:
    """A serializer that is found by its name; what it makes is easy to tell."""

    @staticmethod
    def dumps(value):
        return pickle.dumps(value)[::-1]

    @staticmethod
    def loads(data):
        return pickle.loads(data[::-1])


def packing(level):
    """A serializer that no other process can import: it has to travel."""

    class Packing:
        def __init__(self):
            self.level = level

        def dumps(self, value):
            return bytearray(zlib.compress(repr(value).encode(), self.level))

        def loads(self, data):
            return eval(zlib.decompress(data))

    return Packing()


def kinds(*args, **kwargs):
    return [type(value).__name__ for value in (*args, *kwargs.values())]


def echo(value):
    return value


def double(value, by=2):
    return value * by


@pytest.fixture
def queue(namespace):
    """Makes queues of the test's namespace."""
    made = []

    def make(serializer=None, **options):
        made.append(Queue(namespace=namespace, progress=False, serializer=serializer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


SERIALIZERS = {
    "json": "json",
    "pickle": "pickle",
    "a module": json,
    "a dotted name": "test_serializers.Reversed",
    "a class": Reversed,
    "an object that travels": packing(6),
}


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_every_way_of_submitting_goes_through_it_and_back(queue, worker, serializer):
    q = queue(serializer)
    assert q.enqueue(double, 3, by=5).result(timeout=30) == 15
    assert q.enqueue(double, "ab").result(timeout=30) == "abab"
    assert q.enqueue(double, [1], label="named").result(timeout=30) == [1, 1]
    assert q.enqueue(kinds).result(timeout=30) == []
    assert q.map(double, range(300)).results() == [2 * n for n in range(300)]
    assert q.map(double, iter([1, [2]]), kwargs={"by": 3}).results() == [3, [2, 2, 2]]
    assert q.map(pow, [2, 3], [10, 2]).results() == [1024, 9]
    assert q.starmap(double, [("a", 3)]).results() == ["aaa"]
    assert q.enqueue_many([(abs, (-1,)), (sorted, ("ba",), {"reverse": True})]).results() == [1, ["b", "a"]]
    assert q.enqueue("math.sqrt", 16).result(timeout=30) == 4


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_who_reads_need_not_be_told(queue, namespace, worker, serializer):
    job = queue(serializer).enqueue(double, [1, "a"], by=2)
    batch = queue(serializer).map(double, [[1], [2]]).wait(30)
    assert job.wait(30).is_finished
    other = queue()
    found = Job.fetch(job.id, connection=other)
    assert found.result() == found.return_value() == found.latest_result().return_value == [1, "a", 1, "a"]
    assert (found.args, found.kwargs) == (([1, "a"],), {"by": 2})
    assert found.debug() == [1, "a", 1, "a"]
    assert other.batch(batch.id).results() == [[1, 1], [2, 2]]
    assert sorted(each.return_value() for each in other.batch(batch.id).as_completed()) == [[1, 1], [2, 2]]
    assert list(other.batch(batch.id).to_frame()["args"]) == [([1],), ([2],)]


def test_another_process_reads_what_one_of_the_notebook_made(namespace, worker):
    told = run_as_notebook(
        """
        import sys
        from nbqueue import Queue

        class Point:
            def __init__(self, x): self.x = x

        class Points:
            @staticmethod
            def dumps(value):
                def of(part):
                    return {"point": part.x} if isinstance(part, Point) else part
                import json
                return json.dumps(value, default=of)
            @staticmethod
            def loads(data):
                import json
                return json.loads(data, object_hook=lambda found: Point(found["point"]) if "point" in found else found)

        def move(point):
            assert isinstance(point, Point), type(point)
            return Point(point.x + 1)

        q = Queue(namespace=sys.argv[1], progress=False, serializer=Points)
        job = q.enqueue(move, Point(1))
        result = job.result(timeout=30)
        assert isinstance(result, Point) and result.x == 2
        assert [point.x for point in q.map(move, [Point(n) for n in range(50)]).results()] == list(range(1, 51))
        print(job.id)
        """,
        namespace,
    )
    assert told.returncode == 0, told.stderr
    read = run_as_notebook(
        """
        import sys
        from nbqueue import Queue
        job = Queue(namespace=sys.argv[1], progress=False).fetch_job(sys.argv[2])
        print(type(job.result()).__name__, job.result().x, job.args[0].x)
        """,
        namespace, told.stdout.strip(),
    )  # fmt: skip
    assert read.stdout == "Point 2 1\n", read.stderr


def records_of(q, batch):
    return b"".join(q.store.run("HVALS", q.store.key(f"batch:{batch}:{part}"))[0] for part in ("calls", "outcomes"))


def test_nothing_of_arguments_and_results_goes_past_it(queue, worker):
    secret = "the secret of this test"
    for q in (queue(packing(6)), queue(Reversed)):
        job = q.enqueue(echo, secret)
        batch = q.map(echo, [secret] * 3, kwargs=None)
        constant = q.map(kinds, [1], kwargs={"text": secret})
        assert job.result(timeout=30) == secret
        assert batch.results() == [secret] * 3
        assert constant.results() == [["int", "str"]]
        for id in (job.id.partition(":")[0], batch.id, constant.id):
            assert secret.encode() not in records_of(q, id)
    assert secret.encode() in records_of(q, queue().map(echo, [secret]).wait(30).id)


def test_bytes_are_verified_before_it_is_asked(queue, worker):
    loaded = []

    class Noting(Reversed):
        @staticmethod
        def loads(data):
            loaded.append(data)
            return pickle.loads(data[::-1])

    q = queue(Noting)
    job = q.enqueue(double, 4).wait(30)
    key = q.store.key(f"batch:{job.batch.id}:outcomes")
    field, record = q.store.run("HKEYS", key)[0], q.store.run("HVALS", key)[0]
    q.store.run("HSET", key, field, bytes(record)[:-1] + b"x")
    with pytest.raises(errors.SignatureError, match="nothing was unpickled"):
        Job.fetch(job.id, connection=queue()).result()
    assert loaded == []


def test_what_json_would_change_is_refused_before_it_is_queued(queue, worker):
    q = queue("json")
    for wrong, words in (
        ({1, 2}, "argument 0 .*serializer json: TypeError: Object of type set is not JSON serializable"),
        ({1: "a"}, "argument 0 .*the key 1 of a dict is no text"),
        ([{"a": ({None: 1},)}], "argument 0 .*the key None of a dict is no text"),
    ):
        with pytest.raises(errors.CannotPickle, match=words):
            q.enqueue(echo, wrong)
        with pytest.raises(errors.CannotPickle, match=f"call 1: {words}"):
            q.map(echo, [1, wrong])
        with pytest.raises(errors.CannotPickle, match=words.replace("argument 0", "argument 'by'")):
            q.enqueue(double, 1, by=wrong)
    assert q.batches() == []


def test_what_json_lets_through_comes_back_equal_but_for_tuples(queue, worker):
    q = queue("json")
    for value in ({"a": [1, 2.5, None, True, "é\ud800"]}, 10**30, 0.1, math.inf, collections.OrderedDict(a=1)):
        assert q.enqueue(echo, value).result(timeout=30) == value
    assert math.isnan(q.enqueue(echo, math.nan).result(timeout=30))
    assert q.enqueue(kinds, (1, 2), by=(3,)).result(timeout=30) == ["list", "list"]
    assert q.enqueue(echo, (1, (2,))).result(timeout=30) == [1, [2]]


def test_a_result_that_it_refuses_is_its_jobs_error_alone(queue, worker):
    batch = queue("json").map(lambda n: {n} if n == 1 else n, range(3)).wait(30)
    assert batch.results(errors="skip") == [0, 2]
    with pytest.raises(errors.CannotPickle, match="the result cannot be sent back by the serializer json.*set"):
        batch[1].result()
    assert "set" in batch.failures()[0].message


def test_what_it_cannot_read_is_told(queue, worker):
    class Broken(Reversed):
        @staticmethod
        def loads(data):
            raise ValueError("not mine")

    job = queue(Broken).enqueue(echo, 1).wait(30)
    with pytest.raises(errors.PayloadError, match="the arguments cannot be read by the serializer .*Broken.*not mine"):
        job.result()

    class OneWay(Reversed):
        @staticmethod
        def loads(data):
            found = pickle.loads(data[::-1])
            if found == "answer":
                raise ValueError("not mine")
            return found

    job = queue(OneWay).enqueue(lambda: "answer").wait(30)
    assert job.is_finished
    with pytest.raises(errors.ResultUnreadable, match="the result cannot be read by the serializer .*OneWay"):
        job.result()


def test_pickle_refuses_what_is_of_the_notebook(namespace, worker):
    told = run_as_notebook(
        """
        import sys, datetime
        from nbqueue import Queue, errors
        class Point: pass
        q = Queue(namespace=sys.argv[1], progress=False, serializer="pickle")
        try:
            q.enqueue(id, Point())
        except errors.CannotPickle as error:
            print(error)
        print(q.enqueue(lambda day: (day, {1, 2}), datetime.date(2030, 1, 1)).result(timeout=30))
        try:
            q.enqueue(lambda: Point()).result(timeout=30)
        except errors.CannotPickle as error:
            print(error)
        """,
        namespace,
    )
    first, second, third = told.stdout.splitlines()
    assert first.startswith("argument 0 cannot be sent to a worker by the serializer pickle")
    assert "Point is defined in the notebook" in first
    assert second == "(datetime.date(2030, 1, 1), {1, 2})"
    assert third.startswith("the result cannot be sent back by the serializer pickle")


def test_errors_and_meta_do_not_go_through_it(queue, worker):
    class Odd(Exception):
        def __init__(self, what):
            super().__init__("odd")
            self.what = what

    def fail():
        raise Odd({1, 2})

    job = queue("json").enqueue(fail, meta={"a": 1}).wait(30)
    with pytest.raises(Exception, match="odd") as caught:
        job.result()
    assert caught.value.what == {1, 2}
    assert job.meta == {"a": 1}


def test_one_that_was_changed_is_another_batch(queue, worker):
    serializer = packing(6)
    q = queue(serializer)
    first = q.enqueue(echo, 1)
    assert q.enqueue(echo, 2).batch == first.batch
    serializer.level = 9
    changed = q.enqueue(echo, 3)
    assert changed.batch != first.batch
    serializer.level = 6
    assert q.enqueue(echo, 4).batch != changed.batch
    assert [first.result(timeout=30), changed.result(timeout=30)] == [1, 3]


def test_it_works_by_url_and_with_retries_and_repeats(remote, remote_worker):
    from nbqueue import Repeat

    q = Queue(connection=remote.store.url, key="k", namespace=remote.namespace, progress=False, serializer=packing(1))
    failing = q.enqueue(lambda value: {value: 1 / 0}, 1, retry=2).wait(30)
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert len(failing.attempts) == 3
    again = q.enqueue(echo, [7], repeat=Repeat(2, interval=0.01))
    assert again.result(timeout=30) == [7]
    assert [attempt.return_value() for attempt in again.attempts] == [[7]] * 3
    assert Job.fetch(again.id, connection=remote).result() == [7]
    q.close()


def test_a_time_limit_holds_for_it(queue, worker):
    class Slow(Reversed):
        @staticmethod
        def dumps(value):
            import time

            while value == "slow":
                time.sleep(0.01)
            return pickle.dumps(value)[::-1]

    with pytest.raises(errors.JobTimeout):
        queue(Slow).enqueue(lambda: "slow", job_timeout=0.3).result(timeout=30)


def test_a_queue_with_one_can_be_pickled(queue):
    for serializer in ("json", Reversed, None):
        q = queue(serializer)
        copy = pickle.loads(pickle.dumps(q))
        assert copy._serializer is q._serializer


def test_the_default_is_untouched(queue, worker):
    for same in (None, "cloudpickle", cloudpickle):
        batch = queue(same).map(echo, [1, 2]).wait(30)
        assert batch.description.serializer == ""
        assert "serializer" not in json.loads(batch.description.to_json())
    assert VERSION == 4


def test_what_is_none_is_refused_at_once(namespace):
    for wrong, words in (
        (3, "with dumps"),
        (object(), "with dumps"),
        (types.SimpleNamespace(dumps=repr), "with dumps"),
        ("no.such.module", "nothing of this name"),
        ("not a name", "nothing of this name"),
        ("sys", "with dumps"),
    ):
        with pytest.raises(errors.UsageError, match=words):
            Queue(namespace=namespace, serializer=wrong)
    assert sys.modules.get("no") is None
    with pytest.raises(TypeError):
        Queue(namespace=namespace, serializer=3)


def test_one_that_cannot_be_sent_is_named(queue):
    serializer = types.SimpleNamespace(dumps=repr, loads=eval, file=sys.stdout)
    with pytest.raises(errors.CannotPickle, match="the serializer cannot be sent to a worker"):
        queue(serializer).enqueue(echo, 1)


def test_one_whose_dumps_gives_no_bytes_is_told(queue):
    with pytest.raises(errors.CannotPickle, match=r"dumps\(\) gave a tuple, and bytes or a text are needed"):
        queue(types.SimpleNamespace(dumps=lambda value: (value,), loads=list)).enqueue(echo, 1)


def test_results_are_read_when_no_worker_is_there(queue, workers):
    job = queue(packing(3)).enqueue(echo, "later")
    workers.start("--burst").wait(30)
    wait_until(lambda: not queue().store.call(looking.workers()))
    assert job.result() == "later"
