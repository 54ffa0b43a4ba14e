"""Queues, batches and jobs, as users hold them: views of what is in Redis, the same from any process.

Submits, waits, reads, steers. Imports neither IPython nor widgets, and never the worker: the two meet in Redis.

Read `queues.py` first, then `submission.py` for the way in and `results.py` for the way out.
"""
