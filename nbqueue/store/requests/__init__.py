"""The changes of state and the readings, as requests: plain data in, plain data out, no input or output.

A module for each of those who ask: who submits, who runs, who steers, who looks. Each function stands for the Lua file
of its name. Read `request.py` first.
"""
