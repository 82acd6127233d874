"""Samplers and training never wait for a GPU but where they say so: a read of one value costs a whole queue of work."""

import contextlib

import pytest
import torch

from minivdm.datasets.captions import Tokenizer
from minivdm.datasets.sprites import MovingSprites
from minivdm.diffusion.guidance import ClassifierFreeGuidance
from minivdm.diffusion.predictions import EpsModel, prediction_loss
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, ddpm_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.diffusion.sde import T_MIN, VPSDE, probability_flow_ode, reverse_sde_sample, score_from_eps, time_grid
from minivdm.models.clip import CLIP
from minivdm.models.unet import Conditioned, UNet
from minivdm.pipelines.cascade_data import PhotoPool, QuietClips
from minivdm.pipelines.cascade_training import decoder_batch, interpolation_batch, key_frame_batch, spatial_batch
from minivdm.pipelines.super_resolution import build_upscaler
from minivdm.training.ema import EMA
from minivdm.training.loop import STEPS_BETWEEN_LOOKS, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


@contextlib.contextmanager
def no_waiting():
    """Raise a RuntimeError where PyTorch waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def parts():
    """A small conditional model, its schedule, a start, a condition and a generator, all on the card."""
    torch.manual_seed(0)
    net = UNet(channels=32, mults=(1,), blocks=1, attention=(0,), context_dim=16)
    model = Conditioned(net, torch.nn.Embedding(11, 16), length=1).cuda().eval()
    schedule = NoiseSchedule(linear_betas(100)).to("cuda")
    x, cond = torch.randn(4, 1, 8, 8, device="cuda"), torch.ones(4, 1, dtype=torch.long, device="cuda")
    return model, schedule, x, cond, torch.Generator("cuda").manual_seed(0)


def test_it_would_be_noticed():
    with pytest.raises(RuntimeError), no_waiting():
        torch.ones(1, device="cuda").item()


@pytest.mark.parametrize("prediction_type", ["eps", "v"])
def test_samplers(parts, prediction_type):
    model, schedule, x, cond, generator = parts
    model = EpsModel(model, prediction_type, schedule).cuda()
    guided, levels = ClassifierFreeGuidance(model, 2.0), sampling_levels(100, 10)
    for warm in (True, False):  # the first call may load kernels
        with contextlib.nullcontext() if warm else no_waiting():
            ddpm_sample(guided, x, schedule, levels, cond, clip_x0=True, generator=generator)
            ddim_sample(guided, x, schedule, levels, cond, eta=0.5, clip_x0=True, generator=generator)
            ddim_invert(model, x, schedule, levels, cond)
            score, times = score_from_eps(model, schedule, cond), time_grid(1, T_MIN, 10)
            with torch.no_grad():
                reverse_sde_sample(score, x, VPSDE(), times, generator=generator)
                probability_flow_ode(score, x, VPSDE(), times)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_between_two_looks_at_the_loss(parts, dtype, cuda_graph, optimizer):
    model, schedule, x, cond, _ = parts
    ema, options = (
        EMA(model),
        dict(dtype=dtype, cuda_graph=cuda_graph, optimizer=optimizer, loss=prediction_loss, progress=False),
    )
    steps = train(
        model, ema, lambda generator: (x, cond), schedule, 2 * STEPS_BETWEEN_LOOKS, micro_batches=2, **options
    )
    for _ in range(3):  # the second one is recorded
        next(steps)
    with no_waiting():
        for _ in range(10):
            next(steps)


def test_what_a_cascade_learns_from_is_drawn_without_waiting():
    clip = CLIP(len(Tokenizer()), width=16, size=16).cuda().eval()
    generator = torch.Generator("cuda").manual_seed(0)
    quiet = QuietClips(MovingSprites(8, 32), 8, generator)
    photos = PhotoPool(16, generator, 16)
    spatial = build_upscaler(1, 32, 32, (1, 1)).cuda()
    spatial.schedule.to("cuda")
    draws = {
        "key_frames": lambda g: key_frame_batch(clip, quiet, g, 4, 4),
        "decoder": lambda g: decoder_batch(clip, photos, g, 4),
        "interpolation": lambda g: interpolation_batch(quiet, g, 4, 8),
        "spatial": lambda g: spatial_batch(spatial, quiet, g, 4),
    }
    for draw in draws.values():
        draw(generator)  # compiles what is compiled at first use
    with no_waiting():
        for draw in draws.values():
            draw(generator)
