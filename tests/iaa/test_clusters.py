"""A run whose parts others make: all of it but Ray's own, by makers in this process; tests/faults/test_ray.py
has the real cluster."""

import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import embed.crashes
from embed.crashes import suspect
from embed.encoding import TooManyFailuresError
from embed.handing_out import Heard, MakersEndedError, Task
from embed.images.datasets import add_dataset, build_table, load_config
from embed.options import Options
from iaa.library import clusters, embedding
from iaa.library.clusters import Need, choose_need, run_team
from iaa.library.embedding import How
from iaa.library.engines import check_engine
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.makers import ClusterError, Job, Maker, check_versions, look_at_some, versions
from iaa.library.remotes import pull, push
from iaa.library.status import run_states
from store import BusyError, MissingFileError, open_features, open_targets
from store.at_work import crash_folder, note_work, notes_folder
from store.locks import lock_path, write_lock
from store.remote import Remote, open_remote
from store.remote_run import RemoteRun, begun_names

N = 24
BACKBONES = ["demo_vit", "demo_clip"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(3)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    (folder / "07.png").write_bytes(b"<html>")
    (folder / "20.png").write_bytes((folder / "03.png").read_bytes())  # takes the vector of another part
    return folder


@pytest.fixture
def layout(tmp_path, photographs):
    from embed.images.datasets import add_dataset

    add_dataset(tmp_path / "data", "mine", "folder", images=str(photographs))
    return Layout(tmp_path / "data", "mine")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, photographs):
    """The files that one process makes."""
    from embed.images.datasets import add_dataset

    root = tmp_path_factory.mktemp("one")
    add_dataset(root, "mine", "folder", images=str(photographs))
    return embedding.embed(Layout(root, "mine"), BACKBONES, how()).outcomes


def how(**more):
    return How(device="cpu", batch_size=4, threads=1, **more)


class TeamHere:
    """Makers in this process, one part per turn; `ends(task, folder)` says why a maker ends instead."""

    def __init__(self, job, table, n=1, ends=lambda task, folder: ""):
        self.job, self.table, self.n, self.ends = job, table, n, ends
        self.makers, self.news, self.given = {}, [], []

    def n_wanted(self):
        return self.n

    def start(self):
        name = f"actor {len(self.makers) + 1}"
        self.makers[name] = Maker()
        self.makers[name].open(self.job, self.table)
        self.news.append(Heard(name))
        return name

    def serve(self, crashes):
        self.crashes = crashes

    def where(self, maker):
        return maker

    def give(self, maker, task):
        self.given.append(task)
        why = self.ends(task, self.crashes(task.part))
        made = None if why else self.makers[maker].make(task, self.crashes(task.part))
        self.news.append(Heard(maker, made, why))

    def hear(self):
        news, self.news = self.news, []
        return news


@pytest.fixture
def job(layout):
    config = load_config(layout.root, layout.dataset)
    table = build_table(config)
    options = Options(batch_size=1, n_threads=1, exif_rotate=config.exif_rotate)
    return Job(layout, ["demo_vit"], how(), options, look_at_some(table)), table


def run(job, table, team=None, options=None, on_rows=lambda *_: None):
    first = Maker().open(job, table)
    team = team or TeamHere(job, table)
    return run_team(team, first, table, options or job.options, job.names, None, lambda text: None, on_rows)


def are_same(outcomes, expected):
    """The files of one process, whichever of them were asked for."""
    known = {o.backbone: (o.digest, o.n_failed) for o in expected}
    return {o.backbone: (o.digest, o.n_failed) for o in outcomes} == {
        o.backbone: known[o.backbone] for o in outcomes
    }


def test_makers_give_the_file_of_one_process(job, one_process):
    rows = []
    team = TeamHere(*job, n=3)
    done = run(*job, team, on_rows=lambda *told: rows.append(told))
    assert are_same(done.outcomes, one_process)
    assert [task.part for task in team.given] == list(range(6)) and len(team.makers) == 3
    assert sum(n for n, _, _ in rows) == N and sum(failed for _, failed, _ in rows) == 1
    assert done.n_new == N and done.how["batch_size"] == 4 and done.seconds["encode"] > 0
    left = {path.name for path in job[0].layout.features.iterdir()}
    assert left == {f"demo_vit.h5{end}" for end in ("", ".lock", ".seen")}


