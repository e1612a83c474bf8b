"""What the paper says, tested on the data set at hand: each sentence is a comparison of two methods on the
same test images, and its verdict follows from the numbers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.evidence.bootstrap import Difference, holm, resamples_needed, smallest_corrected_p
from analysis.results.predictions import Predicted, compare_methods, result_name
from analysis.results.printed import Cell, Number, Printed
from analysis.results.tables import Row

LEVEL = 0.05
ALL = ("accuracy", "srcc", "plcc")
_TITLES = {"accuracy": "accuracy", "srcc": "SRCC", "plcc": "PLCC"}
VERDICTS = ("supported here", "supported here in part", "not settled here", "contradicted here")


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper: one row of its Table 1 or 2 is better than another, in these metrics."""

    text: str
    section: str
    better: str
    worse: str
    metrics: tuple[str, ...] = ALL


STATEMENTS = (
    Statement(
        "Fixed prompts beat always saying the commoner class",
        "4.1.1",
        "CLIP, fixed prompts",
        "majority",
        ("accuracy",),
    ),
    Statement(
        "Context-aware prompts improve on fixed prompts",
        "4.1.2",
        "CLIP, context-aware prompts",
        "CLIP, fixed prompts",
    ),
    Statement(
        "The ensemble improves on context-aware prompts",
        "4.1.3",
        "CLIP, prompt ensemble",
        "CLIP, context-aware prompts",
    ),
    Statement(
        "CLIP's linear probe is better than the ImageNet ViT's",
        "4.2",
        "CLIP, linear probe",
        "ViT (ImageNet-21k), linear probe",
    ),
    Statement("The linear probe improves on prompting", "4.2", "CLIP, linear probe", "CLIP, prompt ensemble"),
    Statement(
        "Fine-tuned CLIP is better than the fine-tuned ImageNet ViT",
        "4.3",
        "CLIP, fine-tuned",
        "ViT (ImageNet-21k), fine-tuned",
    ),
    Statement("Fine-tuning improves on CLIP's linear probe", "4.3", "CLIP, fine-tuned", "CLIP, linear probe"),
    Statement(
        "Fine-tuning improves on the ViT's linear probe",
        "4.3",
        "ViT (ImageNet-21k), fine-tuned",
        "ViT (ImageNet-21k), linear probe",
    ),
    Statement(
        "CLIP's linear probe is better than the fine-tuned ViT",
        "4.3",
        "CLIP, linear probe",
        "ViT (ImageNet-21k), fine-tuned",
    ),
    Statement(
        "RN50: CLIP on CC12M is better than ImageNet-21k",
        "5",
        "RN50, CLIP on CC12M, linear probe",
        "RN50, ImageNet-21k (MIIL), linear probe",
    ),
    Statement(
        "RN50: CLIP on YFCC15M is better than ImageNet-21k",
        "5",
        "RN50, CLIP on YFCC15M, linear probe",
        "RN50, ImageNet-21k (MIIL), linear probe",
    ),
)
"""What sections 4 and 5 say of pairs of rows of Tables 1 and 2."""


@dataclass(frozen=True)
class Tested:
    """A statement with its differences (first minus second, p corrected over all statements together)."""

    statement: Statement
    differences: Sequence[Difference]
    n_test: int

    @property
    def verdict(self) -> str:
        """One of VERDICTS: supported if every metric is better, contradicted if one is worse, each by an
        interval without zero and a corrected p below .05."""
        clear = [d for d in self.differences if d.p_holm < LEVEL and (d.low > 0 or d.high < 0)]
        if any(d.high < 0 for d in clear):
            return VERDICTS[3]
        if len(clear) == len(self.differences):
            return VERDICTS[0]
        return VERDICTS[1] if clear else VERDICTS[2]


