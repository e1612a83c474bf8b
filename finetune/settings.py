"""Settings of a run: everything that shapes its numbers, with the presets."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.targets import FinetuneError

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults are the paper's, where its section 4.3 gives them."""

    preset: str = "paper"
    train: str = "all"
    """'all', 'last:K' (the last K blocks and what follows them) or 'head' (the new layer alone)."""
    optimizer: str = "sgd"
    momentum: float = 0.5
    """Of SGD; Adam has its usual 0.9 and 0.999."""
    lr_head: float = 0.01
    lr_tower: float = 0.0001
    lr_head_first: float = 0.0
    """Of the head during `head_epochs`; 0 means `lr_head`."""
    weight_decay_head: float = 0.0
    weight_decay_tower: float = 0.0
    batch_size: int = 128
    """Images per step of the optimiser."""
    micro_batch: int = 0
    """Images per forward pass; gradients are accumulated to `batch_size`. 0: the whole batch at once."""
    dropout: float = 0.0
    """Before the head."""
    head_epochs: int = 0
    """Epochs in which the head alone is trained, before all of `train`."""
    max_epochs: int = 1000
    patience: int = 10
    """Stop when the loss on the held-out images has not improved for so many epochs."""
    held_out: float = 0.1
    """Share of train that decides about the best epoch."""
    update_batch_norm: bool = False
    """Whether batch normalisation follows the new images; otherwise it keeps the statistics it came with."""
    precision: str = "float32"
    compile: bool = False
    seed: int = 0

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
