"""The command line `iaa`."""

import importlib.metadata
import logging
import os
import platform
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

import typer

from iaa.cli import datasets as commands_data
from iaa.cli import embed as commands_embed
from iaa.cli import exchange as commands_exchange
from iaa.cli import finetune as commands_finetune
from iaa.cli import groups as commands_groups
from iaa.cli import heads as commands_heads
from iaa.cli import open as commands_open
from iaa.cli import probe as commands_probe
from iaa.cli import prompts as commands_prompts
from iaa.cli import rank as commands_rank
from iaa.cli import report as commands_report
from iaa.cli import store as commands_store
from iaa.cli.console import CleanFormatter, answer_json, clean_lines, note, prepare_streams
from iaa.library.errors import UsageError
from iaa.library.extras import missing_extra
from iaa.library.supervision import INTERRUPTED, crash_folder, how_to_go_on, supervise

# Typer brings click under different names from version to version; wrong usage is this class in all of them.
UsageProblem: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="iaa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Photographs through frozen backbones into a verified store; aesthetics from the arrays.

    A first round on the built-in demo world:

      iaa embed --dataset demo                        images into vectors

      iaa search "a red circle" --sheet found.html    found by words

      iaa rank --high beautiful --low ugly --top 30   the 30 best, by words

      iaa probe                                       linear probes

      iaa embed -p paper_fixed -p paper_context       the paper's prompts

      iaa report                                      all of it as pages

    Your own photographs, in the browser: iaa open FOLDER
    """,
)
commands_open.register(app)
commands_data.register(app)
commands_embed.register(app)
commands_finetune.register(app)
commands_exchange.register(app)
commands_prompts.register(app)
commands_probe.register(app)
commands_heads.register(app)
commands_rank.register(app)
commands_groups.register(app)
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
    handler = logging.StreamHandler()
    handler.setFormatter(CleanFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    prepare_streams()
    try:
        os.getcwd()
    except OSError:
        note("error: the folder you are in does not exist any more. Change to another: cd")
        sys.exit(1)
    try:
        code = _run(arguments)
    except UsageProblem as error:
        if not _answer_error(error, error.format_message(), 2, arguments):
            if isinstance(error.message, str):
                error.message = clean_lines(error.message, sys.stderr)
            error.show()
        sys.exit(2)
    except UsageError as error:
        if not _answer_error(error, str(error), 2, arguments):
            note(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        _let_go()
    except (typer.Abort, KeyboardInterrupt):
        note(f"Interrupted. {how_to_go_on(arguments or sys.argv[1:])}")
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # decode threads may sit in a slow read; nothing is left to write
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        try:
            if not _is_ours(error) or not _answer_error(error, _message(error), 1, arguments):
                _explain(error)
        except BrokenPipeError:
            _let_go()
        sys.exit(1)
    _finish(code if isinstance(code, int) else 0)


def _run(arguments: list[str] | None) -> Any:
    """Typed at a shell, what decodes images runs in a child process that may crash; all else runs here."""
    typed = sys.argv[1:] if arguments is None else []
    command = next((word for word in typed if not word.startswith("-")), "")
    if command in ("embed", "finetune") and "--help" not in typed and crash_folder() is None:
        return supervise(typed, note)
    code = app(arguments, standalone_mode=False, prog_name="iaa")
    if code == INTERRUPTED:  # typer's newer versions catch the interrupt and return this
        raise KeyboardInterrupt
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # once is enough; a second one would break into the tidying up
    raise KeyboardInterrupt


def _answer_error(error: Exception, message: str, code: int, arguments: list[str] | None) -> bool:
    """With --json an error is one JSON object, too; False without."""
    if "--json" not in (sys.argv[1:] if arguments is None else arguments):
        return False
    answer_json({"error": {"kind": type(error).__name__, "message": message, "exit_code": code}})
    return True


def _is_ours(error: Exception) -> bool:
    """True for errors which say what to do: of this program's own kinds, or for want of an extra."""
    if missing_extra(error) is not None:
        return True
    ours = {"analysis", "embed", "finetune", "iaa", "notebooks", "store"}
    return type(error).__module__.split(".")[0] in ours


def _message(error: Exception) -> str:
    return missing_extra(error) or "\n".join([str(error), *getattr(error, "__notes__", [])])


def _explain(error: Exception) -> None:
    """Our own errors as one message; anything unforeseen with its traceback."""
    if _is_ours(error):
        note(f"error: {_message(error)}")
    elif isinstance(error, OSError) and error.strerror:  # of the machine, not of the program
        where = f" {error.filename}" if error.filename is not None else ""
        note(f"error: cannot use{where or ' a file'}: {error.strerror}. To see where: iaa --verbose ...")
        logger.info("where it was", exc_info=error)
    elif isinstance(error, MemoryError):
        note(f"error: there is not enough memory ({error or 'of the machine'}). Close other programs")
    else:
        note("".join(traceback.format_exception(error)))
        note("This was not foreseen; please report it with the lines above.")


def _finish(code: int) -> None:
    """End with this code, if the answer has really gone out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go()
    except OSError as error:
        note(f"error: the answer cannot be written to standard output: {error.strerror}")
        _let_go(1)
    sys.exit(code)


def _let_go(code: int = 141) -> None:
    """Whoever read the output has left (`| head`): end without a word, as a signal would have done it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
