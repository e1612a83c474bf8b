"""`iaa finetune`: a backbone trained end to end on the votes; its predictions go back into the store."""

from typing import TYPE_CHECKING, Any, Literal

import typer

from finetune.settings import meanings
from iaa.cli import options
from iaa.cli.console import note, progress, show

if TYPE_CHECKING:
    from iaa.library.layout import Layout

verbs = typer.Typer()


@verbs.command("finetune")
@options.with_settings(meanings())
@options.explain(
    preset=typer.Option(show_default="paper", help="paper, nima or demo: where every setting that is not "
        "given comes from. With --from-features: narrow or wide, MLSP's heads; default: what fits the "
        "features."),
    train="all; last:K for the last K blocks; head for the new layer on frozen features. Repeatable.",
    output="Output the new layer is put on. Default: the backbone's first.",
    pixels="cache: decode once, 150 KB an image at 224 pixels. stream: decode every epoch.",
    from_features=typer.Option(metavar="BACKBONE.OUTPUT", help="Instead: one of MLSP's heads on stored "
        "features, such as mlsp.narrow or mlsp_wide.wide, which are embedded first where they are not there; "
        "it predicts the mean vote. Of the settings --seed alone applies."),
)  # fmt: skip
def finetune(
    context: typer.Context,
    dataset: options.Dataset = None,
    backbone: options.Backbones = None,
    preset: str | None = None,
    train: list[str] | None = None,
    output: str | None = None,
    pixels: Literal["cache", "stream"] = "cache",
    from_features: str | None = None,
    threads: options.Threads = None,
    n_boot: options.Boot = 1000,
    weights: options.Weights = None,
    device: options.Device = "auto",
    data: options.Data = None,
    as_json: options.Json = False,
    **settings: Any,
) -> None:
    """Fine-tune backbones on the votes of the training images (the paper's section 4.3).

    The last layer becomes linear + softmax over the vote levels, the loss is emd_r2, and training stops when
    the loss on held-out training images no longer falls. Stop it at any time: the same command goes on where
    it stopped. The result is the backbone BACKBONE+finetuned.DIGEST: its predictions for all images lie in
    the store, and iaa embed knows it.

    Example: iaa finetune -d ava -b vit_b32.openai; watch it: tensorboard --logdir data/ava/finetuned
    """
    from iaa.library import backbones

    if from_features is not None:
        typed = options.typed(context, "backbone", "train", "output", "pixels", *settings)
        typed = [name for name in typed if name != "seed"]
        layout, seed = options.choose_layout(dataset, data), settings.get("seed") or 0
        return _from_features(
            context, from_features, layout, typed, preset, seed, weights, threads, device, n_boot, as_json,
        )  # fmt: skip
    backbones.check_ids(backbone or [])
    options.run_apart(context)
    from iaa.library.embedding import default_backbones
    from iaa.library.finetuning import finetune_by_preset
    from iaa.library.supervision import crash_folder

    layout = options.choose_layout(dataset, data)
    files = backbones.weight_files(default_backbones(layout.dataset, backbone), weights)
    done = finetune_by_preset(
        layout, backbone, preset or "paper", train, settings, files, device, output, pixels, threads, n_boot,
        progress, note, crash_folder(),
    )  # fmt: skip
    show(done, as_json)


def _from_features(
    context: typer.Context,
    given: str,
    layout: "Layout",
    typed: list[str],
    preset: str | None,
    seed: int,
    weights: list[str] | None,
    threads: int | None,
    device: str,
    n_boot: int,
    as_json: bool,
) -> None:
    from iaa.library.errors import UsageError
    from iaa.library.stacked import missing_backbone, train_from_features

    if typed:
        raise UsageError(f"--from-features takes its own settings: leave out --{', --'.join(typed)}")
    if missing := missing_backbone(layout, given):
        options.run_apart(context)
        from iaa.library.backbones import weight_files
        from iaa.library.embedding import How, embed
        from iaa.library.supervision import crash_folder

        note(f"{layout.dataset} has no features of {missing} yet: they are made first")
        files = weight_files([missing], weights)
        how = How(weights=files, device=device, threads=threads, crash_folder=crash_folder())
        embed(layout, [missing], how, progress=progress, say=note)
    done = train_from_features(layout, given, seed, device, n_boot, note, progress, preset)
    show(done, as_json)
