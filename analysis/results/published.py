"""What was published about the methods of Tables 1 and 2, with its split and its source.

The text of the paper (Hentschel, Kobs, Hotho 2022) is known to us, its tables and figures are not. Numbers
are those of that text and of its authors' saved notebooks; for the methods it compares with, those that their
own papers, later tables or repositories give, which need not be the ones that the paper's Table 1 prints. A
number that none of these gives is absent here; none is guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

PAPER_SPLIT = "paper"
NOTEBOOK = "authors' notebook"
_QUOTED, _OWN = "as quoted", "own figures"
_NOT_STATED = "not stated"


@dataclass(frozen=True)
class Published:
    """One row of a published table. `key`, `backbone` and `outputs` say which result of ours reproduces it;
    without a key the row is cited from the literature and nothing here reproduces it."""

    label: str
    values: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    backbone: str = ""
    outputs: tuple[str, ...] = ()
    stand_in: str = ""
    """The demo world's backbone in the same role."""
    command: str = ""
    """What would make the result of ours."""
    note: str = ""
    """What the paper's text says of the row, with the section."""
    split: str = ""
    """The split of AVA that the values were measured on: 'paper', 'official', or what is known of it."""
    source: str = ""
    """Where the values stand."""
    group: str = ""
    """Under which heading of the table the row stands; '' for the one that `_group` finds."""


GROUPS = (
    "Baseline", "Other systems on another split: for reference only, says section 4",
    "Other systems on the paper's split, says section 4", "CLIP, prompting (section 4.1)",
    "Linear probing (section 4.2)", "Fine-tuning (section 4.3)",
)  # fmt: skip
"""The groups of Table 1, in its order."""
TODAY_GROUP = "Today, on AVA's official split: shown, never compared"


_VIT = "vit_b32.openai"
_MOBILENET = "timm:mobilenetv1_100.ra4_e3600_r224_in1k"
_PROMPTS = f"iaa embed --prompts paper_fixed --dataset ava --backbone {_VIT}"
_OTHER_SPLIT = "certainly another split than the paper's, says section 4"
_SAME_SPLIT = "on the paper's split, says section 4"
_ROWS: tuple[Published, ...] = (
    Published(
        "majority", {"accuracy": 0.703}, "majority", command="iaa probe --dataset ava", split=PAPER_SPLIT,
        source="section 4",
    ),
    Published(
        "NIMA (Inception-v2)", {"accuracy": 0.8151, "srcc": 0.612, "plcc": 0.636}, note=_OTHER_SPLIT,
        split=_NOT_STATED, source=f"{_OWN}, {_QUOTED}",
    ),
    Published(
        "NIMA (MobileNet)", {"accuracy": 0.8036, "srcc": 0.510, "plcc": 0.518}, note=_OTHER_SPLIT,
        split=_NOT_STATED, source=f"{_OWN}, {_QUOTED}",
    ),
    Published(
        "NIMA, re-implementation (idealo)", {"srcc": 0.609, "plcc": 0.626}, "nima", _MOBILENET,
        stand_in="demo_vit", command=f"iaa finetune --dataset ava --backbone {_MOBILENET} --preset nima",
        split=PAPER_SPLIT, source="its repository",
    ),
    Published(
        "MLSP", {"accuracy": 0.8172, "srcc": 0.756, "plcc": 0.757}, note=_OTHER_SPLIT,
        split="official", source=f"{_OWN}, two {_QUOTED}",
    ),
    *(
        Published(
            f"MLSP, trained on the paper's split: {name} features", {}, f"stacked.{name}", backbone, (name,),
            command=f"iaa finetune --dataset ava --from-features {backbone}.{name}",
            note="trained anew by its authors' code, says section 4, and not on which of its features",
        )
        for name, backbone in (("narrow", "mlsp"), ("wide", "mlsp_wide"))
    ),
    Published(
        "MPada", {"srcc": 0.727, "plcc": 0.731}, note=_SAME_SPLIT,
        split="paper, by its authors' list", source=_QUOTED,
    ),
    Published("A-Lamp", {"accuracy": 0.825}, note=_SAME_SPLIT, split=_NOT_STATED, source=_QUOTED),
    Published(
        "Zeng et al. 2020", {"accuracy": 0.808, "srcc": 0.719, "plcc": 0.720}, note=_SAME_SPLIT,
        split=_NOT_STATED, source=_QUOTED,
    ),
    Published(
        "PA_IAA", {"accuracy": 0.837, "srcc": 0.677}, note=_OTHER_SPLIT, split=_NOT_STATED, source=_QUOTED
    ),
    Published(
        "MUSIQ", {"accuracy": 0.815, "srcc": 0.726, "plcc": 0.738}, note=_SAME_SPLIT, split=_NOT_STATED,
        source=_QUOTED,
    ),
    Published(
        "CLIP, fixed prompts",
        {"accuracy": 0.7253, "recall_low": 0.3182, "recall_high": 0.8976},
        "prompting.fixed", _VIT, ("embedding",), "demo_clip", _PROMPTS, split=PAPER_SPLIT, source=NOTEBOOK,
    ),
    Published(
        "CLIP, context-aware prompts", {}, "prompting.context", _VIT, ("embedding",), "demo_clip", _PROMPTS,
        "better than fixed prompts in every metric, says section 4.1.2",
    ),
    Published(
        "CLIP, prompt ensemble", {}, "prompting.ensemble_mean_of_raw", _VIT, ("embedding",), "demo_clip",
        _PROMPTS, "better than context-aware prompts, says section 4.1.3",
    ),
    Published(
        "ViT (ImageNet-21k), linear probe", {}, "probe.ols", "vit_b32.in21k", ("pre_logits",), "demo_vit",
        "iaa embed --dataset ava --backbone vit_b32.in21k",
        "about 3 points of accuracy and about 0.1 of both correlations below CLIP's, says section 4.2",
    ),
    Published(
        "CLIP, linear probe",
        {"accuracy": 0.7933, "srcc": 0.6738, "plcc": 0.6820},
        "probe.ols", _VIT, ("pre_projection",), "demo_clip", f"iaa embed --dataset ava --backbone {_VIT}",
        "its ViT and its ResNet notebook hold the same output; only a folder's name says CLIP",
        PAPER_SPLIT, NOTEBOOK,
    ),
    Published(
        "ViT (ImageNet-21k), fine-tuned", {}, "finetune", "vit_b32.in21k", (), "demo_vit",
        "iaa finetune --dataset ava --backbone vit_b32.in21k",
        "below CLIP's linear probe in every metric, best epoch 247, says section 4.3",
    ),
    Published(
        "CLIP, fine-tuned", {}, "finetune", _VIT, (), "demo_clip",
        f"iaa finetune --dataset ava --backbone {_VIT}",
        "highest correlations of those on the paper's split, best epoch 35, says section 4.3",
    ),
)  # fmt: skip


