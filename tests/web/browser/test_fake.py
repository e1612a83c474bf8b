"""The planted library answers in the shapes that the API describes: the page is tested with what it meets."""

import json
from typing import Any

import pytest

from iaa.web import answers, ratings
from tests.web.browser.fake import Fake, drawn

SAID = {"key": "k000000", "kind": "stars", "value": 4}
QUERY = {"by": ["search"], "text": ["lake"]}


def read(answer: tuple[int, str, bytes]) -> Any:
    return json.loads(answer[2])


def library() -> Fake:
    sizes = [(3, 2), (2, 3)]
    groups: list[dict[str, Any]] = [{"id": "g", "kind": "burst", "rows": [0, 1], "ranked": True}]
    return Fake(
        ["a.jpg", "b.jpg"], drawn(sizes), sizes, states=["ok", "failed"], taken=[1.5, None], groups=groups
    )


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (answers.Library, lambda fake: fake.library()),
        (answers.State, lambda fake: fake.state()),
        (answers.Photographs, lambda fake: fake.photographs()),
        (answers.Order, lambda fake: fake.order(QUERY)),
        (answers.Facts, lambda fake: fake.facts(0)),
        (answers.Order, lambda fake: fake.order({"by": ["taste"]})),
        (ratings.Held, lambda fake: fake.ratings()),
        (ratings.Next, lambda fake: fake.next(20)),
        (ratings.Taste, lambda fake: fake.taste()),
        (ratings.Kept, lambda fake: read(fake.keep(SAID))),
        (ratings.Undone, lambda fake: [fake.keep(SAID), read(fake.take_back(None))][1]),
        (answers.Groups, lambda fake: fake.stamp() | {"threshold": 0.9, "groups": fake.groups}),
    ],
)
def test_planted_answers_have_the_described_shape(model: Any, answer: Any) -> None:
    value = answer(library())
    assert set(value) == set(model.model_fields)
    model.model_validate(value, strict=True)
