"""What keeps jobs from starting: as data, and in words."""

from __future__ import annotations

from states import worker_state

from nbqueue.client.problem import paused, unserved


def test_a_paused_queue_names_what_lets_its_jobs_start():
    problem = paused("a")
    assert (problem.kind, problem.command) == ("paused", "")
    assert str(problem) == problem.words == "queue a is paused: Queue('a').resume() lets its jobs start"


def test_who_is_there_instead_and_what_to_run_are_told_apart():
    others = [
        worker_state("1", queues="b c"),
        worker_state("2", environment="gpu"),
        worker_state("3", environment="gpu"),
    ]
    problem = unserved("a", "python-3.11", others)
    assert (problem.kind, problem.command, problem.where) == (
        "unserved", "nbqueue worker a", "where the jobs shall run",
    )  # fmt: skip
    assert problem.words == (
        "no worker for queue a and environment python-3.11; there is 1 for environment python-3.11, queue b c; "
        "there are 2 for environment gpu"
    )
    assert str(problem) == f"{problem.words}. Run: nbqueue worker a   (where the jobs shall run)"