def _group(row: Published) -> str:
    by_key = {"majority": 0, "prompting": 3, "probe": 4, "finetune": 5}
    start = row.key.partition(".")[0]
    return GROUPS[by_key.get(start, 1 if row.note == _OTHER_SPLIT else 2)]


TABLE_1: tuple[Published, ...] = tuple(
    replace(row, group=group) for group in GROUPS for row in _ROWS if _group(row) == group
)
"""The methods of Table 1 that the paper's text names (section 4), AVA, in groups."""

_CARD, _IQA = "q-future/one-align, model card", "chaofengc/IQA-PyTorch, benchmark results"
TODAY: tuple[Published, ...] = tuple(
    Published(label, values, split="official", source=source, group=TODAY_GROUP)
    for label, values, source in (
        ("OneAlign", {"srcc": 0.823, "plcc": 0.819}, _CARD),
        ("VILA-R", {"srcc": 0.774}, _CARD),
        ("LAION-style head on CLIP, retrained on AVA", {"srcc": 0.721, "plcc": 0.723}, _CARD),
        ("CLIP-IQA, zero-shot", {"srcc": 0.3383, "plcc": 0.3576}, _IQA),
    )
)
"""Later systems, which the paper could not know."""

TABLE_2: tuple[Published, ...] = tuple(
    Published(
        f"{name}, linear probe", {}, "probe.ols", backbone, outputs, stand_in,
        f"iaa embed --dataset ava --backbone {backbone}", note, group="Linear probing (section 5)",
    )
    for name, backbone, outputs, stand_in, note in (
        ("RN50, ImageNet-21k (MIIL)", "rn50.in21k_miil", (), "demo_vit", "below both CLIP, says section 5"),
        ("RN50, CLIP on CC12M", "rn50.cc12m", ("embedding",), "demo_clip",
         "better than ImageNet-21k's, says section 5"),
        ("RN50, CLIP on YFCC15M", "rn50.yfcc15m", ("embedding",), "",
         "better than ImageNet-21k's, says section 5"),
    )
)  # fmt: skip
"""Table 2 of the paper: the same probe on ResNet-50s of different pretraining. Which output it reads the text
does not say; the authors' code takes what `encode_image` gives."""

NOTEBOOK_PRINTS: Mapping[str, float] = {
    "intercept": 5.3840265,
    "lowest prediction": 2.3244534,
    "highest prediction": 7.304132,
    "mean prediction": 5.3783875,
}
"""Bare numbers in the saved output behind "CLIP, linear probe", most likely these (paper's test split)."""

BEST_PAIRS: Mapping[str, tuple[str, str]] = {
    "prompting.fixed": ("outstanding / atrocious", "outstanding / horrible"),
    "prompting.context": ("smashing / horrible", "outstanding / horrible"),
    "prompting.ensemble_mean_of_raw": ("smashing / horrible", "outstanding / horrible"),
}
"""Labels that the paper found best on AVA's training images (section 4.1): (binary, continuous)."""

BEST_EPOCH: Mapping[str, int] = {"vit_b32.openai": 35, "vit_b32.in21k": 247}
"""Best epoch in the paper (section 4.3): CLIP and the ViT of ImageNet-21k, AVA."""
