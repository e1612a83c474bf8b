"""`iaa prompts`: sets of texts, before and after they are encoded, and what they say about photographs."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, answer, removed

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()


@verbs.command("check", no_args_is_help=True)
@options.explain(
    backbone=("-b", "Whose tokenizer reads the texts; no weights are needed."),
)
def check(
    file: Annotated[str, typer.Argument(help="A prompt set by name, or a TOML file.")],
    backbone: str = "vit_b32.openai",
    as_json: options.Json = False,
) -> None:
    """Show what a prompt file will encode and everything that is wrong with it (exit code 1).

    Example: iaa prompts check mine.toml
    """
    from iaa.library import prompts

    found = prompts.check_prompts(file, backbone)
    answer(as_json, asdict(found), *found.tables(), notes=found.notes(backbone))
    if found.problems:
        raise typer.Exit(1)


@verbs.command("list")
@options.of_dataset
def list_(chosen: "Dataset") -> Answer:
    """List the prompt sets that are encoded for a data set."""
    found = chosen.list_prompts()
    first = f"None yet. Encode one: iaa embed --prompts paper_fixed --dataset {chosen.name} -b ID"
    value = {"dataset": chosen.name, "prompts": found.rows()}
    return Answer(value, [found], [] if len(found) else [first])


@verbs.command("evaluate")
@options.explain(
    prompts=("-p", "Measure this encoded set with contents beside ImageNet's 1,000, too: a name, a TOML "
     "file, or captions-NAME (repeatable)."),
    fall_back="Take in photographs without a caption, by the fixed prompt.",
)  # fmt: skip
@options.of_dataset
def evaluate(
    chosen: "Dataset",
    backbone: options.OneEmbedded = None,
    prompts: list[str] | None = None,
    fall_back: bool = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
) -> Any:
    """The paper's zero-shot methods (section 4.1): all pairs of labels on train, the best per task on test,
    with intervals. What the methods are: docs/prompting.md.

    Example: iaa prompts evaluate --dataset demo; iaa prompts evaluate -d demo -p captions-subject
    """
    found = chosen.evaluate_prompts(prompts, backbone, fall_back, device, seed, n_boot)
    options.note_demo(found.backbone, chosen.name)
    return found


@verbs.command("remove", no_args_is_help=True)
@options.of_dataset
def remove(
    chosen: "Dataset", name: Annotated[str, typer.Argument(help="Name of an encoded prompt set.")]
) -> Answer:
    """Delete the encoded files of a prompt set."""
    return removed(chosen.remove_prompts(name))
