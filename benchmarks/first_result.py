"""What a fresh notebook does first: import, submit, read the first result."""

from nbqueue import Queue

if __name__ == "__main__":
    queue = Queue(progress=False)
    print(next(iter(queue.map(lambda x: x + 1, range(100)))), flush=True)
