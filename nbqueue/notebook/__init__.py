"""The notebook: magics, panels, and the kernel that they live in.

Owns `ipywidgets`, and IPython on the kernel's side. Imported when nbqueue is first used in a kernel, and by nothing
below. A magic parses, calls and shows; a panel reads a batch, never Redis.

Read `kernel.py` first: it has all panels and the thread that refreshes them. `markup.py` makes HTML from plain data.
"""
