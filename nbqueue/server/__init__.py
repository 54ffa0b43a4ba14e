"""The embedded server: one Valkey (or Redis) process per user and machine, started by whoever needs it first.

Owns its program, its files and its process. Knows no batch and no worker; speaks to the server only to see whether it
answers. The lock in `place.py` decides who starts it.

Read `embedded.py` first: it finds the server or starts it, says how it is, and stops it.
"""
