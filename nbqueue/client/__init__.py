"""Queues, batches and jobs, as users hold them: views of what is in Redis, the same from any process.

Submits, waits, reads, steers. Imports neither IPython nor widgets, and never the worker: the two meet in Redis.

Read `queues.py` first: it hands on to those who do it. `session.py` is one client's server. `fleet.py` is its
workers: who is there, started (the process itself by `launch.py`) and stopped; `problem.py` why nobody serves a
batch. The way in: `options.py` (with `retries.py`, `callback.py` and `depending.py`: what is waited for), `named.py`
(which function is meant), `submitter.py`, `codes.py` (which functions are packed anew, and each sent once;
`local_modules.py` finds what goes along), `explaining.py` (what would be sent), `sizes.py` (that it is much),
`packing.py` for calls and the size of their blocks, then `submission.py` for a batch, `open_batch.py` for single calls
or `schedules.py` for calls that recur. The way out: `waiting.py` (inside a job it gives the job's place away:
`turns.py`), `results.py` (outcomes of a batch in input order, or as they end), `outcome.py` (one of them),
`printed.py`, `rich.py` (what they displayed), `attempts.py`. `batch.py` (failures in groups, too), `job.py` and
`cell_job.py` are what users hold, over a `handle.py`; a notebook shows them through `hooks.py`, a terminal by `bar.py`.
`mending.py` has jobs run again with another function.
Under RQ's names: `registries.py` (which jobs are in which state; parts of such lists by `listing.py`), `prepared.py`
(calls with options), `latest_result.py`, `waiting_call.py` (`job.result` is no value), `decorator.py` (`@job`),
`named_jobs.py` (`job_id=`), `commands.py`, `here.py` (calls that are made at once, each a `job_here.py`; those of
coroutines end by `coroutines.py`).
"""
