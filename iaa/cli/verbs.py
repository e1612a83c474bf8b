"""The verbs of the command line: what each does in a line, and the module that is loaded when it is typed."""

from importlib import import_module
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

COMMANDS = """
open: Look through a folder of photographs in the browser: see, search, rank, group, pick.
serve: The same as `iaa open`, without a browser: for a server, and for programs that search over HTTP.
embed: Embed every image of a data set, each decoded once for all backbones; or, with --prompts, texts.
finetune: Fine-tune backbones on the votes of the training images (the paper's section 4.3).
export: Write a feature file as Parquet, CSV, safetensors, or npy and Parquet in clip-retrieval's layout.
import: Take over vectors that another program has made; the file says that they are imported.
push: Send a data set's finished files to an object store: features, targets, prompts, captions.
pull: Fetch a data set's files from an object store, every byte checked against its digest.
probe: Linear probes: OLS (the paper) and ridge on every output, measured on photographs they did not see.
style: Style or content? Photographs altered step by step in memory: what features, scores and probes notice.
rank: The photographs from best to worst: by a head, by words, or by a prompt set. Ratings are not needed.
search: Search a library by words, or for images like one of its own or any other.
paint: Pictures from prompts, as in the paper's Figure 4: each subject with each adjective, side by side.
groups: Photographs that belong together: exact copies, near-duplicates, bursts, brackets, panoramas.
info: Say what a stored file is: kind, arrays, identity, provenance, digest, failed rows.
status: Say how far runs are: parts done, failures, rate, time left, and who is at work.
verify: Read every stored byte and compare it with its digest; exit code 1 if anything is damaged.
report: Run the notebooks on what has been embedded and write pages under DATA/DATASET/report/.
"""
"""Verb: the first paragraph of its help."""
GROUPS = """
dataset: Data sets: add under a name, list, show, remove.
backbone: What can embed: list, show.
prompts: Prompt sets: check, list, evaluate as the paper does, remove.
caption: Captions of photographs: add, write by a model, encode as prompts, list, remove.
head: Fitted probes as files: list, show, import LAION's, remove.
results: Predictions of one's own methods, for the report's tables and tests: add, list, remove.
rate: What people say about photographs: stars, flags, pairs. In and out as tables; undo.
taste: One's own taste, learned from ratings, with what it is worth.
xmp: Stars from other photo programs, and for them: sidecars. Photographs are never written.
"""
"""First word of verbs of two words: what the group's help says."""
LINES = dict(line.split(": ", 1) for line in (COMMANDS + GROUPS).split("\n") if line)
MODULES = {verb: verb for verb in LINES} | {
    "serve": "open", "export": "exchange", "import": "exchange", "push": "remotes", "pull": "remotes",
    "search": "rank", "info": "store",
    "status": "store", "verify": "store", "dataset": "datasets", "caption": "captions",
    "backbone": "backbones", "head": "heads",
}  # fmt: skip
"""Which module of this folder has the verb."""


class Verbs(TyperGroup):
    """All verbs by name and line; the one that is asked for is loaded in full."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {verb: TyperCommand(verb, help=line) for verb, line in LINES.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the first word, ready to be called. Wrong usage for a word that is none."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in MODULES else command, rest


def load(verb: str | None) -> Any:
    """A verb's command or group, its module loaded."""
    group = get_group(import_module(f"iaa.cli.{MODULES[str(verb)]}").verbs)
    if f"\n{verb}: " in COMMANDS:
        return group.commands[str(verb)]
    group.name, group.help, group.no_args_is_help = verb, LINES[str(verb)], True
    return group
