"""`iaa prompts`: sets of texts, before and after they are encoded, and what they say about photographs."""

from dataclasses import asdict
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer
from iaa.library import prompts as library
from iaa.library.results import shown_results


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "Prompt sets: check, list, evaluate as the paper does, remove."
    prompts = typer.Typer(no_args_is_help=True, help=about)
    prompts.command("check", no_args_is_help=True)(check)
    prompts.command("list")(list_)
    prompts.command("evaluate")(evaluate)
    prompts.command("remove", no_args_is_help=True)(remove)
    app.add_typer(prompts, name="prompts")


def list_(dataset: options.Dataset = None, data: options.Data = None, as_json: options.Json = False) -> None:
    """List the prompt sets that are encoded for a data set."""
    layout = options.choose_layout(dataset, data)
    found = library.list_prompts(layout)
    first = f"None yet. Encode one: iaa embed --prompts paper_fixed --dataset {layout.dataset} -b ID"
    value = {"dataset": layout.dataset, "prompts": found.rows()}
    answer(as_json, value, found, notes=[] if len(found) else [first])


def remove(
    name: Annotated[str, typer.Argument(help="Name of an encoded prompt set.")],
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Delete the encoded files of a prompt set."""
    removed = library.remove_prompts(options.choose_layout(dataset, data), name)
    answer(as_json, {"removed": removed}, notes=[f"removed {path}" for path in removed])


def evaluate(
    dataset: options.Dataset = None,
    backbone: options.OneEmbedded = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """The paper's zero-shot methods (section 4.1): all pairs of labels on train, the best per task on test,
    with intervals. What the methods are: docs/prompting.md.

    Example: iaa prompts evaluate --dataset demo
    """
    layout = options.choose_layout(dataset, data)
    found = library.evaluate_prompts(layout, backbone, device, seed, n_boot)
    options.note_demo(found.backbone, layout.dataset)
    asked = f"--dataset {layout.dataset} --backbone {found.backbone}"
    notes = [f"always the commoner class of train: accuracy {found.majority:.4f}"]
    notes += [
        f"{name} is not encoded here; for its methods: iaa embed --prompts {name} {asked}"
        for name in found.missing
    ]
    if found.n_failed:
        notes.append(f"{found.n_failed} failed rows took no part")
    notes.append(f"Next: iaa report {asked}")
    value = {"dataset": layout.dataset, "results": [asdict(r) for r in found.results]}
    answer(as_json, value, shown_results(found.results), notes=notes)


def check(
    file: Annotated[str, typer.Argument(help="A prompt set by name, or a TOML file.")],
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="Whose tokenizer reads the texts; no weights are needed.")
    ] = "vit_b32.openai",
    as_json: options.Json = False,
) -> None:
    """Show what a prompt file will encode and everything that is wrong with it (exit code 1).

    Example: iaa prompts check mine.toml
    """
    found = library.check_prompts(file, backbone)
    notes = [f"note: {remark}" for remark in found.remarks]
    notes += [f"wrong: {problem}" for problem in found.problems]
    if not found.problems:
        notes.append(f"For a data set: iaa embed --prompts {file} --backbone {backbone} --dataset NAME")
    answer(as_json, asdict(found), *([found.table()] if found.name else []), notes=notes)
    if found.problems:
        raise typer.Exit(1)
