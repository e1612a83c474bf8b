"""`iaa prompts`: sets of texts, before and after they are encoded, and what they say about photographs."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, metric_cells, note, result_title
from iaa.library import prompts as library
from iaa.library.layout import Layout, data_root

SetName = Annotated[str, typer.Argument(help="A prompt set by name, or a TOML file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    about = "Prompt sets: check, list, evaluate as the paper does, remove."
    prompts = typer.Typer(no_args_is_help=True, help=about)
    prompts.command("check", no_args_is_help=True)(check)
    prompts.command("list")(list_)
    prompts.command("evaluate")(evaluate)
    prompts.command("remove", no_args_is_help=True)(remove)
    app.add_typer(prompts, name="prompts")


def list_(
    dataset: options.Dataset = None, data: options.Data = None, as_json: options.Json = False
) -> None:
    """List the prompt sets that are encoded for a data set."""
    layout = Layout(data_root(data), options.choose_dataset(dataset, data))
    found = library.list_prompts(layout)
    if as_json:
        answer_json({"dataset": layout.dataset, "prompts": found.rows()})
        return
    answer_table(found.title, list(found.columns), [list(row.values()) for row in found.rows()])
    if not len(found):
        note(f"None yet. Encode one: iaa embed --prompts paper_fixed --dataset {layout.dataset} -b ID")


def remove(
    name: Annotated[str, typer.Argument(help="Name of an encoded prompt set.", show_default=False)],
    dataset: options.Dataset = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Delete the encoded files of a prompt set."""
    layout = Layout(data_root(data), options.choose_dataset(dataset, data))
    removed = library.remove_prompts(layout, name)
    if as_json:
        answer_json({"removed": [str(path) for path in removed]})
        return
    for path in removed:
        note(f"removed {path}")


def evaluate(
    dataset: options.Dataset = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="A backbone with a text tower. Default: the only one embedded.",
            show_default=False,
        ),
    ] = None,
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
    layout = Layout(data_root(data), options.choose_dataset(dataset, data))
    found = library.evaluate_prompts(layout, backbone, device, seed, n_boot)
    options.note_demo(found.backbone, layout.dataset)
    if as_json:
        answer_json({"dataset": layout.dataset, "results": [asdict(r) for r in found.results]})
        return
    rows = []
    for result in found.results:
        pairs = [result.detail.get(k) for k in ("binary_pair", "continuous_pair")]
        named = "; ".join(" / ".join(pair) for pair in pairs if pair)
        rows.append([result.method, named, *metric_cells(result)])
    columns = ["method", "pairs (binary; continuous)", "accuracy", "SRCC", "PLCC"]
    answer_table(f"{result_title(found.results[0])}; {found.backbone}", columns, rows)
    note(f"always the commoner class of train: accuracy {found.majority:.4f}")
    for name in found.missing:
        note(
            f"{name} is not encoded here; for its methods: "
            f"iaa embed --prompts {name} -d {layout.dataset} -b {found.backbone}"
        )
    if found.n_failed:
        note(f"{found.n_failed} failed rows took no part")
    note(f"Next: iaa report --dataset {layout.dataset} --backbone {found.backbone}")


def check(
    file: SetName,
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="Whose tokenizer reads the texts; no weights are needed.")
    ] = "vit_b32.openai",
    as_json: options.Json = False,
) -> None:
    """Show what a prompt file will encode and everything that is wrong with it (exit code 1).

    Example: iaa prompts check mine.toml
    """
    found = library.check_prompts(file, backbone)
    if as_json:
        answer_json(asdict(found))
    else:
        _show(found)
        if not found.problems:
            note(f"For a data set: iaa embed --prompts {file} --backbone {backbone} --dataset NAME")
    if found.problems:
        raise typer.Exit(1)


def _show(found: library.Checked) -> None:
    if found.name:
        some = [*found.contents[:3], *(["..."] if len(found.contents) > 3 else [])]
        rows: list[list[Any]] = [["name", found.name]]
        sides = {"high": found.high, "low": found.low, "neutral": found.neutral}
        rows += [[f"{side} ({len(words)})", ", ".join(words)] for side, words in sides.items() if words]
        rows += [[f"templates ({len(found.templates)})", tuple(found.templates)]]
        rows += [[f"contents ({len(found.contents):,})", ", ".join(some)]] if found.contents else []
        first = [*found.texts[:3], *(["...", found.texts[-1]] if len(found.texts) > 3 else [])]
        rows += [[f"texts ({len(found.texts):,})", tuple(first)]]
        longest = f"{found.longest_tokens} of {found.context_length} tokens: {found.longest_text}"
        answer_table(f"What {found.file} encodes", ["what", "value"], [*rows, ["longest", longest]])
    for remark in found.remarks:
        note(f"note: {remark}")
    for problem in found.problems:
        note(f"wrong: {problem}")
