"""Rows made from equal inputs hold one vector, whatever a processor made of them."""

import numpy as np
import pytest

from store import IntegrityError, open_features, verify_file
from store.digests import BLOCK_ROWS
from store.features import FEATURES_SCHEMA
from store.parts import Plan, begin, merge_parts, write_part
from store.rows import first_of_equal
from store.sealed import write_sealed

N_ROWS = 2 * BLOCK_ROWS + 300
DIMS = {"embedding": 4, "tokens": 7}


def test_the_first_of_equal_keys():
    assert first_of_equal(["a", "b", "a", None, "b", None, "c"]).tolist() == [0, 1, 0, 3, 1, 5, 6]
    assert first_of_equal([]).tolist() == []


@pytest.fixture
def rows(rng):
    """Arrays of a feature file: contents drawn from few, so that most rows have equals in other parts."""
    contents = rng.integers(0, 256, (900, 32), dtype=np.uint8)
    source = contents[rng.integers(0, len(contents), N_ROWS)]
    source[-1] = source[0]
    failed = np.sort(rng.choice(N_ROWS - 1, 40, replace=False))
    failed[0] = 0  # the first of its equals failed: the next one leads
    outputs = {f"outputs/{n}": rng.normal(size=(N_ROWS, d)).astype(np.float32) for n, d in DIMS.items()}
    status = np.ones(N_ROWS, np.uint8)
    status[failed] = 2
    for values in outputs.values():
        values[failed] = np.nan
    return {"source_sha256": source, "status": status, "failed": failed, **outputs}


def write_parts(folder, rows):
    ids = {"image_id": np.array([f"{i:05d}" for i in range(N_ROWS)])}
    plan = Plan(folder / "x.h5", FEATURES_SCHEMA, {"backbone": "b"}, {"p": 1}, N_ROWS, ids)
    begin(plan)
    for index, (start, stop) in enumerate(plan.parts):
        failed = rows["failed"][(rows["failed"] >= start) & (rows["failed"] < stop)]
        part = {name: values[start:stop] for name, values in rows.items() if name != "failed"}
        part["failures/row"], part["failures/reason"] = failed - start, np.array(["bad"] * len(failed), str)
        write_part(plan, index, part)
    return plan


def by_hand(rows):
    """Each good row's vectors are those of the first good row with its content."""
    contents, good = [c.tobytes() for c in rows["source_sha256"]], rows["status"] == 1
    found = {name: rows[name].copy() for name in rows if name.startswith("outputs/")}
    for row in np.flatnonzero(good):
        first = next(r for r in range(row + 1) if good[r] and contents[r] == contents[row])
        for name, values in found.items():
            values[row] = rows[name][first]
    return found


def test_the_first_good_row_leads_in_every_output_and_the_digest_is_of_just_that(tmp_path, rows):
    plan = write_parts(tmp_path, rows)
    digest = merge_parts(plan, "source_sha256")
    expected = by_hand(rows)
    with open_features(plan.path) as features:
        for name in DIMS:
            np.testing.assert_array_equal(features.read(name), expected[f"outputs/{name}"])
            assert np.isnan(features.read(name)[rows["failed"]]).all()
            assert features.read(name)[0].tobytes() != features.read(name)[-1].tobytes()
        assert sorted(features.failures) == rows["failed"].tolist()
    assert verify_file(plan.path).is_intact
    arrays = {
        **plan.ids, **expected, "status": rows["status"], "source_sha256": rows["source_sha256"],
        "failures/row": rows["failed"], "failures/reason": np.array(["bad"] * len(rows["failed"])),
    }  # fmt: skip
    assert write_sealed(tmp_path / "hand.h5", FEATURES_SCHEMA, {"backbone": "b"}, {"p": 1}, arrays) == digest


def test_rows_of_different_inputs_stay_as_they_are(tmp_path, rows, rng):
    rows["source_sha256"] = rng.integers(0, 256, (N_ROWS, 32), dtype=np.uint8)
    one = merge_parts(write_parts(tmp_path / "a", rows), "source_sha256")
    assert one == merge_parts(write_parts(tmp_path / "b", rows))


def test_a_byte_that_flips_in_a_part_is_found_where_rows_are_shared(tmp_path, rows):
    plan = write_parts(tmp_path, rows)
    data = bytearray(plan.part_path(1).read_bytes())
    at = data.find(rows["outputs/embedding"][BLOCK_ROWS : BLOCK_ROWS + 40].tobytes()[:32])
    assert at > 0
    data[at] ^= 1
    plan.part_path(1).write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="part-00001.h5 is damaged: /outputs/embedding"):
        merge_parts(plan, "source_sha256")
    assert not plan.path.exists()