def check_statements(
    rows: Sequence[Row],
    predicted: Mapping[str, Predicted],
    seed: int = 0,
    statements: Sequence[Statement] = STATEMENTS,
) -> list[Tested]:
    """The statements whose two rows were run here, tested on the test images that all of them have;
    p-values are
    corrected (Holm) over all comparisons together, with as many resamples as that needs."""
    named = {
        row.published.label: predicted[result_name(row.result)]
        for row in rows
        if row.published is not None and row.result is not None and result_name(row.result) in predicted
    }
    able = [s for s in statements if s.better in named and s.worse in named and s.better != s.worse]
    # Two rows that one result stands in for are one method, and no comparison.
    able = [s for s in able if named[s.better] is not named[s.worse]]
    n_tests = sum(len(s.metrics) for s in able)
    n_boot = resamples_needed(n_tests) if able else 0
    found: list[tuple[Statement, Difference]] = []
    for metric in ALL if able else ():
        asked = [s for s in able if metric in s.metrics]
        methods = dict.fromkeys(name for s in asked for name in (s.better, s.worse))
        pairs = [(s.better, s.worse) for s in asked]
        differences = compare_methods({n: named[n] for n in methods}, metric, n_boot, seed, pairs)
        by_pair = {(d.first, d.second): d for d in differences}
        found += [(s, d) for s in asked if (d := by_pair.get((s.better, s.worse))) is not None]
    corrected = holm(np.array([d.p_value for _, d in found]))
    floor = smallest_corrected_p(len(found), n_boot) if found else 1.0
    exact = [
        (s, replace(d, p_holm=float(p), p_floor=floor)) for (s, d), p in zip(found, corrected, strict=True)
    ]
    ids = [set(named[name].image_id.tolist()) for s in able for name in (s.better, s.worse)]
    common = set.intersection(*ids) if ids else set()
    tested = []
    for s in able:
        differences = [d for other, d in exact if other is s]
        if differences:
            tested.append(Tested(s, differences, len(common)))
    return tested


def print_statements(tested: Sequence[Tested], place: str) -> Printed:
    """A line per statement: its verdict, and the difference in each metric; a star where it is clear."""
    rows: list[list[Cell]] = []
    lines: list[list[object]] = []
    for found in tested:
        of = {d.metric: d for d in found.differences}
        row: list[Cell] = [
            f"{found.statement.text} ({found.statement.section})",
            found.verdict.replace(" here", ""),
        ]
        for metric in ALL:
            d = of.get(metric)
            note = "*" if d is not None and d.p_holm < LEVEL else ""
            row.append(None if d is None else Number(d.value, d.low, d.high, signed=True, note=note))
        rows.append([*row, Number(max(d.p_holm for d in found.differences)), found.n_test])
        for d in found.differences:
            lines.append(
                [
                    found.statement.text,
                    found.statement.section,
                    found.verdict,
                    d.metric,
                    d.value,
                    d.low,
                    d.high,
                    d.p_value,
                    d.p_holm,
                    d.n_boot,
                    found.n_test,
                ]
            )
    n_boot = tested[0].differences[0].n_boot if tested else 0
    notes = [
        "Differences, first minus second, with 95 % intervals. *: corrected p below .05. "
        "Supported: every metric named is better "
        "with an interval without zero and a corrected p below .05; contradicted: one is "
        "worse by the same rule.",
        f"p: the largest of a line. Paired bootstrap over test images, {n_boot:,} resamples; "
        f"corrected (Holm) over all "
        f"{len(lines)} comparisons together.",
    ]
    columns = [
        "statement",
        "section",
        "verdict",
        "metric",
        "difference",
        "low",
        "high",
        "p",
        "p_corrected",
        "n_boot",
        "n",
    ]
    headings = ["the paper says (section)", "here", *_TITLES.values(), "p", "n"]
    caption = f"What the paper says about AVA, tested on {place}"
    return Printed("claims", headings, rows, caption, notes=notes if rows else [], values=(columns, lines))


def sum_up(tested: Sequence[Tested], place: str) -> str:
    """A sentence with how many statements came out how."""
    if not tested:
        return f"None of the paper's statements can be tested on {place}: the rows they compare were not run."
    counts = {v: sum(t.verdict == v for t in tested) for v in VERDICTS}
    said = [f"{n} {verdict.removesuffix(' here').replace(' here', '')}" for verdict, n in counts.items() if n]
    many = "statements" if len(tested) > 1 else "statement"
    return (
        f"Of the paper's {len(STATEMENTS)} statements about pairs of methods, {len(tested)} "
        f"{many} can be tested on {place}: {', '.join(said)}."
    )
