"""`iaa open` from the shell: folders become data sets, what goes on behind the page, what befalls it."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from iaa.library.dataset import add_dataset, open_dataset
from iaa.library.gallery.choosing import WITH_WORDS, choose_backbone, dataset_of, new_name
from iaa.library.gallery.gallery import Settings
from iaa.library.gallery.processes import HelperDied, Helpers
from iaa.library.layout import Layout
from store import looks as store_looks
from store import open_features
from store.looks import Look, Looks
from tests.web.conftest import Client, jpeg, make_photographs

MANY = 700


class Opened:
    """A running `iaa open`."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "iaa", "open", *map(str, arguments), "--no-browser"]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)\n", line)
        assert found, line + self.process.stderr.read()
        self.client = Client(int(found[1]), found[2])

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def opened():
    there = []

    def start(*arguments):
        there.append(Opened(*arguments))
        return there[-1]

    yield start
    for each in there:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of many small photographs."""
    folder = tmp_path_factory.mktemp("many") / "photographs"
    folder.mkdir()
    for i in range(MANY):
        (folder / f"{i:04d}.jpg").write_bytes(jpeg(i, (120, 90)))
    return folder


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    """Content digest of one run that nobody disturbs."""
    dataset = add_dataset("photographs", "folder", many, data=tmp_path_factory.mktemp("undisturbed"))
    return dataset.embed("demo_vit").outcomes[0].digest


def runs_at(data):
    """Processes of embedding runs that write below a folder."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if " iaa embed " in line and str(data) in line]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_folder_becomes_a_data_set_that_is_found_again(opened, tmp_path):
    folder = make_photographs(tmp_path / "Our holiday, 2021", 3)
    page = opened(folder, "--data", tmp_path / "data", "--backbone", "demo_vit")
    state = page.client.until("ready", "failed")
    assert (state["phase"], state["done"], state["total"], state["failed"]) == ("ready", 8, 8, 1), state
    library = page.client.get("/api/library").json
    assert (library["name"], library["title"]) == ("Our-holiday-2021", "Our holiday, 2021")
    assert "knows no words" in library["why_no_words"] and not library["words"]
    assert page.client.get("/api/order?by=search&text=dog").status == 409
    key = page.client.key("img0.jpg")
    assert page.client.get(f"/api/order?by=search&like={key}").status == 200
    assert page.end()[0] == 130
    assert not runs_at(tmp_path)

    again = opened(folder, "--data", tmp_path / "data")
    assert again.client.until("ready")["done"] == 8
    assert again.client.get("/api/library").json["details"]["backbone"] == "demo_vit"
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["Our-holiday-2021"]
    code, said = again.end(signal.SIGINT)
    assert code == 130 and "To go on: iaa open" in said


def test_names_of_folders(tmp_path):
    for name, expected in (
        ("a b", "a-b"),
        ("..x", "x"),
        ("con", "photographs-con"),
        ("demo", "demo-2"),
        ("§§", "photographs"),
        ("heads", "photographs-heads"),
        ("ü" * 100, "ü" * 54),
        ("Images", "p-Images"),
    ):
        (tmp_path / "p" / name).mkdir(parents=True, exist_ok=True)
        assert new_name(tmp_path / "data", tmp_path / "p" / name) == expected
    first, second = tmp_path / "a" / "trip", tmp_path / "b" / "Trip"
    for folder in (first, second):
        make_photographs(folder, 1)
    add_dataset(new_name(tmp_path / "data", first), "folder", first, data=tmp_path / "data")
    assert dataset_of(tmp_path / "data", first) == "trip"
    assert dataset_of(tmp_path / "data", second) is None
    assert new_name(tmp_path / "data", second) == "Trip-2"  # some systems take trip and Trip for the same


def test_backbone_is_chosen_without_a_network(tmp_path, monkeypatch):
    make_photographs(tmp_path / "p", 1)
    layout = add_dataset("mine", "folder", tmp_path / "p", data=tmp_path / "data").layout
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.setattr("embed.backbones.weights.backbone_availability", lambda spec: (False, ""))
    assert choose_backbone(layout) == "efficientnet_lite0.in1k"
    monkeypatch.setattr("embed.backbones.weights.backbone_availability", lambda spec: (True, ""))
    assert choose_backbone(layout) == WITH_WORDS
    assert choose_backbone(layout, "demo_vit") == "demo_vit"
    assert choose_backbone(Layout(tmp_path / "data", "demo")) == "demo_clip"


