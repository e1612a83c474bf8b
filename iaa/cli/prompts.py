"""`iaa prompts`: sets of texts, before and after they are encoded, and what they say about photographs."""

from dataclasses import asdict
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer

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
def list_(dataset: options.Dataset = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """List the prompt sets that are encoded for a data set."""
    from iaa.library import prompts

    layout = options.choose_layout(dataset, data)
    found = prompts.list_prompts(layout)
    first = f"None yet. Encode one: iaa embed --prompts paper_fixed --dataset {layout.dataset} -b ID"
    value = {"dataset": layout.dataset, "prompts": found.rows()}
    answer(as_json, value, found, notes=[] if len(found) else [first])


@verbs.command("evaluate")
@options.explain(
    prompts=("-p", "Measure this encoded set with contents beside ImageNet's 1,000, too: a name, a TOML "
     "file, or captions-NAME (repeatable)."),
    fall_back="Take in photographs without a caption, by the fixed prompt.",
)  # fmt: skip
def evaluate(
    dataset: options.Dataset = None,
    backbone: options.OneEmbedded = None,
    prompts: list[str] | None = None,
    fall_back: bool = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """The paper's zero-shot methods (section 4.1): all pairs of labels on train, the best per task on test,
    with intervals. What the methods are: docs/prompting.md.

    Example: iaa prompts evaluate --dataset demo; iaa prompts evaluate -d demo -p captions-subject
    """
    from iaa.library.prompts import evaluate_prompts

    layout = options.choose_layout(dataset, data)
    found = evaluate_prompts(layout, backbone, device, seed, n_boot, prompts or (), fall_back)
    options.note_demo(found.backbone, layout.dataset)
    answer(as_json, found.to_dict(), *found.tables(), notes=found.notes())


@verbs.command("remove", no_args_is_help=True)
def remove(
    name: Annotated[str, typer.Argument(help="Name of an encoded prompt set.")],
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Delete the encoded files of a prompt set."""
    from iaa.library import prompts

    removed = prompts.remove_prompts(options.choose_layout(dataset, data), name)
    answer(as_json, {"removed": removed}, notes=[f"removed {path}" for path in removed])
