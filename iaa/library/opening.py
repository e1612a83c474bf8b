"""The files of a data set, opened: each error says which verb makes what is missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaa.library.backbones import is_known, is_tuned
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from store import Features, MissingFileError, open_features
from store.errors import did_you_mean, hinting
from store.targets import images_of_targets

if TYPE_CHECKING:
    from iaa.library.photographs import Photographs


def only_dataset(root: Path) -> str:
    """The one data set of a data root, by its name or its imported vectors.

    Raises UsageError where there is none or one must be chosen, and lists them.
    """
    there = sorted(p.parent.name for name in ("dataset.toml", "targets.h5") for p in root.glob(f"*/{name}"))
    names = list(dict.fromkeys(there))
    if len(names) == 1:
        return names[0]
    if not names:
        error = UsageError(f"{root.absolute()} has no data set yet. Add one, or try the built-in one, demo")
        command = "iaa dataset add NAME --kind folder --images DIR"
        raise hinting(error, command, "iaa.add_dataset(NAME, 'folder', DIR)")
    choices = " or ".join(f"--dataset {name}" for name in names)
    raise UsageError(f"{root.absolute()} has several data sets: choose one by {choices}")


def check_known(layout: Layout) -> None:
    """Raises DatasetError for an unknown data set, and lists the known; imported vectors need no config."""
    if not layout.folder.is_dir():
        from embed.images.datasets import load_config

        load_config(layout.root, layout.dataset)


def embedded_paths(layout: Layout) -> list[Path]:
    """The data set's feature files, in the order of their names."""
    return sorted(layout.features.glob("*.h5"))


def embedded_backbones(layout: Layout, given: Sequence[str] | None = None) -> list[str]:
    """The backbones asked for, without repeats, or all that have a feature file; fine-tuned ones, which a
    report shows anyway, only where there is nothing else.

    Raises MissingFileError where nothing is embedded, DatasetError for an unknown data set.
    """
    if given:
        return list(dict.fromkeys(given))
    names = [open_features(path).backbone for path in embedded_paths(layout)]
    if not names:
        open_embedded(layout)  # says how to make one
    return [name for name in names if not is_tuned(name)] or names


def open_embedded(layout: Layout, backbone: str | None = None) -> Features:
    """The feature file of a backbone, or the only one there is.

    Raises MissingFileError with the command that makes it, UsageError where one of several must be chosen,
    IdentityError where it is of other images than the data set lists, DatasetError for an unknown data set.
    """
    paths = embedded_paths(layout)
    if backbone is None and len(paths) > 1:
        raise _several(layout, [open_features(path) for path in paths])
    if backbone is None and paths:
        return _of_this_list(layout, open_features(paths[0]))
    path = layout.features if backbone is None else layout.features_of(backbone)
    if backbone is None or not path.exists():
        check_known(layout)
        stems = [p.stem for p in paths]
        error = MissingFileError(
            f"{path} {'does not exist' if backbone else 'holds no feature file'}; embedded with: "
            f"{', '.join(stems) or 'none'}.{_meant(backbone, stems)}"
        )
        is_made = backbone is None or is_known(backbone)
        raise hinting(error, *_embedding(layout, backbone)) if is_made else error
    return _of_this_list(layout, open_features(path, {"backbone": backbone}))


def open_clip_features(layout: Layout, backbone: str | None = None) -> Features:
    """The features of the backbone asked for, or of the only one whose space has prompts."""
    if backbone is not None:
        features = open_embedded(layout, backbone)
        if "embedding" in features.outputs:
            return features
    check_known(layout)
    opened = [open_features(path) for path in embedded_paths(layout)]
    fitting = [f for f in opened if "embedding" in f.outputs and not is_tuned(f.backbone)]
    if backbone is not None:
        raise UsageError(
            f"{backbone} has no joint embedding; words and prompts need a CLIP backbone: "
            + (_choices(fitting) or f"iaa embed --dataset {layout.dataset} --backbone vit_b32.openai")
        )
    if len(fitting) > 1:
        raise _several(layout, fitting)
    if not fitting:
        there = ", ".join(features.backbone for features in opened) or "none"
        error = MissingFileError(
            f"{layout.features} has no features of a backbone with a text tower (there: {there}). Make them "
            "with vit_b32.openai, whose weights are published; or, only to try it, with demo_clip, whose "
            "weights know nothing but the synthetic demo"
        )
        raise hinting(error, *_embedding(layout, "vit_b32.openai"))
    return _of_this_list(layout, fitting[0])