def test_wrong_places_are_told_at_once(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))
    (tmp_path / "file.jpg").write_bytes(jpeg(0))
    code, _, said = invoke("open", tmp_path / "none", "--no-browser")
    assert code == 2 and "there is no folder" in said
    code, _, said = invoke("open", tmp_path / "file.jpg", "--no-browser")
    assert code == 2 and "give the folder that it lies in" in said
    code, _, said = invoke("open", "nowhere", "--no-browser")
    assert code == 1 and "no data set 'nowhere'" in said


def test_an_empty_folder_says_so_on_the_page(open_page, tmp_path):
    (tmp_path / "empty").mkdir()
    client = open_page(Settings(tmp_path / "data", folder=tmp_path / "empty"))
    state = client.until("failed")
    assert "holds no images" in state["message"]
    assert client.get("/api/photographs").json["key"] == []
    assert client.get("/").status == 200
    assert not list((tmp_path).glob("data/*"))


def test_killed_while_embedding_the_run_ends_and_goes_on_when_opened_again(
    opened, many, undisturbed, tmp_path
):
    data = tmp_path / "data"
    page = opened(many, "--data", data, "--backbone", "demo_vit")
    parts = data / "photographs/features/demo_vit.h5.parts"
    wait_for(lambda: list(parts.glob("part-*.h5")))
    wait_for(lambda: "ok" in page.client.get("/api/photographs").json["state"])
    listed = page.client.get("/api/photographs").json
    key = listed["key"][listed["state"].index("ok")]
    order = page.client.get(f"/api/order?by=search&like={key}")
    assert order.status == 200 and len(order.json["rows"]) >= 1  # what is finished can be searched at once
    os.kill(page.process.pid, signal.SIGKILL)
    wait_for(lambda: not runs_at(data), 30)
    assert not (data / "photographs/features/demo_vit.h5").exists(), "it was over before it was killed"
    made = {p.name: p.stat().st_mtime_ns for p in parts.glob("part-*.h5")}

    again = opened(many, "--data", data, "--backbone", "demo_vit")
    wait_for(lambda: again.client.get("/api/state").json["phase"] in ("embedding", "ready"))
    state = again.client.until("ready")
    assert state["done"] == MANY and made
    with open_features(data / "photographs/features/demo_vit.h5") as features:
        assert features.digest == undisturbed


def test_pausing_keeps_what_is_finished(open_page, many, undisturbed, tmp_path):
    client = open_page(Settings(tmp_path / "data", folder=many, backbone="demo_vit"))
    wait_for(lambda: client.get("/api/state").json["done"] > 0)
    assert client.post("/api/stop", {}).status == 200
    state = client.until("stopped", "ready")
    assert state["phase"] == "stopped" and state["rate"] == 0
    assert client.post("/api/start", {}).status == 200
    client.until("ready")
    assert client.get("/api/library").json["details"]["digest"] == undisturbed


def test_two_pages_at_once_share_one_run(open_page, many, tmp_path):
    settings = Settings(tmp_path / "data", folder=many, backbone="demo_vit")
    first = open_page(settings)
    wait_for(lambda: first.get("/api/state").json["phase"] in ("embedding", "ready"))
    second = open_page(settings)
    assert second.until("ready", seconds=240)["done"] == MANY
    assert first.until("ready")["done"] == MANY
    digests = {client.get("/api/library").json["details"]["digest"] for client in (first, second)}
    assert len(digests) == 1


def test_photographs_that_came_while_a_run_was_unfinished_cost_none_of_its_rows(open_page, many, tmp_path):
    folder = tmp_path / "photographs"
    shutil.copytree(many, folder)
    client = open_page(Settings(tmp_path / "data", folder=folder, backbone="demo_vit"))
    parts = tmp_path / "data/photographs/features/demo_vit.h5.parts"
    wait_for(lambda: len(list(parts.glob("part-*.h5"))) >= 2)
    client.post("/api/stop", {})
    assert client.until("stopped", "ready")["phase"] == "stopped"
    n_made = client.get("/api/photographs").json["state"].count("ok")
    (folder / "0000a.jpg").write_bytes(jpeg(5000, (120, 90)))
    (folder / "0699.jpg").unlink()
    client.post("/api/start", {})
    client.until("starting", "embedding")
    state = client.until("ready")
    assert state["done"] == state["total"] == MANY
    with open_features(tmp_path / "data/photographs/features/demo_vit.h5") as features:
        assert features.provenance["updates"]["n_kept"] >= n_made - 1 >= 32
        assert "0000a.jpg" in features.image_id and "0699.jpg" not in features.image_id


