"""Feature, target, prompt and derived files, joins, and the refusal of near matches."""

import numpy as np
import pytest

from store import (
    BusyError,
    IdentityError,
    SchemaError,
    Status,
    StoreError,
    Targets,
    align,
    load_derived,
    open_features,
    open_prompts,
    open_targets,
    save_derived,
    unit_rows,
    write_targets,
)
from store.features import FEATURES_SCHEMA
from store.locks import write_lock
from store.parts import Plan, begin, begun_provenance, discard, merge_parts, missing_parts, write_part
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed

IDENTITY = {"backbone": "b", "images": "1234", "preprocessing": {"resize": 224}, "precision": "float32"}


def make_plan(tmp_path, n_rows=5000, **identity):
    ids = {"image_id": np.array([str(i) for i in range(n_rows)])}
    return Plan(tmp_path / "b.h5", FEATURES_SCHEMA, {**IDENTITY, **identity}, {"v": 1}, n_rows, ids)


def part_arrays(plan, index, matrix, failed=()):
    start, stop = plan.parts[index]
    status = np.full(stop - start, Status.OK, np.uint8)
    rows = matrix[start:stop].copy()
    local = [f - start for f in failed if start <= f < stop]
    status[local] = Status.FAILED
    rows[local] = np.nan
    return {
        "status": status,
        "failures/row": np.array(local, np.int64),
        "failures/reason": np.array([f"bad {f}" for f in local], dtype=str),
        "outputs/embedding": rows,
    }


@pytest.fixture
def matrix(rng):
    return rng.standard_normal((5000, 6)).astype(np.float32)


def make(plan, matrix, failed=()):
    begin(plan)
    for index in missing_parts(plan):
        write_part(plan, index, part_arrays(plan, index, matrix, failed))
    return merge_parts(plan)


def test_parts_merge_to_rows_in_order_with_failures(tmp_path, matrix):
    plan = make_plan(tmp_path)
    make(plan, matrix, failed=[3, 2049, 4999])
    with open_features(plan.path, IDENTITY) as features:
        assert features.failures == {3: "bad 3", 2049: "bad 1", 4999: "bad 903"}
        good = features.ok
        assert good.sum() == 4997
        np.testing.assert_array_equal(features.read("embedding", good), matrix[good])
        assert np.isnan(features.read("embedding", np.array([3, 2049]))).all()
        np.testing.assert_array_equal(features.read("embedding", slice(2000, 2100))[0], matrix[2000])
        blocks = dict(features.blocks("embedding"))
        assert [len(b) for b in blocks.values()] == [2048, 2048, 904]
    assert not plan.folder.exists()


def test_a_resumed_run_gives_the_same_bytes_and_repeats_only_what_is_missing(tmp_path, matrix):
    plan = make_plan(tmp_path)
    digest = make(plan, matrix)
    whole = plan.path.read_bytes()
    plan.path.unlink()
    begin(plan)
    write_part(plan, 1, part_arrays(plan, 1, matrix))
    (plan.folder / "part-00002.h5.partial").write_bytes(b"half")
    damaged = plan.part_path(0)
    write_part(plan, 0, part_arrays(plan, 0, matrix))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert missing_parts(plan) == [0, 2]
    assert make(plan, matrix) == digest
    assert plan.path.read_bytes() == whole


def test_notes_of_parts_end_in_the_provenance_of_the_file(tmp_path, matrix):
    plan = make_plan(tmp_path)
    begin(plan)
    assert begun_provenance(plan.path) == plan.provenance
    notes = {0: {"smaller_batches": [[0, 32, 16]]}, 1: {}, 2: {"smaller_batches": [[4096, 4128, 8]]}}
    for index in range(3):
        write_part(plan, index, part_arrays(plan, index, matrix), notes[index])
    merge_parts(plan)
    with open_features(plan.path) as features:
        noted = {"smaller_batches": [[0, 32, 16], [4096, 4128, 8]]}
        assert features.provenance == {**plan.provenance, **noted}
    assert begun_provenance(plan.path) == {}, "the run is finished"


def test_a_begun_run_of_another_combination_is_refused_by_field(tmp_path, matrix):
    begin(make_plan(tmp_path))
    with pytest.raises(
        IdentityError, match="identity.precision: the file has 'float32', asked for 'bfloat16'"
    ):
        begin(make_plan(tmp_path, precision="bfloat16"))
    discard(make_plan(tmp_path))
    begin(make_plan(tmp_path, precision="bfloat16"))


def test_a_part_of_another_run_counts_as_missing(tmp_path, matrix):
    other = make_plan(tmp_path, images="9999")
    begin(other)
    write_part(other, 0, part_arrays(other, 0, matrix))
    assert 0 in missing_parts(make_plan(tmp_path))


def test_merging_with_a_missing_part_is_an_error(tmp_path, matrix):
    plan = make_plan(tmp_path)
    begin(plan)
    write_part(plan, 0, part_arrays(plan, 0, matrix))
    with pytest.raises(StoreError, match="part-00001"):
        merge_parts(plan)
    assert not plan.path.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("backbone", "c"), ("images", "x"), ("preprocessing", {"resize": 225}), ("precision", "bfloat16")],
)
def test_every_field_of_the_identity_counts(tmp_path, matrix, field, value):
    plan = make_plan(tmp_path)
    make(plan, matrix)
    with pytest.raises(IdentityError, match=field):
        open_features(plan.path, {**IDENTITY, field: value})


