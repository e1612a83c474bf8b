"""Prompt sets of a data set: checked before they are encoded, listed, removed, evaluated as in the paper."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import check_known, open_clip_features
from iaa.library.results import Results, shown_results
from iaa.library.scoring import no_prompts, open_captions_of, open_prompt_set, prepare_maxima
from iaa.library.table import Table, facts
from store import Features, MissingFileError, open_prompts, open_targets
from store.errors import did_you_mean

if TYPE_CHECKING:
    from analysis.evidence.bootstrap import Difference
    from analysis.prompting.contents import Contents, ContentsEvaluation
    from analysis.results.methods import MethodResult


@dataclass(frozen=True)
class Evaluated(Results):
    """The paper's methods on the test images, and what stood beside them."""

    backbone: str
    majority: float
    """Accuracy of always the commoner class of train, 0 to 1."""
    missing: tuple[str, ...]
    """The paper's sets that are not encoded, so that their methods are left out."""
    n_failed: int
    contents: "ContentsEvaluation | None" = None
    """Other contents beside the 1,000, where sets of them were asked for."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """By set: ids of the photographs that have no caption and took no part."""
    fell_back: dict[str, int] = field(default_factory=dict)
    """By set: photographs without a caption that the label's fixed prompt stood in for."""
    one_each: tuple[str, ...] = ()
    """Sets with one caption per photograph, for which all methods are one."""

    def tables(self) -> list[Table]:
        """The paper's methods; then each set of other contents beside the 1,000, and the paired
        differences."""
        found = [self.table()] if self.results else []
        if self.contents is None:
            return found
        by_set: dict[str, list[MethodResult]] = {}
        for result in self.contents.results:
            by_set.setdefault(str(result.detail["images_of"]), []).append(result)
        for name, results in by_set.items():
            shown = shown_results(results)
            title = f"{name}, and the others on its images and labels. {shown.title}"
            found.append(Table(title, shown.columns))
        for metric, differences in self.contents.differences.items():
            if differences:
                found.append(differences_table(metric, differences))
        return found

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        more: dict[str, Any] = {"left_out": self.left_out, "fell_back": self.fell_back}
        if self.contents is not None:
            more["contents"] = [asdict(result) for result in self.contents.results]
            more["differences"] = [asdict(d) for each in self.contents.differences.values() for d in each]
        return super().to_dict() | more

    def notes(self) -> Iterator[str]:
        """What the results are to be compared with, what is missing among them, and what is next."""
        asked = f"--dataset {self.dataset} --backbone {self.backbone}"
        yield f"always the commoner class of train: accuracy {self.majority:.4f}"
        for name in self.missing:
            yield f"{name} is not encoded here; for its methods: iaa embed --prompts {name} {asked}"
        if self.n_failed:
            yield f"{self.n_failed} failed rows took no part"
        for name in self.one_each:
            yield f"{name}: one prompt per photograph and label, so all methods are the same score"
        for name, ids in self.left_out.items():
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            yield f"{name}: {len(ids):,} photographs have no caption and took no part: {some}"
            yield "To take them in by the fixed prompt: --fall-back"
        for name, n in self.fell_back.items():
            yield f"{name}: for {n:,} photographs without a caption the label's fixed prompt stood in"
        if self.contents is not None and (found := self.contents.differences["srcc"]):
            from analysis.evidence.bootstrap import resolution

            yield f"p (Holm) over all differences of a metric. {resolution(found)}"
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
    from embed.prompts.text import measure_tokens
    from embed.prompts.tokens import describe_same, name_some

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
    layout: Layout,
    backbone: str | None = None,
    device: str = "auto",
    seed: int = 0,
    n_boot: int = 1000,
    prompts: Sequence[str] = (),
    fall_back: bool = False,
) -> Evaluated:
    """Every method that the encoded sets allow (section 4.1): pairs chosen on train, measured on test.

    `prompts` names further encoded sets with contents (a name, a TOML file, captions-NAME), which are
    measured
    beside ImageNet's 1,000 on the same labels and images, with paired differences. Photographs without a
    caption are left out, or, with `fall_back`, compared with the label's fixed prompt.

    Raises UsageError for a data set without ratings, MissingFileError where a set is not encoded.
    """
    import numpy as np

    from analysis.evidence.labels import majority_prediction
    from analysis.prompting.contents import evaluate_contents
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
        if not found and not prompts:
            raise no_prompts(paths["paper_fixed"], layout, features.backbone, "paper_fixed")
        more = [score_contents(layout, features, name, device, fall_back) for name in dict.fromkeys(prompts)]
        fixed, context = (found.get(name) for name in paths)
        cache = layout.maxima("paper_context", features.backbone)
        if context is not None:
            prepare_maxima(features, context, cache, device)
        scores = score_methods(features, "embedding", fixed, context, cache)
        rated = join_ratings(features, targets)
        digests = {"targets": targets.digest, "features": features.digest}
        results, contents = [], None
        if scores:
            by_paper = evaluate_prompting(
                scores, rated, features.backbone, "embedding", seed, n_boot, digests=digests
            )
            results = by_paper.results
        if more:
            contents = evaluate_contents(
                [each.contents for each in more],
                scores,
                rated,
                features.backbone,
                "embedding",
                seed,
                n_boot,
                digests,
            )
        is_high = rated.is_high[rated.test]
        always = majority_prediction(rated.is_high[rated.train], len(is_high))
        return Evaluated(
            layout.dataset,
            results,
            features.backbone,
            float(np.mean(always == is_high)),
            tuple(name for name in paths if name not in found),
            len(features.failures),
            contents,
            {each.contents.name: each.without for each in more if each.without and not fall_back},
            {each.contents.name: len(each.without) for each in more if each.without and fall_back},
            tuple(each.contents.name for each in more if each.is_one_each),
        )


