"""Are pictures painted "outstanding" better than "horrible" ones by what did not guide them?

    python -m benchmarks.painting --seeds 10 [--decoder taef2_decoder.pth] [--json FILE]

demo_clip guides. Two judges that had no part in it: a ridge probe on demo_vit, another network, fitted to
the true taste of demo photographs; and a regression of that taste on pixel measures (brightness, contrast,
colour, grain), without any network. Their worth on other demo photographs is printed first. The demo is a
synthetic world: nothing here says anything about photographs.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binomtest, spearmanr

from embed.backbones.loading import load_backbone
from embed.demo.world import render_image, world_table
from embed.painting.decoder import load_coder
from embed.painting.guide import Guide
from embed.painting.measures import measure
from embed.painting.paint import paint
from embed.painting.settings import Settings

SUBJECTS = ("beacon", "castle", "volcano")
ADJECTIVES = ("outstanding", "horrible")
N_TRAIN, N_TEST = 400, 200
Judge = Callable[[np.ndarray], float]


def fit_judges(n_train: int = N_TRAIN, n_test: int = N_TEST) -> tuple[dict[str, Judge], dict[str, float]]:
    """Judges of pixels by name, in standard deviations of taste, and their SRCC on other images."""
    world = world_table(n_train, n_test)
    taste = world.columns["true_taste"]
    pictures = [np.asarray(render_image(world, row)) for row in range(len(world))]
    vit = load_backbone("demo_vit")
    looks: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "probe on demo_vit": lambda pixels: _features(vit, pixels),
        "pixel measures": _measures,
    }
    judges, worth = {}, {}
    for name, features in looks.items():
        X = np.array([features(pixels) for pixels in pictures])
        mean, std = X[:n_train].mean(axis=0), X[:n_train].std(axis=0)
        Z = (X - mean) / std
        gram = Z[:n_train].T @ Z[:n_train] + 10.0 * np.eye(Z.shape[1])
        weights = np.linalg.solve(gram, Z[:n_train].T @ (taste[:n_train] - taste[:n_train].mean()))

        def judge(pixels: np.ndarray, features=features, mean=mean, std=std, weights=weights) -> float:
            return float((features(pixels) - mean) / std @ weights)

        judges[name] = judge
        worth[name] = float(spearmanr(Z[n_train:] @ weights, taste[n_train:]).statistic)
    return judges, worth


def _features(vit, pixels: np.ndarray) -> np.ndarray:
    return vit.encode_images(vit.transform(Image.fromarray(pixels))[None])["pre_logits"].double().numpy()[0]


def _measures(pixels: np.ndarray) -> np.ndarray:
    found = measure(pixels)
    brightness = found["brightness"]
    return np.array([*found.values(), (brightness - 0.5) ** 2])


def main() -> None:
    """Paint, judge, print a row per seed and what is left of it over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--sheet", type=Path, help="write the pictures into one PNG, a row per seed and adjective"
    )
    for name, default in {"size": 96, "steps": 100, "cutouts": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"rate": 0.05, "smallest": 0.6, "noise": 0.02}.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    given = parser.parse_args()
    judges, worth = fit_judges()
    print(
        "SRCC with the true taste of 200 other demo photographs:", {k: round(v, 3) for k, v in worth.items()}
    )
    guide = load_backbone("demo_clip")
    decoder = load_coder(given.decoder, "decoder")[0] if given.decoder else None
    rows, sheet = [], []
    for seed in range(given.first, given.first + given.seeds):
        for subject in given.subjects:
            both = {}
            for adjective in ADJECTIVES:
                settings = Settings(
                    given.size,
                    given.size,
                    given.steps,
                    given.rate,
                    given.cutouts,
                    given.smallest,
                    given.noise,
                    seed,
                )
                started = time.process_time()
                pixels = paint(
                    Guide(guide, f"a {adjective} picture of a {subject}"), settings, decoder=decoder
                ).pixels
                scores = {name: judge(pixels) for name, judge in judges.items()}
                both[adjective] = scores | measure(pixels)
                both[adjective]["cpu_seconds"] = time.process_time() - started
                sheet.append(pixels)
            rows.append({"seed": seed, "subject": subject, **both})
            high, low = (both[adjective] for adjective in ADJECTIVES)
            told = "  ".join(f"{name} {high[name]:.3f} {low[name]:.3f}" for name in high)
            print(seed, subject, told, flush=True)
    names = [name for name in rows[0][ADJECTIVES[0]] if name != "cpu_seconds"]
    n_subjects = len(given.subjects)
    for name in names:
        gaps = np.array([row["outstanding"][name] - row["horrible"][name] for row in rows])
        per_seed = gaps.reshape(-1, n_subjects).mean(axis=1)
        n = int((per_seed > 0).sum())
        p = binomtest(n, len(per_seed)).pvalue
        print(
            f"{name}: outstanding higher in {n} of {len(per_seed)} seeds (mean over subjects; two-sided p "
            f"{p:.3f}), in {(gaps > 0).sum()} of {len(gaps)} pairs; mean gap {gaps.mean():.3f}"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if given.sheet:
        by_adjective = [
            sheet[i::2][k : k + n_subjects] for k in range(0, len(sheet) // 2, n_subjects) for i in (0, 1)
        ]
        Image.fromarray(np.vstack([np.hstack(row) for row in by_adjective])).save(given.sheet)


if __name__ == "__main__":
    main()
