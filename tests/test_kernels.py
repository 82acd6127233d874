"""The fused kernels give the plain layers' numbers; where there is no CUDA card, nothing changes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minivdm.diffusion.forward_process import diffusion_loss
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.models.kernels import (
    Add,
    Affine,
    Attend,
    FusedGroupNorm,
    FusedSelfAttention,
    FusedTemporalAttention,
    fused,
    use_fused_kernels,
)
from minivdm.models.layers import CrossAttention, Downsample, ResBlock, SelfAttention
from minivdm.models.unet import UNet
from minivdm.models.unet3d import TemporalAttention, TemporalConv, UNet3D
from minivdm.pipelines.text2video import build_text2video, text_to_video
from minivdm.training.engine import Engine

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def drawn(*shape, dtype=torch.float32):
    x = torch.randn(*shape, device="cuda").contiguous(memory_format=torch.channels_last)
    return x.to(dtype).requires_grad_()


def gradients(module, x, *args):
    """The output and all gradients of a module, for a fixed random gradient of its output."""
    out = module(x, *args)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return out.detach(), *torch.autograd.grad(out, [x, *module.parameters()], weights)


def relative_error(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def test_without_a_card_a_model_stays_as_it_is():
    layer = TemporalAttention(32)
    assert use_fused_kernels(layer) is layer
    kinds = {type(module) for module in layer.modules()}
    assert torch.cuda.is_available() or not kinds & {FusedGroupNorm, FusedTemporalAttention}


def test_long_clips_take_the_plain_layer(monkeypatch):
    """The kernel would compile for minutes. Without a card, too, one sees which way a clip goes."""
    layer = TemporalAttention(32)
    nn.init.normal_(layer.out.weight, std=0.1)
    fast, asked = copy.deepcopy(layer), []
    fast = fused(fast)
    monkeypatch.setattr(Attend, "apply", lambda qkv, position, heads: asked.append(qkv) or qkv[..., :32])
    monkeypatch.setattr(Affine, "apply", F.linear)
    monkeypatch.setattr(Add, "apply", lambda x, y, bias: x + y + bias[:, None, None])
    for frames in (64, 65, 128):
        x = torch.randn(frames, 32, 2, 2)
        assert torch.equal(fast(x, frames), layer(x, frames)) == (frames > 64)
    assert [len(qkv[0]) for qkv in asked] == [64]


def test_layers_of_sizes_that_no_kernel_has_stay_plain():
    net = nn.ModuleDict(
        {
            "norm": nn.GroupNorm(2, 12),
            "bare": nn.GroupNorm(2, 16, affine=False),
            "block": ResBlock(12, 24, 16),
            "attention": SelfAttention(24, 8),
            "words": CrossAttention(48, 16, 24),
            "time": TemporalAttention(24, 8),
        }
    )
    assert all(fused(layer) is layer for layer in net.values())
    fitting = fused(SelfAttention(32, 16))
    assert type(fitting) is FusedSelfAttention and fitting.heads == 2


SHAPES = [((5, 64, 7, 6), 8), ((3, 224, 4, 4), 28), ((2, 48, 9, 1), 6), ((2, 32, 1, 2), 1)]


@cuda
@pytest.mark.parametrize("shape, groups", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_group_norm(shape, groups, offset):
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, shape[1]).cuda()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = drawn(*shape)
    x = (x.detach() + offset).requires_grad_()
    exact = copy.deepcopy(norm).double()
    expected = gradients(exact, x.detach().double().requires_grad_())
    norm = fused(norm)
    for got, wanted in zip(gradients(norm, x), expected):
        assert relative_error(got.double(), wanted) < (1e-5 if offset == 0 else 1e-3)


@cuda
@pytest.mark.parametrize("frames, channels", [(16, 64), (5, 32), (1, 32), (20, 96)])
def test_temporal_attention(frames, channels, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    torch.manual_seed(0)
    layer = TemporalAttention(channels).cuda()
    nn.init.normal_(layer.out.weight, std=0.1)
    x = drawn(2 * frames, channels, 3, 5)
    expected = gradients(layer, x, frames)
    fast = use_fused_kernels(copy.deepcopy(layer))
    assert type(fast) is FusedTemporalAttention and type(fast.norm) is FusedGroupNorm
    for got, wanted in zip(gradients(fast, x, frames), expected):
        assert relative_error(got, wanted) < 3e-3 or wanted.abs().max() < 1e-5  # products in TF32
    independent_frames = torch.tensor([True, False], device="cuda")
    assert torch.allclose(fast(x, frames, independent_frames), layer(x, frames, independent_frames), atol=1e-4)


@cuda
@pytest.mark.parametrize("fused", [False, True])
def test_131072_rows_forward_and_backward(fused):
    layer = TemporalAttention(32).cuda().bfloat16()
    nn.init.normal_(layer.out.weight, std=0.1)
    x = drawn(8 * 16, 32, 128, 128, dtype=torch.bfloat16)  # 8 * 128 * 128 places
    layer = use_fused_kernels(layer) if fused else layer
    layer(x, 16).float().sum().backward()
    assert x.grad.isfinite().all()


@cuda
def test_a_whole_model_and_a_copy_of_it():
    torch.manual_seed(0)
    model = build_text2video().cuda().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    x, t = torch.randn(2, 3, 16, 32, 32, device="cuda"), torch.tensor([3, 700], device="cuda")
    with torch.no_grad():
        plain = model(x, t)
        fast = use_fused_kernels(copy.deepcopy(model))
        assert relative_error(fast(x, t), plain) < 0.01 and relative_error(copy.deepcopy(fast)(x, t), plain) < 0.01
    assert not any(isinstance(m, FusedGroupNorm) for m in model.modules())


LAYERS = {
    "residual block": (lambda: ResBlock(32, 32, 16), [(3, 32, 4, 5), (3, 16)], []),
    "residual block with a skip": (lambda: ResBlock(96, 64, 16), [(3, 96, 9, 5), (3, 16)], []),
    "residual block without a gradient for the level": (
        lambda: ResBlock(64, 64, 16).eval(),
        [(1, 64, 3, 3), (1, 16)],
        [],
    ),
    "convolution": (lambda: nn.Conv2d(12, 32, 3, padding=1), [(2, 12, 5, 4)], []),
    "convolution of many rows": (lambda: nn.Conv2d(3, 16, 3, padding=1), [(9, 3, 40, 40)], []),
    "convolution with steps": (lambda: Downsample(16), [(2, 16, 6, 8)], []),
    "convolution without a bias": (lambda: nn.Conv2d(8, 8, 3, bias=False), [(2, 8, 5, 4)], []),
    "linear map": (lambda: nn.Linear(24, 8), [(1030, 24)], []),
    "linear map of many rows": (lambda: nn.Linear(8, 70), [(2, 900, 8)], []),
    "convolution of a place": (lambda: nn.Conv2d(24, 8, 1), [(2, 24, 5, 4)], []),
    "attention": (lambda: SelfAttention(64), [(2, 64, 3, 4)], []),
    "attention over more places than a program holds": (lambda: SelfAttention(32), [(2, 32, 16, 16)], []),
    "attention over a square of an odd side": (lambda: SelfAttention(64, 16), [(1, 64, 9, 9)], []),
    "attention over more places than the kernel": (lambda: SelfAttention(32), [(1, 32, 18, 18)], []),
    "attention to words": (lambda: CrossAttention(64, 16), [(2, 64, 3, 4), (2, 5, 16)], []),
    "attention of many places to words": (lambda: CrossAttention(32, 8), [(3, 32, 20, 11), (3, 24, 8)], []),
    "attention along time": (lambda: TemporalAttention(32), [(6, 32, 2, 3)], [3]),
    "convolution along time": (lambda: TemporalConv(16), [(6, 16, 2, 3)], [3]),
}


@cuda
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_all_their_gradients(name, dtype, tolerance):
    make, shapes, more = LAYERS[name]
    torch.manual_seed(0)
    holder = nn.ModuleDict({"layer": make().cuda().to(memory_format=torch.channels_last)})
    for weight in holder.parameters():
        nn.init.normal_(weight, std=0.2)
    plain = copy.deepcopy(holder)["layer"].float()
    layer = use_fused_kernels(holder)["layer"].to(dtype)
    inputs = [torch.randn(shape, device="cuda") for shape in shapes]
    results = []
    for module, kind in ((plain, torch.float32), (layer, dtype)):
        given = [x.to(kind).requires_grad_() for x in inputs]
        out = module(*given, *more)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        results.append([out, *torch.autograd.grad(out, [*given, *module.parameters()], weights)])
    assert [key for key, _ in plain.named_parameters()] == [key for key, _ in layer.named_parameters()]
    for want, got in zip(*results):
        assert got.shape == want.shape and got.dtype == dtype and relative_error(got.float(), want) < tolerance


@cuda
def test_clips_by_a_recorded_model_are_the_same():
    torch.manual_seed(0)
    model = use_fused_kernels(build_text2video(frames=4, size=16).to("cuda")).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.05)
    prompts = ["a red circle moving left"] * 5

    def clips(**options):
        generator = torch.Generator("cuda").manual_seed(0)
        return text_to_video(prompts, model, 6, generator=generator, batch_size=3, **options)

    assert torch.allclose(clips(cuda_graph=True), clips(), atol=1e-3)


class Counted(nn.Module):
    """A network that counts how often it was called."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, t, cond=None):
        self.calls += 1
        return self.net(x, t)


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dry_run_that_compiles_changes_nothing(dtype, monkeypatch):
    def losses(compile_kernels):
        monkeypatch.setattr(Engine, "compile_kernels", compile_kernels)
        torch.manual_seed(0)
        image = UNet(3, channels=32, mults=(1, 2), blocks=1, dropout=0.3)
        net = Counted(use_fused_kernels(UNet3D(image).cuda())).cuda()
        data = torch.randn(2, 3, 4, 8, 8, device="cuda")
        schedule = NoiseSchedule(cosine_betas(100)).to("cuda")
        engine = Engine(net, diffusion_loss, schedule, dtype)
        generator = torch.Generator("cuda").manual_seed(0)
        found = []
        for _ in range(3):
            found.append(engine.add_gradients(data, None, generator).item())
            engine.step(1e-3)
        return found, net.calls.item()

    ahead, before = losses(Engine.compile_kernels), losses(lambda self, x0, cond: None)
    assert ahead[0] == pytest.approx(before[0], rel=1e-3) and ahead[1] == before[1] == 3
