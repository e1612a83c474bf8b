"""The page about the data: who rated what, and what is in the store; and for photographs without ratings,
what can be said all the same."""

import datetime
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from analysis.evidence.labels import high_from_targets, targets_mos
from analysis.figures.data import plot_map, plot_votes
from analysis.figures.drawn import Drawn
from analysis.figures.photographs import PhotoGrid, Shot
from analysis.grouping.groups import Shots, group_photographs
from analysis.grouping.thresholds import choose_thresholds
from analysis.plane import plane
from analysis.probing.heads import find_heads, score_features
from analysis.prompting.scores import winning_prompt
from analysis.report.prompting import ends_of, ranked, score_prompts_of
from analysis.report.study import Study
from analysis.results.names import name_backbone
from analysis.results.printed import Cell, Code, Number, Printed
from store import Features

PACKAGES = ("image-aesthetics-store", "numpy", "scipy", "h5py", "matplotlib")


def facts(study: Study) -> Printed:
    """What this data set is: sizes, split, ratings, digest, the date of its newest file, versions."""
    targets = study.targets
    splits = Counter(targets.split.tolist())
    said = ", ".join(f"{n:,} {name or 'without'}" for name, n in sorted(splits.items()))
    rows: list[list[Cell]] = [["photographs", f"{targets.n_images:,}"]]
    lost = {name_backbone(name): len(features.failures) for name, features in study.features.items()}
    if lost:
        each = ", ".join(f"{n:,} ({name})" for name, n in lost.items())
        is_same = len(set(lost.values())) == 1
        rows.append(["failed: could not be read", f"{max(lost.values()):,}" if is_same else each])
    if targets.is_rated:
        rows.append(["split", f"{targets.split_name}: {said}"])
        high = high_from_targets(targets)
        rows.append(["ratings", "votes" if targets.votes is not None else "scores"])
        if targets.votes is not None:
            rows.append(["votes per photograph, median", f"{np.median(targets.votes.sum(axis=1)):.0f}"])
        rows.append(
            [
                f"high: mean strictly above {targets.threshold:g}",
                f"{high.sum():,} of {len(high):,} ({high.mean():.1%})",
            ]
        )
    else:
        rows.append(["ratings", "none"])
    rows.append(["digest of the list and its ratings", Code(targets.digest[:16])])
    newest = max((f.path.stat().st_mtime for f in study.features.values()), default=0.0)
    if newest:
        rows.append(
            ["newest features", datetime.datetime.fromtimestamp(newest, datetime.UTC).strftime("%Y-%m-%d")]
        )
    if targets.is_rated:
        needed = "comparisons take as many as their correction needs"
        rows.append(["seed, resamples", f"{study.seed}, {study.n_boot:,} for intervals; {needed}"])
    rows.append(["versions", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)])
    return Printed("facts", ["data set", study.dataset], rows)


def votes(study: Study) -> Iterator[Drawn]:
    """How people rated; nothing without ratings."""
    targets = study.targets
    if not targets.is_rated:
        return
    mean_vote = targets_mos(targets)
    counts, edges = np.histogram(mean_vote, bins=60)
    lines = [[float(a), float(b), int(n)] for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    yield Drawn(
        "votes",
        plot_votes(mean_vote, targets.threshold, targets.votes, targets.levels),
        f"Mean votes of {len(mean_vote):,} photographs, from {mean_vote.min():.2f} to "
        f"{mean_vote.max():.2f}, median {np.median(mean_vote):.2f}; threshold {targets.threshold:g}.",
        ("from", "to", "photographs"),
        lines,
    )


def samples(study: Study, n_shown: int = 10) -> PhotoGrid:
    """Photographs from the lowest mean vote to the highest, evenly spaced in rank; unrated, in the list."""
    targets = study.targets
    mean_vote = targets_mos(targets) if targets.is_rated else None
    order = np.arange(targets.n_images) if mean_vote is None else np.argsort(mean_vote, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(n_shown, len(order))).astype(int)]
    shots = [
        Shot(
            str(targets.image_id[r]),
            str(targets.path[r]),
            [] if mean_vote is None else [f"mean vote {mean_vote[r]:.2f}"],
        )
        for r in rows
    ]
    return PhotoGrid("samples", shots, study.images, columns=5)


def store(study: Study) -> Iterator[Printed]:
    """A line per feature file, and the reasons of failed rows."""
    rows: list[list[Cell]] = []
    reasons: Counter[str] = Counter()
    for features in [*study.features.values(), *study.tuned.values()]:
        outputs = ", ".join(f"{name} {dim}" for name, dim in features.outputs.items())
        prepared = features.identity.get("preprocessing", "")  # of imported vectors only a word is known
        decoder = prepared if isinstance(prepared, str) else prepared["decoder"]
        weights = str(features.identity.get("weights_sha256", ""))[:12]
        rows.append(
            [
                name_backbone(features.backbone),
                outputs,
                int(features.ok.sum()),
                len(features.failures),
                str(decoder),
                str(features.identity.get("precision", "")),
                Code(weights),
                Code(features.digest[:12]),
            ]
        )
        reasons.update(features.failures.values())
    headings = ["backbone", "outputs", "ok", "failed", "decoder", "precision", "weights", "digest"]
    note = "Weights: SHA-256 of the file. Digest: of all of the feature file's content; iaa verify checks it."
    yield Printed("store", headings, rows, "Feature files", notes=[note])
    if reasons:
        yield Printed(
            "failures",
            ["reason", "rows"],
            [[r, n] for r, n in reasons.most_common(10)],
            "Failed rows by reason",
        )


