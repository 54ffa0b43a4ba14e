"""The HTML of panels and tables, from plain data. No widgets, no Redis.

Two kinds of HTML are made here:

- live parts, for `ipywidgets.HTML`, which keeps everything;
- what stays when a batch has ended, and is saved. A notebook that is not trusted drops `<style>`, `var()`, `<svg>`,
  `role` and `aria-*`; GitHub drops all styles. So it has inline styles only, inherits the colour of the text, its greys
  are transparent (light and dark), and its facts are words with real separators between them.

Read `parts.py` first: colours, glyphs and what all the others are made of. `batch.py` is a batch with its failed jobs,
`job.py` a job, `tables.py` lists of batches, workers and queues.
"""