def test_unit_norm_is_explicit_and_an_unknown_output_lists_the_known(tmp_path, matrix):
    plan = make_plan(tmp_path)
    make(plan, matrix)
    with open_features(plan.path) as features:
        np.testing.assert_allclose(
            np.linalg.norm(features.read("embedding", unit_norm=True), axis=1), 1, rtol=1e-6
        )
        assert not features.read("embedding").flags.writeable
        assert not features.read("embedding", unit_norm=True).flags.writeable
        with pytest.raises(SchemaError, match=r"no output 'pooled'; it has embedding \(6\)"):
            features.read("pooled")


def test_unit_rows_of_zero_is_nan_not_a_number_made_up():
    assert np.isnan(unit_rows(np.zeros((1, 3), np.float32))).all()


def test_align_joins_on_ids():
    ids = np.array(["b", "a", "c"])
    np.testing.assert_array_equal(align(ids, np.array(["a", "b"])), [1, 0])
    np.testing.assert_array_equal(align(ids, ids), [0, 1, 2])
    with pytest.raises(StoreError, match="1 of 2 image ids have no row, the first 'x'"):
        align(ids, np.array(["a", "x"]))
    with pytest.raises(StoreError, match="twice"):
        align(np.array(["a", "a"]), np.array(["a", "a"]))


def test_targets_round_trip(tmp_path, rng):
    targets = Targets(
        image_id=np.array(["1", "2"]),
        path=np.array(["1.jpg", "ordner/ü 2.jpg"]),
        votes=rng.integers(0, 9, (2, 10)),
        scores=None,
        levels=np.arange(1, 11),
        threshold=5.0,
        split=np.array(["train", ""]),
        split_name="paper",
        dataset="ava",
        columns={"challenge": np.array([7, 9]), "tag": np.array(["x", "y"])},
    )
    path = tmp_path / "targets.h5"
    digest = write_targets(path, targets, {"images": "d"}, {})
    read = open_targets(path)
    assert (read.digest, read.split_name, read.dataset, read.threshold) == (digest, "paper", "ava", 5.0)
    for name in ("image_id", "path", "votes", "split", "levels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(targets, name))
    np.testing.assert_array_equal(read.columns["tag"], ["x", "y"])
    assert read.scores is None and read.is_rated
    with pytest.raises(ValueError, match="read-only"):
        read.votes[0, 0] = 1


def test_prompts_round_trip(tmp_path, rng):
    vectors = rng.standard_normal((2, 4)).astype(np.float32)
    arrays = {
        "text": np.array(["a great picture", "an ugly picture"]),
        "label": np.array(["great", "ugly"]),
        "polarity": np.array([1, -1], np.int8),
        "content": np.array(["", ""]),
        "template": np.array(["t", "t"]),
        "outputs/embedding": vectors,
    }
    path = tmp_path / "p.h5"
    write_sealed(path, PROMPTS_SCHEMA, {"prompt_set": "s", "backbone": "b"}, {}, arrays)
    with open_prompts(path, {"backbone": "b"}) as prompts:
        assert prompts.text.tolist() == ["a great picture", "an ugly picture"]
        np.testing.assert_array_equal(prompts.read(), vectors)
        assert prompts.n_prompts == 2
    with pytest.raises(IdentityError, match="backbone"):
        open_prompts(path, {"backbone": "other"})


def test_derived_is_bound_to_its_key(tmp_path):
    path = tmp_path / "gram.h5"
    assert load_derived(path, {"d": "1"}) is None
    save_derived(path, {"gram": np.eye(3)}, {"d": "1"})
    np.testing.assert_array_equal(load_derived(path, {"d": "1"})["gram"], np.eye(3))
    assert load_derived(path, {"d": "2"}) is None
    assert load_derived(path, {}) is None


def test_a_second_writer_is_told_to_wait(tmp_path):
    import subprocess
    import sys

    lock = tmp_path / "x.lock"
    hold = f"from pathlib import Path\nfrom store.locks import write_lock\nimport sys\nwith write_lock(Path({str(lock)!r})):\n print('held', flush=True)\n sys.stdin.read()"  # noqa: E501
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {process.pid}"), write_lock(lock):
            pass
        process.communicate("")
    with write_lock(lock):
        pass


def test_several_writers_of_one_file_take_turns(tmp_path):
    """Without turns one of them dies of SIGBUS, finds its file gone, or leaves what the other has begun."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from pathlib import Path; from store import load_derived, save_derived\n"
        f"i, path = int(sys.argv[1]), Path({str(tmp_path / 'x.h5')!r})\n"
        "for k in range(60):\n"
        " save_derived(path, {'a': np.full((3000, 20), i * 1000.0 + k)}, {'i': i, 'k': k})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [w.wait(timeout=200) for w in writers] == [0, 0, 0]
    last = [i for i in range(3) if load_derived(tmp_path / "x.h5", {"i": i, "k": 59}) is not None]
    assert len(last) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]
