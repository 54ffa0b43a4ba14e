"""`nbqueue worker`: one process that leases runs, hands them to its children, and settles what comes of them.

Owns the children's processes. Never executes or unpickles user code, and never imports the client: the two meet in
Redis.

Read `loop.py` first.
"""
