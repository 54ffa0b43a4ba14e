"""The process that executes user code: a fresh interpreter with an empty `__main__`.

Owns what happens around a job in its process: verifying and unpickling calls, running them one after the other,
signing what they return, and everything that has to be put back between two of them. Never talks to Redis for the
engine, and decides nothing about retries, limits or leases: the worker does.

Read `main.py` first: a run, job by job. `loading.py` makes functions and arguments of signed records, each call's in
a scope of its own; `modules.py` has the batch's local modules found first; `report.py` signs and sends outcomes, to
whose errors `hints.py` adds what comes from where they ran; `streams.py` takes what is printed, `displays.py` what is
displayed (`bundles.py` makes data of it), `progress.py` how far a job says that it is, `current.py` the job for
itself; `callbacks.py` calls what is called after it, `inputs.py` has the results of other jobs that calls are made
with; for displays and bars `imports.py` waits until a job imports what they hook into. Between two jobs `state.py` puts
back what belongs to the process (environment, filters, random numbers, limits), `place.py` the directory and the path.
`turn.py` gives the job's place away while it waits for other jobs. `forks.py` ends what `os.fork` in a job has made.
"""
