"""Exercise 11.2: what the decoder of key frames learns from."""

import torch
from torch.nn import functional as F

from minivdm.course.exercise import equal, exercise, holds, near
from minivdm.pipelines.cascade_data import QuietClips


class Seer:
    """A CLIP whose embedding is read off the picture: brightness by quarter and channel, as a unit vector."""

    size = 8

    def __init__(self):
        self.shown = []

    def embed_images(self, pictures):
        self.shown.append(tuple(pictures.shape))
        return F.normalize(F.avg_pool2d(pictures, pictures.shape[-1] // 2).flatten(1), dim=1)


class Tape:
    """Recordings of 18 frames, in which each clip and frame has a pattern of its own; each is a `skip` apart."""

    def sample(self, n, generator):
        return 2 * torch.rand(n, 3, 18, 16, 16, generator=generator) - 1, None


def a_batch(f, draw, n=6, frames=4, size=16):
    seer, quiet = Seer(), QuietClips(Tape(), 5, draw.generator())
    if size == 32:
        quiet.drawn = quiet.drawn.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return seer, quiet, f(seer, quiet, draw.generator(), n, frames)


def where(clip, quiet, factor):
    """(recording, start, skip) of the stretch that a small clip shows, or None."""
    pool = F.avg_pool2d(quiet.drawn.flatten(0, 1).float() / 127.5 - 1, factor).unflatten(0, quiet.drawn.shape[:2])
    for skip in range(1, 6):
        for start in range(pool.shape[1] - (clip.shape[1] - 1) * skip):
            part = pool[:, start : start + (clip.shape[1] - 1) * skip + 1 : skip].transpose(1, 2)
            off = (part - clip).abs().amax(dim=(1, 2, 3, 4))
            if off.min() < 1e-3:
                return int(off.argmin()), start, skip
    return None


@exercise("cascade_training.key_frame_batch")
def key_frame_batch(f, draw):
    dropped, rows, in_one, told_skips, chosen, starts = 0, 0, 0, [], [], set()
    for turn, size in enumerate([16, 32] + [16] * 10):
        n, frames = (40, 4) if turn > 1 else (draw.integers(3, 6), draw.integers(3, 5))
        seer, quiet, made = a_batch(f, draw, n, frames, size)
        pair = isinstance(made, (tuple, list)) and len(made) == 2 and all(map(torch.is_tensor, made))
        yield holds("clips, and what is told", pair, f"expected two tensors, got {type(made).__name__}", usable=False)
        if not pair:
            return
        clips, cond = made
        name = f"recordings of {size} x {size} pixels, n = {n}, frames = {frames}"
        yield equal(f"{name}: shape of the clips", tuple(clips.shape), (n, 3, frames, 4, 4), usable=False)
        yield equal(
            f"{name}: shape of what is told, an embedding and a number", tuple(cond.shape), (n, 13), usable=False
        )
        if clips.shape != (n, 3, frames, 4, 4) or cond.shape != (n, 13):
            return
        seen = {shape[-1] for shape in seer.shown}
        yield equal(f"{name}: height and width of what CLIP is shown", seen, {8})
        found = [where(clip, quiet, size // 4) for clip in clips]
        lost = "a clip is no stretch of a recording, shrunk by averaging: were frames exchanged, or pixels left out?"
        yield holds(f"{name}: each is a stretch of a recording", None not in found, lost)
        if None in found:
            return
        skips = [skip for _, _, skip in found]
        yield equal(f"{name}: the number told is the skip", cond[:, -1].tolist(), [float(skip) for skip in skips])
        looks = F.avg_pool2d(clips.transpose(1, 2).flatten(0, 1), 2).flatten(1)
        looks = F.normalize(looks, dim=1).unflatten(0, (n, frames))
        gone = (cond[:, :-1] == 0).all(dim=1)
        off = (looks - cond[:, None, :-1]).abs().amax(dim=2)  # (n, frames)
        mean = (looks.mean(dim=1) - cond[:, :-1]).abs().amax(dim=1)
        averaged = not gone.all() and (mean[~gone] < 1e-3).all()
        yield holds(
            f"{name}: it is the embedding of one frame", not averaged, "it is a mean over the frames of the clip"
        )
        fits = (off.min(dim=1).values < 1e-3) | gone
        message = "a row holds the embedding of a frame that is not in its clip, or no embedding"
        yield holds(f"{name}: what is told is the embedding of a frame of this clip", fits.all(), message)
        dropped, rows = dropped + int(gone.sum()), rows + n
        mine = off.argmin(dim=1)[~gone].tolist()
        chosen += mine if frames == 4 else []
        in_one = max(in_one, len(set(mine)) if n == 40 else 0)
        told_skips += skips
        starts |= {start for _, start, skip in found if skip == 2 and frames == 4}
    yield equal("the skips that occur", set(told_skips), {1, 2})
    near_half = sum(skip == 1 for skip in told_skips) / len(told_skips)
    yield near("share of skip 1", near_half, 0.5, within=0.12)
    yield holds("not always the same frame", len(set(chosen)) > 1, "in all batches it is the same one")
    yield holds("in one batch, different frames are chosen", in_one > 1, "it is the same one in all clips of a batch")
    shares = [chosen.count(i) / len(chosen) for i in range(4)]
    yield holds("any frame may be the one whose embedding is told", min(shares) > 0.1, f"shares by frame: {shares}")
    yield holds("a stretch may begin anywhere", len(starts) > 8, f"it began in {len(starts)} places only")
    yield near(f"share of embeddings dropped, of {rows} rows", dropped / rows, 0.1, within=0.07)
    one = [a_batch(f, type(draw)(7), 5) for _ in range(2)]
    same = all(torch.equal(a, b) for a, b in zip(one[0][2], one[1][2]))
    yield holds("the same seed gives the same batch", same, "two equal generators, two results")


BATCH = "a batch is drawn, no input has one"


@key_frame_batch.promises(
    samples=BATCH, dtype=BATCH, layout=BATCH, device=BATCH, gradients=BATCH, generator=BATCH, noise=BATCH
)
def ordinary(f, draw):
    return f, dict(clip=Seer(), quiet=QuietClips(Tape(), 3, draw.generator()), generator=draw.generator(), n=2)


CHOSEN, DROP = (
    "picks(frames, n, generator)",
    "drop_embedding(told(embeddings, skip), embeddings.shape[1], DROPPED, generator)",
)
key_frame_batch.edit(
    "always the first frame",
    {CHOSEN: "torch.zeros(n, dtype=torch.long, device=clips.device)"},
    "It is always the embedding of the first frame. The prior will give that of some moment: take a random frame.",
)
key_frame_batch.edit(
    "the same frame in all clips",
    {CHOSEN: "picks(frames, 1, generator).expand(n)"},
    "One number is drawn for the whole batch. Each clip has a chosen frame of its own: draw n of them.",
)
key_frame_batch.edit(
    "the frame rate dropped, too",
    {DROP: "drop_embedding(told(embeddings, skip), embeddings.shape[1] + 1, DROPPED, generator)"},
    "Where the embedding is dropped, the skip is gone, too. It is never dropped: E is the size of the embedding alone.",
)
key_frame_batch.edit(
    "nothing dropped",
    {DROP: "told(embeddings, skip)"},
    "No embedding is ever dropped. Guidance needs a network that knows how to do without: one in ten is taken away.",
)
key_frame_batch.edit(
    "the embedding of another clip",
    {DROP: "drop_embedding(told(embeddings.roll(1, 0), skip), embeddings.shape[1], DROPPED, generator)"},
    "The embeddings belong to other clips of the batch. What is told must fit what is shown.",
)
key_frame_batch.edit(
    "CLIP sees the small frames",
    {"clip.embed_images(clips[rows, :, chosen])": "clip.embed_images(shrink(clips, 2)[rows, :, chosen])"},
    "CLIP is shown pictures of the decoder's size. It was trained on twice as many pixels in a row: embed the frame "
    "before you shrink it to half.",
)
key_frame_batch.edit(
    "one skip for all",
    {"one_of(KEY_FRAME_SKIPS, n, generator)": "torch.ones(n, dtype=torch.long, device=generator.device)"},
    "The skip is always 1, so the network never learns what another frame rate looks like.",
)
key_frame_batch.edit(
    "the skip not used",
    {"generator, n, frames, skip)": "generator, n, frames, torch.ones_like(skip))"},
    "What is told is the skip, but the stretch is taken at skip 1: the network learns that the number means nothing.",
)
key_frame_batch.edit(
    "the mean of all frames' embeddings",
    {
        "clip.embed_images(clips[rows, :, chosen])": (
            "clip.embed_images(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (n, frames)).mean(dim=1)"
        )
    },
    "It is the mean of the embeddings of all frames. The prior gives the embedding of one picture: take one frame.",
)
