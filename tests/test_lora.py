"""LoRA: it starts as nothing, adds what peft adds, merges once, and leaves the base's bits alone."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minivdm.diffusion.predictions import prediction_loss
from minivdm.models.lora import (
    ATTENTION,
    Adapter,
    LoRALinear,
    add_lora,
    linear_layers,
    lora_layers,
    merge_lora,
    remove_lora,
    set_scale,
    trained_parameters,
    unmerge_lora,
)
from minivdm.models.new_words import NewWords, add_word
from minivdm.models.text_encoder import TextEncoder
from minivdm.pipelines.text2image import build_text2image
from minivdm.pipelines.text2video import build_text2video


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(model, seed=1):
    """Every parameter random, so that nothing is hidden behind a zero."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def small_image_model():
    model = build_text2image(channels=32, mults=(1, 1), context_dim=16)
    return filled(model).double()


def small_video_model():
    return filled(build_text2video(channels=32, mults=(1, 1), context_dim=16, frames=4, size=16)).double()


def inputs_of(model):
    shape = (2, 3, 4, 16, 16) if hasattr(model, "frames") else (2, 3, 16, 16)
    x = torch.randn(shape, generator=seeded(2), dtype=torch.float64)
    return x, torch.tensor([1, 700]), torch.randint(1, 30, (2, 12), generator=seeded(3))


MODELS = pytest.mark.parametrize("build", [small_image_model, small_video_model])


@MODELS
def test_a_new_adapter_changes_nothing(build):
    model = build()
    before = model(*inputs_of(model))
    add_lora(model, rank=3, alpha=5)
    assert torch.equal(model(*inputs_of(model)), before)


@MODELS
@pytest.mark.parametrize("pattern", [ATTENTION, "."])
def test_merged_equals_unmerged(build, pattern):
    """Also where a layer's weights are looked at, as attention over frames does; alpha is not the rank."""
    model = build()
    bare = model(*inputs_of(model))
    filled(nn.ModuleList(add_lora(model, pattern, rank=2, alpha=7).values()))
    free = model(*inputs_of(model))
    merge_lora(model)
    assert (free - bare).abs().max() > 1e-3
    torch.testing.assert_close(model(*inputs_of(model)), free, rtol=1e-9, atol=1e-9)


def test_the_correction_is_a_matrix_in_the_weights():
    """Against the formula by hand in float64, in any number of axes, for both kinds of layers."""
    for base, x in ((nn.Linear(5, 7), torch.randn(2, 3, 5)), (nn.Conv2d(5, 7, 1), torch.randn(2, 5, 3, 4))):
        layer = filled(LoRALinear(base)).double()
        for rank, alpha, scale in ((2, 3.0, 1.0), (4, 0.5, -1.5)):
            layer.adapters.append(filled(Adapter(5, 7, rank, alpha), rank).double())
            layer.adapters[-1].scale = scale
        weight = base.weight.view(7, 5) + sum(
            each.scale * each.alpha / each.A.shape[0] * each.B @ each.A for each in layer.adapters
        )
        features = x.double().movedim(1, -1) if base.weight.ndim == 4 else x.double()
        expected = features @ weight.T + base.bias
        expected = expected.movedim(-1, 1) if base.weight.ndim == 4 else expected
        torch.testing.assert_close(layer(x.double()), expected)
        torch.testing.assert_close(layer.weight.view(7, 5), weight)


def test_merging_twice_does_not_double_and_unmerging_gives_the_bits_back():
    model = small_image_model().float()
    before = copy.deepcopy(model.state_dict())
    filled(nn.ModuleList(add_lora(model, rank=3, alpha=8).values()))
    bases = {name: layer.base.weight.clone() for name, layer in lora_layers(model).items()}
    once = {name: layer.base.weight.clone() for name, layer in lora_layers(merge_lora(model)).items()}
    merge_lora(model)
    for name, layer in lora_layers(model).items():
        assert torch.equal(layer.base.weight, once[name]) and not torch.equal(once[name], bases[name])
    unmerge_lora(unmerge_lora(model))
    assert all(torch.equal(layer.base.weight, bases[name]) for name, layer in lora_layers(model).items())
    merge_lora(model)
    after = remove_lora(model).state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert not lora_layers(model)


