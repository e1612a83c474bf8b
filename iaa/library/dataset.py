"""A data set and its verbs, as Python calls them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iaa.library import embedding, opening, probing, scoring, searching
from iaa.library.embedding import Embedded, How
from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.kept import Kept
from iaa.library.layout import Layout, data_root
from iaa.library.names import ME, PROTOCOL, STARS_FROM, Method
from iaa.library.probing import ProbeFit
from iaa.library.progress import Progress
from iaa.library.ranking import Ranking
from iaa.library.table import Table
from store import Features, Targets, open_targets

if TYPE_CHECKING:
    from analysis.grouping.groups import Kind
    from analysis.probing.vote_probes import Target
    from iaa.library.captions import Captioned
    from iaa.library.exchange import ExportedFile, ImportedFile
    from iaa.library.finetuning import FinetunedRuns
    from iaa.library.groups import Groups
    from iaa.library.own_results import Added
    from iaa.library.painting import Paintings
    from iaa.library.people import PeopleTaste
    from iaa.library.prompts import Evaluated
    from iaa.library.rating.ratings import DatasetRatings
    from iaa.library.remotes import Moved
    from iaa.library.stacked import Stacked
    from iaa.library.style import Style
    from iaa.library.taste import TasteFit
    from iaa.library.transfer import Transfers
    from iaa.library.vote_probing import VoteProbed
    from iaa.library.xmp import Read, Writing


@naming_extras()
def open_dataset(name: str, data: Path | str | None = None) -> "Dataset":
    """A data set by its name below the data root (`data`, else IAA_DATA, else `./data`).

    Raises DatasetError, which lists the data sets there are, for an unknown name.
    """
    layout = Layout(data_root(None if data is None else Path(data)), name)
    opening.check_known(layout)
    return Dataset(layout)


@naming_extras()
def add_dataset(
    name: str,
    kind: str,
    images: Path | str,
    ratings: Path | str | None = None,
    overwrite: bool = False,
    data: Path | str | None = None,
    **options: Any,
) -> "Dataset":
    """Name a data set once: `kind` is folder, table (with `ratings`), or ava; `options` as in
    docs/datasets.md. Relative paths start from the working directory.

    Raises DatasetError for whatever is wrong with it, before anything is written.
    """
    from embed.images.datasets import add_dataset as add

    root = data_root(None if data is None else Path(data))
    if ratings is not None:
        options["ratings"] = ratings
    add(root, name, kind, overwrite=overwrite, images=str(images), **options)
    return Dataset(Layout(root, name))


@dataclass(frozen=True, repr=False)
class Dataset(Kept):
    """A named data set: its photographs go in by `embed`; every question is then answered from the arrays."""

    @naming_extras()
    def embed(
        self,
        backbones: Sequence[str] | str | None = None,
        update: bool = False,
        progress: Progress | None = None,
        **how: Any,
    ) -> Embedded:
        """Put every photograph through the backbones, each decoded once for all of them, and keep the
        ratings beside the rows; call it again to go on where it was stopped.

        `update` brings in photographs that came, went or changed since. `how`: weights (a mapping from
        backbone to file), device, remote, precision, engine, batch_size, threads, max_failed_share,
        max_pixels, exact, overwrite, check_content (iaa.library.embedding.How).
        """
        return embedding.embed(self.layout, _names(backbones), How(**how), update, progress)

    @naming_extras()
    def embed_prompts(
        self,
        backbones: Sequence[str] | str | None = None,
        prompts: Sequence[str] | str | None = None,
        weights: Mapping[str, Path] | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Table:
        """Encode prompt sets (names or TOML files; default: the paper's two), a row per file made."""
        return embedding.embed_prompts(
            self.layout, _names(backbones), _names(prompts), weights, device, overwrite, progress
        )

    @naming_extras()
    def search(
        self,
        text: str | None = None,
        like: Path | str | None = None,
        backbone: str | None = None,
        output: str | None = None,
        weights: Path | str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Ranking:
        """The photographs closest to words, or to a picture: one of the data set, or any image file.

        Raises UsageError unless exactly one of `text` and `like` is given.
        """
        if (text is None) == (like is None):
            raise UsageError('give either words, search("a dog on a beach"), or a picture, search(like=PATH)')
        file = None if weights is None else Path(weights)
        if text is not None:
            if output not in (None, "embedding"):
                raise UsageError(f"output {output}: words are compared with the embedding; leave it out")
            return searching.search_words(self.layout, text, backbone, file, device, progress)
        assert like is not None
        return searching.search_like(self.layout, like, backbone, output, file, device, progress)

    @naming_extras()
    def rank(
        self,
        head: str | None = None,
        high: Sequence[str] | str | None = None,
        low: Sequence[str] | str | None = None,
        prompts: str | None = None,
        method: Method | None = None,
        backbone: str | None = None,
        weights: Path | str | None = None,
        device: str = "auto",
        n_boot: int = 1000,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Ranking:
        """The photographs from best to worst: by a head, by words (`high` against `low`, any words), or by
        the labels of an encoded prompt set.

        Raises UsageError unless it is clear by what.
        """
        if head is not None:
            if high or low or prompts or method:
                raise UsageError("rank by a head, or by words and prompts, not by both")
            return scoring.rank_by_head(self.layout, head, n_boot, seed)
        if prompts is not None or method is not None:
            return scoring.rank_by_prompts(
                self.layout, prompts or "paper_fixed", _names(high), _names(low), method, backbone, device
            )
        if not high or not low:
            raise UsageError(
                "say by what: a head, or words on both sides, such as beautiful on high and ugly on low"
            )
        file = None if weights is None else Path(weights)
        return scoring.rank_by_words(
            self.layout, _names(high) or [], _names(low) or [], backbone, file, device, progress
        )

    def fit_probe(
        self,
        backbone: str | None = None,
        output: str | None = None,
        unit_norm: bool = False,
        seed: int = 0,
        n_boot: int = 1000,
        fit_on: Literal["all", "train"] | None = None,
    ) -> ProbeFit:
        """Least squares (the paper's probe) and ridge on the ratings of the train images, with what they
        reach on the test images. Default: the only backbone, its output before the projection.

        `fit_on="all"`, the default below 500 ratings: fitted on all of them, and what is said to be reached
        comes from folds that were left out in turn. `fit_on="train"`: by the split, the default above.
        """
        return probing.fit_probe(self.layout, backbone, output, unit_norm, seed, n_boot, fit_on)

    def groups(
        self,
        backbone: str | None = None,
        output: str | None = None,
        threshold: float | None = None,
        seconds: float | None = None,
        kinds: "Sequence[Kind] | Kind | None" = None,
        head: str | None = None,
        progress: Progress | None = None,
    ) -> "Groups":
        """Photographs that belong together, a row each: exact copies, near-duplicates, bursts, brackets and
        panoramas (`kinds`; default: all), the suggested best first (docs/groups.md).

        `threshold` is the cosine of near-duplicates (default: what was measured for the backbone), `seconds`
        how far the moments of a burst lie apart (default 10); a `head`'s score, then sharpness, says which is
        best.
        """
        from iaa.library.groups import group_photographs

        return group_photographs(
            self.layout, backbone, output, threshold, seconds, kinds, head, progress=progress
        )

    @naming_extras()
    def style(
        self,
        backbones: Sequence[str] | str | None = None,
        n_photographs: int = 128,
        changes: Sequence[str] | str | None = None,
        n_boot: int = 1000,
        seed: int = 0,
        progress: Progress | None = None,
        **how: Any,
    ) -> "Style":
        """Style or content? Photographs altered step by step in memory, put through the data set's backbones;
        how well each alteration is read from the features, how far it moves the scores of probes, heads and
        prompts, and along what each probe's direction lies (docs/style.md).

        `changes`: some of exposure, contrast, saturation, sharpness, noise, jpeg, crop, tilt, cast. `how`, as
        in `embed`: weights, device, threads, overwrite. Called again it goes on, or only measures.
        """
        from iaa.library.style import study_style

        changed = _names(changes)
        return study_style(
            self.layout, _names(backbones), n_photographs, changed, How(**how), n_boot, seed, progress
        )

    @naming_extras()
    def paint(
        self,
        subjects: Sequence[str] | str = (),
        adjectives: Sequence[str] | str = (),
        **how: Any,
    ) -> "Paintings":
        """Pictures from prompts (`iaa.paint`, which has `how`), kept in the data set's folder `painted`, from
        where its report takes Figure 4."""
        from iaa.library.painting import paint

        return paint(subjects, adjectives, data=self.layout.root, dataset=self.name, **how)

    def add_captions(
        self,
        file: Path | str | None = None,
        columns: Sequence[str] | str | None = None,
        name: str | None = None,
        encoding: str | None = None,
        overwrite: bool = False,
    ) -> "Captioned":
        """Take over captions of a file keyed by image id or file, or of columns of the data set's own
        table."""
        from iaa.library.captions import add_captions

        return add_captions(self.layout, file, _names(columns) or (), name, encoding, overwrite)

    @naming_extras()
    def embed_captions(
        self,
        name: str,
        backbones: Sequence[str] | str | None = None,
        high: Sequence[str] | str | None = None,
        low: Sequence[str] | str | None = None,
        all_labels: bool = False,
        template: str | None = None,
        weights: Mapping[str, Path] | None = None,
        device: str = "auto",
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Table:
        """Encode captions with labels as prompts, for `rank(prompts="captions-NAME")` and
        `evaluate_prompts("captions-NAME")`; default labels outstanding and horrible."""
        from iaa.library.captions import embed_captions

        return embed_captions(
            self.layout, name, _names(backbones), _names(high), _names(low), all_labels, template, weights,
            device, overwrite, progress,
        )  # fmt: skip

    @naming_extras()
    def write_captions(
        self,
        backbone: str | None = None,
        weights: Path | str | None = None,
        name: str = "coca",
        device: str = "auto",
        threads: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> "Captioned":
        """Let a CoCa of open_clip write a caption of every photograph; called again it goes on."""
        from iaa.library.captions import WRITER, caption_photographs

        file = None if weights is None else Path(weights)
        return caption_photographs(
            self.layout, backbone or WRITER, file, name, device, threads, overwrite, progress
        )

    def evaluate_prompts(
        self,
        prompts: Sequence[str] | str | None = None,
        backbone: str | None = None,
        fall_back: bool = False,
        device: str = "auto",
        seed: int = 0,
        n_boot: int = 1000,
    ) -> "Evaluated":
        """The paper's zero-shot methods (section 4.1), and other encoded sets with contents beside the
        1,000."""
        from iaa.library.prompts import evaluate_prompts

        return evaluate_prompts(self.layout, backbone, device, seed, n_boot, _names(prompts) or (), fall_back)

    def fit_vote_probes(
        self,
        targets: "Sequence[Target] | Target" = ("levels", "distribution", "ordinal"),
        backbones: Sequence[str] | str | None = None,
        output: str | None = None,
        layers: bool = False,
        seed: int = 0,
        n_boot: int = 1000,
        fit_on: Literal["all", "train"] | None = None,
        progress: Progress | None = None,
    ) -> "VoteProbed":
        """Probes of the shares of votes beside ridge on the mean, on each output or also on all side by
        side; `fit_on` as for `fit_probe`."""
        from iaa.library.vote_probing import fit_vote_probes

        wanted = [targets] if isinstance(targets, str) else list(targets)
        return fit_vote_probes(
            self.layout, wanted, _names(backbones), output, layers, seed, n_boot, fit_on, progress
        )

    def apply_probes(
        self,
        others: Sequence[str] | str = "all",
        backbones: Sequence[str] | str | None = None,
        output: str | None = None,
        seed: int = 0,
        n_boot: int = 1000,
    ) -> "Transfers":
        """Whose taste travels? The probe of all rated photographs applied to other data sets of the data root
        (names, or `all` that share a backbone), and theirs to this one."""
        from iaa.library.transfer import apply_probes

        return apply_probes(self.layout, _names(others) or [], _names(backbones), output, seed, n_boot)

    @naming_extras()
    def finetune(
        self,
        backbones: Sequence[str] | str | None = None,
        preset: str = "paper",
        train: Sequence[str] | str | None = None,
        output: str | None = None,
        pixels: Literal["cache", "stream"] = "cache",
        threads: int | None = None,
        n_boot: int = 1000,
        weights: Mapping[str, Path] | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        **settings: Any,
    ) -> "FinetunedRuns":
        """Fine-tune backbones on the votes of the training images (section 4.3), once for each of `train`:
        all, last:K, head. `settings` are fields of finetune.settings.Settings; what is not given is the
        preset's (paper, nima, demo). Called again it goes on where it stopped."""
        from iaa.library.finetuning import finetune_by_preset

        return finetune_by_preset(
            self.layout, _names(backbones), preset, _names(train), settings, weights, device, output, pixels,
            threads, n_boot, progress,
        )  # fmt: skip

    @naming_extras()
    def train_from_features(
        self, features: str, seed: int = 0, device: str = "auto", n_boot: int = 1000,
        progress: Progress | None = None, preset: str | None = None,
    ) -> "Stacked":  # fmt: skip
        """One of MLSP's heads on stored features, named BACKBONE.OUTPUT, such as mlsp.narrow; `preset` is
        narrow or wide, by default what fits the features."""
        from iaa.library.stacked import train_from_features

        return train_from_features(
            self.layout, features, seed, device, n_boot, progress=progress, preset=preset
        )

    def features(self, backbone: str | None = None) -> Features:
        """The open feature file of a backbone, or of the only one; `.read(output)` gives the matrix."""
        return opening.open_embedded(self.layout, backbone)

    def vector_search(self, backbone: str | None = None, output: str | None = None) -> searching.VectorSearch:
        """What answers `.nearest(vector, k)` again and again, from vectors of one output."""
        return searching.VectorSearch(opening.open_embedded(self.layout, backbone), output)

    @property
    def targets(self) -> Targets:
        """Votes or scores, split and columns per image. Raises MissingFileError before `embed`."""
        return open_targets(self.layout.targets)

    @property
    def ratings(self) -> "DatasetRatings":
        """What people said about the photographs: add, compare, undo, present(), to_frame()."""
        from iaa.library.rating.ratings import DatasetRatings

        return DatasetRatings(self.layout)

    @naming_extras()
    def fit_taste(
        self,
        rater: str = "me",
        backbone: str | None = None,
        output: str | None = None,
        head: str | None = None,
        groups: bool = False,
        seed: int = 0,
    ) -> "TasteFit":
        """What a rater likes, learned from her stars, flags and comparisons, with what it is worth on ratings
        that were held back (with `groups` also within bursts). With a general `head` of the same features it
        starts from that one."""
        from iaa.library.taste import fit_taste

        return fit_taste(self.layout, rater, backbone, output, head, groups, seed)

    @naming_extras()
    def evaluate_people(
        self,
        protocol: str = PROTOCOL,
        ratings: Path | str | None = None,
        columns: Sequence[str] | str | None = None,
        people: Sequence[str] | None = None,
        backbone: str | None = None,
        output: str | None = None,
        n_draws: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "PeopleTaste":
        """Personalised aesthetics: how well single people's scores are predicted from some of them, by a
        generic model, their own scores, both, and what the others said. `protocol`: curve, flickr-aes, para;
        `ratings`: a table with a row per photograph, rater and score (default: the data set's own)."""
        from iaa.library.people import evaluate_people

        table = None if ratings is None else Path(ratings)
        named = _names(columns) or []
        return evaluate_people(
            self.layout, protocol, table, named, people, backbone, output, n_draws, seed, progress
        )

    @naming_extras()
    def report(
        self,
        backbones: Sequence[str] | str | None = None,
        seed: int = 0,
        n_boot: int = 1000,
        on_page: Callable[[str, int, int], None] | None = None,
    ) -> Path:
        """Run the notebooks on what has been embedded; the path of the report's first page."""
        from iaa.library.reports import make_report

        return make_report(self.layout, _names(backbones), seed, n_boot, on_page)

    def add_results(
        self, predictions: Path | str | Mapping[str, Sequence[Any]], name: str, split: str | None = None,
        overwrite: bool = False,
    ) -> "Added":  # fmt: skip
        """Add predictions of a method of one's own (a table, or its columns): it stands in the report."""
        from iaa.library.own_results import add_results

        return add_results(self.layout, predictions, name, split, overwrite)

    def export(
        self,
        path: Path | str,
        to: str | None = None,
        backbone: str | None = None,
        outputs: Sequence[str] | str | None = None,
        unit_norm: bool = False,
        only_ok: bool = False,
        overwrite: bool = False,
    ) -> "ExportedFile":
        """Write the vectors for other programs; says what was written (docs/exchange.md)."""
        from iaa.library.exchange import export

        names = _names(outputs)
        return export(self.layout, Path(path), to, backbone, names, unit_norm, only_ok, overwrite)

    def push(
        self, url: str, backbones: Sequence[str] | str | None = None, overwrite: bool = False
    ) -> "Moved":
        """Send the finished files to an object store such as `s3://bucket/folder`; a row per file."""
        from iaa.library.remotes import push

        return push(self.layout, url, _names(backbones), overwrite)

    def pull(
        self, url: str, backbones: Sequence[str] | str | None = None, overwrite: bool = False
    ) -> "Moved":
        """Fetch this data set's files from an object store, checked against their digests."""
        from iaa.library.remotes import pull

        return pull(self.layout, url, _names(backbones), overwrite)

    def import_vectors(
        self,
        source: Path | str,
        backbone: str,
        ids: Path | str | None = None,
        id_column: str | None = None,
        output: str | None = None,
        overwrite: bool = False,
    ) -> "ImportedFile":
        """Take over vectors of another program: clip-retrieval's folder, or a .npy file with `ids` of its
        rows; the file says that they are imported (docs/exchange.md)."""
        from iaa.library.exchange import import_vectors

        file = None if ids is None else Path(ids)
        return import_vectors(self.layout, Path(source), backbone, file, id_column, output, overwrite)

    @naming_extras()
    def read_xmp(self, rater: str = ME, newest: bool = False, dry_run: bool = False) -> "Read":
        """Take stars and rejects over from sidecars and from inside photographs, as a rater's; with `dry_run`
        nothing is added. Where two places differ nothing is taken unless the `newest` wins."""
        from iaa.library.xmp import read_xmp

        return read_xmp(self.layout, rater, newest, not dry_run)

    @naming_extras()
    def write_xmp(
        self,
        head: str | None = None,
        rater: str | None = None,
        is_written: bool = False,
        stars_from: Sequence[float] = STARS_FROM,
        labels: Sequence[str] | str | None = None,
        keywords: Sequence[str] | str | None = None,
        group: bool = False,
        naming: Literal["full", "stem"] = "full",
    ) -> "Writing":
        """Stars into sidecars: by a head's percentiles, or a rater's own. Without `is_written` it is only
        said what would become of each. `labels` and `keywords` are rules such as "5=Green"
        (docs/taste.md)."""
        from iaa.library.xmp import write_stars

        rules = (_names(labels), _names(keywords))
        return write_stars(self.layout, head, rater, is_written, stars_from, *rules, group, naming)

    def __repr__(self) -> str:
        return f"<data set {self.name!r} in {self.layout.root}>"


def _names(given: Sequence[str] | str | None) -> list[str] | None:
    """One name or several, as a list."""
    if given is None:
        return None
    return [given] if isinstance(given, str) else list(given)
