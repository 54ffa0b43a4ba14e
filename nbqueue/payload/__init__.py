"""The bytes that travel: functions, calls and outcomes, pickled, signed and verified.

Owns cloudpickle (`pickling.py`) and the key (`seal.py`, which signs and verifies). Knows nothing of Redis, of
processes, or of who asks: bytes and objects in, objects and bytes out. A record is verified before anything in it is
unpickled.

Read `records.py` first: its table describes every record, and all else stands on it. `calls.py`, `outcomes.py`
(both many in one record), `functions.py` (with their digests) and `variables.py` are the four things that are packed,
the last two with the `sources.py` of their code;
`explain.py` finds the part of an object that cannot be. Imports go memory, records, seal, pickling, explain, sources,
then these four, which know nothing of each other.
"""
