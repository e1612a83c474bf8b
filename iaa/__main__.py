"""`iaa` and `python -m iaa`: an interrupt while the program is still being loaded is no traceback."""

import os
import signal
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted before anything was begun.\n")
    os._exit(130)


def main() -> None:
    """Load the command line and run it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    from iaa.cli.console import prepare_streams

    prepare_streams()  # before anything is opened that could get the number of a closed one
    from iaa.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