def test_makers_that_share_no_folder_meet_in_an_object_store(job, one_process, in_memory, tmp_path):
    remote = open_remote(in_memory, "mine")
    job = replace(job[0], options=replace(job[0].options, remote=remote)), job[1]
    elsewhere = Layout(
        tmp_path / "not" / "here", "mine"
    )  # for the makers: no folder of the driver's is theirs
    theirs = replace(job[0], layout=elsewhere), job[1]

    def dies(task, folder):
        if task.part == 3:
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        run(*job, TeamHere(*theirs, ends=dies))
    # the batches of the run that was begun are theirs, though nobody tells them
    job, theirs = (
        (replace(each, how=replace(each.how, batch_size=None)), table) for each, table in (job, theirs)
    )
    team = TeamHere(*theirs, n=2, ends=lambda task, _: "killed" if task == Task(4, ("demo_vit",)) else "")
    done = run(*job, team)
    assert are_same(done.outcomes, one_process)
    assert {task.part for task in team.given} == {3, 4, 5} and not elsewhere.root.exists()
    assert done.outcomes[0].path.is_relative_to(job[0].layout.root)
    with pytest.raises(ClusterError, match="does not find the run that it is to share in memory://"):
        maker = Maker()
        maker.open(
            replace(theirs[0], options=replace(job[0].options, remote=Remote(f"{in_memory}/2", "mine"))),
            job[1],
        )
        maker.make(Task(0, ("demo_vit",)), tmp_path / "crashes")


def test_workers_that_share_no_folder_make_the_files_of_one_process(
    photographs, one_process, in_memory, tmp_path
):
    def machine(name):
        add_dataset(tmp_path / name, "mine", "folder", images=str(photographs))
        return Layout(tmp_path / name, "mine")

    said = []
    for number in (1, 2, 3):
        options = how(worker=(number, 3), remote=in_memory)
        # the second knows nothing of the batches of the first, and takes them over
        options = options if number == 1 else replace(options, batch_size=None)
        done = embedding.embed(machine(f"m{number}"), BACKBONES, options, say=said.append)
        n_left = 16 if number == 1 else 8 if number == 2 else 0
        assert [o.n_left for o in done.outcomes] == [n_left] * 2
    assert are_same(done.outcomes, one_process)
    assert any("was begun at memory://" in each for each in said)
    again = embedding.embed(machine("m1"), BACKBONES, how(worker=(1, 3), remote=in_memory), say=said.append)
    assert are_same(again.outcomes, one_process) and again.n_new == 0
    other = machine("m4")
    moved = pull(other, in_memory, ["demo_vit"])
    assert [each.name for each in moved] == ["features/demo_vit.h5", "targets.h5"] and moved[0].is_new
    assert not pull(other, in_memory, ["demo_vit"])[0].is_new
    assert "fetched 0 of 2 files" in pull(other, in_memory, ["demo_vit"]).notes()[0]
    assert len(open_targets(other.targets).image_id) == N
    with pytest.raises(UsageError, match="has no finished file of vit_b32.openai"):
        pull(other, in_memory, ["vit_b32.openai"])
    with pytest.raises(UsageError, match="has no finished file to send"):
        push(machine("m5"), in_memory)
    with pytest.raises(UsageError, match="--update is for one machine"):
        embedding.embed(other, ["demo_vit"], how(remote=in_memory), update=True)


def test_parts_of_workers_are_joined_by_hand_on_any_machine(
    photographs, one_process, in_memory, tmp_path, monkeypatch
):
    for number in (1, 2):
        add_dataset(tmp_path / f"m{number}", "mine", "folder", images=str(photographs))
    first, second = (Layout(tmp_path / f"m{n}", "mine") for n in (1, 2))
    embedding.embed(first, ["demo_vit"], how(worker=(1, 2), remote=in_memory))
    with pytest.raises(MissingFileError, match="3 of 6 parts are still to be made"):
        embedding.merge(second, None, in_memory)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RemoteRun, "fetch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        embedding.embed(first, ["demo_vit"], how(worker=(2, 2), remote=in_memory))
    moved: dict[str, list[int]] = {}

    @contextmanager
    def show(description, total, unit):
        moved[description] = [0, total]
        yield SimpleNamespace(update=lambda n=1: moved[description].__setitem__(0, moved[description][0] + n))

    assert are_same(embedding.merge(second, ["demo_vit"], in_memory, progress=show), one_process)
    done, total = moved["fetching the parts of demo_vit"]
    assert done == total > 0 and moved["joining the parts"] == [1, 1]
    remote = open_remote(in_memory, "mine")
    assert remote.noted("features/demo_vit.h5").digest == one_process[0].digest
    assert begun_names(remote) == [] and embedding.merge(second, None, in_memory) == []


