"""What one cell of a notebook shows of a batch, a job, or a cell in the background. Read `batch.py` first."""