@dataclass(frozen=True)
class ScoredContents:
    """A set of prompts with contents, scored; of captions, which photographs have none."""

    contents: "Contents"
    without: list[str]
    is_one_each: bool


def score_contents(
    layout: Layout, features: Features, name: str, device: str = "auto", fall_back: bool = False
) -> ScoredContents:
    """The scores of an encoded set with contents under every method; of captions, each photograph with its
    own.

    Raises UsageError for a set without contents, MissingFileError where it is not encoded, IdentityError
    where it was encoded from something else.
    """
    from analysis.prompting.captions import METHODS, own_prompts, score_captions
    from analysis.prompting.contents import Contents
    from analysis.prompting.evaluation import score_methods

    stored = open_prompt_set(layout, name, features.backbone)
    if "captions" in stored.identity:
        captions = open_captions_of(layout, stored)
        own = own_prompts(stored, captions, features.image_id, fall_back)
        scores = score_captions(features, "embedding", stored, own)
        is_one_each = own.n_most == 1
        kept = {"context": scores["context"]} if is_one_each else scores
        without = features.image_id[~own.has_caption].tolist()
        n_contents = len(set(captions.text))
        found = Contents(stored.set_name, kept, stored.digest, n_contents)
        return ScoredContents(found, without, is_one_each)
    contents = set(stored.content.tolist())
    if contents == {""}:
        raise UsageError(
            f"{stored.set_name} has no contents: there is nothing to compare with ImageNet's 1,000"
        )
    cache = layout.maxima(stored.set_name, features.backbone)
    prepare_maxima(features, stored, cache, device)
    scores = score_methods(features, "embedding", None, stored, cache)
    kept = {method: scores[method] for method in METHODS}
    return ScoredContents(Contents(stored.set_name, kept, stored.digest, len(contents)), [], False)


def differences_table(metric: str, differences: "Sequence[Difference]") -> Table:
    """Paired differences of a metric, a row each."""
    return Table(
        f"Paired differences of {metric}, on the same images and labels",
        {
            "first": [d.first for d in differences],
            "second": [d.second for d in differences],
            "first - second": [f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" for d in differences],
            "p (Holm)": [d.p_holm for d in differences],
        },
    )
