"""What cells of a notebook show while it is live, and at its end.

Read `display.py` first: a panel, whatever it shows. Its content is a batch (`batch.py`), a job (`job.py`) or a
cell in the background (`cell.py`), whose outputs appear below (`outputs.py`, `redraw.py`).
"""
