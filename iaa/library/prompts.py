"""Prompt sets of a data set: checked before they are encoded, listed, removed, evaluated as in the paper."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import check_known, open_clip_features
from iaa.library.results import Results
from iaa.library.scoring import no_prompts, prepare_maxima
from iaa.library.table import Table, facts
from store import MissingFileError, open_prompts, open_targets
from store.errors import did_you_mean


@dataclass(frozen=True)
class Evaluated(Results):
    """The paper's methods on the test images, and what stood beside them."""

    backbone: str
    majority: float
    """Accuracy of always the commoner class of train, 0 to 1."""
    missing: tuple[str, ...]
    """The paper's sets that are not encoded, so that their methods are left out."""
    n_failed: int

    def notes(self) -> Iterator[str]:
        """What the results are to be compared with, what is missing among them, and what is next."""
        asked = f"--dataset {self.dataset} --backbone {self.backbone}"
        yield f"always the commoner class of train: accuracy {self.majority:.4f}"
        for name in self.missing:
            yield f"{name} is not encoded here; for its methods: iaa embed --prompts {name} {asked}"
        if self.n_failed:
            yield f"{self.n_failed} failed rows took no part"
        yield f"Next: iaa report {asked}"


@dataclass(frozen=True)
class Checked:
    """What a prompt file encodes, and what is wrong with it; with an unreadable file only `problems`."""

    file: str
    name: str = ""
    high: list[str] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    neutral: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    context_length: int = 0
    longest_tokens: int = 0
    longest_text: str = ""
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """What is encoded, a row per fact, with the first of what is many; nothing for an unreadable file."""
        if not self.name:
            return []
        sides = {"high": self.high, "low": self.low, "neutral": self.neutral}
        about: dict[str, object] = {"name": self.name}
        about |= {f"{side} ({len(words)})": ", ".join(words) for side, words in sides.items() if words}
        about[f"templates ({len(self.templates)})"] = tuple(self.templates)
        if self.contents:
            some = [*self.contents[:3], *(["..."] if len(self.contents) > 3 else [])]
            about[f"contents ({len(self.contents):,})"] = ", ".join(some)
        last = ["...", self.texts[-1]] if len(self.texts) > 3 else []
        about[f"texts ({len(self.texts):,})"] = (*self.texts[:3], *last)
        longest = f"{self.longest_tokens} of {self.context_length} tokens: {self.longest_text}"
        return [facts(f"What {self.file} encodes", about | {"longest": longest})]

    def notes(self, backbone: str) -> list[str]:
        """Remarks and problems; without problems how it is encoded by this backbone."""
        said = [f"note: {remark}" for remark in self.remarks] + [f"wrong: {each}" for each in self.problems]
        encode = f"For a data set: iaa embed --prompts {self.file} --backbone {backbone} --dataset NAME"
        return said if self.problems else [*said, encode]


def check_prompts(file: str, backbone: str) -> Checked:
    """Everything that is wrong with a prompt set, found before anything is encoded; needs no weights.

    Raises UnknownBackbone, UsageError for a backbone without a tokenizer.
    """
    from embed.prompts.sets import PromptSetError, expand, get_prompt_set, resolve_contents
    from embed.prompts.text import describe_same, measure_tokens, name_some

    try:
        prompt_set = get_prompt_set(file)
    except PromptSetError as error:
        return Checked(file, problems=list(error.problems))
    table = expand(prompt_set)
    tokens = measure_tokens(table.text, backbone)
    problems = []
    if tokens.too_long:
        problems.append(
            f"{len(tokens.too_long):,} of {len(table):,} texts have more than the {tokens.context_length} "
            f"tokens that {backbone} reads: {name_some(tokens.too_long)}. Shorten them"
        )
    if same := describe_same(table, tokens.same, backbone):
        problems.append(same)
    high, low, neutral = (
        [label.text for label in prompt_set.labels if label.polarity == polarity] for polarity in (1, -1, 0)
    )
    remarks = []
    if not high or not low:
        remarks.append("no pair can be formed: ranking needs a high and a low label")
    one_label = [rows for rows in tokens.same if len({table.label[row] for row in rows}) == 1]
    if repeated := sum(len(rows) - 1 for rows in one_label):
        remarks.append(f"{repeated:,} texts have the tokens of an earlier one; they count again in means")
    return Checked(
        file,
        prompt_set.name,
        high,
        low,
        neutral,
        list(prompt_set.templates),
        list(resolve_contents(prompt_set)),
        list(table.text),
        tokens.context_length,
        tokens.longest,
        tokens.longest_text,
        remarks,
        problems,
    )


def list_prompts(layout: Layout) -> Table:
    """The encoded prompt files of a data set: set, backbone, number of texts, file."""
    check_known(layout)
    opened = [open_prompts(path) for path in sorted((layout.folder / "prompts").glob("*/*.h5"))]
    return Table(
        f"Prompt sets of {layout.dataset}",
        {
            "prompts": [p.set_name for p in opened],
            "backbone": [p.backbone for p in opened],
            "n_prompts": [p.n_prompts for p in opened],
            "file": [str(p.path) for p in opened],
        },
    )


def remove_prompts(layout: Layout, name: str) -> list[Path]:
    """Delete the encoded files of a prompt set and return them. Raises MissingFileError where none is."""
    folder = layout.prompts(name, "any").parent
    files = sorted(folder.glob("*.h5"))
    if not files:
        there = sorted(set(list_prompts(layout).columns["prompts"]))
        raise MissingFileError(
            f"{layout.dataset} has no encoded prompt set {name!r}; there are: {', '.join(there) or 'none'}."
            + did_you_mean(name, there)
        )
    for path in files:
        path.unlink()
    return files


def evaluate_prompts(
    layout: Layout, backbone: str | None = None, device: str = "auto", seed: int = 0, n_boot: int = 1000
) -> Evaluated:
    """Every method that the encoded sets allow (section 4.1): pairs chosen on train, measured on test.

    Raises UsageError for a data set without ratings, MissingFileError where neither set is encoded.
    """
    import numpy as np

    from analysis.evidence.labels import majority_prediction
    from analysis.prompting.evaluation import evaluate_prompting, join_ratings, score_methods

    with open_clip_features(layout, backbone) as features:
        targets = open_targets(layout.targets)
        if not targets.is_rated:
            raise UsageError(
                f"{layout.dataset} has no ratings to evaluate against; rank it instead: "
                f"iaa rank -d {layout.dataset} --high outstanding --low atrocious"
            )
        paths = {name: layout.prompts(name, features.backbone) for name in ("paper_fixed", "paper_context")}
        found = {name: open_prompts(path) for name, path in paths.items() if path.exists()}
        if not found:
            raise no_prompts(paths["paper_fixed"], layout, features.backbone, "paper_fixed")
        fixed, context = (found.get(name) for name in paths)
        cache = layout.maxima("paper_context", features.backbone)
        if context is not None:
            prepare_maxima(features, context, cache, device)
        scores = score_methods(features, "embedding", fixed, context, cache)
        rated = join_ratings(features, targets)
        digests = {"targets": targets.digest, "features": features.digest}
        evaluation = evaluate_prompting(
            scores, rated, features.backbone, "embedding", seed, n_boot, digests=digests
        )
        is_high = rated.is_high[rated.test]
        always = majority_prediction(rated.is_high[rated.train], len(is_high))
        return Evaluated(
            layout.dataset,
            evaluation.results,
            features.backbone,
            float(np.mean(always == is_high)),
            tuple(name for name in paths if name not in found),
            len(features.failures),
        )
