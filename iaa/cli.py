"""The command line `iaa`."""

import importlib.metadata
import logging
import os
import platform
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from iaa import (
    commands_data,
    commands_embed,
    commands_exchange,
    commands_finetune,
    commands_heads,
    commands_probe,
    commands_prompt,
    commands_prompts,
    commands_report,
    commands_search,
    commands_store,
)
from iaa.console import notes
from iaa.supervision import INTERRUPTED, crash_folder, how_to_go_on, supervise

# Typer brings click under different names from version to version; wrong usage is this class in all of them.
UsageProblem: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="iaa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Photographs through frozen backbones into a verified store; aesthetics from the arrays.

    A first round on the built-in demo world:

      iaa embed --dataset demo              images -> data/demo/features/*.h5

      iaa embed-prompts --dataset demo      prompts -> data/demo/prompts/*/*.h5

      iaa probe --dataset demo              linear probes, in seconds

      iaa report --dataset demo             everything as pages: data/demo/report/index.html

      iaa search "a red circle" -b demo_clip --sheet found.html      a library, searched by words

    Your own photographs: iaa dataset add NAME --kind table --images DIR --ratings FILE.csv
    """,
)
commands_data.register(app)
commands_embed.register(app)
commands_finetune.register(app)
commands_exchange.register(app)
commands_prompt.register(app)
commands_prompts.register(app)
commands_probe.register(app)
commands_heads.register(app)
commands_search.register(app)
commands_store.register(app)
commands_report.register(app)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        version = importlib.metadata.version("image-aesthetics-store")
        print(f"iaa {version}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def _set_up(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens, on stderr."),
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_tell_version, help="Say which version this is."
    ),
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        code = _run(arguments)
    except UsageProblem as error:
        error.show()
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        notes.print(f"Interrupted. {how_to_go_on(arguments or sys.argv[1:])}", markup=False)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # decode threads may sit in a slow read; nothing is left to write
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        _explain(error)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: list[str] | None) -> Any:
    """Typed at a shell, what decodes images runs in a child process that may crash; all else runs here."""
    typed = sys.argv[1:] if arguments is None else []
    command = next((word for word in typed if not word.startswith("-")), "")
    if command in ("embed", "finetune") and "--help" not in typed and crash_folder() is None:
        return supervise(typed)
    code = app(arguments, standalone_mode=False, prog_name="iaa")
    if code == INTERRUPTED:  # typer's newer versions catch the interrupt and return this
        raise KeyboardInterrupt
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # once is enough; a second one would break into the tidying up
    raise KeyboardInterrupt


def _explain(error: Exception) -> None:
    """Our own errors as one message; anything unforeseen with its traceback."""
    ours = type(error).__module__.split(".")[0] in {
        "analysis",
        "embed",
        "finetune",
        "iaa",
        "notebooks",
        "store",
    }
    if not ours:
        traceback.print_exc()
        notes.print("This was not foreseen; please report it with the lines above.", markup=False)
        return
    notes.print("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]), markup=False)