def test_a_driver_that_ends_leaves_its_parts_to_the_next_one(job, one_process):
    def dies(task, folder):
        if task.part == 3:
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        run(*job, TeamHere(*job, ends=dies))
    assert not notes_folder(job[0].layout.features_of("demo_vit")).exists()
    team = TeamHere(*job)
    done = run(*job, team)
    assert are_same(done.outcomes, one_process)
    assert {task.part for task in team.given} == {3, 4, 5}


def test_each_part_is_made_for_the_backbones_that_lack_it(job, one_process):
    run(*job)
    both = replace(job[0], names=BACKBONES), job[1]
    team = TeamHere(*both)
    done = run(*both, team)
    assert are_same(done.outcomes, one_process)
    assert {task.backbones for task in team.given} == {("demo_clip",)} and len(done.outcomes) == 2


@pytest.mark.parametrize(("n_ended", "tried"), [(1, {21}), (2, {20, 21, 22, 23})])
def test_an_image_that_kills_its_maker_becomes_a_failed_row(job, monkeypatch, n_ended, tried):
    """After one end the rows that were in flight are tried apart; after two the whole part is, for the notes
    of a machine that is gone may be gone, too."""
    asked = []

    def find(paths, decoding):
        asked.append(set(paths))
        return {row: "the decoder crashed (SIGSEGV)" for row in paths if row == 21}

    monkeypatch.setattr(embed.crashes, "find_culprits", find)

    def ends(task, folder):
        if task.part != 5 or task.n_ended >= n_ended:
            return ""
        if n_ended == 1:
            suspect(folder, [21])
        return "killed"

    done = run(*job, TeamHere(*job, ends=ends))
    assert asked == [tried]
    with open_features(done.outcomes[0].path) as features:
        assert features.failures[21] == "the decoder crashed (SIGSEGV)"
        assert set(features.failures) == {7, 21}


def test_a_part_that_kills_without_an_image_to_blame_is_given_up_and_the_others_stay(job):
    ends = lambda task, folder: "killed" if task.part == 5 else ""  # noqa: E731
    with pytest.raises(MakersEndedError, match="part 5 ended 4 actors"):
        run(*job, TeamHere(*job, ends=ends))
    team = TeamHere(*job)
    run(*job, team)
    assert [task.part for task in team.given] == [5]


def test_too_many_failures_over_all_makers_end_the_run(job, monkeypatch):
    monkeypatch.setattr("embed.encoding.check_failures", refuse := CheckOfTwo())
    with pytest.raises(TooManyFailuresError, match="not an image"):
        run(*job)
    assert refuse.seen[-1][:2] == (8, 1)


class CheckOfTwo:
    """As check_failures, from two images on; a maker by itself, which sees one part, refuses nothing."""

    def __init__(self):
        self.seen = []

    def __call__(self, n_seen, n_failed, max_share, reason):
        self.seen.append((n_seen, n_failed, max_share))
        if n_failed and max_share < 1:
            raise TooManyFailuresError(reason)


def test_a_run_is_one_drivers(job):
    path = job[0].layout.features_of("demo_vit")
    with write_lock(lock_path(path)), pytest.raises(BusyError, match="another run"):
        run(*job)


def test_a_maker_that_sees_another_folder_is_refused(job):
    maker = Maker()
    maker.open(*job)
    from embed.handing_out import Task

    task, folder = Task(0, ("demo_vit",)), job[0].layout.features / "notes"
    with pytest.raises(ClusterError, match=r"finds nothing at .*demo_vit.h5.parts.*the data root at one"):
        maker.make(task, folder)
    assert not job[0].layout.features.exists()


def test_a_maker_that_reads_other_images_is_refused(job, tmp_path):
    told, table = job
    elsewhere = replace(table, root=tmp_path / "nothing")
    with pytest.raises(ClusterError, match="00.png cannot be read for process .*mount"):
        Maker().open(told, elsewhere)
    other = tmp_path / "other"
    other.mkdir()
    for path in table.path:
        (other / path).write_bytes(b"other")
    with pytest.raises(ClusterError, match="00.png has other bytes"):
        Maker().open(told, replace(table, root=other))


def test_versions_that_differ_are_named():
    mine = versions()
    assert {"Python", "torch", "numpy", "sources of embed/"} <= set(mine)
    check_versions(mine, dict(mine), "there")
    with pytest.raises(ClusterError, match=r"(?s)actor 1 has other versions.*torch: 1.0 there.*one image"):
        check_versions(mine, mine | {"torch": "1.0"}, "actor 1")


