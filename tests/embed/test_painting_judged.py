"""Are pictures painted "outstanding" better than "horrible" ones, by judges that had no part in it?"""

import numpy as np
import pytest

from benchmarks.painting import fit_judges
from embed.backbones.loading import load_backbone
from embed.painting.guide import Guide
from embed.painting.measures import measure
from embed.painting.paint import paint
from embed.painting.settings import Settings

SUBJECTS, N_SEEDS = ("beacon", "castle"), 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_outstanding_pictures_are_better_than_horrible_ones():
    judges, worth = fit_judges()
    assert worth["probe on demo_vit"] > 0.35 and worth["pixel measures"] > 0.6
    clip = load_backbone("demo_clip")
    gaps: dict[str, list[float]] = {}
    for seed in range(N_SEEDS):
        of_seed: dict[str, list[float]] = {}
        for subject in SUBJECTS:
            settings = Settings(64, 64, steps=80, cutouts=4, smallest=0.6, seed=seed)
            high, low = (
                paint(Guide(clip, f"a {word} picture of a {subject}"), settings).pixels
                for word in ("outstanding", "horrible")
            )
            for name, judge in judges.items():
                of_seed.setdefault(name, []).append(judge(high) - judge(low))
            for name in ("contrast", "colour"):
                of_seed.setdefault(name, []).append(measure(high)[name] - measure(low)[name])
        for name, found in of_seed.items():
            gaps.setdefault(name, []).append(float(np.mean(found)))
    wins = {name: sum(gap > 0 for gap in found) for name, found in gaps.items()}
    assert all(n >= 9 for n in wins.values()), (wins, gaps)
