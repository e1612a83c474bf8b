"""What each page of the report needs of a data set. It is asked before a kernel is started for a page, and
again by the page itself, which is also opened alone."""

from collections.abc import Callable

from analysis.probing.transfer import has_partner
from analysis.report.study import NothingToShowError, Study
from analysis.results.stacked import read_stacks
from analysis.variants.stored import variants_folder
from store.file_names import RATERS_FILE


def need(study: Study, page: str) -> None:
    """Raises NothingToShowError, with the command that helps, where a page (a notebook's name) would have
    nothing to say."""
    for check in NEEDS.get(page, ()):
        if why := check(study):
            raise NothingToShowError(why)


def _ratings(study: Study) -> str:
    if not study.targets.is_rated:
        return "for photographs that people rated; these are not"
    if study.can_fit:
        return ""
    return (
        f"needs features and 10 photographs each to learn from and to test on; there are {study.n_train:,} "
        f"training and {study.n_test:,} test photographs, and features of {len(study.features)}"
    )


def _no_ratings(study: Study) -> str:
    if study.targets.is_rated:
        return "for photographs without ratings; these are rated"
    return "" if study.features else "nothing is embedded: iaa embed"


def _prompts(study: Study) -> str:
    return "" if study.prompts else "no backbone here has encoded prompts: iaa embed --prompts paper_fixed"


def _two_backbones(study: Study) -> str:
    n = len(study.features)
    return "" if n > 1 else f"compares 2 backbones or more, and there is {n}"


def _training(study: Study) -> str:
    if study.runs or read_stacks(study.folder / "finetuned", study.features, study.targets)[0]:
        return ""
    return f"nothing was fine-tuned: iaa finetune --dataset {study.dataset}"


def _altered(study: Study) -> str:
    altered = {path.name for path in (variants_folder(study.folder) / "features").glob("*.h5")}
    if any(features.path.name in altered for features in study.features.values()):
        return ""
    return f"no photographs were altered: iaa style --dataset {study.dataset}"


def _partner(study: Study) -> str:
    there = has_partner(study.folder, list(study.features))
    return "" if there else "no other rated data set shares a backbone with this one"


def _people(study: Study) -> str:
    there = (study.folder / "derived" / RATERS_FILE).exists()
    return "" if there else "nothing is known of single people's scores"


NEEDS: dict[str, tuple[Callable[[Study], str], ...]] = {
    "05_photographs": (_no_ratings,),
    "10_prompting": (_ratings, _prompts),
    "20_probing": (_ratings,),
    "21_pretraining": (_ratings, _two_backbones),
    "30_finetuning": (_ratings, _training),
    "40_style": (_altered,),
    "45_transfer": (_partner,),
    "50_taste": (_people,),
}
"""By page; each check says what is missing, or nothing."""
