"""New shapes, a real digit and a new colour: drawn like the old ones, which stay as they were, bit for bit."""

import hashlib
import json

import pytest
import torch

from minivdm.commands import make_concepts_classifier
from minivdm.datasets.captions import vocabulary
from minivdm.datasets.concepts import (
    ALL_COLOURS,
    ALL_SHAPES,
    NEW_COLOURS,
    NEW_SHAPES,
    ConceptClips,
    ConceptStills,
    handwriting,
    triples_with,
)
from minivdm.datasets.digits import digits
from minivdm.datasets.shapes import COLOURS, SHAPES
from minivdm.datasets.sprites import ATTRIBUTES, MovingSprites, all_triples, held_out
from minivdm.datasets.stills import PLACES, STILL_ATTRIBUTES, SpriteStills
from minivdm.evaluation.attribute_classifier import AttributeClassifier, correct_attributes
from minivdm.pipelines.pretrained import load_pretrained


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_data_of_the_trained_models_stay_as_they_were():
    """The draws of before there were new names, by their SHA-256; and the names, captions and held-out triples."""
    assert tuple(SHAPES) == ("circle", "square", "triangle", "diamond", "cross", "ring") and len(COLOURS) == 8
    assert (len(vocabulary(SpriteStills)), len(vocabulary())) == (36, 55)
    for sprites, expected in ((SpriteStills(32), STILLS), (MovingSprites(4, 16), CLIPS)):
        data, attributes = sprites.sample(6, seeded(3))
        content = (data * 1000).round().to(torch.int16).numpy().tobytes() + attributes.numpy().tobytes()
        assert hashlib.sha256(content).hexdigest()[:16] == expected


STILLS, CLIPS = "b31d2a21e46b9e89", "202e84582635e950"


@pytest.mark.parametrize(
    "old, new", [(SpriteStills(32), ConceptStills(32)), (MovingSprites(6, 32), ConceptClips(6, 32))]
)
def test_old_names_are_drawn_alike_by_the_new_data(old, new):
    triples = all_triples("train", old.attributes)[::7]
    assert torch.equal(old.draw(triples, seeded()), new.draw(triples, seeded()))
    assert old.captions(triples, seeded()) == new.captions(triples, seeded())
    count = len(all_triples("held_out", old.attributes))
    among = all_triples("held_out", new.attributes)
    assert (among[:, 0] < 6).logical_and(among[:, 1] < 8).sum() == count


def test_new_names_come_after_the_old_ones():
    assert list(ALL_SHAPES)[:6] == list(SHAPES) and list(ALL_COLOURS)[:8] == list(COLOURS)
    assert set(NEW_SHAPES).isdisjoint(vocabulary(SpriteStills) + vocabulary()) and set(NEW_COLOURS) == {"pink"}
    assert ConceptStills.captions_of("moon", "red", "top left")[0] == "a red moon at the top left"
    assert ConceptClips.captions_of("digit", "pink", "left")[0] == "a pink digit moving left"
    for sprites in (SpriteStills, MovingSprites):
        with pytest.raises(ValueError, match="'moon' is no shape"):
            sprites.captions_of("moon", "red", "left")


def test_every_new_shape_is_visible_and_like_no_other():
    """All else being equal: at least a tenth of the sprite's pixels differ from every other shape's."""
    shapes = torch.arange(len(ALL_SHAPES))
    attributes = torch.stack([shapes, torch.full_like(shapes, 7), torch.full_like(shapes, 4)], dim=1)
    images = torch.cat([ConceptStills(32).draw(row[None], seeded(2)) for row in attributes])
    ground = ConceptStills(32).draw(torch.tensor([[0, 7, 0]]), seeded(2))
    inside = ((images - ground).abs().amax(dim=1) > 0.5).flatten(1)[:, 32 * 12 :].sum(dim=1)
    assert (inside > 15).all()
    difference = ((images[:, None] - images[None]).abs().amax(dim=2) > 0.5).flatten(2).sum(dim=2)
    assert difference[~torch.eye(len(images)).bool()].min() >= 8


def test_the_digit_is_a_real_one():
    """Drawn at a size at which its pixels can be seen, its ink is where that of the digit is."""
    images, labels = digits()
    which = (images[:, 0] == handwriting()).flatten(1).all(dim=1).nonzero().item()
    assert labels[which] == 3
    pixel = (torch.arange(8) + 0.5) / 4 - 1
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    distance = ALL_SHAPES["digit"](x[None, None], y[None, None])[0, 0]
    ink = handwriting()
    assert ((distance < 0) == (ink > 0))[ink.abs() > 0.1].all()


@pytest.mark.parametrize("sprites, count", [(ConceptStills, 9), (ConceptClips, 8)])
def test_triples_with_a_new_name(sprites, count):
    old = STILL_ATTRIBUTES if sprites is ConceptStills else ATTRIBUTES
    moons = triples_with("shape", "moon", sprites.attributes, old)
    assert len(moons) == 8 * count and (moons[:, 0] == 6).all() and moons[:, 1].max() == 7
    pink = triples_with("colour", "pink", sprites.attributes, old)
    assert len(pink) == 6 * count and (pink[:, 1] == 8).all() and pink[:, 0].max() == 5
    assert held_out(moons).any() and not held_out(moons).all()
    for kind, name in (("shape", "pink"), ("size", "large")):
        with pytest.raises(ValueError, match=f"'{name}' is no {kind}"):
            triples_with(kind, name, sprites.attributes, old)


def test_the_shipped_judge_knows_the_new_names():
    """Of drawn stills that it has not seen: old shapes and new ones, old colours and pink."""
    stills, attributes = ConceptStills().sample(256, seeded(21), split="all")
    right = correct_attributes(load_pretrained("concepts_classifier"), stills, attributes).float()
    assert right.mean(dim=0).min() >= 0.98
    for kind, first in ((0, len(SHAPES)), (1, len(COLOURS))):
        assert right[attributes[:, kind] >= first].mean() >= 0.98


def test_the_recipe_for_the_judge_runs_and_is_recorded(tmp_path, monkeypatch, capsys):
    out = tmp_path / "concepts_classifier.pt"
    monkeypatch.setattr("sys.argv", ["make", "--out", str(out), "--steps", "1", "--batch", "4"])
    monkeypatch.setattr(make_concepts_classifier, "JUDGED", 8)
    make_concepts_classifier.main()
    assert "right on fresh pictures" in capsys.readouterr().out
    entry = json.loads((tmp_path / "manifest.json").read_text())["concepts_classifier"]
    assert entry["command"].endswith("--steps 1 --batch 4")
    assert set(entry["classifier_accuracy"]) == {"shape", "colour", "place", "shape_in_frames", "colour_in_frames"}
    assert isinstance(load_pretrained("concepts_classifier", tmp_path), AttributeClassifier)


def test_as_in_clips_a_sprite_is_nearest_to_the_place_that_names_it():
    place = torch.arange(9).repeat(200)
    x, y, radius = make_concepts_classifier.AnySize().spots(place, seeded())
    centres = torch.tensor([centre for centre, _ in PLACES.values()])
    nearest = torch.cdist(torch.cat([x, y], dim=1), centres, p=torch.inf).argmin(dim=1)
    assert (nearest == place).float().mean() > 0.99
    assert radius.min() < 0.2 and radius.max() > 0.6 and 0.5 < ((radius >= 0.3) & (radius <= 0.4)).float().mean() < 0.75