def test_deleted_and_replaced_underneath(open_page, tmp_path):
    folder = make_photographs(tmp_path / "photographs", 4)
    root = tmp_path / "data"
    add_dataset("mine", "folder", folder, data=root).embed("demo_vit", thumbnails=True)
    client = open_page(Settings(root, "mine", is_embedding=False))
    client.until("ready")
    gone, other = client.key("img1.jpg"), client.key("img2.jpg")
    before = client.get(f"/api/photographs/{other}/thumbnail").body
    (folder / "img1.jpg").unlink()
    (folder / "img2.jpg").write_bytes(jpeg(77))
    assert client.get(f"/api/photographs/{gone}/thumbnail").status == 200  # as it was
    facts = client.get(f"/api/photographs/{gone}").json
    assert facts["changed"] and facts["size_bytes"] is None and "no longer there" in facts["reason"]
    assert client.get(f"/api/photographs/{gone}/picture").status == 404
    assert client.get(f"/api/photographs/{other}").json["changed"]
    assert client.get(f"/api/photographs/{other}/thumbnail").body == before  # what was scored
    failed = client.post("/api/copy", {"keys": [gone], "name": "x"})
    assert failed.status == 507 and "nothing was copied" in failed.json["detail"]
    assert not list((root / "mine" / "copies").iterdir())
    listing = client.get("/api/photographs").json["listing"]
    client.post("/api/start", {})
    client.until("starting", "embedding")
    client.until("ready")
    assert client.get("/api/photographs").json["listing"] != listing
    assert client.get(f"/api/photographs/{gone}").status == 404
    assert client.get(f"/api/order?by=sharpness&version={listing}.1").status == 409
    assert client.get(f"/api/photographs/{other}/thumbnail").body != before


