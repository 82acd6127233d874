"""Drawn stills and their captions: each attribute is visible, each triple has captions of its own."""

import pytest
import torch

from minivdm.datasets.captions import caption_table, vocabulary
from minivdm.datasets.sprites import all_triples, held_out, names_of
from minivdm.datasets.stills import PLACES, STILL_ATTRIBUTES, SpriteStills, still_captions
from minivdm.evaluation.attribute_classifier import AttributeClassifier, correct_attributes
from minivdm.pipelines.text2image import still_tokenizer
from tests.helpers import CountOperations


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_drawing_is_repeatable_and_in_range(size):
    stills = SpriteStills(size)
    images, attributes = stills.sample(8, seeded(1))
    again, same = stills.sample(8, seeded(1))
    other, _ = stills.sample(8, seeded(2))
    assert images.shape == (8, 3, size, size) and attributes.shape == (8, 3) and attributes.dtype == torch.long
    assert torch.equal(images, again) and torch.equal(attributes, same) and not torch.equal(images, other)
    assert images.min() >= -1 and images.max() <= 1 and images.dtype == torch.float32


def test_drawing_is_one_pass():
    counts = []
    for n in (2, 16):
        with CountOperations() as count:
            SpriteStills(16).sample(n, seeded())
        counts.append(count.calls)
    assert counts[0] == counts[1], "the number of operations must not depend on the number of pictures"


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_attribute_is_visible(size, which):
    """Stills that differ in one attribute alone, all chance being equal, differ clearly."""
    count = [len(names) for names in STILL_ATTRIBUTES.values()]
    for fixed in range(8):
        attributes = torch.tensor([[fixed % 6, (fixed + 3) % 8, fixed]]).repeat(count[which], 1)
        attributes[:, which] = torch.arange(count[which])
        images = torch.cat([SpriteStills(size).draw(row[None], seeded(fixed)) for row in attributes])
        difference = (images[:, None] - images[None]).abs().amax(dim=2)  # (N, N, H, W) largest over colours
        changed = (difference > 0.2).float().sum(dim=(2, 3))  # (N, N)
        assert changed[~torch.eye(len(images)).bool()].min() >= 5


@pytest.mark.parametrize("size", [16, 32])
def test_a_sprite_is_where_its_caption_says(size):
    """The centre of what is brighter than the ground, in thirds of the picture."""
    place = torch.arange(9).repeat_interleave(30)
    attributes = torch.stack([torch.zeros(270).long(), torch.full((270,), 7), place], dim=1)  # white circles
    images = SpriteStills(size).draw(attributes, seeded())
    bright = images.mean(dim=1).clamp(min=0)  # (270, H, W); grounds stay below 0.35, which is -0.3 here
    grid = (torch.arange(size) + 0.5) / size * 2 - 1
    total = bright.sum(dim=(1, 2))
    x, y = (bright.sum(dim=1) * grid).sum(1) / total, (bright.sum(dim=2) * grid).sum(1) / total
    spots = torch.tensor([spot for spot, _ in PLACES.values()])
    assert torch.cdist(torch.stack([x, y], dim=1), spots).argmin(dim=1).equal(place)
    third = (torch.stack([x, y], dim=1) * 1.5).round()  # -1, 0, 1
    assert third.equal(spots[place].sign())


def test_held_out_triples_are_a_tenth_and_never_drawn_for_training():
    train, new = (all_triples(split, STILL_ATTRIBUTES) for split in ("train", "held_out"))
    assert len(train) + len(new) == 6 * 8 * 9 == 432 and abs(len(new) / 432 - 0.1) < 0.01
    _, drawn = SpriteStills(16).sample(3000, seeded())
    assert not held_out(drawn).any() and drawn.unique(dim=0).shape[0] > 380
    assert held_out(SpriteStills(16).sample(50, seeded(), "held_out")[1]).all()
    for pair, count in (((0, 1), 48), ((0, 2), 54), ((1, 2), 72)):
        assert len(train[:, pair].unique(dim=0)) == count, "each pair of attributes must occur in training"
    for column in range(3):
        assert len(new[:, column].unique()) == len(list(STILL_ATTRIBUTES.values())[column])


def test_captions_name_one_triple_each_and_survive_the_tokenizer():
    tokenizer, seen = still_tokenizer(), {}
    for names in names_of(all_triples("all", STILL_ATTRIBUTES), STILL_ATTRIBUTES):
        for caption in still_captions(*names):
            assert seen.setdefault(caption, names) == names
    captions = list(seen)
    assert len(captions) == 432 * 15 and tokenizer.decode(tokenizer.encode(captions)) == captions
    assert "a red circle at the top left" in seen and "an orange ring in the middle" in seen
    assert "there is a blue cross in the lower right" in seen
    words = {word for caption in captions for word in caption.split()}
    assert sorted(words) == vocabulary(SpriteStills) == tokenizer.words[1:] and len(tokenizer) == len(words) + 1


def test_the_table_of_captions_holds_each_wording_once():
    tokenizer, stills = still_tokenizer(), SpriteStills()
    table = caption_table(tokenizer, stills)
    assert table.shape == (6, 8, 9, 15, 12) and table.dtype == torch.long
    assert tokenizer.decode(table[1, 0, 5]) == still_captions("square", "red", "right")
    assert len(table.flatten(0, 3).unique(dim=0)) == 432 * 15


def test_random_captions_are_repeatable():
    stills, attributes = SpriteStills(), all_triples("all", STILL_ATTRIBUTES)[:40]
    assert stills.captions(attributes)[0] == "a red circle at the top left"
    assert stills.captions(attributes, seeded(3)) == stills.captions(attributes, seeded(3))
    assert stills.captions(attributes, seeded(3)) != stills.captions(attributes, seeded(4))


@pytest.mark.parametrize("attributes", [torch.zeros(3).long(), torch.zeros(2, 3), torch.tensor([[0, 0, 9]])])
def test_bad_attributes(attributes):
    with pytest.raises(ValueError, match="attributes"):
        SpriteStills(16).draw(attributes, seeded())


def test_bad_names_and_sizes():
    with pytest.raises(ValueError, match="at least 16 pixels, got size=8"):
        SpriteStills(8)
    for names, message in (
        (("teapot", "red", "top"), "'teapot' is no shape; choose from circle, square"),
        (("circle", "beige", "top"), "'beige' is no colour; choose from red"),
        (("circle", "red", "up"), "'up' is no place; choose from top left"),
    ):
        with pytest.raises(ValueError, match=message):
            still_captions(*names)


def test_an_untrained_probe_reads_pictures():
    images, attributes = SpriteStills(16).sample(5, seeded(), "all")
    classifier = AttributeClassifier(STILL_ATTRIBUTES, width=8).eval()
    assert [tuple(logits.shape) for logits in classifier(images)] == [(5, 6), (5, 8), (5, 9)]
    assert correct_attributes(classifier, images, attributes).shape == (5, 3)
