"""The tour notebook, executed on a few pictures."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import iaa
from notebooks.run import execute

TOUR = Path(__file__).resolve().parent.parent.parent / "docs" / "tour.ipynb"


def test_the_tour_is_committed_without_outputs_and_stays_short():
    notebook = nbformat.read(TOUR, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    asked = [cell.source for cell in code if "parameters" not in cell.metadata.get("tags", [])]
    assert sum(bool(line.strip()) for source in asked for line in source.splitlines()) <= 25


@pytest.mark.notebook
@pytest.mark.timeout(280)
def test_the_tour_answers_every_question(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    photographs = tmp_path / "photos"
    photographs.mkdir()
    rng = np.random.default_rng(8)
    rows = ["file,score,split"]
    for i in range(24):
        pixels = np.clip(rng.normal(10 + 9 * (i % 23), 15, (48, 64, 3)), 0, 255).astype(np.uint8)
        name = f"p{i:02d}.png"
        Image.fromarray(pixels).save(photographs / name)
        rows.append(f"{name},{1 + i % 7},{'test' if i % 3 == 0 else 'train'}")
    (photographs / "p23.png").write_bytes((photographs / "p00.png").read_bytes())
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    out.mkdir()
    parameters = {
        "data": str(tmp_path / "data"), "name": "few", "photographs": str(photographs),
        "ratings": str(ratings), "backbone": "demo_clip", "words": "a red circle", "out": str(out),
        "pages": False,
    }  # fmt: skip
    executed = execute(TOUR, tmp_path / "tour.ipynb", parameters)
    shown = json.dumps(executed.cells)
    assert shown.count("data:image/jpeg;base64,") == 4 * 12
    assert "linear probe, ridge" in shown and "p23.png" in shown and "(24, 64)" in shown
    ds = iaa.open_dataset("few", tmp_path / "data")
    assert all(verdict.is_intact for verdict in ds.verify()) and "intact" in shown
    best = ds.rank(head="tour")
    assert (out / "best.csv").read_text().splitlines()[1].split(",")[1] == best.best(1)[0]["image_id"]
    assert (out / "best.html").read_text().count("<img ") == 24 and (out / "vectors.parquet").is_file()
