"""Notebook cells that run outside of their kernel: which names they read, how they run, what they put out.

Owns IPython's shell (`shell.py`, which only a child imports). Knows no Redis and no notebook: outputs are Jupyter
messages, plain data, which the child hands on and a notebook draws.

Read `run.py` first: it is what a child calls. `names_read.py` finds which variables have to go along, `settings.py`
which settings; `changes.py` which variables the cell changes where nobody sees it.
"""
