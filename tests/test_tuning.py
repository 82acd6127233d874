"""DreamBooth by an adapter or in full: batches are mixed as asked, and what is frozen stays."""

import copy

import pytest
import torch

from minivdm.pipelines.adapters import add_concept
from minivdm.pipelines.text2image import build_text2image, still_tokenizer
from minivdm.pipelines.tuning import mixed_batches, prior_pictures, tune
from tests.helpers import with_random_weights


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model():
    return with_random_weights(build_text2image(channels=32, mults=(1, 1), context_dim=16)).eval()


def test_batches_hold_the_new_thing_first():
    pictures, tokens = torch.arange(3.0).view(3, 1), torch.tensor([[[1], [2]], [[3], [4]], [[5], [6]]])
    prior = -torch.arange(1.0, 6).view(5, 1), torch.arange(11, 16)[:, None]
    batch, seen, emptied = mixed_batches(pictures, tokens, prior, 2, 3), set(), 0
    for seed in range(60):
        x0, cond = batch(seeded(seed))
        assert x0.shape == cond.shape == (5, 1)
        for x, c in zip(x0.flatten().tolist(), cond.flatten().tolist()):
            assert c in ((0, 2 * x + 1, 2 * x + 2) if x >= 0 else (0, 10 - x))
            emptied += c == 0
            seen.add((x, c))
        assert (x0[:2] >= 0).all() and (x0[2:] < 0).all()
    assert len({pair for pair in seen if pair[1]}) == 11 and 10 < emptied < 60
    x0, cond = mixed_batches(pictures, tokens, None, 4, 0)(seeded())
    assert x0.shape == (4, 1) and (x0 >= 0).all()


def test_prior_pictures_are_what_the_model_draws():
    model, tokenizer = small_model(), still_tokenizer()
    prompts = ["a red ring at the top", "a blue circle"]
    drawn, tokens = prior_pictures(model, prompts, tokenizer, (3, 16, 16), steps=2, generator=seeded())
    assert drawn.shape == (2, 3, 16, 16) and torch.equal(tokens, tokenizer.encode(prompts))
    assert not drawn.requires_grad


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_to_be_trained_is(whole):
    model, tokenizer = small_model(), still_tokenizer()
    before = copy.deepcopy(model.state_dict())
    concept, tokenizer = add_concept(model, tokenizer, {"moon": ["ring"]}, rank=2, generator=seeded())
    row = concept.words["moon"].detach().clone()
    model.requires_grad_(whole)
    for parameter in concept.parameters():
        parameter.requires_grad_(True)
    pictures, prior = torch.rand(2, 3, 16, 16), (torch.rand(3, 3, 16, 16), torch.ones(3, 12).long())
    tokens = tokenizer.encode(["a moon", "the moon"])[:, None]
    losses = [loss.item() for _, loss in tune(model, pictures, tokens, prior, steps=3, batch=2)]
    assert len(losses) == 3 and not model.training and not torch.equal(concept.words["moon"], row)
    after = {name.replace(".base.", "."): value for name, value in model.state_dict().items()}
    same = [torch.equal(after[name], before[name]) for name in before]
    assert not any(same[:20]) if whole else all(same)


def test_what_cannot_be_tuned():
    model, pictures, tokens = small_model(), torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 12).long()
    for bad in (tokens[:1], tokens[:, 0]):
        with pytest.raises(ValueError, match="the wordings of each"):
            next(tune(model, pictures, bad))
    with pytest.raises(ValueError, match="nothing is left to be trained"):
        next(tune(model.requires_grad_(False), pictures, tokens))
