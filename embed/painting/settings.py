"""Settings of a picture: everything that shapes it besides what it is painted towards and begun with."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from embed.painting.errors import PaintingError

MAX_SIDE, MIN_SIDE, MAX_RATIO = 2048, 32, 4


@dataclass(frozen=True)
class Settings:
    """How to paint, each setting with what it means (the command line's help)."""

    height: Annotated[int, "Height in pixels."] = 256
    width: Annotated[int, "Width in pixels."] = 256
    steps: Annotated[int, "Steps of the optimiser (Adam)."] = 300
    rate: Annotated[float, "How far a step goes."] = 0.05
    cutouts: Annotated[int, "Random square cut-outs that the backbone looks at in each step."] = 32
    smallest: Annotated[float, "Side of the smallest cut-out as a share of the shorter edge."] = 0.4
    noise: Annotated[float, "Standard deviation of noise on the cut-outs, white = 1."] = 0.02
    seed: Annotated[int, "Of the first noise, the cut-outs and the noise on them."] = 0

    def __post_init__(self) -> None:
        sides = f"{self.width} x {self.height}"
        if not MIN_SIDE <= min(self.height, self.width) <= max(self.height, self.width) <= MAX_SIDE:
            raise PaintingError(f"a picture of {sides} pixels: its sides must be {MIN_SIDE} to {MAX_SIDE}")
        if max(self.height, self.width) > MAX_RATIO * min(self.height, self.width):
            raise PaintingError(
                f"a picture of {sides} pixels: the longer side may be {MAX_RATIO} times the shorter, for "
                "square cut-outs would see little of it"
            )
        rules = {
            "steps is 1 to 100,000": 1 <= self.steps <= 100_000,
            "cutouts is 1 to 1,024": 1 <= self.cutouts <= 1024,
            "rate is above 0 and at most 10": 0 < self.rate <= 10,
            "smallest lies above 0 and at most at 1": 0 < self.smallest <= 1,
            "noise is 0 to 1": 0 <= self.noise <= 1,
            "seed is 0 to 2^63 - 1": 0 <= self.seed < 2**63,
        }
        for rule, is_kept in rules.items():
            if not is_kept:
                name = rule.split()[0]
                raise PaintingError(f"setting out of range: {rule}; got {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return dataclasses.asdict(self)


def meanings() -> dict[str, tuple[type, str]]:
    """The type of each setting and what it means with its default, in the order of `Settings`."""
    hints, defaults = get_type_hints(Settings, include_extras=True), Settings()
    return {
        name: (hint.__origin__, f"{hint.__metadata__[0]} Default: {getattr(defaults, name)}.")
        for name, hint in hints.items()
    }


def make_settings(given: Mapping[str, Any]) -> Settings:
    """The settings with changes (None: the default). Raises PaintingError for an unknown name."""
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := set(given) - known:
        raise PaintingError(
            f"unknown settings {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    return Settings(**{name: value for name, value in given.items() if value is not None})
