"""How long people wait for the command line's first word: docs/benchmarks.md has what came out.

    python benchmarks/waiting.py [--photographs FOLDER] [--images 1000] [--turns 3] [--clip vit_b32.openai]

Each command is a process of its own, from typing to the prompt, on so many JPEGs of AVA's size (of the
folder, as often as needed, else made) with the offline backbone and the demo's: best and median of the turns.
The first photograph is that of which a run first says that it is new, a batch of 32. Words are asked of the
demo's CLIP, or of `--clip` with random weights: for the first time (its text tower is kept then), new ones,
and the same again.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.embedding.images import make_photographs  # noqa: E402
from embed.finished import feature_path  # noqa: E402

OFFLINE = "efficientnet_lite0.in1k"
GOALS = {
    "--version": 0.3, "--help": 0.3, "embed --help": 0.3, "dataset list": 0.6, "info of a file": 0.6,
    "verify of a file": 0.6, "search --like": 1.0, "rank by words, asked before": 1.0,
    "search by words, asked before": 1.0, "search by new words": 1.0, "embed with nothing to do": 2.0,
    "first 32 photographs": 4.0,
}  # fmt: skip


class Commands:
    """The program in a scratch folder: `iaa` runs it to its end."""

    def __init__(self, scratch: Path) -> None:
        self.data = scratch / "data"
        self.environment = {**os.environ, "IAA_CACHE": str(scratch / "cache"), "PYTHONPATH": sys.path[0]}
        self.environment["IAA_DATA"] = str(self.data)

    def iaa(self, *arguments: str) -> None:
        """One command."""
        command = [sys.executable, "-m", "iaa", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}:\n{done.stderr}")

    def first_rows(self, backbone: str) -> float:
        """Seconds from the command until it says that rows are new; it runs on to its end."""
        feature_path(self.data / "bench" / "features", backbone).unlink(missing_ok=True)
        started, first = time.perf_counter(), float("nan")
        command = [sys.executable, "-m", "iaa", "embed", "-d", "bench", "-b", backbone, "--progress-lines"]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if first != first and '"is_new": true' in line:
                    first = time.perf_counter() - started
        return first


def measured(what: str, turns: int, act: Callable[[], float | None]) -> None:
    """Print a line of the table: `act` gives its seconds, or is timed."""
    seconds = []
    for _ in range(turns):
        started = time.perf_counter()
        told = act()
        seconds.append(time.perf_counter() - started if told is None else told)
    goal = f"{GOALS[what]:>7.1f}" if what in GOALS else " " * 7
    load = f"{os.getloadavg()[0]:.1f}"
    print(f"{what:<34}{min(seconds):>8.2f}{statistics.median(seconds):>8.2f}{goal}   load {load}", flush=True)


def random_weights(backbone: str, folder: Path) -> Path:
    """A file of random weights, made in a process apart so that this one stays small."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.embedding.models import load_random\n"
        f"load_random({backbone!r}, Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": sys.path[0]}, check=True)
    (file,) = folder.glob("*.safetensors")
    return file


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clip", help="a registered CLIP backbone, with random weights")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iaa-waiting-") as folder:
        scratch = Path(folder)
        make_photographs(scratch / "photographs", given.images, given.photographs)
        program, clip, weights = Commands(scratch), given.clip or "demo_clip", []
        iaa = program.iaa
        if given.clip:
            weights = ["--weights", str(random_weights(clip, scratch))]
        iaa("dataset", "add", "bench", "--kind", "folder", "--images", str(scratch / "photographs"))
        iaa("embed", "-d", "bench", "-b", OFFLINE)
        print(f"{'seconds':<34}{'best':>8}{'median':>8}{'goal':>7}")
        measured("first 32 photographs", given.turns, lambda: program.first_rows(OFFLINE))
        measured("first 32 photographs, demo_vit", given.turns, lambda: program.first_rows("demo_vit"))
        iaa("embed", "-d", "bench", "-b", clip, *weights)
        file = str(feature_path(program.data / "bench" / "features", clip))
        offline = str(feature_path(program.data / "bench" / "features", OFFLINE))
        asked = ["-d", "bench", "-b", clip]
        number = count()
        for kept in (program.data.parent / "cache" / "engines").glob("*.text"):
            kept.unlink()
        measured("search by words, the first", 1, lambda: iaa("search", "a lake", *asked, *weights))
        measured(
            "search by new words",
            given.turns,
            lambda: iaa("search", f"a lake and {next(number)} boats", *asked),
        )
        commands = {
            "search by words, asked before": ["search", "a lake and 0 boats", *asked],
            "rank by words, asked before": ["rank", "--high", "beautiful", "--low", "ugly", *asked],
            "search --like": ["search", "--like", "0000.jpg", "-d", "bench", "-b", OFFLINE],
            "embed with nothing to do": ["embed", "-d", "bench", "-b", OFFLINE],
            "verify of a file": ["verify", offline],
            "info of a file": ["info", file],
            "dataset list": ["dataset", "list"],
            "embed --help": ["embed", "--help"],
            "--help": ["--help"],
            "--version": ["--version"],
        }
        iaa(*commands["rank by words, asked before"])
        for what, arguments in commands.items():
            measured(what, given.turns, lambda: iaa(*arguments))  # noqa: B023


if __name__ == "__main__":
    main()
