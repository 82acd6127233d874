"""Adapters in files: what is kept, that it comes back, and what is refused."""

import copy
import math

import pytest
import torch
from torch import nn

from minivdm.models.lora import lora_layers, merge_lora
from minivdm.pipelines.adapters import add_concept, base_hash, load_concept, save_concept
from minivdm.pipelines.text2image import build_text2image, still_tokenizer, text_to_image
from minivdm.training.torch_files import load_torch, save_torch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_model(seed=0):
    model, generator = build_text2image(channels=32, mults=(1, 1), context_dim=16), seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tuned(model, word="moon", tokenizer=None, rank=3, alpha=7.0, pattern=r"words\.", seed=3):
    """A model with a concept that does something, and the tokenizer that knows its word."""
    words = {word: ["circle", "ring"]}
    concept, longer = add_concept(model, tokenizer or still_tokenizer(), words, pattern, rank, alpha, seeded(seed))
    with torch.no_grad():
        for parameter in concept.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(seed)))
    return concept, longer


def picture(model, tokenizer, prompt="a red moon at the top"):
    return text_to_image(prompt, model, 2, size=16, generator=seeded(), tokenizer=tokenizer)


@pytest.fixture
def kept(tmp_path):
    """The base, the tuned model's picture, and the file of its concept."""
    base, model = small_model(), small_model()
    concept, tokenizer = tuned(model)
    path = tmp_path / "moon.pt"
    save_concept(path, model, concept)
    return base, picture(model, tokenizer), path


def test_a_concept_comes_back_from_its_file(kept):
    base, drawn, path = kept
    concept, tokenizer = load_concept(path, base, still_tokenizer())
    torch.testing.assert_close(picture(base, tokenizer), drawn, rtol=0, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in base.parameters())
    concept.set_scale(0)
    assert not torch.equal(picture(base, tokenizer), drawn)


def test_the_file_holds_the_adapter_alone_with_its_alpha_and_layers(kept):
    base, _, path = kept
    saved = load_torch(path)
    assert set(saved) == {"kind", "base", "adapters", "words"} and saved["base"] == base_hash(base)
    names = [name for name, layer in base.named_modules() if ".words." in name and hasattr(layer, "weight")]
    assert set(saved["adapters"]) <= set(names) and len(saved["adapters"]) >= 9
    assert all(set(each) == {"A", "B", "alpha", "rank"} for each in saved["adapters"].values())
    assert all((each["alpha"], each["rank"]) == (7.0, 3) for each in saved["adapters"].values())
    numbers = sum(each["A"].numel() + each["B"].numel() for each in saved["adapters"].values()) + 16
    assert list(saved["words"]) == ["moon"] and path.stat().st_size < 4 * numbers + 1500 * len(saved["adapters"])


def test_a_scale_of_zero_is_the_base(kept):
    base, _, path = kept
    before = picture(base, still_tokenizer(), "a red ring at the top")
    _, tokenizer = load_concept(path, base, still_tokenizer(), scale=0)
    assert torch.equal(picture(base, tokenizer, "a red ring at the top"), before)


def test_two_concepts_at_once(kept, tmp_path):
    base, _, path = kept
    other = small_model()
    concept, _ = tuned(other, "star", rank=2, pattern=r"attention\.qkv$|words\.kv$", seed=9)
    save_concept(tmp_path / "star.pt", other, concept)
    first, tokenizer = load_concept(path, base, still_tokenizer(), 0.5)
    second, tokenizer = load_concept(tmp_path / "star.pt", base, tokenizer, 2.0)
    assert tokenizer.words[-2:] == ["moon", "star"]
    both = [name for name, layer in lora_layers(base).items() if len(layer.adapters) == 2]
    assert both and all(name.endswith("kv") for name in both)
    for name in both:
        parts = [0.5 * 7 / 3 * first.adapters[name].B @ first.adapters[name].A]
        parts += [2.0 * 7 / 2 * second.adapters[name].B @ second.adapters[name].A]
        layer = lora_layers(base)[name]
        torch.testing.assert_close(layer.weight - layer.base.weight, sum(parts))
    drawn = picture(base, tokenizer, "a red moon at the top")
    torch.testing.assert_close(picture(merge_lora(base), tokenizer, "a red moon at the top"), drawn, rtol=0, atol=1e-4)
    table = base.net.encoder.words.weight
    assert torch.equal(table[-2:], torch.stack([first.words["moon"], second.words["star"]]))


def test_the_hash_is_of_the_base_alone():
    model, other = small_model(), small_model()
    known = base_hash(model)
    assert known == base_hash(other) and known != base_hash(small_model(1))
    tuned(model)
    assert base_hash(model) == known
    merge_lora(model)
    assert base_hash(model) == known and base_hash(copy.deepcopy(model)) == known
    with torch.no_grad():
        other.net.encoder.words.weight[3, 2] += 1e-7
    assert base_hash(other) != known


