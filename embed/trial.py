"""A process apart that loads images which may kill it.

The paths and how to decode them come pickled on stdin, from embed.crashes; one byte goes to stdout for each
image that was survived.
"""

import os
import pickle
import sys

from embed.reading import load_row


def main() -> None:
    """Load every image named on stdin."""
    paths, decoding = pickle.loads(sys.stdin.buffer.read())
    for path in paths:
        load_row(path, decoding)
        os.write(sys.stdout.fileno(), b".")


if __name__ == "__main__":
    main()
