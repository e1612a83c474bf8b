"""How figures look: numbers on logarithmic axes are text, not formulas that nobody reads."""

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import analysis.figures
from analysis.figures.probing import plot_ridge_paths
from analysis.figures.style import power_text


def test_powers_are_written_as_people_read_them():
    values = [0, 1e-4, 0.01, 1, 1000, 1e6, 1e-5, 10.0**12, -(10.0**5), 2.5e6]
    assert [power_text(v) for v in values] == [
        "0", "0.0001", "0.01", "1", "1,000", "10⁶", "10⁻⁵", "10¹²", "−10⁵", "2.5e+06",
    ]  # fmt: skip


def test_a_ridge_path_has_plain_ticks():
    alphas = np.logspace(-6, 6, 25)
    error = np.linspace(1, 2, 25)[None]
    figure = plot_ridge_paths([SimpleNamespace(alphas=alphas, cv_mse=error, name="demo_vit/pooled")])
    figure.canvas.draw()
    (axes,) = figure.axes
    told = [label.get_text() for label in axes.get_xticklabels()]
    assert {"10⁻⁶", "1", "10⁶"} <= set(told) and not any("$" in text for text in told)
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    inside = [b for b in boxes if axes.bbox.x0 - 1 <= (b.x0 + b.x1) / 2 <= axes.bbox.x1 + 1]
    assert all(a.x1 < b.x0 for a, b in pairwise(inside)), "labels do not overlap"
    plt.close(figure)


FILES = sorted(Path(analysis.figures.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_logarithmic_axis_gets_a_formatter_of_its_own(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.search(r"set_[xy]scale\(\"(sym)?log", line):
            after = "\n".join(lines[number : number + 5])
            assert "log_ticks(" in after or "set_major_formatter(" in after, f"{file.name}:{number + 1}"