def test_subtracting_would_not_give_the_bits_back():
    """Why the weights are kept."""
    weight, delta = torch.randn(64, 64, generator=seeded()), 0.1 * torch.randn(64, 64, generator=seeded(1))
    assert not torch.equal(weight + delta - delta, weight)


def test_a_copy_of_a_merged_model_can_be_unmerged():
    model = small_image_model()
    filled(nn.ModuleList(add_lora(model, rank=2, alpha=3).values()))
    free = model(*inputs_of(model))
    twin = unmerge_lora(copy.deepcopy(merge_lora(model)))
    assert torch.equal(twin(*inputs_of(model)), free)


def test_only_the_adapter_is_trained_and_the_base_keeps_its_bits():
    model = build_text2image(channels=32, mults=(1, 1), context_dim=16)
    filled(model)
    before = copy.deepcopy(model.state_dict())
    adapters = add_lora(model, rank=2, alpha=4, generator=seeded())
    row = add_word(model.net.encoder, [1, 2])
    known = torch.zeros(2, 12, dtype=torch.long)
    known[:, 0] = len(before["net.encoder.words.weight"])  # the new word
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in trained} == {id(p) for each in adapters.values() for p in (each.A, each.B)} | {id(row)}
    start, first = row.detach().clone(), {name: each.A.detach().clone() for name, each in adapters.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(3):
        x = torch.randn(2, 3, 16, 16, generator=seeded(step))
        loss = prediction_loss(model.net, x, model.schedule, known, seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(row, start)
    assert all(not torch.equal(each.A, first[name]) and each.B.abs().sum() > 0 for name, each in adapters.items())
    after = {name.replace(".base.", "."): value for name, value in model.state_dict().items()}
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_new_word_moves_no_other():
    encoder = filled(TextEncoder(9, 4, 16, 1, 2))
    tokens = torch.tensor([[1, 2, 8, 0], [3, 0, 0, 0]])
    before = encoder(tokens)
    first, second = add_word(encoder, [1, 3]), add_word(encoder, [9])
    assert torch.equal(encoder(tokens), before)
    assert torch.equal(first, encoder.words.base.weight[[1, 3]].mean(dim=0)) and torch.equal(second, first)
    assert isinstance(encoder.words, NewWords) and len(encoder.words.weight) == 11
    encoder(torch.tensor([[9, 0, 0, 0]])).square().sum().backward()
    assert first.grad.abs().sum() > 0 and second.grad.abs().sum() == 0 and encoder.words.base.weight.grad is None
    for numbers in ([], [11], [-1]):
        with pytest.raises(ValueError, match="numbers of words"):
            add_word(encoder, numbers)


def test_scales():
    model = small_image_model()
    bare = model(*inputs_of(model))
    adapters = add_lora(model, r"words\.kv$", rank=2, alpha=3)
    filled(nn.ModuleList(adapters.values()))
    full = {name: layer.weight - layer.base.weight for name, layer in lora_layers(model).items()}
    set_scale(adapters, 0)
    assert torch.equal(model(*inputs_of(model)), bare)
    set_scale(adapters, -0.5)
    for name, layer in lora_layers(model).items():
        torch.testing.assert_close(layer.weight - layer.base.weight, -0.5 * full[name])
    for scale in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite scale"):
            set_scale(adapters, scale)


def test_two_adapters_are_one_of_the_ranks_added():
    """[B1 B2] [A1; A2] = B1 A1 + B2 A2, with the factors in B: what two adapters do together."""
    both, one = small_image_model(), small_image_model()
    names = list(linear_layers(both))
    first, second = add_lora(both, names, 2, 3.0), add_lora(both, names[::2], 3, 1.0)
    filled(nn.ModuleList(first.values())), filled(nn.ModuleList(second.values()), 5)
    set_scale(second, 0.7)
    joined = add_lora(one, names[::2], 5, 5.0) | add_lora(one, names[1::2], 2, 2.0)
    with torch.no_grad():
        for name, each in joined.items():
            parts = [a[name] for a in (first, second) if name in a]
            each.A.copy_(torch.cat([part.A for part in parts]))
            each.B.copy_(torch.cat([part.scale * part.alpha / part.rank * part.B for part in parts], dim=1))
    x = inputs_of(both)
    torch.testing.assert_close(both(*x), one(*x))
    torch.testing.assert_close(merge_lora(both)(*x), one(*x))


def test_how_many_numbers_are_trained():
    model = small_image_model()
    add_lora(model, rank=3, alpha=1)
    sizes = [layer.base.weight.shape[:2] for layer in lora_layers(model).values()]
    assert trained_parameters(model) == sum(3 * (d_in + d_out) for d_out, d_in in sizes)


def test_a_correction_takes_few_products():
    """r (d_in + d_out) for each place, through the r features in the middle."""
    layer = LoRALinear(nn.Linear(64, 48))
    layer.adapters.append(Adapter(64, 48, 2, 1.0))
    with FlopCounterMode(display=False) as count:
        layer(torch.randn(3, 64))
    assert count.get_total_flops() == 2 * 3 * (64 * 48 + 2 * (64 + 48))


def test_where_the_matrices_start():
    """A as `nn.Linear` begins: uniform within 1 / sqrt(d_in), from the generator alone; B is zero."""
    adapter = Adapter(100, 50, 40, 1.0, seeded(4))
    bound = 1 / math.sqrt(100)
    assert adapter.B.abs().sum() == 0 and adapter.A.abs().max() <= bound
    assert abs(adapter.A.std().item() - bound / math.sqrt(3)) < 0.02 * bound
    assert torch.equal(adapter.A, Adapter(100, 50, 40, 1.0, seeded(4)).A)


@pytest.mark.parametrize("rank, alpha", [(0, 1.0), (5, 1.0), (2, 0.0), (2, math.nan), (2, math.inf)])
def test_ranks_and_alphas_that_make_no_sense(rank, alpha):
    with pytest.raises(ValueError, match="expected a rank from 1 to 4 and a positive alpha"):
        Adapter(4, 6, rank, alpha)


def test_layers_that_cannot_be_corrected():
    for layer in (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, groups=2), nn.ReLU()):
        with pytest.raises(ValueError, match="a linear layer or a 1 x 1 convolution"):
            LoRALinear(layer)
    model = small_image_model()
    for pattern in ("nothing", ["net.encoder.words"], ["nowhere"], []):
        with pytest.raises(ValueError, match="there is no linear layer"):
            add_lora(model, pattern)
    assert not lora_layers(model) and trained_parameters(model) > 0, "a refusal changes nothing"
    add_lora(model)
    merge_lora(model)
    with pytest.raises(ValueError, match="unmerge_lora first"):
        add_lora(model)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_it_agrees_with_peft(kind):
    """The same weights give the same output, for r != alpha; and A starts in the same distribution."""
    peft = pytest.importorskip("peft")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(48, 32) if kind == "linear" else nn.Conv2d(48, 32, 1)

        def forward(self, x):
            return self.q(x)

    torch.manual_seed(0)
    ours, theirs = Net(), Net()
    theirs.load_state_dict(ours.state_dict())
    config = peft.LoraConfig(r=6, lora_alpha=15, target_modules=["q"], lora_dropout=0.0, bias="none")
    theirs = peft.get_peft_model(theirs, config)
    layer = theirs.base_model.model.q
    adapter = add_lora(ours, ["q"], rank=6, alpha=15)["q"]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert up.abs().sum() == 0 and abs(down.std() - adapter.A.std()) < 0.05 * down.std()
    assert down.abs().max() <= 1 / math.sqrt(48) and down.numel() == adapter.A.numel()
    nn.init.normal_(up)
    with torch.no_grad():
        adapter.A.copy_(down.view(adapter.A.shape))
        adapter.B.copy_(up.view(adapter.B.shape))
    x = torch.randn(2, 5, 48) if kind == "linear" else torch.randn(2, 48, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(adapter.delta().view_as(layer.weight), layer.get_delta_weight("default"))
    theirs.merge_adapter()
    torch.testing.assert_close(merge_lora(ours)(x), theirs(x), rtol=1e-5, atol=1e-5)
