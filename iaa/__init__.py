"""Photographs through frozen backbones into a verified store; every question from the arrays.

    import iaa
    ds = iaa.add_dataset("mine", kind="table", images="photos/", ratings="ratings.csv")
    ds.embed("efficientnet_lite0.in1k")
    ds.fit_probe().save("my-taste")
    ds.rank(head="my-taste").to_html("best.html")

The names below are loaded when they are first used, so that `import iaa` costs nothing.
"""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iaa.library.backbones import list_backbones, load_backbone
    from iaa.library.dataset import Dataset, add_dataset, open_dataset
    from iaa.library.datasets import list_datasets
    from iaa.library.errors import UsageError
    from iaa.library.painting import Painting, Paintings, paint
    from iaa.library.probing import ProbeFit
    from iaa.library.ranking import Ranking

__all__ = [
    "Dataset",
    "Painting",
    "Paintings",
    "ProbeFit",
    "Ranking",
    "UsageError",
    "add_dataset",
    "list_backbones",
    "list_datasets",
    "load_backbone",
    "open_dataset",
    "paint",
]

_PLACES = {
    "Dataset": "dataset",
    "Painting": "painting",
    "Paintings": "painting",
    "ProbeFit": "probing",
    "Ranking": "ranking",
    "UsageError": "errors",
    "add_dataset": "dataset",
    "list_backbones": "backbones",
    "list_datasets": "datasets",
    "load_backbone": "backbones",
    "open_dataset": "dataset",
    "paint": "painting",
}

#: In a notebook tqdm asks for widgets as soon as a library imports it; bars are drawn without.
warnings.filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'iaa' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(f"iaa.library.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
