"""Exercise 11.1: the prior at work."""

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, holds
from minivdm.diffusion.predictions import EpsModel
from minivdm.pipelines.stages import stage_schedule

from .ch11_common import Listening, unit_rows


def turned(x, t, cond):
    """A prior whose picture is the text's embedding, turned by one place."""
    return cond.roll(1, dims=1)


def longer_than_pixels(x, t, cond):
    """The same, with what was dropped at the middle of all pictures: entries of 4 and less."""
    return cond.roll(1, dims=1) + 4 * (cond == 0).all(dim=1, keepdim=True) * torch.eye(1, cond.shape[1]).to(cond)


@exercise("prior.sample_prior")
def sample_prior(f, draw):
    size = draw.integers(12, 40)
    texts = unit_rows(draw, 5, size)
    heard = Listening(turned)
    model = EpsModel(heard, "x0", stage_schedule())
    images = f(model, texts, 3, 1.0, draw.generator())
    fits = torch.is_tensor(images) and images.shape == texts.shape
    yield holds("an embedding for each text", fits, f"expected a tensor {tuple(texts.shape)}", usable=False)
    x, t, told = heard.heard[0]
    size_told = told.square().mean().sqrt().item()
    message = f"the root of the mean square of its entries is {size_told:.3g}, in training it was 1"
    yield holds("what the network is told has the size that it had in training", abs(size_told - 1) < 1e-3, message)
    yield close("what it is told: the texts, longer", told, texts.double() * size**0.5, dtype=told.dtype)
    start = x.square().mean().sqrt().item()
    yield holds("the start is noise of variance 1", 0.6 < start < 1.5, f"the root of its mean square is {start:.3g}")
    yield equal("network calls", len(heard.heard), 3)
    yield close("unit vectors", images.norm(dim=1), torch.ones(5))
    yield close("a network that knows the picture is followed, entries beyond 1 included", images, texts.roll(1, 1))
    again = [f(model, texts, 2, 1.0, g) for g in map(torch.Generator().manual_seed, (3, 3))]
    yield holds("the same seed gives the same", torch.equal(*again), "two equal generators, two results")
    noises = [heard.heard[-i][0] for i in (4, 2)]
    yield holds("the start is drawn from the generator", torch.equal(*noises), "two equal generators, two starts")
    guided = f(EpsModel(Listening(longer_than_pixels), "x0", stage_schedule()), texts, 2, 3.0, draw.generator())
    null = 4 * torch.eye(1, size).double()
    want = 3 * texts.double().roll(1, 1) * size**0.5 - 2 * null
    yield close("guidance 3 walks away from the answer without a text", guided.double(), nn.functional.normalize(want))


@sample_prior.promises(
    "device",
    "layout",
    "generator",
    "noise",
    samples="the noise is drawn for the whole batch at once",
    dtype="the noise is float32",
    gradients="samplers keep no gradient",
)
def some_texts(f, draw):
    def call(texts, generator):
        # half of the noise stays in the answer
        model = EpsModel(lambda x, t, cond: 0.5 * cond + 0.5 * x, "x0", stage_schedule())
        return f(model, texts, 2, 1.0, generator)

    return call, dict(texts=unit_rows(draw, 4, 9), generator=draw.generator())


TEXTS, PIXELS = {"cond = to_unit_variance(texts)": "cond = texts"}, {"clip_x0=False": "clip_x0=True"}
sample_prior.edit(
    "as for tokens and pixels",
    {**TEXTS, **PIXELS},
    "Two things are wrong still. The texts must be as large as in training (`to_unit_variance`). And x_0 is an "
    "embedding, no pixel: its entries go beyond 1, and must not be clamped.",
)
sample_prior.edit(
    "texts as they are",
    TEXTS,
    "The texts come as unit vectors, with entries of about 1 / sqrt(E). In training they had entries of about 1: to "
    "the network, these are next to nothing.",
)
sample_prior.edit(
    "clamped like pixels",
    PIXELS,
    "Each estimate of x_0 is clamped to [-1, 1]. That suits pixels. Of an embedding with entries about 1 in size, a "
    "third lies beyond.",
)
sample_prior.edit(
    "not a unit vector",
    {"return F.normalize(made, dim=-1)": "return made"},
    "What comes out is as long as the data of the diffusion model. Everything behind it expects unit vectors.",
)
sample_prior.edit(
    "a start as small as a unit vector",
    {
        "noise = torch.randn(texts.shape, generator=generator, device=texts.device)": (
            "noise = F.normalize(torch.randn(texts.shape, generator=generator, device=texts.device), dim=-1)"
        )
    },
    "The start is a unit vector. A walk starts from noise with variance 1 in each entry, as in training.",
)
sample_prior.edit(
    "divided once more",
    {
        "made = sample_stage": "made = texts.shape[1] ** -0.5 * 0 + sample_stage",
        "cond = to_unit_variance(texts)": "cond = texts.shape[1] ** 0.5 * to_unit_variance(texts)",
    },
    "The texts are multiplied by sqrt(E) twice: `to_unit_variance` does it already.",
)
