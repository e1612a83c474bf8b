"""Tables for people: digits by the interval, marks, groups, and the same cells in four formats."""

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.figures.drawn import Drawn
from analysis.results.methods import Metric
from analysis.results.printed import Code, Number, Printed, digits_of
from analysis.results.published import TABLE_1, TODAY
from analysis.results.tables import compare, print_comparison

HOSTILE = "<script>x</script> & 50% $a_b$ #1 {x} ~^ \\input"


@pytest.mark.parametrize(
    ("width", "digits"), [(0.0093, 4), (0.058, 3), (0.22, 2), (10.0, 1), (300.0, 0), (0.9, 2)]
)
def test_as_many_digits_as_the_interval_has_to_say(width: float, digits: int) -> None:
    assert digits_of([Number(0.5, 0.5 - width / 2, 0.5 + width / 2)]) == digits


def test_an_interval_stands_behind_its_number_and_zero_has_no_sign() -> None:
    table = Printed(
        "t", ["a", "d"], [[Metric(0.8428, 0.811, 0.869), Number(-0.0001, -0.03, 0.03, signed=True)]]
    )
    assert table.texts() == [["0.843 [.811, .869]", "0.000 [−.030, +.030]"]]
    assert Printed("t", ["a"], [[Metric(float("nan"))]]).texts() == [["undefined"]]


def test_all_formats_hold_the_same_cells_and_foreign_text_stays_text() -> None:
    rows = [[HOSTILE, Number(0.7, 0.6, 0.8, mark="best")], ["b", Number(0.69, 0.6, 0.8, mark="tied")]]
    table = Printed(
        "t_1", ["method", "SRCC"], rows, HOSTILE, ["one", "two"], [("", 1), ("over", 1)], [HOSTILE]
    )
    page = table.to_html()
    assert "<script>" not in page and "<b>0.70</b>" in page and "<u>0.69</u>" in page
    assert page.count("<tbody>") == 2 and 'scope="colgroup">over<' in page
    latex = table.to_latex()
    assert "\\textbf{0.70}" in latex and "\\underline{0.69}" in latex and "\\label{tab:t-1}" in latex
    assert "50\\%" in latex and "a\\_b" in latex and "\\textbackslash{}input" in latex
    lines = list(csv.reader(io.StringIO(table.to_csv())))
    assert lines[0] == ["group", "method", "over, SRCC", "over, SRCC, low", "over, SRCC, high"]
    assert lines[1][2:] == ["0.7", "0.6", "0.8"] and lines[1][0] == "one"
    assert "0.70 [.60, .80]" in table.to_markdown()


def test_cells_and_headings_must_agree() -> None:
    with pytest.raises(ValueError, match="t: 1 cells below 2 headings"):
        Printed("t", ["a", "b"], [["x"]])


def test_a_figure_leaves_as_text_picture_and_numbers() -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set_xlabel("a word to find")
    drawn = Drawn("f", figure, "a line", ("x", "y"), [[0, 0], [1, float("nan")]])
    assert figure.number not in plt.get_fignums()
    svg = drawn.to_svg()
    assert svg.startswith("<svg") and "a word to find" in svg and svg == drawn.to_svg()
    assert drawn.to_png().startswith(b"\x89PNG") and drawn.to_csv() == "x,y\n0,0\n1,\n"


@pytest.mark.slow
def test_latex_compiles(tmp_path: Path) -> None:
    """Table 1 and a table of everything that must be escaped, in a document of their own."""
    compilers = {
        "tectonic": ["tectonic", "t.tex"],
        "pdflatex": ["pdflatex", "-halt-on-error", "-interaction=batchmode", "t.tex"],
    }
    name = next(filter(shutil.which, compilers), None)
    if name is None:
        pytest.skip("no TeX here: apt-get install texlive-latex-recommended, or tectonic")
    hostile = Printed(
        "t", ["a", "b"], [[HOSTILE, Code("iaa --x")], ["− ≤ ≥ × “q” [1]", Number(0.5, 0.4, 0.6)]], HOSTILE
    )
    tables = [print_comparison(compare((*TABLE_1, *TODAY), []), "table_1", "Table 1"), hostile]
    body = "\n".join(table.to_latex() for table in tables)
    packages = "\\usepackage[utf8]{inputenc}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx,textcomp}"
    text = f"\\documentclass{{article}}{packages}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(compilers[name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