def test_a_replaced_photograph_is_looked_at_again_and_an_empty_folder_may_be_filled(open_page, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    client = open_page(Settings(tmp_path / "data", folder=folder, backbone="demo_vit"))
    assert client.until("failed")["message"]
    make_photographs(tmp_path / "more", 3)
    for path in (tmp_path / "more").glob("img*.jpg"):
        shutil.copy(path, folder)
    client.post("/api/start", {})
    client.until("starting", "embedding", "ready")
    assert client.until("ready")["done"] == 3
    key = client.key("img1.jpg")
    before, listed = client.get(f"/api/photographs/{key}/thumbnail").body, client.get("/api/photographs").json
    (folder / "img1.jpg").write_bytes(jpeg(99, (400, 100)))
    client.post("/api/start", {})
    client.until("starting", "embedding")
    client.until("ready")
    now = client.get("/api/photographs").json
    row = now["key"].index(key)
    assert now["listing"] == listed["listing"] and now["version"] != listed["version"]
    assert now["thumb"][row] != listed["thumb"][row] and (now["width"][row], now["height"][row]) == (400, 100)
    assert client.get(f"/api/photographs/{key}/thumbnail").body != before
    assert not client.get(f"/api/photographs/{key}").json["changed"]


def test_lost_and_damaged_thumbnails_are_made_again(open_page, tmp_path):
    folder = make_photographs(tmp_path / "photographs", 3)
    dataset = add_dataset("mine", "folder", folder, data=tmp_path / "data")
    dataset.embed("demo_vit", thumbnails=True)
    with Looks(dataset.layout.looks) as looks:
        made = looks.known()
    dataset.layout.looks.write_bytes(b"this is no database at all, " * 1000)
    client = open_page(Settings(tmp_path / "data", "mine", is_embedding=False))
    client.until("ready")
    assert client.get(f"/api/photographs/{client.key('img0.jpg')}/thumbnail").status == 200
    wait_for(lambda: client.get("/api/state").json["thumbnails"] == 8)
    with Looks(dataset.layout.looks) as looks:
        assert looks.known() == made


def test_without_room_for_thumbnails_the_page_goes_on(open_page, tmp_path):
    folder = make_photographs(tmp_path / "photographs", 3)
    dataset = add_dataset("mine", "folder", folder, data=tmp_path / "data")
    dataset.layout.looks.mkdir(parents=True)  # nothing can be kept there
    client = open_page(Settings(tmp_path / "data", "mine", backbone="demo_vit"))
    assert client.until("ready", "failed")["phase"] == "ready"
    for _ in range(2):
        assert client.get(f"/api/photographs/{client.key('img0.jpg')}/thumbnail").status == 200
    assert client.get(f"/api/order?by=search&like={client.key('img0.jpg')}").status == 200


def test_a_full_disk_costs_the_thumbnails_and_nothing_else(tmp_path, monkeypatch, caplog):
    opened = store_looks._opened

    def small(path):
        database = opened(path)
        database.execute("PRAGMA max_page_count=12")
        return database

    monkeypatch.setattr(store_looks, "_opened", small)
    some = [Look(bytes([i]) * 32, 3, 2, "#000000", 1.0, jpeg=bytes(20_000)) for i in range(4)]
    with Looks(tmp_path / "x.sqlite") as looks:
        assert looks.put(some[:1])
        assert not looks.put(some[1:]) and "full" in looks.problem
        assert looks.known() == {some[0].sha256} and looks.jpeg(some[0].sha256) == bytes(20_000)
        assert looks.jpeg(some[1].sha256) is None
    folder = make_photographs(tmp_path / "photographs", 12)
    made = add_dataset("mine", "folder", folder, data=tmp_path / "data").embed("demo_vit", thumbnails=True)
    assert (made.outcomes[0].n_images, made.outcomes[0].n_failed) == (17, 1)
    assert "thumbnails cannot be kept" in caplog.text


def test_a_flipped_bit_in_a_thumbnail_is_found(tmp_path):
    look = Look(bytes(range(32)), 3, 2, "#000000", 1.0, 5.0, {"camera": "A"}, jpeg=jpeg(0))
    with Looks(tmp_path / "x.sqlite") as looks:
        looks.put([look])
        assert looks.of([look.sha256])[look.sha256].facts == {"camera": "A"}
    with sqlite3.connect(tmp_path / "x.sqlite") as database:
        damaged = bytearray(look.jpeg)
        damaged[100] ^= 1
        database.execute("UPDATE jpegs SET jpeg = ?", (bytes(damaged),))
    with Looks(tmp_path / "x.sqlite") as looks:
        assert looks.jpeg(look.sha256) is None


def test_thumbnails_change_no_row(tmp_path):
    """Vectors with and without thumbnails are the same file."""
    folder = make_photographs(tmp_path / "photographs", 5)
    digests = []
    for name, made in (("with", True), ("without", False)):
        dataset = add_dataset("mine", "folder", folder, data=tmp_path / name)
        digests.append(dataset.embed("demo_vit", thumbnails=made).outcomes[0].digest)
    assert digests[0] == digests[1]
    assert Layout(tmp_path / "with", "mine").looks.exists()
    assert not Layout(tmp_path / "without", "mine").looks.exists()


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_crash_in_a_helper_is_an_error_and_not_the_end():
    helpers = Helpers(1)
    try:
        with pytest.raises(HelperDied):
            helpers.call(die)
        assert helpers.call(abs, -3) == 3
    finally:
        helpers.close()
    with pytest.raises(HelperDied):
        helpers.call(abs, -3)


def test_the_same_vectors_give_the_same_scores_early_and_late(open_page, many, tmp_path):
    """A head's scores from parts are those from the finished file."""
    from analysis.probing.heads import Head, save_head, score_features

    root = tmp_path / "data"
    dataset = add_dataset("mine", "folder", many, data=root)
    rng = np.random.default_rng(5)
    client = open_page(Settings(root, "mine", backbone="demo_vit"))
    wait_for(lambda: client.get("/api/library").json["details"]["output"])
    output = client.get("/api/library").json["details"]["output"]
    dim = 0
    for path in (root / "mine/features").glob("*.parts"):
        from store.begun import open_begun

        dim = open_begun(path.with_suffix("")).outputs[output]
    dim = dim or open_dataset("mine", root).features("demo_vit").outputs[output]
    head = Head(((rng.normal(size=(1, dim)), np.zeros(1)),), "demo_vit", output, True, {"origin": "nowhere"})
    save_head(root / "heads" / "my-taste", head)
    early = client.get("/api/order?by=score&head=my-taste").json
    client.until("ready")
    late = client.get("/api/order?by=score&head=my-taste").json
    assert len(late["rows"]) == MANY and late["title"] == "my taste"
    with open_features(dataset.layout.features_of("demo_vit")) as features:
        scores = score_features(head, features)
    assert late["score"] == pytest.approx(sorted(scores, reverse=True))
    at_end = dict(zip(late["rows"], late["score"], strict=True))
    assert early["score"] == pytest.approx([at_end[row] for row in early["rows"]], abs=1e-4)


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    make_photographs(tmp_path / "p", 1)
    block = "import sys; sys.modules['fastapi'] = None\nfrom iaa.cli.app import main\n"
    arguments = ["open", str(tmp_path / "p"), "--data", str(tmp_path / "data"), "--no-browser"]
    code = f"{block}main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: this needs fastapi: pip install 'image-aesthetics-store[web]'\n"
