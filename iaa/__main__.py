"""`iaa` and `python -m iaa`: an interrupt while the program is still being loaded is no traceback."""

import os
import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted before anything was begun.\n")
    os._exit(130)


def main() -> None:
    """Load the command line and run it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if sys.argv[1:] == ["--version"] and _tell_version():
        return
    from store.system import prepare_streams

    prepare_streams()  # before anything is opened that could get the number of a closed one
    from iaa.cli.app import main as run

    run()


def _tell_version() -> bool:
    """Answer what needs nothing loaded; False where that cannot be written, which the program explains."""
    from iaa.library.names import told_version

    try:
        os.write(1, f"{told_version()}\n".encode())
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
