"""Exercises 6.6 and 6.7: where a walk from a picture begins, and the whole of image-to-image."""

import math
from itertools import pairwise
from types import SimpleNamespace

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises

from .common import fresh_schedule


@exercise("latent.strength_levels")
def strength_levels(f, draw):
    odd = draw.integers(3, 40)
    cases = [(1000, 20, 0.6), (1000, 20, 0.61), (1000, 50, 0.58), (1000, 100, 0.29), (50, 50, 0.3), (1000, 1, 0.4)]
    cases += [(1000, 100, 0.07), (1000, 50, 0.14), (1000, 100, 0.55)]  # n strength is a whole number, not so in floats
    cases += [(25 * odd, odd, k / 100 + 0.003) for k in (draw.integers(5, 30), draw.integers(40, 90))]
    cases += [(1000, 20, 1.0), (77, 9, 1.0), (1000, 20, 0.0001), (1000, 20, 1e-9), (10, 3, 0.999)]
    for T, n, strength in cases:
        name = f"T = {T}, n = {n}, strength = {strength:g}"
        levels = f(T, n, strength)
        numbers = isinstance(levels, (list, tuple)) and len(levels) > 1 and all(type(t) is int for t in levels)
        yield holds(f"{name}: a list of ints", numbers, f"expected two or more ints, got {levels!r}", usable=False)
        if not numbers:
            return
        start = max(1, round(strength * T))
        yield equal(f"{name}: it begins at the level nearest to strength T, at least at 1", levels[0], start)
        yield equal(f"{name}: it ends at 0", levels[-1], 0)
        falls = [a - b for a, b in pairwise(levels)]
        yield holds(f"{name}: it falls strictly", min(falls) > 0, f"got {levels}")
        yield holds(f"{name}: steps as even as can be", max(falls) - min(falls) <= 1, f"steps of {falls}")
        wanted = next(k for k in range(1, T + 1) if k * T >= start * n)
        yield equal(f"{name}: as few steps as a walk of this length needs", len(falls), wanted)
        if strength == 1:
            yield equal(f"{name}: the whole walk", list(levels), [T * i // n for i in range(n, -1, -1)])
    for wrong in (0.0, -0.2, 1.001, math.nan):
        yield raises(f"strength = {wrong}", ValueError, lambda s=wrong: f(1000, 20, s))
    for n in (0, 11):
        yield raises(f"T = 10, n = {n}", ValueError, lambda n=n: f(10, n, 0.5))


@strength_levels.promises(
    samples="there is no batch",
    dtype="levels are whole numbers",
    layout="there is no tensor",
    device="there is no tensor",
    gradients="levels are whole numbers",
)
def some_levels(f, draw):
    return f, dict(T=1000, n=20, strength=0.5)


START, STEPS = "round(strength * T)", "-(-n * start // T)"
strength_levels.edit(
    "all steps, whatever the strength",
    {STEPS: "min(n, start)"},
    "A shorter walk gets as many steps as the whole one. It needs only its share of them.",
)
strength_levels.edit(
    "steps rounded down",
    {STEPS: "max(1, n * start // T)"},
    "The number of steps is rounded down, so each is longer than in the whole walk. Round up.",
)
strength_levels.edit(
    "a float cut off",
    {STEPS: "max(1, min(start, int(n * strength)))"},
    "int(n * strength) cuts off: steps become longer than in the whole walk, and 100 * 0.29 is 28.999... in floats. "
    "Count in whole numbers, with the level at which the walk begins, and round up.",
)
strength_levels.edit(
    "a float rounded up",
    {STEPS: "min(start, int(-(-n * strength // 1)))"},
    "n * strength is rounded up, and floating point spoils it: 100 * 0.07 is 7.000000000000001, so that 8 steps come "
    "out where 7 are enough. Count in whole numbers, with the level at which the walk begins.",
)
strength_levels.edit(
    "upside down",
    {START: "round((1 - strength) * T)"},
    "Strength is turned round: at 1 the walk must begin at T, where nothing of the picture is left.",
)
strength_levels.edit(
    "the tail of the whole walk",
    {f"sampling_levels(start, {STEPS})": "[t for t in sampling_levels(T, n) if t <= max(start, T // n)]"},
    "The walk begins at a level of the whole walk's list, below the one that was asked for. Begin at the level nearest "
    "to strength T.",
)
strength_levels.edit(
    "always from T",
    {"sampling_levels(start, ": "sampling_levels(T, "},
    "The walk begins at T whatever the strength: nothing of the picture is left there.",
)
strength_levels.edit(
    "cut off, not rounded",
    {START: "int(strength * T)"},
    "int() cuts off: 0.29 * 100 is 28.999... in floats, and 28 is not the nearest level. Use round().",
)


class HalfSize:
    """What an `Autoencoder` offers: pictures of half the size, moved by 1/30; a scale of 3."""

    def __init__(self):
        self.scale, self.shrink, self.latent_channels, self.image_channels = torch.tensor(3.0), 2, 3, 3

    def encode(self, images):
        mean = images[:, :, ::2, ::2] + 1 / 30
        logvar = torch.full_like(mean, -30.0)
        return SimpleNamespace(mean=mean, logvar=logvar, mode=lambda: mean, sample=lambda generator=None: mean)

    def decode(self, z):
        return (z - 1 / 30).repeat_interleave(2, 2).repeat_interleave(2, 3)

    def to_latents(self, images):
        return self.scale * self.encode(images).mode()

    def to_images(self, latents):
        return self.decode(latents / self.scale)


class Ear:
    """A model whose latents are pictures of half the size, times 3; its data is Gaussian, around a mean that depends on
    the tokens. It notes what it is asked."""

    def __init__(self, draw):
        self.schedule, self.ab = fresh_schedule(draw, T=40)
        self.schedule.to = lambda device: self.schedule
        self.asked, self.variance = [], 0.5
        self.autoencoder, self.denoiser = HalfSize(), self.Denoiser(self)
        self.shape, self.size = (3, 4, 2), 8

    class Denoiser:
        def __init__(self, ear):
            self.ear, self.schedule = ear, ear.schedule

        def __call__(self, x, t, cond=None):
            self.ear.asked.append((x.clone(), t.clone(), None if cond is None else cond.clone()))
            return self.ear.noise_in(x, t, cond)

    def noise_in(self, x, t, cond):
        """E[eps | x] for data N(mean, variance), the mean 1.5 sin(sum of the tokens)."""
        mean = 1.5 * torch.sin(cond.double().sum(1)).reshape(-1, 1, 1, 1)
        ab = torch.tensor([self.ab[i] for i in t.tolist()], dtype=torch.float64).reshape(-1, 1, 1, 1)
        off = x.double() - ab.sqrt() * mean
        return ((1 - ab).sqrt() * off / (ab * self.variance + 1 - ab)).to(x.dtype)

    def walk(self, z, levels, tokens, scale):
        """Where the guided walk from z ends, float64."""
        z = z.double()
        for t, s in pairwise(levels):
            at = torch.full((len(z),), t)
            eps_u, eps_c = (self.noise_in(z, at, each) for each in (torch.zeros_like(tokens), tokens))
            eps = eps_u + scale * (eps_c - eps_u)
            x0 = (z - (1 - self.ab[t]) ** 0.5 * eps) / self.ab[t] ** 0.5
            z = self.ab[s] ** 0.5 * x0 + (1 - self.ab[s]) ** 0.5 * eps
        return z


PROMPTS = ["a red circle at the top", "the blue ring is in the centre", "a green cross"]


@exercise("latent.image_to_image")
def image_to_image(f, draw):
    for strength, n, scale in ((0.5, 10, 2.0), (1.0, 5, 3.0), (0.3, 40, 1.0)):
        ear, name = Ear(draw), f"strength = {strength}, {n} steps, guidance {scale:g}"
        x = draw.uniform(3, 3, 8, 4, low=-0.8, high=0.8)
        got = f(x, PROMPTS, ear, strength, n, scale, draw.generator())
        like = torch.is_tensor(got) and got.shape == x.shape
        came = tuple(got.shape) if torch.is_tensor(got) else got
        yield holds(f"{name}: pictures like the given ones", like, f"expected {tuple(x.shape)}, got {came}", False)
        yield holds(f"{name}: the model is asked", ear.asked, "it never was", usable=False)
        if not like or not ear.asked:
            return
        start = max(1, round(strength * 40))
        z, t, cond = (part[-3:] if part is not None else None for part in ear.asked[0])
        yield equal(f"{name}: the first level that the model is asked about", sorted({*t.tolist()}), [start])
        steps = -(-n * start // 40)
        yield equal(f"{name}: calls of the model", len(ear.asked), steps)
        yield holds(f"{name}: told the prompts' tokens", cond is not None and cond.any(), "it got none", usable=False)
        other, seed, shown = Ear(draw), draw.integers(0, 2**31 - 2), []
        other.ab, other.schedule = ear.ab, ear.schedule
        other.denoiser.schedule = ear.schedule
        for each, number in ((x, seed), (x, seed), (x, seed + 1), (x + 0.2, seed)):
            other.asked.clear()
            f(each, PROMPTS, other, strength, n, scale, torch.Generator().manual_seed(number))
            shown.append(other.asked[0][0][-3:])
        one, again, new, brighter = shown
        message = "two equal generators, two different noises: the generator is not used where the noise is drawn"
        yield holds(f"{name}: the same seed, the same noise", torch.equal(one, again), message)
        message = "the model is shown the same for two seeds: where is the noise?"
        yield holds(f"{name}: another seed, another noise", not torch.equal(one, new), message)
        moved = torch.full_like(one, 3 * 0.2 * ear.ab[start] ** 0.5)
        yield close(f"{name}: a brighter picture, the same noise: what the model is shown", brighter - one, moved, 1e-4)
        noise = (z.double() - ear.ab[start] ** 0.5 * (3 * x[:, :, ::2, ::2] + 0.1)) / (1 - ear.ab[start]) ** 0.5
        yield near(f"{name}: the noise beside the latent, mean square", noise.square().mean().item(), 1.0, 0.65)
        yield near(f"{name}: the noise beside the latent, mean", noise.mean().item(), 0.0, 0.6)
        end = ear.walk(z, [start * i // steps for i in range(steps, -1, -1)], cond, scale)
        want = ((end - 0.1) / 3).repeat_interleave(2, 2).repeat_interleave(2, 3).clamp(-1, 1)
        yield close(f"{name}: where the guided walk leads, decoded", got, want, 1e-4, dtype=torch.float32)
    ear, x = Ear(draw), draw.uniform(3, 3, 4, 4, low=-0.8, high=0.8)
    again = f(x, PROMPTS[0], ear, 0.5, 10, 2.0, draw.generator())
    same = ear.asked[0][2][-3:]
    yield holds("one string is the prompt of all pictures", again.shape == x.shape and (same == same[0]).all(), "")
    yield raises("two prompts for three pictures", ValueError, lambda: f(x, PROMPTS[:2], ear, 0.5, 10, 2.0))
    yield raises("strength = 0", ValueError, lambda: f(x, PROMPTS, ear, 0.0, 10, 2.0))


@image_to_image.promises(
    "layout",
    "generator",
    "noise",
    samples="the noise is drawn for the whole batch at once",
    dtype="models have float32 weights",
    device="tokens are moved by `tokens_for`",
    gradients="sampling keeps none",
)
def an_edit(f, draw):
    ear = Ear(draw)

    def call(images, generator):
        return f(images, PROMPTS, ear, 0.5, 8, 2.0, generator)

    return call, dict(images=draw.uniform(3, 3, 8, 4, low=-0.2, high=0.2), generator=draw.generator())


WALK = "ddim_sample(guided, z, schedule, levels, tokens)"
NOISED = "q_sample(z0, torch.full((len(z0),), levels[0], device=z0.device), noise, schedule)"
DRAWN = "torch.randn(z0.shape, generator=generator, device=z0.device)"
image_to_image.edit(
    "the scale forgotten on the way in",
    {"model.autoencoder.to_latents(images)": "model.autoencoder.encode(images).mode()"},
    "These latents are as the encoder makes them. The denoiser knows latents of unit variance: to_latents.",
)
image_to_image.edit(
    "the scale forgotten on the way out",
    {f"to_pictures(model.autoencoder, {WALK})": f"model.autoencoder.decode({WALK}).clamp(-1, 1)"},
    "What is decoded still has unit variance. Divide by the scale first: to_images, or to_pictures.",
)
image_to_image.edit(
    "noise of the highest level",
    {"torch.full((len(z0),), levels[0]": "torch.full((len(z0),), schedule.T"},
    "The latents are noised up to T, and the walk begins lower down. Noise and walk begin at the same level.",
)
image_to_image.edit(
    "the latents as they are",
    {NOISED: "z0"},
    "The walk begins with the clean latents: no noise is added, and nothing is hidden that could be drawn anew. Noise "
    "them up to the first level: q_sample.",
)
image_to_image.edit(
    "no noise",
    {DRAWN: "torch.zeros_like(z0)"},
    "No noise is added: a latent without noise is what no level looks like.",
)
image_to_image.edit(
    "noise beside the whole latent",
    {NOISED: "z0 + schedule.sigma(torch.tensor(levels[0])) * noise"},
    "Noise is added, but the latents keep their full strength. At a level, data is weakened by sqrt(alpha_bar), too: "
    "q_sample does both.",
)
image_to_image.edit(
    "the generator not used",
    {"generator=generator, device": "device"},
    "The generator is not used: the noise comes from PyTorch's own. Give generator=generator to torch.randn. "
    "(torch.randn_like takes none.)",
)
image_to_image.edit(
    "noise alone",
    {f"z = {NOISED}": "z = noise"},
    "The walk begins with noise alone, so nothing of the picture can stay. Noise the picture's latents: q_sample.",
)
image_to_image.edit(
    "no guidance",
    {"ddim_sample(guided, ": "ddim_sample(model.denoiser, "},
    "The walk asks the denoiser itself: guidance_scale has no effect.",
)
image_to_image.edit(
    "guidance of 3, whatever is asked",
    {"ClassifierFreeGuidance(model.denoiser, guidance_scale)": "ClassifierFreeGuidance(model.denoiser, 3.0)"},
    "The guidance is 3.0 whatever the argument guidance_scale says.",
)
image_to_image.edit(
    "T taken for 1000",
    {"strength_levels(schedule.T, ": "strength_levels(1000, "},
    "The levels are those of a schedule with T = 1000. This model's may have another: schedule.T.",
)
image_to_image.edit(
    "noise in each step",
    {"levels, tokens)": "levels, tokens, eta=1.0)"},
    "eta = 1 draws new noise in each step. The walk is to be DDIM's own, at eta = 0, where nothing is random after the "
    "start.",
)
image_to_image.edit(
    "noise in each step, from the generator",
    {"levels, tokens)": "levels, tokens, eta=1.0, generator=generator)"},
    "With eta = 1 the generator is used again in each step. The walk is to be DDIM's own, at eta = 0: its start alone "
    "is random.",
)
image_to_image.edit(
    "clamped latents",
    {"levels, tokens)": "levels, tokens, clip_x0=True)"},
    "The estimates of the latents are clamped to [-1, 1]. Pixels lie there; of latents with unit variance a third does "
    "not.",
)
image_to_image.edit(
    "not all of the way down",
    {"schedule, levels, tokens)": "schedule, [*levels[:-2], 0], tokens)"},
    "The last level before 0 is left out.",
)
image_to_image.edit(
    "always from the top",
    {"strength_levels(schedule.T, steps, strength)": "strength_levels(schedule.T, steps, 1.0)"},
    "The walk begins at T whatever the strength.",
)
