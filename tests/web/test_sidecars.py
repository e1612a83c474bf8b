"""Stars out into sidecars and in again over HTTP: nothing is done that was not asked for."""

import pytest

pytest.importorskip("lxml", reason="XMP needs the extra [xmp]")

from iaa.exchange.xmp.files import read_sidecar


@pytest.fixture
def folder(embedded, client):
    """The photographs; no sidecar is left beside them, and nothing rated."""
    yield embedded / "photographs"
    while client.post("/api/undo", {}).json["undone"]:
        pass
    for path in (embedded / "photographs").glob("**/*.xmp"):
        path.unlink()


def sidecars_of(folder):
    return {path.name: read_sidecar(path).said() for path in folder.glob("**/*.xmp")}


def test_ones_own_stars_are_written_when_they_are_asked_for(client, folder):
    client.post("/api/ratings", {"key": client.key("img1.jpg"), "kind": "stars", "value": 4})
    before = (folder / "img1.jpg").read_bytes()
    told = client.post("/api/write_sidecars", {}).json
    assert told["n_new"] == 1 and not told["done"] and sidecars_of(folder) == {}
    assert client.post("/api/write_sidecars", {"do": True}).json["n_new"] == 1
    assert sidecars_of(folder)["img1.jpg.xmp"].rating == 4 and (folder / "img1.jpg").read_bytes() == before
    assert client.post("/api/write_sidecars", {"do": True}).json["n_same"] == 1
    # What was given here is not news, however it went out.
    assert client.post("/api/read_sidecars", {"do": True}).json["n_new"] == 0


def test_stars_of_other_programs_are_taken_over_and_taken_back(client, folder):
    sidecar = folder / "img2.jpg.xmp"
    sidecar.write_bytes(b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" rdf:about="" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>')  # fmt: skip  # noqa: E501
    (folder / "img3.jpg.xmp").write_bytes(b"no XML")
    told = client.post("/api/read_sidecars", {"do": False}).json
    assert (told["n_found"], told["n_new"], told["act"]) == (1, 1, 0)
    assert len(told["problems"]) == 1 and "img3.jpg.xmp" in told["problems"][0]
    row = client.get("/api/photographs").json["name"].index("img2.jpg")
    assert client.get("/api/ratings").json["stars"][row] == 0
    done = client.post("/api/read_sidecars", {"do": True}).json
    assert done["done"] and done["act"] and client.get("/api/ratings").json["stars"][row] == 5
    assert client.post("/api/undo", {"act": done["act"]}).json["undone"] == 1
    assert client.get("/api/ratings").json["stars"][row] == 0


def test_what_cannot_be_written_is_refused(client, folder):
    for head in ("nobody", "beautiful|ugly", "../heads/mine"):
        answer = client.post("/api/write_sidecars", {"head": head, "do": True})
        assert answer.status == 404 and head in answer.json["detail"]
    answer = client.post("/api/write_sidecars", {"do": True})
    assert answer.status == 409 and "nothing is rated yet" in answer.json["detail"]
    assert sidecars_of(folder) == {}
    assert client.post("/api/write_sidecars", {"do": True}, Authorization=None).status in (401, 403)
