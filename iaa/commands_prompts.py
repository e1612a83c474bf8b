"""`iaa prompts`: a look at prompt files before anything is encoded."""

from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note


def register(app: typer.Typer) -> None:
    """Add the commands."""
    prompts = typer.Typer(help="Look at prompt sets before they are encoded.")
    prompts.callback()(_group)
    prompts.command("check", no_args_is_help=True)(check)
    app.add_typer(prompts, name="prompts", no_args_is_help=True)


def _group() -> None:
    """A callback keeps `check` a subcommand although it is the only one."""


def check(
    file: Annotated[str, typer.Argument(help="A TOML file, or paper_fixed or paper_context.")],
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="Whose tokenizer reads the texts; no weights are needed.")
    ] = "vit_b32.openai",
    as_json: options.Json = False,
) -> None:
    """Show what a prompt file will encode and everything that is wrong with it (exit code 1).

    Example: iaa prompts check mine.toml
    """
    from embed.prompt_sets import PromptSetError, expand, get_prompt_set, resolve_contents
    from embed.text import describe_same, measure_tokens, name_some

    try:
        prompt_set = get_prompt_set(file)
    except PromptSetError as error:
        if as_json:
            answer_json({"file": file, "problems": list(error.problems)})
        else:
            for problem in error.problems:
                note(f"wrong: {problem}")
        raise typer.Exit(1) from error
    table = expand(prompt_set)
    tokens = measure_tokens(table.text, backbone)
    problems = []
    if tokens.too_long:
        problems.append(
            f"{len(tokens.too_long):,} of {len(table):,} texts have more than the {tokens.context_length} "
            f"tokens that {backbone} reads: {name_some(tokens.too_long)}. Shorten them"
        )
    if same := describe_same(table, tokens.same, backbone):
        problems.append(same)
    sides = {
        side: [label.text for label in prompt_set.labels if label.polarity == polarity]
        for side, polarity in (("high", 1), ("low", -1), ("neutral", 0))
    }
    contents = resolve_contents(prompt_set)
    remarks = []
    if not sides["high"] or not sides["low"]:
        remarks.append("no pair can be formed: ranking needs a high and a low label")
    if repeated := sum(len(rows) - 1 for rows in tokens.same if len({table.label[row] for row in rows}) == 1):
        remarks.append(f"{repeated:,} texts have the tokens of an earlier one; they count again in means")
    described: dict[str, Any] = {
        "name": prompt_set.name,
        **sides,
        "templates": list(prompt_set.templates),
        "n_contents": len(contents),
        "n_prompts": len(table),
        "context_length": tokens.context_length,
        "longest": {"tokens": tokens.longest, "text": tokens.longest_text},
        "remarks": remarks,
        "problems": problems,
    }
    if as_json:
        answer_json({"file": file, **described, "texts": list(table.text)})
    else:
        some = list(contents[:3]) + (["..."] if len(contents) > 3 else [])
        rows: list[list[Any]] = [["name", prompt_set.name]]
        rows += [[f"{side} ({len(words)})", ", ".join(words)] for side, words in sides.items() if words]
        rows += [[f"templates ({len(prompt_set.templates)})", tuple(prompt_set.templates)]]
        rows += [[f"contents ({len(contents):,})", ", ".join(some)]] if contents else []
        first = list(table.text[:3]) + (["...", table.text[-1]] if len(table) > 3 else [])
        rows += [[f"texts ({len(table):,})", tuple(first)]]
        rows += [["longest", f"{tokens.longest} of {tokens.context_length} tokens: {tokens.longest_text}"]]
        answer_table(f"What {file} encodes", ["what", "value"], rows)
        for remark in remarks:
            note(f"note: {remark}")
        for problem in problems:
            note(f"wrong: {problem}")
        if not problems:
            note(f"Next: iaa embed-prompts --dataset NAME --backbone {backbone} --prompts {file}")
    if problems:
        raise typer.Exit(1)