def change(path, edit):
    saved = load_torch(path)
    edit(saved)
    save_torch(path, saved)


def first_of(saved):
    return next(iter(saved["adapters"].values()))


def rename(saved):
    saved["adapters"]["net.nowhere"] = saved["adapters"].popitem()[1]


def poison(saved):
    first_of(saved)["B"][0, 0] = math.nan


REFUSED = {
    "another base": (lambda saved: saved.update(base="0" * 64), "was made for another model"),
    "a missing layer": (rename, "no linear layer net.nowhere"),
    "other shapes": (lambda saved: first_of(saved).update(A=torch.zeros(3, 5)), "A and B should be"),
    "another rank": (lambda saved: first_of(saved).update(rank=2), "A and B should be"),
    "a rank of none": (lambda saved: first_of(saved).update(rank=0, A=torch.zeros(0, 16)), "is broken"),
    "no alpha": (lambda saved: first_of(saved).pop("alpha"), "is broken"),
    "NaN in alpha": (lambda saved: first_of(saved).update(alpha=math.nan), "is broken"),
    "NaN": (poison, "not finite: B of layer"),
    "NaN in a word": (lambda saved: saved["words"].update(moon=torch.full((16,), math.nan)), "the word 'moon'"),
    "whole numbers": (lambda saved: first_of(saved).update(A=torch.zeros(3, 16).long()), "is broken"),
    "a word of another size": (lambda saved: saved["words"].update(moon=torch.zeros(9)), "the word 'moon' should be"),
    "a known word": (lambda saved: saved["words"].update(ring=torch.zeros(16)), "'ring' is in the vocabulary already"),
    "no layers": (lambda saved: saved["adapters"].clear(), "is broken"),
    "no adapters": (lambda saved: saved.pop("adapters"), "is broken"),
    "words in a list": (lambda saved: saved.update(words=["moon"]), "is broken"),
    "another kind": (lambda saved: saved.update(kind="a recipe"), "holds no adapter"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_one_line(kept, what):
    base, _, path = kept
    before = picture(base, still_tokenizer(), "a red ring at the top")
    edit, message = REFUSED[what]
    change(path, edit)
    with pytest.raises(ValueError, match=message) as refused:
        load_concept(path, base, still_tokenizer())
    assert "\n" not in str(refused.value) and (str(path) in str(refused.value) or what == "a known word")
    assert not lora_layers(base) and torch.equal(picture(base, still_tokenizer(), "a red ring at the top"), before)


def test_files_of_another_kind(kept, tmp_path):
    base, _, path = kept
    with pytest.raises(FileNotFoundError):
        load_concept(tmp_path / "nothing.pt", base, still_tokenizer())
    (tmp_path / "text.pt").write_text("moon")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:-200])
    for name in ("text.pt", "cut.pt"):
        with pytest.raises(ValueError, match="truncated or not a checkpoint"):
            load_concept(tmp_path / name, base, still_tokenizer())
    save_torch(tmp_path / "list.pt", [1, 2])
    with pytest.raises(ValueError, match="holds no adapter"):
        load_concept(tmp_path / "list.pt", base, still_tokenizer())


def test_what_is_not_finite_is_not_written(tmp_path):
    model = small_model()
    concept, _ = tuned(model)
    with torch.no_grad():
        concept.words["moon"][0] = math.inf
    with pytest.raises(ValueError, match="'moon' is not finite"):
        save_concept(tmp_path / "moon.pt", model, concept)
    assert not list(tmp_path.iterdir())


def test_new_words():
    tokenizer = still_tokenizer()
    for words, message in (
        ({"ring": ["red"]}, "already"),
        ({"Moon": ["red"]}, "small letters"),
        ({"a b": ["red"]}, "small"),
    ):
        model = small_model()
        with pytest.raises(ValueError, match=message):
            add_concept(model, tokenizer, words)
        assert not lora_layers(model)
    with pytest.raises(ValueError, match="'crcle' is not in the vocabulary"):
        add_concept(small_model(), tokenizer, {"moon": ["crcle"]})
    _, longer = tuned(small_model())
    assert longer.words[:-1] == tokenizer.words and longer.encode("a moon")[0, 1] == len(tokenizer)
    with pytest.raises(ValueError, match="'moon' is not in the vocabulary"):
        tokenizer.encode("a moon")


def test_a_merged_model_takes_no_further_concept(kept):
    base, _, path = kept
    model = small_model()
    tuned(model, "star")
    merge_lora(model)
    with pytest.raises(ValueError, match="unmerge_lora first"):
        load_concept(path, model, still_tokenizer())


def test_a_scale_must_be_finite(kept):
    base, _, path = kept
    with pytest.raises(ValueError, match="finite scale"):
        load_concept(path, base, still_tokenizer(), math.nan)
    assert not lora_layers(base) and isinstance(base, nn.Module)
