"""Video models on one GPU: training and sampling speed beside `video-diffusion-pytorch`.

    pip install video-diffusion-pytorch            # for the comparison only
    python tests/benchmarks/video.py --out speed.json

Clips per second of a training step (forward, backward, clipping, AdamW; bfloat16 arithmetic with float32 weights
for both), and seconds for 16 clips by 50 guided steps. The other package's `Unet3D(dim=64, cond_dim=128,
dim_mults=(1, 2, 4))` is the yardstick; the `UNet3D` beside it has as many resolutions, parameters and floating-point
operations, within 5%. Each runs in its fastest way: the course's `train` with EMA, fused kernels and a recorded graph;
the other in autocast.
"""

import argparse
import json
import platform
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from minivdm.diffusion.guidance import ClassifierFreeGuidance
from minivdm.diffusion.predictions import prediction_loss
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.models.kernels import use_fused_kernels
from minivdm.models.unet import UNet
from minivdm.models.unet3d import UNet3D
from minivdm.training.ema import EMA
from minivdm.training.loop import train
from minivdm.training.precision import best_dtype
from minivdm.training.recording import Recorded

PEAK = 989e12  # dense bfloat16 operations per second of an H100 or H200 (SXM), by its datasheet
SHAPES = {(16, 32): 64, (16, 64): 16}  # (frames, pixels): clips in a batch


def ours():
    """A `UNet3D` of the yardstick's size."""
    image = UNet(3, channels=32, mults=(2, 4, 7), blocks=1, attention=(1, 2), context_dim=128)
    return UNet3D(image, attention=(0, 1, 2))


def theirs():
    """The yardstick."""
    from video_diffusion_pytorch import Unet3D

    return Unet3D(dim=64, cond_dim=128, dim_mults=(1, 2, 4))


def size_of(net, frames, size, cond):
    """Parameters, and operations of a forward pass for one clip."""
    x, t = torch.randn(1, 3, frames, size, size), torch.tensor([5])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, t, cond)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops()


def seconds_per_step(step, warm=5, steps=20):
    """Seconds that one call of `step` takes once all is warm."""
    for _ in range(warm):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def train_ours(frames, size, batch_size, micro_batches=1):
    """Seconds for a training step, by the course's own training loop, and gigabytes."""
    torch.cuda.reset_peak_memory_stats()
    net = use_fused_kernels(ours().cuda())
    data = torch.randn(batch_size // micro_batches, 3, frames, size, size, device="cuda").clamp(-1, 1)
    cond = torch.randn(batch_size // micro_batches, 12, 128, device="cuda")
    options = dict(
        progress=False,
        loss=prediction_loss,
        dtype=best_dtype(data.device),
        cuda_graph=True,
        micro_batches=micro_batches,
    )
    schedule = NoiseSchedule(cosine_betas(1000)).to("cuda")
    run = train(net, EMA(net), lambda generator: (data, cond), schedule, 10**6, **options)
    return seconds_per_step(lambda: next(run)), torch.cuda.max_memory_allocated() / 2**30


def train_theirs(frames, size, batch_size):
    """The same for the other package: its loss, the same optimiser, autocast."""
    from video_diffusion_pytorch import GaussianDiffusion

    torch.cuda.reset_peak_memory_stats()
    model = GaussianDiffusion(theirs(), image_size=size, num_frames=frames, loss_type="l2").cuda()
    data = torch.rand(batch_size, 3, frames, size, size, device="cuda")
    cond = torch.randn(batch_size, 128, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(data, cond=cond)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return seconds_per_step(step), torch.cuda.max_memory_allocated() / 2**30


def sample_ours(frames, size, clips=16, steps=50):
    """Seconds for sampling clips by DDIM with guidance."""
    net = use_fused_kernels(ours().cuda().bfloat16().eval())
    schedule = NoiseSchedule(cosine_betas(1000)).to("cuda")
    cond, null = (torch.randn(clips, 12, 128, device="cuda").bfloat16() for _ in range(2))

    def model(x, t, cond):
        return net(x.bfloat16(), t, cond).float()

    def sample():
        guided = Recorded(ClassifierFreeGuidance(model, 2.0, null=null))
        noise = torch.randn(clips, 3, frames, size, size, device="cuda")
        ddim_sample(guided, noise, schedule, sampling_levels(1000, steps), cond=cond)

    with torch.no_grad():
        return seconds_per_step(sample, warm=1, steps=3)


def sample_theirs(frames, size, clips=16, steps=50):
    """The same for the other package's sampler, with as many steps."""
    from video_diffusion_pytorch import GaussianDiffusion

    model = GaussianDiffusion(theirs(), image_size=size, num_frames=frames, timesteps=steps).cuda().eval()
    cond = torch.randn(clips, 128, device="cuda")

    def sample():
        with torch.autocast("cuda", torch.bfloat16):
            model.sample(cond=cond, cond_scale=2.0)

    return seconds_per_step(sample, warm=1, steps=3)


def speed():
    """Measure both packages side by side; a dict, printed as a table."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    rows = []
    for (frames, size), batch_size in SHAPES.items():
        mine, other = (
            size_of(ours(), frames, size, torch.randn(1, 12, 128)),
            size_of(theirs(), frames, size, torch.randn(1, 128)),
        )
        row = {"frames": frames, "size": size, "batch": batch_size, "sizes": [mine, other]}
        for name, measure in (("ours", train_ours), ("theirs", train_theirs)):
            seconds, memory = measure(frames, size, batch_size)
            operations = 3 * (mine if name == "ours" else other)[1] * batch_size
            row[name] = {"clips_per_s": batch_size / seconds, "of_peak": operations / seconds / PEAK, "gib": memory}
            torch.cuda.empty_cache()
        row["factor"] = row["ours"]["clips_per_s"] / row["theirs"]["clips_per_s"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    small = train_ours(16, 32, 64, micro_batches=8)
    print(f"64 clips of 16 x 32 x 32 in 8 micro-batches: {small[0]:.3f} s a step, {small[1]:.1f} GiB", flush=True)
    sampling = {"ours": sample_ours(16, 32), "theirs": sample_theirs(16, 32)}
    print(json.dumps(sampling), flush=True)
    return {"training": rows, "micro_batches": small, "sampling": sampling}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="write the measurements to this JSON file")
    args = parser.parse_args()
    result = {"machine": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    print(result, flush=True)
    result |= speed()
    if args.out:
        with open(args.out, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
