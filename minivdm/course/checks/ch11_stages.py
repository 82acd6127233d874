"""Exercise 11.8: from prompts to clips, stage by stage."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import close, equal, exercise, holds, raises
from minivdm.datasets.captions import Tokenizer
from minivdm.diffusion.predictions import EpsModel
from minivdm.pipelines.cascade import Walk
from minivdm.pipelines.stages import stage_schedule

from .ch11_common import Listening, known_stage, unit_rows

KEYS, FRAMES, SIDE, SIZE = 5, 9, 4, 6  # SIZE numbers in an embedding
NAMES = ["text", "image", "key_frames", "interpolation", "spatiotemporal", "spatial"]
PROMPTS = ["a red circle moving left", "a blue ring growing", "a white cross shrinking"]


class Reader(nn.Module):
    """A CLIP with a random unit vector for each prompt."""

    def __init__(self, draw):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.table = nn.Parameter(unit_rows(draw, 997, SIZE))

    def embed_texts(self, tokens):
        return self.table[(tokens * torch.arange(1, 1 + tokens.shape[1])).sum(1) % 997]


def turned(x, t, cond):
    """A prior whose picture is the text turned by one place; where there is no text, it says the first direction."""
    return cond.roll(1, 1) + 2 * (cond == 0).all(dim=1, keepdim=True) * torch.eye(1, SIZE)


def tinted(x, t, cond):
    """Key frames: each a little brighter than the one before, and tinted by the embedding."""
    ramp = torch.arange(x.shape[2]).view(1, 1, -1, 1, 1) / 20
    return ramp + 0.1 * cond[:, :3].view(-1, 3, 1, 1, 1) + 0 * x


def darker(x, t, cond):
    """Interpolation and super-resolution: what stands beside x, a little darker."""
    return 0.9 * x[:, 3:6]


def parts_of(draw):
    """Stages whose answers are known, by name."""
    prior = EpsModel(Listening(turned), "x0", stage_schedule())
    between = known_stage(darker, FRAMES, SIDE)
    between.net.net = SimpleNamespace(embedding_dim=SIZE)
    return {
        "clip": Reader(draw),
        "prior": prior,
        "key_frames": known_stage(tinted, KEYS, SIDE),
        "interpolation": between,
        "spatiotemporal": known_stage(darker, FRAMES, 2 * SIDE),
        "spatial": known_stage(darker, 1, 4 * SIDE),
    }


def enlarged(clips):
    """Twice the height and width, frame by frame."""
    flat = clips.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, scale_factor=2.0, mode="bicubic")
    return flat.unflatten(0, (len(clips), -1)).transpose(1, 2)


def told_last(stage):
    """The last number that a stage was told, in all calls."""
    return {float(value) for _, _, cond in stage.net.heard for value in cond[:, -1]}


@exercise("cascade.TextToVideo")
def text_to_video(f, draw):
    for walk in (Walk(3, 2, 4, 1, 2.0, 3.0, 2, 0), Walk(1, 3, 2, 2, 1.0, 1.5, 3, 0), Walk(2, 1, 1, 3, 3.0, 1.0, 2, 60)):
        parts = parts_of(draw)
        cascade, skip = f(*parts.values()), walk.skip
        made = cascade.stages(PROMPTS, walk, draw.generator())
        name = f"skip {skip}, level {walk.level}"
        right = isinstance(made, dict) and list(made) == NAMES
        came = list(made) if isinstance(made, dict) else type(made).__name__
        yield holds(f"{name}: what is in the dict, in its order", right, f"expected {NAMES}, got {came}", usable=False)
        if not right:
            return
        shapes = {key: tuple(value.shape[1:]) for key, value in made.items()}
        clip = lambda frames, side: (3, frames, side, side)  # noqa: E731
        sizes = [(SIZE,), (SIZE,), clip(KEYS, SIDE), *(clip(FRAMES, SIDE * 2**i) for i in range(3))]
        yield equal(f"{name}: shapes behind the batch", shapes, dict(zip(NAMES, sizes)), usable=False)
        if shapes != dict(zip(NAMES, sizes)):
            return
        kept = [key for key, value in made.items() if value.requires_grad]
        yield holds(f"{name}: no gradient is kept", not kept, f"{kept} carry one")
        text = parts["clip"].embed_texts(Tokenizer().encode(PROMPTS)).detach()
        yield close(f"{name}: text embeddings", made["text"], text)
        s, null = walk.prior_guidance, 2 * torch.eye(1, SIZE)
        want = F.normalize(s * text.roll(1, 1) * SIZE**0.5 - (s - 1) * null, dim=1)
        yield close(f"{name}: image embeddings, by guidance {s}", made["image"], want, 1e-3, 1e-3)
        s = walk.guidance
        ramp = torch.arange(KEYS).view(1, 1, -1, 1, 1) / 20
        tint = 0.1 * made["image"][:, :3].view(-1, 3, 1, 1, 1)
        want = (ramp + s * tint).expand(-1, -1, -1, SIDE, SIDE)
        yield close(f"{name}: key frames, by guidance {s}", made["key_frames"], want, 2e-2, 1e-2)
        yield equal(f"{name}: the skip that the key frames are told", told_last(parts["key_frames"]), {float(skip)})
        known = made["key_frames"][:, :, : len(range(0, FRAMES, skip))]
        yield close(f"{name}: known frames in their places", made["interpolation"][:, :, ::skip], known)
        yield equal(
            f"{name}: the skip that the interpolation is told", told_last(parts["interpolation"]), {float(skip)}
        )
        between = 0.9 * (known[:, :, 0] + (known[:, :, 1] - known[:, :, 0]) / skip)
        yield close(f"{name}: frame 1, between them", made["interpolation"][:, :, 1], between, 2e-2, 1e-2)
        for stage, before in (("spatiotemporal", "interpolation"), ("spatial", "spatiotemporal")):
            level = {float(walk.level)}
            yield equal(f"{name}: the level that {stage} is told", told_last(parts[stage]), level)
            if walk.level == 0:
                want = 0.9 * enlarged(made[before])
                yield close(f"{name}: {stage} enlarges what {before} made", made[stage], want, 2e-2, 1e-2)
        counts = {key: len(parts[key].net.heard) for key in list(parts)[1:]}
        steps = [walk.prior_steps, walk.key_frame_steps, walk.steps, walk.upscale_steps, walk.upscale_steps]
        yield equal(f"{name}: calls of each network", counts, dict(zip(counts, steps)))
    walk, seed = Walk(1, 1, 1, 1, level=90), draw.integers(0, 10**6)
    starts = []
    for each in (seed, seed, seed + 1):
        torch.manual_seed(draw.integers(0, 10**6))
        parts = parts_of(type(draw)(3))
        f(*parts.values()).stages(PROMPTS, walk, torch.Generator().manual_seed(each))
        starts.append({key: parts[key].net.heard[0][0] for key in list(parts)[1:]})
    for key in starts[0]:
        same = torch.equal(starts[0][key], starts[1][key])
        yield holds(f"the noise of {key} comes from the generator", same, "two equal generators, two noises")
        other = not torch.equal(starts[0][key], starts[2][key])
        yield holds(f"another seed, another noise of {key}", other, "two seeds, one noise")
    cascade = f(*parts_of(draw).values())
    alone = cascade.stages(PROMPTS[0], None, draw.generator())
    yield equal("one prompt, a string, by the default walk", tuple(alone["spatial"].shape), (1, 3, FRAMES, 16, 16))
    yield raises("a word that is not in the vocabulary", ValueError, lambda: cascade.stages("a red circel", walk))
    yield raises("key frames that do not reach", ValueError, lambda: cascade.stages(PROMPTS, Walk(1, 1, 1, 1, skip=1)))


PROMPT = "prompts are no tensor"


@text_to_video.promises(
    samples=PROMPT,
    dtype=PROMPT,
    layout=PROMPT,
    device=PROMPT,
    gradients="samplers keep no gradient",
    generator="it is looked at above, stage by stage",
    noise="it is looked at above, stage by stage",
)
def ordinary(f, draw):
    return f(*parts_of(draw).values()), dict(prompts=PROMPTS[:1], walk=Walk(1, 1, 1, 1), generator=draw.generator())


text_to_video.edit(
    "the text instead of the picture",
    {"self.key_frames, image, *how": "self.key_frames, text, *how"},
    "The key frames are made from the text's embedding. They learnt from embeddings of pictures: take the prior's.",
)
text_to_video.edit(
    "all key frames, whatever the skip",
    {"keys[:, :, : known_frames(self.frames, skip)]": "keys"},
    "All key frames go into the interpolation. With a larger skip, fewer of them reach to the end of the clip: "
    "`known_frames` says how many.",
)
text_to_video.edit(
    "the last key frames",
    {"keys[:, :, : known_frames(self.frames, skip)]": "keys[:, :, -known_frames(self.frames, skip) :]"},
    "The last key frames are taken. The clip begins with the first one.",
)
text_to_video.edit(
    "always every second frame",
    {"skip, n = walk.skip, walk.upscale_steps": "skip, n = 2, walk.upscale_steps"},
    "The skip is always 2, and not the walk's.",
)
text_to_video.edit(
    "no augmentation in the last stage",
    {"upscale(self.spatial, middle, walk.level, n, generator)": "upscale(self.spatial, middle, 0, n, generator)"},
    "The last stage gets its small clip without noise, and is told so. Its small clip was made by a network, too.",
)
text_to_video.edit(
    "the last stage skips one",
    {"upscale(self.spatial, middle,": "upscale(self.spatial, upscale(self.spatiotemporal, clip, 0, 1, generator),"},
    "The last stage does not get what the stage before it made.",
)
text_to_video.edit(
    "the generator not passed on",
    {
        "clip = interpolate_frames(self.interpolation, known, skip, walk.steps, generator)": (
            "clip = interpolate_frames(self.interpolation, known, skip, walk.steps)"
        )
    },
    "The interpolation draws its noise without the generator: the same seed gives another clip.",
)
text_to_video.edit(
    "guidance of the prior for the key frames",
    {"walk.guidance, generator)": "walk.prior_guidance, generator)"},
    "The key frames are guided as strongly as the prior: `walk.guidance` is theirs.",
)
text_to_video.edit(
    "steps exchanged",
    {"(walk.prior_steps, walk.prior_guidance, generator)": "(walk.key_frame_steps, walk.prior_guidance, generator)"},
    "The prior walks as many steps as the key frames. It has a number of its own, `walk.prior_steps`.",
)
