"""`python -m nbqueue` is the same as `nbqueue`."""

from nbqueue.command.cli import main

if __name__ == "__main__":
    main()
