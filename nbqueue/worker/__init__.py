"""`nbqueue worker`: one process that leases runs, hands them to its children, and settles what comes of them.

Owns the children's processes. Never executes or unpickles user code, and never imports the client: the two meet in
Redis.

Read `loop.py` first: life, and the turns of the loop. Work comes in by `intake.py` (`bell.py` rings when there is some,
`supplies.py` fetches what it needs, `inputs.py` the results of other jobs, `firing.py` starts what recurs) and goes out
by `settlement.py` and `output.py` (what jobs print: `output_log.py` keeps the newest of it). `stopping.py` decides from
plain data about time limits, cancelling and taking back. `places.py` sees to it that as many jobs run at once as there
shall: one that waits for others gives its place away. `presence.py` beats and hears orders, `neighbours.py` looks for
the dead. Below them `pool.py` has the children, `child_process.py` one of them, `process.py` its process; `guard.py` is
the program that kills them when the worker is gone. `disk.py` looks after the files of the embedded server.
"""
