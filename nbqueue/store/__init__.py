"""The state in Redis, and how it is reached.

Owns `redis` (`connection.py`) and the Lua scripts (`lua/`). Sees records as bytes, never what users put into them, and
starts no process. Each change of state is one Lua file, with a function of its name in `requests/` that builds the
request and reads the answer without any input or output; each may be sent twice.

Read the table on top of `keys.py` first, then a pair such as `lua/running/finish.lua` and `requests/running.py`.
`link.py` sends requests of clients, waits for the answer and connects again, `store.py` reads what is there,
`subscription.py` hears of changes, for all who wait. `pipeline.py` sends for a worker's event loop, and once more what
a broken connection left without an answer. `reaper.py` decides from beats who has died. `lua/include/` has what several
scripts share: what becomes due at a time belongs to those that `lua/running/claim.lua` names, for workers promote it.
What recurs is a `schedule_state.py`, at the times of a `timetable.py`: `claim` tells a worker that one is due, and
`fire` makes a job of it.
"""
