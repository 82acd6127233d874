"""Chapter 11 written in other ways: matrices of weights, loops, masks, padded weights."""

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import edited
from minivdm.datasets.captions import Tokenizer
from minivdm.datasets.degradation import shrink
from minivdm.diffusion.guidance import ClassifierFreeGuidance
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.models.prior_net import drop_embedding
from minivdm.pipelines.cascade import Walk
from minivdm.pipelines.decoder import sample_key_frames
from minivdm.pipelines.interpolation import interpolate_frames
from minivdm.pipelines.prior import sample_prior
from minivdm.pipelines.super_resolution import upscale
from tests.checks.collected import alternative, with_method


@alternative("prior.sample_prior")
def prior_by_hand(model, texts, steps=20, guidance_scale=1.0, generator=None):
    size = texts.shape[1]
    longer = size**0.5 * texts / texts.norm(dim=1, keepdim=True)
    guided = ClassifierFreeGuidance(model, guidance_scale, torch.zeros_like(longer))
    x = torch.randn(len(texts), size, generator=generator, device=texts.device)
    schedule = model.schedule.to(texts.device)
    x = ddim_sample(guided, x, schedule, sampling_levels(schedule.T, steps), longer)
    return x / x.norm(dim=1, keepdim=True)


alternative("prior.sample_prior")(
    edited("prior.sample_prior", {"cond = to_unit_variance(texts)": "cond = math.sqrt(texts.shape[1]) * texts"})
)


