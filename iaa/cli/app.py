"""The command line `iaa`."""

import logging
import os
import sys
import traceback
from typing import Any, Literal, NoReturn

import typer

from embed.uncompiled import put_off_shapes
from iaa.cli.console import (
    LOG_FORMAT,
    CleanFormatter,
    JsonFormatter,
    answer_json,
    finish,
    logs_are_json,
    note,
)
from iaa.cli.verbs import Verbs
from iaa.library.errors import UsageError, describe_error, explain, is_ours, message_of
from iaa.library.interrupts import INTERRUPTED, Interrupts
from iaa.library.names import told_version
from iaa.library.plain import clean_lines
from iaa.library.supervision import how_to_go_on
from store.system import let_go, prepare_streams

# Typer brings click under different names from version to version; wrong usage is this class in all of them.
UsageProblem: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="iaa",
    cls=Verbs,
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


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print(told_version())
        raise typer.Exit


@app.callback()
def _set_up(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens, on stderr."),
    log_format: Literal["text", "json"] = typer.Option(
        "text", envvar=LOG_FORMAT, help="json: every line on stderr is an object, for machines that collect."
    ),
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_tell_version, help="Say which version this is."
    ),
) -> None:
    is_json = log_format == "json"
    if is_json:
        os.environ[LOG_FORMAT] = log_format  # for the processes that this one starts
    handler = logging.StreamHandler()
    plain = CleanFormatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if is_json else plain)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    interrupts = Interrupts()
    interrupts.listen()
    if arguments is None:
        interrupts.repeat_dropped()
    prepare_streams()
    put_off_shapes()
    try:
        os.getcwd()
    except OSError:
        note("error: the folder you are in does not exist any more. Change to another: cd")
        sys.exit(1)
    try:
        code = _run(arguments)
    except UsageProblem as error:
        if not _answer_error(error, error.format_message(), 2, arguments):
            if logs_are_json():
                note(error.format_message(), "error")
                sys.exit(2)
            if isinstance(error.message, str):
                error.message = clean_lines(error.message, sys.stderr)
            error.show()
        sys.exit(2)
    except BrokenPipeError:
        let_go()
    except (typer.Abort, KeyboardInterrupt):
        _end_interrupted(arguments)
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        if interrupts.has_come:  # native code has turned it into an error of its own
            logger.info("interrupted", exc_info=error)
            _end_interrupted(arguments)
        code = 2 if isinstance(error, UsageError) else 1
        try:
            if not is_ours(error) or not _answer_error(error, message_of(error), code, arguments):
                _explain(error)
        except BrokenPipeError:
            let_go()
        sys.exit(code)
    finish(code if isinstance(code, int) else 0)


def _run(arguments: list[str] | None) -> Any:
    typed = sys.argv[1:] if arguments is None else None  # as what decodes images starts itself (run_apart)
    code = app(arguments, standalone_mode=False, prog_name="iaa", obj=typed)
    if code == INTERRUPTED:  # typer's newer versions catch the interrupt and return this
        raise KeyboardInterrupt
    return code


def _end_interrupted(arguments: list[str] | None) -> NoReturn:
    note(f"Interrupted. {how_to_go_on(arguments or sys.argv[1:])}")
    sys.stderr.flush()
    os._exit(INTERRUPTED)  # decode threads may sit in a slow read; nothing is left to write


def _answer_error(error: Exception, message: str, code: int, arguments: list[str] | None) -> bool:
    """With --json an error is one JSON object, too; False without."""
    if "--json" not in (sys.argv[1:] if arguments is None else arguments):
        return False
    answer_json({"error": describe_error(error, message, code)})
    return True


def _explain(error: Exception) -> None:
    """Our own errors as one message and what to type next; anything unforeseen with its traceback."""
    unforeseen = "This was not foreseen; please report it with the lines above."
    for line in explain(error) or ["".join(traceback.format_exception(error)), unforeseen]:
        note(line, "error")
    if isinstance(error, OSError) and not is_ours(error):
        logger.info("where it was", exc_info=error)