def test_what_an_actor_takes():
    cpus, gpus = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 4.0}
    assert choose_need("auto", None, [cpus, {"CPU": 6.0}]) == Need(6, 0)
    assert choose_need("auto", None, [cpus, gpus]) == Need(8, 1)
    assert choose_need("cpu", None, [cpus, gpus]) == Need(8, 0)
    assert choose_need("auto", 2, [cpus, gpus]) == Need(2, 1)
    assert choose_need("auto", None, [{"CPU": 128.0}]) == Need(32, 0)
    assert Need(8, 1).room([cpus, gpus]) == 4 and Need(3, 0).room([cpus, gpus]) == 12
    with pytest.raises(ClusterError, match=r"has 1 CPUs and 1 GPU.*8 CPUs, 0 GPUs.*--device cpu"):
        choose_need("cuda", 1, [cpus])
    with pytest.raises(ClusterError, match="has 9 CPUs for an actor"):
        choose_need("auto", 9, [cpus])


@pytest.mark.parametrize(
    ("address", "said"),
    [("nonsense", "no address of a Ray"), ("ray://127.0.0.1:9", "no Ray cluster.*refused.*head up")],
)
def test_addresses_at_which_there_is_nothing(address, said):
    with pytest.raises(ClusterError, match=said):
        clusters._check_address(address)


class FakeRay:
    """As much of Ray as there is of it on a machine on which it does not come up, or is lost."""

    def __init__(self, init_error=None):
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.init_error, self.n_shut = init_error, 0

    def is_initialized(self):
        return False

    def init(self, *_, **__):
        if self.init_error:
            raise self.init_error

    def shutdown(self):
        self.n_shut += 1


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup. The GCS has become overloaded."),
        RuntimeError("Failed to start GCS."),
        TimeoutError("Timed out while waiting for GCS address"),
        ValueError("The object store needs 80 MB of /dev/shm"),
    ],
)
def test_a_machine_on_which_ray_does_not_come_up(layout, monkeypatch, error):
    monkeypatch.setitem(sys.modules, "ray", fake := FakeRay(error))
    with pytest.raises(ClusterError, match=r"Ray does not come up for 'local': .*run the same command again"):
        embedding.embed(layout, BACKBONES, how(ray="local"))
    assert fake.n_shut == 1


def test_a_cluster_that_is_lost_meanwhile(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", fake := FakeRay())
    lost = pytest.raises(ClusterError, match=r"was lost: no raylet Does it run.*again to go on")
    with lost, clusters.cluster("local"):
        raise fake.exceptions.RayError("no raylet")
    with pytest.raises(fake.exceptions.RayTaskError), clusters.cluster("local"):
        raise fake.exceptions.RayTaskError("a bug")
    assert fake.n_shut == 2


def test_actors_that_cannot_start_end_the_run_with_what_to_do(monkeypatch):
    team = clusters.RayTeam.__new__(clusters.RayTeam)
    team._opened, team._actors = None, {}

    def start():
        team._actors["actor"] = None
        return "actor"

    def hear():
        del team._actors["actor"]
        return [Heard("actor", why="the worker did not register in time")]

    monkeypatch.setattr(team, "start", start)
    monkeypatch.setattr(team, "hear", hear)
    with pytest.raises(
        MakersEndedError, match=r"3 actors .*not register in time\. Is a machine busy.*--actors"
    ):
        team.first()


def test_without_ray_the_extra_is_named(layout, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError) as stop:
        embedding.embed(layout, BACKBONES, how(ray="auto"))
    assert stop.value.__notes__ == ["this needs ray: pip install 'image-aesthetics-store[ray]'"]


def test_ray_is_no_engine_and_does_not_go_with_everything(layout):
    with pytest.raises(UsageError, match="Ray computes nothing.*--ray auto"):
        check_engine("ray")
    with pytest.raises(UsageError, match="auto, torch, onnxruntime, not 'tensorflow'"):
        embedding.embed(layout, BACKBONES, How(engine="tensorflow"))
    for wrong, more in (("--worker", {"worker": (1, 2)}), ("--thumbnails", {"thumbnails": True})):
        with pytest.raises(UsageError, match=wrong):
            embedding.embed(layout, BACKBONES, How(ray="auto", **more))
    with pytest.raises(UsageError, match="--update"):
        embedding.embed(layout, BACKBONES, How(ray="auto"), update=True)


def test_status_says_who_is_at_which_part(job):
    seen = []

    def ends(task, folder):
        seen.extend(run_states(job[0].layout))
        return ""

    path = job[0].layout.features_of("demo_vit")
    run(*job, TeamHere(*job, n=1, ends=ends))
    assert {state.state for state in seen} == {"running"}
    note_work(path, [{"part": 3, "where": "actor 1 (process 1 on a)"}])
    (finished, *_) = run_states(job[0].layout)
    assert finished.at_work == ()
    assert crash_folder(path, 3).parent == notes_folder(path)
