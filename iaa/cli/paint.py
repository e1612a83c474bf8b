"""`iaa paint`: pictures from prompts, as in the paper's Figure 4."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from embed.painting.settings import meanings
from iaa.cli import options
from iaa.cli.console import progress, show

verbs = typer.Typer()


class ManyWords(TyperCommand):
    """A command whose --adjectives takes all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Each word as an option of its own, which is what the parser takes."""
        spelled: list[str] = []
        is_word = False
        for word in args:
            if word == "--adjectives" or word.startswith("-"):
                is_word = word == "--adjectives"
                spelled += [] if is_word else [word]
            else:
                spelled += ["--adjectives", word] if is_word else [word]
        return super().parse_args(ctx, spelled)


@verbs.command("paint", cls=ManyWords, no_args_is_help=True)
@options.with_settings({name: each for name, each in meanings().items() if name not in ("height", "width")})
@options.explain(
    head="A head, by name or path: without adjectives, each subject once towards a high and once towards a "
    "low score; no subject is needed.",
    decoder="Paint by the latents of a decoder (taef2_decoder.pth), not by Fourier coefficients.",
    encoder="With --decoder and --from; else looked for beside the decoder.",
    size="Edge of a square, shorter edge of a photograph, or WIDTHxHEIGHT. Default: 256.",
    dataset=("-d", "Keep them in DATA/DATASET/painted, as Figure 4 of its report."),
    out=("-o", "Folder of the pictures and their page. Default: paintings."),
    backbone=("-b", "Guides. Default: the head's, else the data set's only CLIP, else vit_b32.openai."),
    template="How subject and adjective become a text.",
    subjects=typer.Argument(help="What to paint, before the options; each in quotes."),
    adjectives=typer.Option("--adjectives", metavar="WORD...", help="Each subject once with each of these "
        "words."),
    photograph=typer.Option("--from", metavar="PHOTO", help="Begin with this photograph, not with noise."),
    head_weight=typer.Option(min=0, help="Of a point of the head's score beside the distance to the text."),
)  # fmt: skip
def paint(
    subjects: list[str] | None = None,
    adjectives: list[str] | None = None,
    head: str | None = None,
    photograph: Path | None = None,
    decoder: Path | None = None,
    encoder: Path | None = None,
    size: str | None = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted from --seed.")] = 1,
    dataset: str | None = None,
    out: Path | None = None,
    backbone: str | None = None,
    template: str = "a {adjective} picture of {subject}",
    head_weight: float = 0.05,
    weights: options.Weights = None,
    device: options.Device = "auto",
    data: options.Data = None,
    as_json: options.Json = False,
    **settings: Any,
) -> None:
    """Pictures from prompts, as in the paper's Figure 4: each subject with each adjective, side by side.

    A backbone guides: the picture is moved until random cut-outs of it lie near the text, or score high. Stop
    it at any time: the same command goes on with the pictures that are missing. preview.png shows the one in
    work. Settings lie inside each PNG: iaa info PICTURE.png. What pictures show and what not: docs/paint.md.

    Example: iaa paint "a lighthouse" "a castle" --adjectives outstanding horrible; and, as Figure 4 of the
    report of a data set: iaa paint "a lighthouse" "a castle" --adjectives outstanding horrible -d mine
    """
    from iaa.library import painting
    from iaa.library.backbones import one_weights_file

    folder = out or (Path("paintings") if dataset is None else None)
    name = backbone or (painting.DEFAULT_BACKBONE if head is None and dataset is None else None)
    done = painting.paint(
        subjects or [], adjectives or [], backbone, head, photograph, decoder, encoder, size, seeds, template,
        head_weight, folder, one_weights_file(name, weights), device, data, dataset, progress,
        None, **settings,
    )  # fmt: skip
    if done:
        options.note_demo(done[0].about["backbone"], dataset or "")
    show(done, as_json)