def has_photographs(layout: Layout) -> bool:
    """False for a data set of imported vectors, which knows its images by their ids alone."""
    from embed.images.datasets import is_named

    return is_named(layout.root, layout.dataset)


def open_photographs(layout: Layout, features: Path) -> "Photographs | None":
    """The photographs behind a feature file, or None where the vectors were imported without any.

    Raises DatasetError where they are not to be found.
    """
    from embed.images.datasets import build_table, load_config
    from iaa.library.photographs import Photographs

    check_known(layout)
    if not has_photographs(layout):
        return None
    config = load_config(layout.root, layout.dataset)
    return Photographs(build_table(config), config.exif_rotate, features)


def existing_head(root: Path, given: str, may_fetch: bool = True) -> Path:
    """The head of that name or path; a name is looked for in the data root first, then among the heads that
    come with the project, then among published ones, which are fetched. Raises MissingFileError, with the
    heads there are, for any other, and HeadUnavailable for one that cannot be had."""
    from analysis.probing.heads import SHIPPED, head_files
    from embed.backbones.published_heads import PUBLISHED
    from iaa.library.layout import head_path

    path = head_path(root, given)
    base = head_base(path)
    if Path(f"{base}.json").exists() or Path(f"{base}.safetensors").exists():
        return path
    if path.parent == root / "heads" and (SHIPPED / f"{path.name}.json").exists():
        return SHIPPED / path.name
    if may_fetch and given in PUBLISHED:
        from iaa.library.heads import fetch_head

        return fetch_head(root, given)
    known = [p.stem for p in head_files(root / "heads")]
    raise MissingFileError(
        f"there is no head {path}; in {root / 'heads'} there are: {', '.join(known) or 'none'}."
        f"{did_you_mean(given, [*known, *PUBLISHED])} Make one: "
        "iaa probe --dataset RATED --backbone B --output O --save NAME, or iaa head import FILE.pth; "
        "published ones: iaa head list"
    )


def check_new_head(path: Path, overwrite: bool) -> None:
    """UsageError where a head exists that must not be replaced."""
    if not overwrite and Path(f"{head_base(path)}.json").exists():
        raise UsageError(f"the head {path} exists: choose another name, or give --overwrite")


def head_base(path: Path) -> Path:
    """A head's path without the ending of either of its files."""
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def next_report(dataset: str, backbones: Sequence[str] | None) -> str:
    """The line that comes after something was measured: a report of the same backbones."""
    return " --backbone ".join([f"Next: iaa report --dataset {dataset}", *(backbones or [])])


def _several(layout: Layout, opened: list[Features]) -> UsageError:
    return UsageError(f"{layout.dataset} is embedded with several: choose one by {_choices(opened)}")


def _choices(opened: list[Features]) -> str:
    return " or ".join(f"--backbone {features.backbone}" for features in opened)


def _meant(backbone: str | None, there: list[str]) -> str:
    """For a name that no backbone has, those that are like it."""
    from embed.backbones.registry import BACKBONES

    is_mistyped = backbone is not None and not is_known(backbone)
    return did_you_mean(backbone or "", [*there, *BACKBONES]) if is_mistyped else ""


def _embedding(layout: Layout, backbone: str | None) -> tuple[str, str]:
    """The command and the call that make a feature file."""
    command = f"iaa embed --dataset {layout.dataset}" + (f" --backbone {backbone}" if backbone else "")
    return command, f"iaa.open_dataset({layout.dataset!r}).embed({repr(backbone) if backbone else ''})"


def _of_this_list(layout: Layout, features: Features) -> Features:
    """The features, if they are of the images that the data set lists. Raises IdentityError."""
    if layout.targets.exists():
        features.check_images(images_of_targets(layout.targets))
    return features
