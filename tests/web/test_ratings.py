"""Rating over HTTP: kept at once, undone, learned from, by two windows at a time."""

import threading
import time

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _nothing_rated(client):
    """Each test begins with nothing rated."""
    yield
    while client.post("/api/undo", {}).json["undone"]:
        pass


def keys_of(client):
    listed = client.get("/api/photographs").json
    return [key for key, state in zip(listed["key"], listed["state"], strict=True) if state == "ok"]


def test_a_rating_is_kept_shown_and_undone(client):
    first, second, *_ = keys_of(client)
    kept = client.post("/api/ratings", {"key": first, "kind": "stars", "value": 4}).json
    assert kept["stars"] == 4 and kept["n_stars"] >= 1
    flagged = client.post("/api/ratings", {"key": first, "kind": "flag", "value": -1}).json
    assert (flagged["stars"], flagged["flag"]) == (4, -1)
    pair = client.post("/api/ratings", {"key": first, "kind": "pair", "value": 0, "other": second}).json
    assert pair["n_pairs"] == 1
    held = client.get("/api/ratings").json
    row = client.get("/api/photographs").json["key"].index(first)
    assert held["stars"][row] == 4 and held["flag"][row] == -1 and len(held["stars"]) == len(held["flag"])
    assert client.post("/api/undo", {"act": kept["act"]}).json["keys"][0] == first
    assert client.get("/api/ratings").json["stars"][row] == 0
    assert client.post("/api/undo", {"act": kept["act"]}).status == 409


def test_several_are_rated_and_undone_as_one_or_not_at_all(client):
    keys = keys_of(client)[:3]
    before = client.get("/api/ratings").json
    refused = client.post("/api/ratings", {"keys": [*keys, "no-such-key"], "kind": "stars", "value": 4})
    assert refused.status == 404 and client.get("/api/ratings").json == before
    kept = client.post("/api/ratings", {"keys": keys, "kind": "stars", "value": 4}).json
    assert kept["n_stars"] == 3 and kept["stars"] == 4 and kept["last"] == before["last"] + 3
    undone = client.post("/api/undo", {"act": kept["act"]}).json
    assert sorted(undone["keys"]) == sorted(keys) and undone["n_stars"] == 0
    assert undone["last"] == kept["last"] + 1


def test_what_means_nothing_is_refused(client):
    first = keys_of(client)[0]
    for said, status in (
        ({"key": first, "kind": "stars", "value": 9}, 400),
        ({"key": first, "kind": "hearts", "value": 1}, 422),
        ({"key": "no-such-key", "kind": "stars", "value": 1}, 404),
        ({"key": first, "kind": "pair", "value": 1}, 400),
        ({"key": first, "kind": "pair", "value": 1, "other": first}, 400),
    ):
        answer = client.post("/api/ratings", said)
        assert answer.status == status and answer.json["detail"], said
    assert client.get("/api/ratings").json["n_stars"] == 0


def test_the_order_of_taste_follows_every_key(client):
    assert client.get("/api/order?by=taste").status == 409
    assert client.get("/api/taste").json["phase"] == "too few"
    keys = keys_of(client)
    for stars, key in ((5, keys[0]), (1, keys[1])):
        client.post("/api/ratings", {"key": key, "kind": "stars", "value": stars})
    order = client.get("/api/order?by=taste").json
    listed = client.get("/api/photographs").json["key"]
    ranked = [listed[row] for row in order["rows"]]
    assert ranked.index(keys[0]) < ranked.index(keys[1]) and np.isfinite(order["score"]).all()
    for stars, key in ((1, keys[0]), (5, keys[1])):
        client.post("/api/ratings", {"key": key, "kind": "stars", "value": stars})
    ranked = [listed[row] for row in client.get("/api/order?by=taste").json["rows"]]
    assert ranked.index(keys[0]) > ranked.index(keys[1])
    assert "until some can be held back" in client.get("/api/taste").json["sentence"]


def test_a_table_tells_the_scores_of_taste(client):
    keys = keys_of(client)
    assert client.post("/api/csv", {"keys": keys[:2], "order": "by=taste"}).status == 409
    for stars, key in ((5, keys[0]), (1, keys[1])):
        client.post("/api/ratings", {"key": key, "kind": "stars", "value": stars})
    order = client.get("/api/order?by=taste").json
    listed = client.get("/api/photographs").json["key"]
    head, *lines = client.post("/api/csv", {"keys": keys[:2], "order": "by=taste"}).body.decode().splitlines()
    told = [float(line.split(",")[head.split(",").index("score")]) for line in lines]
    of_row = dict(zip(order["rows"], order["score"], strict=True))
    assert told == pytest.approx([of_row[listed.index(key)] for key in keys[:2]], rel=1e-4)


def test_what_to_rate_next_is_not_rated_yet(client):
    keys = keys_of(client)
    client.post("/api/ratings", {"key": keys[0], "kind": "stars", "value": 3})
    found = client.get("/api/next?n=60").json
    assert keys[0] not in found["keys"] and len(set(found["keys"])) == len(found["keys"]) > 0
    assert set(found["keys"]) <= set(keys) and len(set(found["pair"])) == 2
    assert client.get("/api/next?n=1").json["keys"][0] in keys


def test_another_turn_is_another_pair_and_the_same_turn_the_same(client):
    while client.get("/api/groups").status == 202:
        time.sleep(0.05)  # while groups are looked for, the answer changes as they are found
    asked = [client.get(f"/api/next?turn={turn}").json for turn in (0, 0, 1, 2, 7)]
    pairs = [answer["pairs"] for answer in asked]
    assert pairs[0] == pairs[1] and asked[0]["keys"] == asked[2]["keys"]
    assert all(answer["pair"] == answer["pairs"][0] for answer in asked)
    n = len(pairs[0])
    assert n > 2 and pairs[2] == pairs[0][1:] + pairs[0][:1] and pairs[4][0] == pairs[0][7 % n]
    shown = [key for pair in pairs[0] for key in pair]
    assert len(set(shown)) == len(shown)
    assert client.get("/api/next?n=1").json["pairs"]  # of more photographs than are asked for
    assert client.get("/api/next?turn=-1").status == 422


def test_two_windows_rate_at_once(client):
    keys = keys_of(client)[:4]
    failures = []

    def rate(value):
        for key in keys * 5:
            answer = client.post("/api/ratings", {"key": key, "kind": "stars", "value": value})
            failures.extend([answer.status] if answer.status != 200 else [])

    threads = [threading.Thread(target=rate, args=(value,)) for value in (2, 4)]
    before = client.get("/api/ratings").json["last"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = client.get("/api/ratings").json
    assert not failures and held["last"] == before + 40
    assert {stars for stars in held["stars"] if stars} <= {2, 4}


def test_nobody_rates_without_the_token(client):
    first = keys_of(client)[0]
    answer = client.post("/api/ratings", {"key": first, "kind": "stars", "value": 1}, Authorization=None)
    assert answer.status in (401, 403)
