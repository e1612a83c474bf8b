"""Prompt sets as data: labels with polarity, templates and content names, expanded to texts.

A prompt set says which texts are encoded; encoding them is `embed.prompts.text`. The paper's two sets
are in `PROMPT_SETS`, a user's own comes from a TOML file (docs/prompting.md shows one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from embed.uncompiled import library
from store.digests import digest_of_strings
from store.errors import MissingFileError, TableError, UnsafeNameError, did_you_mean
from store.file_names import check_name
from store.text import read_lines, read_toml

#: Section 4.1: synonyms in WordNet (here 3.0) of "great", with "beautiful" and "pretty", and of "ugly": 27
#: and 12 words, which the paper counts and does not list.
PAPER_HIGH = (
    "great", "outstanding", "bang-up", "bully", "corking", "cracking", "dandy", "groovy", "keen",
    "neat", "nifty", "not bad", "peachy", "slap-up", "swell", "smashing", "capital", "majuscule",
    "big", "enceinte", "expectant", "gravid", "large", "heavy", "with child", "beautiful",
    "pretty",
)  # fmt: skip
PAPER_LOW = (
    "ugly", "surly", "despicable", "vile", "slimy", "unworthy", "worthless", "wretched",
    "atrocious", "frightful", "horrifying", "horrible",
)  # fmt: skip
FIXED_TEMPLATE = "a {label} picture"
CONTEXT_TEMPLATE = "a {label} picture, of a #{content}"

#: Section 4.1.2: the best labels with contents, "smashing" / "horrible" for the binary task and
#: "outstanding" /
#: "horrible" for the continuous one.
CONTEXT_HIGH, CONTEXT_LOW = ("smashing", "outstanding"), ("horrible",)

NAMED_CONTENTS = ("imagenet1k", "imagenet21k")
_TIMM_SUBSET = {"imagenet1k": "imagenet-1k", "imagenet21k": "imagenet-21k"}
_FILE_KEYS = ("name", "high", "low", "neutral", "templates", "contents")


class PromptSetError(ValueError):
    """A prompt set or prompt file that cannot be encoded as it stands; `problems` lists what is wrong."""

    def __init__(self, *problems: str, where: str = "") -> None:
        super().__init__((f"{where}: " if where else "") + "; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Label:
    """A word of a prompt set; polarity +1 praises, -1 damns, 0 takes no side."""

    text: str
    polarity: int


@dataclass(frozen=True)
class PromptSet:
    """Labels, templates and contents. `contents` is a tuple of names, or the name of a list.

    A named list ("imagenet1k", "imagenet21k") is looked up only when the set is expanded.
    """

    name: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...]
    contents: tuple[str, ...] | str = ()

    def __post_init__(self) -> None:
        problems = find_problems(self)
        if problems:
            raise PromptSetError(*problems, where=f"prompt set {self.name!r}")


@dataclass(frozen=True)
class PromptTable:
    """The texts of a prompt set, one entry per prompt, all of equal length.

    Order: label by label, within a label template by template, within a template content by
    content. `content` is "" where the template names none.
    """

    text: tuple[str, ...]
    label: tuple[str, ...]
    polarity: tuple[int, ...]
    content: tuple[str, ...]
    template: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)


def _labels(high: Sequence[str], low: Sequence[str]) -> tuple[Label, ...]:
    return tuple(Label(w, +1) for w in high) + tuple(Label(w, -1) for w in low)


def _paper_labels() -> tuple[Label, ...]:
    return _labels(PAPER_HIGH, PAPER_LOW)


def find_problems(prompt_set: PromptSet) -> list[str]:
    """Everything wrong with a prompt set, each with what to do about it; empty when it is sound."""
    problems = []
    try:
        check_name(prompt_set.name, "prompt set")
    except UnsafeNameError as error:
        problems.append(f"{error} (it becomes a folder)")
    if not prompt_set.labels:
        problems.append("there are no labels; give at least one under 'high' or 'low'")
    if not prompt_set.templates:
        problems.append(f"there are no templates; the paper's is {FIXED_TEMPLATE!r}")
    problems += _label_problems(prompt_set.labels)
    problems += _template_problems(prompt_set.templates, bool(prompt_set.contents))
    if isinstance(prompt_set.contents, str):
        if prompt_set.contents not in NAMED_CONTENTS:
            known = ", ".join(NAMED_CONTENTS)
            problems.append(f"unknown list of contents {prompt_set.contents!r}; known: {known}")
    else:
        problems += [
            f"content {c!r} is empty or has spaces at its ends"
            for c in prompt_set.contents
            if not c or c != c.strip()
        ]
        problems += [f"content {c!r} is listed twice" for c in _repeated(prompt_set.contents)]
    return problems


def find_problems_of(labels: Sequence[Label], templates: Sequence[str]) -> list[str]:
    """Everything wrong with labels and templates that name a content."""
    once = [f"template {t!r} must have {{content}} once" for t in templates if t.count("{content}") != 1]
    return _label_problems(labels) + (_template_problems(templates, has_contents=True) or once)


def _label_problems(labels: Sequence[Label]) -> list[str]:
    problems = [
        f"label {label.text!r} is empty or has spaces at its ends"
        for label in labels
        if not label.text or label.text != label.text.strip()
    ]
    problems += [
        f"label {label.text!r} has polarity {label.polarity}, expected +1, -1 or 0"
        for label in labels
        if label.polarity not in (-1, 0, 1)
    ]
    problems += [
        f"label {text!r} is listed twice; a label belongs to one of high, low and neutral"
        for text in _repeated([label.text for label in labels])
    ]
    return problems


def _template_problems(templates: Sequence[str], has_contents: bool) -> list[str]:
    problems = []
    for template in templates:
        try:
            fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        except ValueError as error:
            problems.append(f"template {template!r} cannot be read: {error}")
            continue
        unknown = sorted(fields - {"label", "content"})
        if unknown:
            problems.append(
                f"template {template!r} has unknown field {unknown}; known: {{label}}, {{content}}"
            )
        if "label" not in fields:
            problems.append(f"template {template!r} has no {{label}}")
        if "content" in fields and not has_contents:
            problems.append(f"template {template!r} has {{content}} but there are no contents")
        if "content" not in fields and has_contents:
            problems.append(
                f"template {template!r} has no {{content}} although contents are given; "
                "drop the contents or use another set for it"
            )
    problems += [f"template {t!r} is listed twice" for t in _repeated(templates)]
    return problems


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    repeated: list[str] = []
    for name in names:
        if name in seen and name not in repeated:
            repeated.append(name)
        seen.add(name)
    return repeated


def load_content_names(name: str) -> tuple[str, ...]:
    """Content names of a named list, each up to its first comma, in class order.

    ImageNet's own repetitions stay ("crane" is a bird and a machine): the paper's context set has
    1,000 contents, not 998.
    """
    if name not in _TIMM_SUBSET:
        raise PromptSetError(f"unknown list of contents {name!r}; known: {', '.join(NAMED_CONTENTS)}")
    # Imported here: timm takes seconds and only this needs it.
    info = library("timm.data.imagenet_info").ImageNetInfo(_TIMM_SUBSET[name])
    return tuple(text.split(",")[0].strip() for text in info.label_descriptions())


def resolve_contents(prompt_set: PromptSet) -> tuple[str, ...]:
    """Content names of a prompt set, looked up when it names a list; () when it has none."""
    if isinstance(prompt_set.contents, str):
        return load_content_names(prompt_set.contents)
    return prompt_set.contents


def expand(prompt_set: PromptSet) -> PromptTable:
    """Every text of a prompt set in its fixed order (see `PromptTable`)."""
    contents = resolve_contents(prompt_set) or ("",)
    rows = [
        (template.format(label=label.text, content=content), label, content, template)
        for label in prompt_set.labels
        for template in prompt_set.templates
        for content in contents
    ]
    return PromptTable(
        text=tuple(text for text, _, _, _ in rows),
        label=tuple(label.text for _, label, _, _ in rows),
        polarity=tuple(label.polarity for _, label, _, _ in rows),
        content=tuple(content for _, _, content, _ in rows),
        template=tuple(template for _, _, _, template in rows),
    )


def load_prompt_file(path: str | Path) -> PromptSet:
    """The prompt set of a user's TOML file.

    Keys: `high`, `low`, `neutral` (lists of labels), `templates` (list), `contents` (a list of
    names, "imagenet1k", "imagenet21k", or a text file with one name per line, relative to the TOML
    file), `name` (default: the file's name). Raises PromptSetError with everything that is wrong.
    """
    path = Path(path)
    try:
        table = read_toml(path)
    except MissingFileError as error:
        reason = "not a readable file" if path.exists() else "no such prompt file"
        raise PromptSetError(reason, where=str(path)) from error
    except TableError as error:
        raise PromptSetError(f"not a readable TOML file: {error}", where=str(path)) from error
    unknown = sorted(set(table) - set(_FILE_KEYS))
    problems = [f"unknown keys {unknown}; known: {', '.join(_FILE_KEYS)}"] if unknown else []
    name = table.get("name", path.stem)
    if not isinstance(name, str):
        problems.append(f"name must be a string, got {name!r}")
    elif name in PROMPT_SETS:
        problems.append(f"the name {name!r} is taken by a set that comes with the project: give another "
        f"under 'name'")
    strings = {key: _strings(table, key, problems) for key in ("high", "low", "neutral", "templates")}
    contents = _contents(table, path, problems)
    labels = tuple(
        Label(text, polarity)
        for key, polarity in (("high", +1), ("low", -1), ("neutral", 0))
        for text in strings[key]
    )
    try:
        prompt_set = PromptSet(str(name), labels, strings["templates"], contents)
    except PromptSetError as error:
        raise PromptSetError(*problems, *error.problems, where=str(path)) from error
    if problems:
        raise PromptSetError(*problems, where=str(path))
    return prompt_set


def _strings(table: dict[str, object], key: str, problems: list[str]) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    problems.append(f'{key} must be a list of strings such as ["a", "b"], got {value!r}')
    return ()


def _contents(table: dict[str, object], path: Path, problems: list[str]) -> tuple[str, ...] | str:
    value = table.get("contents", [])
    if not isinstance(value, str):
        return _strings(table, "contents", problems)
    if value in NAMED_CONTENTS:
        return value
    file = path.parent / value
    if not file.is_file():
        problems.append(
            f"contents = {value!r} is neither a known list ({', '.join(NAMED_CONTENTS)}) "
            f"nor a text file; looked for {file}"
        )
        return ()
    try:
        lines = [line.strip() for line in read_lines(file)]
    except TableError as error:
        problems.append(str(error))
        return ()
    names = tuple(line for line in lines if line and not line.startswith("# "))
    if any(line.startswith(("/c/", "/a/")) for line in names):
        names = conceptnet_names(names)
    if not names:
        problems.append(f"{file} has no content names; expected one per line, or ConceptNet's /c/en/...")
    return names


def conceptnet_names(lines: Sequence[str], language: str = "en") -> tuple[str, ...]:
    """The names of ConceptNet's terms in one language, each once, in order of first appearance.

    A line is a term (/c/en/hot_dog, /c/en/dog/n), perhaps with more after it as in Numberbatch's tables,
    or an assertion (/a/..., relation, term, term, by tabs). Other languages and other lines are left out.
    """
    names: dict[str, None] = {}
    for line in lines:
        for term in line.split("\t")[2:4] if line.startswith("/a/") else line.split()[:1]:
            parts = term.split("/")
            if parts[:3] == ["", "c", language] and "".join(parts[3:4]).strip("_ "):
                names.setdefault(parts[3].replace("_", " ").strip())
    return tuple(names)


def build_prompt_sets(*prompt_sets: PromptSet) -> dict[str, PromptSet]:
    """Prompt sets by name; a name used twice is an error."""
    repeated = _repeated([prompt_set.name for prompt_set in prompt_sets])
    if repeated:
        raise PromptSetError(f"prompt sets named twice: {repeated}")
    return {prompt_set.name: prompt_set for prompt_set in prompt_sets}


#: Section 4.1: 39 fixed prompts, and 39 x 1,000 prompts that also name a content. Section 5: more contents.
PROMPT_SETS = build_prompt_sets(
    PromptSet("paper_fixed", _paper_labels(), (FIXED_TEMPLATE,)),
    PromptSet("paper_context", _paper_labels(), (CONTEXT_TEMPLATE,), "imagenet1k"),
    # Section 5 leaves ImageNet-21k open. With the labels that section 4.1.2 found best with contents, not
    # all 39.
    PromptSet("imagenet21k", _labels(CONTEXT_HIGH, CONTEXT_LOW), (CONTEXT_TEMPLATE,), "imagenet21k"),
)


def prompt_columns(table: PromptTable) -> dict[str, np.ndarray]:
    """The columns of a prompt file: texts verbatim, label, content, template and polarity."""
    return {
        "text": np.asarray(table.text, dtype=str),
        "label": np.asarray(table.label, dtype=str),
        "content": np.asarray(table.content, dtype=str),
        "template": np.asarray(table.template, dtype=str),
        "polarity": np.asarray(table.polarity, np.int8),
    }


def prompt_identity(set_name: str, table: PromptTable) -> dict[str, object]:
    """What of a prompt file's identity comes from its texts; the rest comes from the backbone."""
    digest = digest_of_strings(*prompt_columns(table).values())
    return {"prompt_set": set_name, "prompts": digest, "n_prompts": len(table)}


def get_prompt_set(name_or_file: str | Path) -> PromptSet:
    """A registered prompt set by name, or one from a TOML file; unknown names list the known."""
    if str(name_or_file) in PROMPT_SETS:
        return PROMPT_SETS[str(name_or_file)]
    if str(name_or_file).endswith(".toml"):
        return load_prompt_file(name_or_file)
    near = did_you_mean(str(name_or_file), PROMPT_SETS)
    raise PromptSetError(
        f"unknown prompt set {str(name_or_file)!r}; known: {', '.join(PROMPT_SETS)}, "
        "or the path of a .toml file" + (near and f".{near}")
    )
