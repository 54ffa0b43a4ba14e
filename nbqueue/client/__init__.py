"""Queues, batches and jobs, as users hold them: views of what is in Redis, the same from any process.

Submits, waits, reads, steers. Imports neither IPython nor widgets, and never the worker: the two meet in Redis.

Read `queues.py` first: it hands on to those who do it. `session.py` is one client's server, with its workers
(`fleet.py`) and what keeps jobs from starting, in words too (`problem.py`). The way in: `options.py`, `submitter.py`,
`codes.py` for functions, `packing.py` for calls and the size of their blocks, then `submission.py` for a batch or
`open_batch.py` for single calls. The way out: `waiting.py`, `results.py`, `outcome.py`, `printed.py`. `batch.py`,
`job.py` and `cell_job.py` are what users hold, over a `handle.py`; a notebook shows them through `hooks.py`, a terminal
by `bar.py`.
"""
