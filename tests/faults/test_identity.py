"""Each thing that makes rows other rows is a field of the identity: changed, it is refused by its name."""

import copy
import dataclasses

import numpy as np
import pytest
from PIL import Image

from embed.backbones.loading import load_backbone
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images, feature_path, feature_plan
from embed.prompts.sets import PromptTable
from embed.prompts.text import embed_prompts, prompt_plan
from store import IdentityError, open_features, open_prompts
from store.parts import begin, discard

OPTIONS = Options(batch_size=16, n_threads=2)


def leaves(value, path=()):
    """(path, value) of every field that is no mapping."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


def with_field(value, path, item):
    key, *rest = path
    return {**value, key: with_field(value[key], rest, item) if rest else item}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished feature file and a finished prompt file with what they were made of."""
    root = tmp_path_factory.mktemp("identity")
    (root / "i").mkdir()
    names = np.array([f"{i}.png" for i in range(5)])
    for i, name in enumerate(names):
        Image.new("RGB", (40, 30), (50 * i, 9, 9)).save(root / "i" / name)
    table = ImageTable("t", root / "i", names, names)
    backbone = load_backbone("demo_clip")
    embed_images(table, [backbone], root / "f", OPTIONS)
    return root, table, backbone


def test_every_field_of_features_is_named_when_it_differs(made):
    root, table, backbone = made
    path = feature_path(root / "f", backbone.id)
    identity = feature_plan(table, backbone, path, OPTIONS).identity
    fields = list(leaves(dict(identity)))
    assert len(fields) >= 12
    for field, value in fields:
        other = with_field(identity, field, value + 1 if isinstance(value, int) else "other")
        with pytest.raises(IdentityError, match=".".join(field) + ": the file has"):
            open_features(path, other)


def changed_table(table):
    names = table.image_id.copy()
    names[2] = "9.png"
    return dataclasses.replace(table, image_id=names)


def but(backbone, **attributes):
    """The backbone, but for some attributes."""
    other = copy.copy(backbone)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def with_recipe(backbone, **fields):
    return but(backbone, recipe=dataclasses.replace(backbone.recipe, **fields))


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("images", lambda t, b, o: (changed_table(t), b, o)),
        ("weights_sha256", lambda t, b, o: (t, but(b, weights_sha256="00"), o)),
        ("precision", lambda t, b, o: (t, but(b, precision="bfloat16"), o)),
        ("preprocessing.decoder", lambda t, b, o: (t, b, dataclasses.replace(o, is_exact=True))),
        ("preprocessing.exif_rotate", lambda t, b, o: (t, b, dataclasses.replace(o, exif_rotate=True))),
        ("preprocessing.mean", lambda t, b, o: (t, with_recipe(b, mean=(0.5, 0.5, 0.5)), o)),
        ("preprocessing.interpolation", lambda t, b, o: (t, with_recipe(b, interpolation="nearest"), o)),
    ],
)
def test_a_run_with_one_thing_changed_is_refused_by_name(made, tmp_path, field, change, is_finished):
    root, table, backbone = made
    folder = root / "f"
    if not is_finished:
        folder = tmp_path
        begin(feature_plan(table, backbone, feature_path(folder, backbone.id), OPTIONS))
    new_table, new_backbone, options = change(table, backbone, OPTIONS)
    with pytest.raises(IdentityError, match=f"{field}: the file has"):
        embed_images(new_table, [new_backbone], folder, options)


@pytest.mark.parametrize("field", ["batch_size", "max_pixels"])
def test_settings_in_the_provenance_are_kept_through_a_resume(made, tmp_path, field):
    _, table, backbone = made
    plan = feature_plan(table, backbone, feature_path(tmp_path, backbone.id), OPTIONS)
    begin(plan)
    with pytest.raises(IdentityError, match=f"provenance.{field}: the file has"):
        embed_images(table, [backbone], tmp_path, dataclasses.replace(OPTIONS, **{field: 999}))
    discard(plan)


def test_every_field_of_prompts_is_named_when_it_differs(made, tmp_path):
    _, _, backbone = made
    table = _prompts("a great picture")
    path = tmp_path / "p.h5"
    embed_prompts("s", table, backbone, path)
    identity = prompt_plan("s", table, backbone, path).identity
    for field, value in leaves(dict(identity)):
        other = with_field(identity, field, value + 1 if isinstance(value, int) else "other")
        with pytest.raises(IdentityError, match=".".join(field) + ": the file has"):
            open_prompts(path, other)
    with pytest.raises(IdentityError, match="prompts: the file has"):
        embed_prompts("s", _prompts("a grand picture"), backbone, path)


def _prompts(text):
    names = [f.name for f in dataclasses.fields(PromptTable)]
    columns = {"text": [text], "label": ["great"], "polarity": [1], "content": [""], "template": ["t"]}
    return PromptTable(**{name: columns[name] for name in names})
