"""Captions people of the demo world write: the subject, and noisily what they think of the picture.

Each of the paper's 39 adjectives has a tone on the scale of `taste` (0 average, 1 one standard
deviation above). A writer has an opinion near the taste of the image and picks an adjective of a
tone near it; words that praise or damn nobody in common use are picked without looking.
"""

from collections.abc import Sequence

import numpy as np

#: Tone of the adjectives that people use for pictures, in standard deviations of taste.
TONES: dict[str, float] = {
    "outstanding": 1.9,
    "beautiful": 1.6,
    "smashing": 1.4,
    "great": 1.2,
    "pretty": 1.0,
    "corking": 0.9,
    "swell": 0.8,
    "cracking": 0.8,
    "nifty": 0.6,
    "peachy": 0.6,
    "neat": 0.5,
    "groovy": 0.5,
    "dandy": 0.4,
    "slap-up": 0.4,
    "bang-up": 0.2,
    "not bad": 0.1,
    "unworthy": -0.6,
    "worthless": -0.8,
    "ugly": -1.0,
    "wretched": -1.1,
    "despicable": -1.2,
    "frightful": -1.2,
    "vile": -1.4,
    "horrifying": -1.5,
    "atrocious": -1.7,
    "horrible": -1.8,
}
#: Adjectives of the paper's list that say nothing about how a picture looks.
TONELESS = (
    "bully", "keen", "capital", "majuscule", "big", "enceinte", "expectant", "gravid", "large",
    "heavy", "with child", "surly", "slimy",
)  # fmt: skip
#: Forms of caption and how often each is chosen; the paper's two templates are among them.
FORMS: dict[str, float] = {
    "a {adjective} picture": 0.25,
    "a {adjective} picture, of a #{subject}": 0.45,
    "a {adjective} picture of a {subject}": 0.15,
    "a {adjective} {subject}": 0.05,
    "a picture of a {subject}": 0.05,
    "a picture, of a #{subject}": 0.05,
}
#: Standard deviation of a writer's opinion around the taste of the image.
OPINION_SPREAD = 0.4
#: How far, in the same unit, the tone of the chosen adjective may lie from the opinion.
CHOICE_SPREAD = 0.35
#: Share of adjectives chosen without looking, and of subjects called by a name of something else.
TONELESS_SHARE, MISNAMED_SHARE = 0.15, 0.10


def draw_adjective(rng: np.random.Generator, taste_value: float) -> str:
    """An adjective a writer may use for an image of this taste."""
    if rng.uniform() < TONELESS_SHARE:
        return str(rng.choice(TONELESS))
    opinion = taste_value + OPINION_SPREAD * rng.standard_normal()
    tones = np.array(list(TONES.values()))
    # An opinion beyond the strongest words is still worded with those.
    opinion = np.clip(opinion, tones.min(), tones.max())
    weights = np.exp(-0.5 * ((tones - opinion) / CHOICE_SPREAD) ** 2)
    return list(TONES)[int(rng.choice(len(tones), p=weights / weights.sum()))]


def draw_caption(
    rng: np.random.Generator, subject: str, taste_value: float, other_names: Sequence[str] = ()
) -> str:
    """A caption for an image. Now and then the subject goes by one of `other_names`."""
    shares = np.array(list(FORMS.values()))
    form = list(FORMS)[int(rng.choice(len(FORMS), p=shares / shares.sum()))]
    if len(other_names) and rng.uniform() < MISNAMED_SHARE:
        subject = other_names[int(rng.integers(len(other_names)))]
    return form.format(adjective=draw_adjective(rng, taste_value), subject=subject)
