"""The notebook: magics, panels, and the kernel that they live in.

Owns `ipywidgets`, and IPython on the kernel's side. Imported when nbqueue is first used in a kernel, and by nothing
below. A magic parses, calls and shows; a panel reads a batch, never Redis.

Read `kernel.py` first: what is shown where, and all that a kernel keeps. `panels/` reads and draws what is live, of the
widgets in `widgets.py`; `markup/` makes HTML from plain data. Variables that a cell in the background
brings: `between.py` binds them when no cell runs, `arriving.py` knows which are still to come.
"""