def best_and_last(study: Study, n_shown: int = 8) -> Iterator[PhotoGrid]:
    """The best and the last photographs: by prompts where a backbone reads words, else by a head."""
    shown = list(ranked(study, n_shown)) if study.prompts else []
    for name, features in study.features.items() if not shown else ():
        for head in find_heads(study.folder.parent / "heads", features)[0][:1]:
            shown += ends_of(study, name, _scores(head, features), f"the head {head.name}", n_shown)
    yield from shown


def first_look(study: Study, n_shown: int = 4) -> Iterator[PhotoGrid]:
    """The same for the first page: a few by one method, of photographs that nobody rated."""
    if not study.targets.is_rated and any(features.ok.any() for features in study.features.values()):
        yield from list(best_and_last(study, n_shown))[:2]


def _scores(head: object, features: Features) -> np.ndarray:
    return np.asarray(score_features(head, features), np.float64)  # type: ignore[arg-type]


def groups(study: Study, n_groups: int = 4) -> Iterator[Printed | PhotoGrid]:
    """What belongs together by its vectors and the files' bytes: how many, and the first groups."""
    name, features = next(iter(study.features.items()))
    output = "embedding" if "embedding" in features.outputs else next(iter(features.outputs))
    ok = np.flatnonzero(features.ok)
    vectors = features.read(output, features.ok, unit_norm=True)
    sha256 = features.file.view("source_sha256")[:][ok] if "source_sha256" in features.file.arrays else None
    found = group_photographs(
        vectors, Shots(sha256=sha256), choose_thresholds(features.backbone, output, vectors).thresholds
    )
    if not found:
        return
    kinds = Counter(group.kind for group in found)
    rows: list[list[Cell]] = [
        [kind, n, sum(len(g.rows) for g in found if g.kind == kind)] for kind, n in kinds.items()
    ]
    yield Printed(
        "groups",
        ["kind", "groups", "photographs"],
        rows,
        f"By {name_backbone(name)}; iaa groups finds bursts and panoramas, too",
    )
    file_of = dict(zip(study.targets.image_id.tolist(), study.targets.path.tolist(), strict=True))
    for number, group in enumerate(sorted(found, key=lambda g: -len(g.rows))[:n_groups], start=1):
        ids = [str(features.image_id[ok[row]]) for row in group.rows[:6]]
        more = f", {len(group.rows) - 6} more" if len(group.rows) > 6 else ""
        yield PhotoGrid(
            f"group_{number}",
            [Shot(i, str(file_of[i]), []) for i in ids],
            study.images,
            f"{group.kind}{more}",
            6,
        )


def places(study: Study) -> Iterator[Drawn]:
    """A map: photographs by the two directions in which their vectors differ most."""
    for name, features in study.features.items():
        output = "embedding" if "embedding" in features.outputs else next(iter(features.outputs))
        ids = features.image_id[features.ok].tolist()
        if len(ids) < 3:
            continue
        points = plane(features.read(output), features.ok)
        lines = [[i, float(x), float(y)] for i, (x, y) in zip(ids, points, strict=True)]
        said = f"{name_backbone(name)}: by the two directions in which the photographs differ most."
        yield Drawn(
            f"map_{features.path.stem}",
            plot_map(points, ids),
            f"Map of {len(ids):,} photographs. {said}",
            ("image_id", "x", "y"),
            lines,
            said,
        )


def words(study: Study, n_words: int = 8) -> Iterator[Printed]:
    """What the words say: how many photographs each content name fits best of all."""
    for name, prompts in study.prompts.items():
        scores, context = score_prompts_of(study, name), prompts["context"]
        if (
            context is None
            or "context" not in scores
            or not {"outstanding", "horrible"} <= set(scores["context"].labels)
        ):
            continue
        ok = study.features[name].ok
        won = context.content[winning_prompt(scores["context"].take(ok), "outstanding", "horrible")]
        rows: list[list[Cell]] = [
            [word, n, Number(n / len(won), shown=f"{n / len(won):.1%}")]
            for word, n in Counter(won.tolist()).most_common(n_words)
        ]
        yield Printed(
            f"words_{study.features[name].path.stem}",
            ["content", "photographs", "share"],
            rows,
            f"The contents that fit most photographs best, {name_backbone(name)}",
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