@alternative("cascade_training.key_frame_batch")
def key_frames_one_by_one(clip, quiet, generator, n, frames=8):
    with torch.no_grad():
        skip = 1 + torch.randint(2, (n,), generator=generator, device=generator.device)
        clips = quiet.stretches(generator, n, frames, skip)
        clips = shrink(clips, clips.shape[-1] // clip.size)
        chosen = torch.randint(frames, (n,), generator=generator, device=generator.device).tolist()
        told = torch.cat([clip.embed_images(clips[i : i + 1, :, f]) for i, f in enumerate(chosen)])
        told = drop_embedding(told, told.shape[1], 0.1, generator)
        return shrink(clips, 2), torch.cat([told, skip[:, None].to(told)], dim=1)


alternative("cascade_training.key_frame_batch")(
    edited(
        "cascade_training.key_frame_batch",
        {
            "clips[rows, :, chosen]": "clips.transpose(1, 2)[rows, chosen]",
            "return shrink(clips, 2), cond": (
                "small = F.avg_pool2d(clips.flatten(0, 1), 2).unflatten(0, clips.shape[:2])\n    return small, cond"
            ),
            "skip = one_of(": "from torch.nn import functional as F\n    skip = one_of(",
        },
    )
)


@alternative("stages.without_embedding")
def nothing_of_the_embedding(cond, size):
    out = cond.clone()
    out[:, :size] = 0
    return out


@alternative("stages.without_embedding")
def by_a_mask(cond, size):
    return torch.where(torch.arange(cond.shape[1], device=cond.device) < size, torch.zeros_like(cond), cond)


@alternative("degradation.guessed_frames")
def guess_clip_by_clip(clip, skip):
    if clip.ndim != 5 or len(skip) != len(clip):
        raise ValueError("clips, and a skip for each, please")
    rows = []
    for each, s in zip(clip, skip.tolist()):
        frames = []
        for f in range(each.shape[1]):
            p, w = f // s * s, f % s / s
            now = each[:, p]
            if w and p + s < each.shape[1]:
                now = (1 - w) * now + w * each[:, p + s]
            frames.append(torch.cat([now, torch.full_like(now[:1], float(w == 0))]))
        rows.append(torch.stack(frames, dim=1))
    return torch.stack(rows)


@alternative("degradation.guessed_frames")
def guess_by_matrices(clip, skip):
    if clip.ndim != 5 or skip.shape != clip.shape[:1]:
        raise ValueError("clips, and a skip for each, please")
    place = torch.arange(clip.shape[2], device=clip.device)
    known = place % skip[:, None] == 0  # (B, F)
    clean = torch.where(known[:, None, :, None, None], clip, torch.zeros_like(clip))
    away = (place[:, None] - place).abs() / skip[:, None, None]  # (B, F, F)
    weights = (1 - away).clamp(min=0) * known[:, None]  # a hat around each known frame
    last = (place[None] * known).amax(dim=1)  # (B,)
    behind = place > last[:, None]  # (B, F)
    weights = torch.where(behind[..., None], (place == last[:, None])[:, None].to(weights), weights).to(clip)
    guess = torch.einsum("bfg,bcghw->bcfhw", weights, clean)
    guess = torch.where(known[:, None, :, None, None], clip, guess)  # bit for bit
    return torch.cat([guess, known.to(clip)[:, None, :, None, None].expand_as(guess[:, :1])], dim=1)


@alternative("conditioning.widen_stem")
def padded_weights(net, extra):
    with torch.no_grad():
        old = net.stem[1]
        more = extra * net.stem[0].downscale_factor ** 2
        made = nn.Conv2d(old.in_channels + more, old.out_channels, 3, padding=1, device=old.weight.device)
        made = made.to(old.weight.dtype)
        made.weight = nn.Parameter(F.pad(old.weight, (0, 0, 0, 0, 0, more)))
        made.bias = nn.Parameter(old.bias.clone())
        net.stem = nn.Sequential(net.stem[0], made)
    return net


alternative("conditioning.widen_stem")(
    edited(
        "conditioning.widen_stem",
        {
            "wider.weight.copy_(torch.cat([conv.weight, more], dim=1))": (
                "wider.weight.zero_()\n    wider.weight[:, : conv.in_channels] = conv.weight"
            )
        },
    )
)


@alternative("cascade_judging.hears_its_level")
def by_counting(model, clips, levels=(0, 200), generator=None):
    """More than three standard errors, by the logarithm of the errors."""
    low, verdicts = shrink(clips, 2), []
    for a, b in (levels, tuple(reversed(levels))):
        seed = int(torch.randint(10**9, (1,), generator=generator, device=clips.device))
        logs = []
        for said in (a, b):
            noise = torch.Generator(clips.device).manual_seed(seed)
            made = upscale(model, low, a, 2, noise, told_level=said)
            logs.append((made - clips).pow(2).mean(dim=(1, 2, 3, 4)).log())
        gain = logs[1] - logs[0]
        verdicts.append(gain.mean().item() > 2.5 * gain.std().item() / len(gain) ** 0.5)
    return all(verdicts)


alternative("cascade_judging.hears_its_level")(
    edited("cascade_judging.hears_its_level", {"2 * gain.std()": "3 * gain.std()", "square()": "abs()"})
)


@alternative("super_resolution.shared_noise")
def repeated(shape, generator=None, device="cpu"):
    one = torch.randn((shape[0], shape[1], *shape[3:]), generator=generator, device=device)
    return torch.stack([one] * shape[2], dim=2)


@alternative("super_resolution.shared_noise")
def the_first_of_many(shape, generator=None, device="cpu"):
    return torch.randn(tuple(shape), generator=generator, device=device)[:, :, :1].repeat(1, 1, shape[2], 1, 1)


@with_method("cascade.TextToVideo", "stages")
def stages_step_by_step(self, prompts, walk=None, generator=None):
    walk = walk or Walk()
    needed = len(range(0, self.frames, walk.skip))
    if needed > self.key_frames.frames:
        raise ValueError("too few key frames")
    made = {}
    with torch.no_grad():
        made["text"] = self.clip.embed_texts(Tokenizer().encode(prompts).to(self.clip.log_scale.device))
        made["image"] = sample_prior(self.prior, made["text"], walk.prior_steps, walk.prior_guidance, generator)
        given = walk.skip, walk.key_frame_steps, walk.guidance, generator
        made["key_frames"] = sample_key_frames(self.key_frames, made["image"], *given)
        first = made["key_frames"][:, :, :needed]
        made["interpolation"] = interpolate_frames(self.interpolation, first, walk.skip, walk.steps, generator)
        for name, stage in (("spatiotemporal", self.spatiotemporal), ("spatial", self.spatial)):
            before = list(made.values())[-1]
            made[name] = upscale(stage, before, level=walk.level, steps=walk.upscale_steps, generator=generator)
    return made


@with_method("cascade.TextToVideo", "stages")
def stages_told_by_name(self, prompts, walk=None, generator=None):
    """As the first, with `inference_mode` off and the skip checked against the clip's end."""
    walk = Walk() if walk is None else walk
    if (self.frames - 1) // walk.skip + 1 > self.key_frames.frames:
        raise ValueError("too few key frames")
    text = self.clip.embed_texts(Tokenizer().encode(prompts)).detach()
    image = sample_prior(self.prior, text, walk.prior_steps, walk.prior_guidance, generator=generator)
    keys = sample_key_frames(
        self.key_frames,
        image,
        skip=walk.skip,
        steps=walk.key_frame_steps,
        guidance_scale=walk.guidance,
        generator=generator,
    )
    out = {"text": text, "image": image, "key_frames": keys}
    known = keys.narrow(2, 0, (self.frames - 1) // walk.skip + 1)
    out["interpolation"] = interpolate_frames(
        self.interpolation, known, skip=walk.skip, steps=walk.steps, generator=generator
    )
    out["spatiotemporal"] = upscale(
        self.spatiotemporal, out["interpolation"], walk.level, walk.upscale_steps, generator
    )
    out["spatial"] = upscale(self.spatial, out["spatiotemporal"], walk.level, walk.upscale_steps, generator)
    return out
