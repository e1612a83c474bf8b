"""Settings of a run: everything that shapes its numbers, with the presets."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from finetune.errors import FinetuneError

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings:
    """How to train, each setting with what it means (`meanings`, the command line's help). The defaults are
    the paper's, where its section 4.3 gives them."""

    preset: Annotated[str, "Where every setting comes from that is not given."] = "paper"
    train: Annotated[
        str, "all; last:K for the last K blocks and what follows; head for the new layer on frozen features."
    ] = "all"
    optimizer: Annotated[str, "sgd or adam."] = "sgd"
    momentum: Annotated[float, "Of sgd; adam has its usual 0.9 and 0.999."] = 0.5
    lr_head: Annotated[float, "Learning rate of the new layer."] = 0.01
    lr_tower: Annotated[float, "Learning rate of everything else."] = 0.0001
    lr_head_first: Annotated[float, "Of the new layer during the head epochs; 0: as afterwards."] = 0.0
    weight_decay_head: Annotated[float, "Of the new layer."] = 0.0
    weight_decay_tower: Annotated[float, "Of everything else."] = 0.0
    batch_size: Annotated[int, "Images per step of the optimiser."] = 128
    micro_batch: Annotated[
        int, "Images per forward pass, where memory is short; gradients are summed up. 0: the whole batch."
    ] = 0
    dropout: Annotated[float, "Before the new layer."] = 0.0
    head_epochs: Annotated[int, "Epochs for the new layer alone, at first."] = 0
    max_epochs: Annotated[int, "Stop after so many epochs."] = 1000
    patience: Annotated[int, "Stop after so many epochs without gain on the held-out images."] = 10
    held_out: Annotated[float, "Share of train that decides when to stop."] = 0.1
    update_batch_norm: Annotated[
        bool, "Let batch norms follow the images; else they keep the statistics that they came with."
    ] = False
    precision: Annotated[str, "float32 or bfloat16 (autocast)."] = "float32"
    compile: Annotated[bool, "torch.compile the model."] = False
    seed: Annotated[int, "Of order, dropout and the new layer."] = 0

    def __post_init__(self) -> None:
        rules = {
            "train is all, head or last:K": re.fullmatch(r"all|head|last:[1-9][0-9]*", self.train),
            f"optimizer is one of {', '.join(OPTIMIZERS)}": self.optimizer in OPTIMIZERS,
            f"precision is one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
            "lr_head and lr_tower are above 0": min(self.lr_head, self.lr_tower) > 0,
            "lr_head_first is at least 0": self.lr_head_first >= 0,
            "weight_decay_head and weight_decay_tower are at least 0": (
                min(self.weight_decay_head, self.weight_decay_tower) >= 0
            ),
            "momentum and dropout lie in [0, 1)": 0 <= self.momentum < 1 and 0 <= self.dropout < 1,
            "held_out lies between 0 and 1": 0 < self.held_out < 1,
            "batch_size is at least 1": self.batch_size >= 1,
            "micro_batch is at least 0": self.micro_batch >= 0,
            "max_epochs and patience are at least 1": self.max_epochs >= 1 and self.patience >= 1,
            "head_epochs is at least 0": self.head_epochs >= 0,
        }
        for rule, is_kept in rules.items():
            if not is_kept:
                named = {k: v for k, v in self.to_json().items() if re.search(rf"\b{k}\b", rule)}
                raise FinetuneError(f"setting out of range: {rule}; got {named}")

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return dataclasses.asdict(self)


PRESETS: dict[str, Settings] = {
    "paper": Settings(),
    # As in the configuration of idealo's re-implementation, without its decay of the learning rate and its
    # random crops and flips.
    "nima": Settings(
        preset="nima", optimizer="adam", dropout=0.75, batch_size=96, head_epochs=5, max_epochs=14,
        patience=14, lr_head_first=0.001, lr_head=0.00003, lr_tower=0.00003,
    ),
    # The paper's with larger steps, for few and small images: a demonstration within seconds.
    "demo": Settings(preset="demo", batch_size=32, lr_head=0.1, lr_tower=0.06, max_epochs=9, patience=3),
}  # fmt: skip
"""By name; every setting can be overridden."""


def make_settings(preset: str, changes: Mapping[str, Any]) -> Settings:
    """A preset with changes (None: as in the preset). Raises FinetuneError for what is not known."""
    if preset not in PRESETS:
        raise FinetuneError(f"preset {preset!r} is unknown; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[preset], **{k: v for k, v in changes.items() if v is not None})


def meanings() -> dict[str, tuple[type, str]]:
    """The type of each setting and what it means, in the order of `Settings`."""
    hints = get_type_hints(Settings, include_extras=True)
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items()}
