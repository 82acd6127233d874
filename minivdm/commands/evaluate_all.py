r"""Every text-to-video model of the course under every metric: `python -m minivdm evaluate --all`.

All are asked for the same prompts, and judged like chapter 13 does: whole clips by the features of chapter 09's judge
(mini-FVD, mini-KVD, video IS), single frames by what it makes of them before its layers along time (mini-FID), frames
and words by a small CLIP (CLIPSIM, frame consistency), pixels by grain and flicker. The first row is drawn clips:
nothing can be told from them that is better. PSNR and SSIM need the right answer, so they stand in a table of their
own: of the stages that are given something of a real clip and make the rest.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..datasets.captions import Tokenizer
from ..datasets.degradation import enlarge, linear_frames, shrink
from ..datasets.sprites import ATTRIBUTES, MovingSprites, all_triples
from ..evaluation.attribute_classifier import AttributeClassifier
from ..evaluation.metrics import frechet_distance, polynomial_mmd, psnr
from ..evaluation.picture_metrics import ssim
from ..evaluation.scores import clipsim, frame_consistency, inception_score
from ..evaluation.texture import flicker, grain
from ..files import shipped
from ..models.clip import CLIP
from ..pipelines.cascade_files import load_cascade
from ..pipelines.interpolation import interpolate_frames
from ..pipelines.pretrained import load_pretrained
from ..pipelines.super_resolution import FACTOR, upscale
from ..pipelines.text2video import text_to_video
from ..training.precision import best_device
from ..training.seeds import mixed_seed
from .evaluate import resize_for_classifier

Maker = Callable[[list[str], torch.Generator], Tensor]  # prompts and a generator -> clips (B, 3, F, H, W) in [-1, 1]
CLIPS = {"cuda": 384, "cpu": 32}  # for each draw
DRAWS = {"cuda": 3, "cpu": 1}  # with other noise, wordings and drawn clips
COLUMNS = {  # name: digits behind the point, and whether more (1), less (-1) or neither is better
    "prompt accuracy, %": (1, 1),
    "shape, %": (1, 1),
    "colour, %": (1, 1),
    "motion, %": (1, 1),
    "mini-FID": (1, -1),
    "mini-FVD": (0, -1),
    "mini-KVD": (0, -1),
    "video IS": (2, 1),
    "CLIPSIM": (3, 1),
    "frame consistency": (3, 1),
    "grain": (3, -1),
    "flicker": (3, -1),
    "seconds a clip": (3, -1),
}
ARROWS = {1: " ↑", 0: "", -1: " ↓"}


def text2video(guidance_scale: float, device: torch.device) -> Maker:
    """Chapter 10's model, at a guidance scale."""
    model = load_pretrained("text2video").to(device)
    how = dict(steps=20, guidance_scale=guidance_scale, cuda_graph=True)
    return lambda prompts, generator: text_to_video(prompts, model, generator=generator, **how)


def cascade(device: torch.device) -> Maker:
    """Chapter 11's cascade."""
    whole = load_cascade(shipped("data") / "cascade").to(device)
    return lambda prompts, generator: whole(prompts, generator=generator)


MODELS: dict[str, Callable[[torch.device], Maker]] = {
    "text2video, guidance 1": lambda device: text2video(1.0, device),
    "text2video, guidance 2": lambda device: text2video(2.0, device),
    "text2video, guidance 8": lambda device: text2video(8.0, device),
    "cascade": cascade,
}


def evaluate_all(clips: int | None = None, seed: int = 0) -> dict[str, object]:
    """Measure all models, and print two tables in Markdown.

    Args:
        clips: for each of several draws, at least 2; default 384 (one for each triple) on CUDA, 32 on the CPU.
        seed: of everything that is drawn.

    Returns:
        A dict: "clips" and "draws"; "models", for each a dict from a name in `COLUMNS` to its mean over the draws and
        the standard error (None if there is one draw); "stages", from each stage, and from what needs no network, to
        PSNR in dB and SSIM; "markdown", the tables as text.

    Raises:
        ValueError: if a number makes no sense.
    """
    device = best_device()
    kind = "cuda" if device.type == "cuda" else "cpu"
    n, draws = CLIPS[kind] if clips is None else clips, DRAWS[kind]
    if not 2 <= n <= 10_000:
        raise ValueError(f"clips must lie in 2..10000, got {n}")
    judge, clip = (load_pretrained(name).to(device) for name in ("video_classifier", "clip"))
    triples = all_triples()
    order = torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))
    asked = triples[order.repeat(-(-n // len(triples)))[:n]]  # (N, 3)

    makers = {"drawn": None} | {name: build(device) for name, build in MODELS.items()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    for draw in range(draws):
        reference = looked_at(drawn(asked, mixed_seed(seed, "reference", draw), device), asked, judge, clip)
        for name, make in makers.items():
            own = mixed_seed(seed, "made", draw)
            start = time.perf_counter()
            made = drawn(asked, own, device) if make is None else sampled(make, asked, own, device)
            if kind == "cuda":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - start) / n
            facts = compared(looked_at(made, asked, judge, clip), reference)
            rows[name].append(facts | {"seconds a clip": seconds})
            print(f"{name}: draw {draw + 1} of {draws}, {n} clips", file=sys.stderr, flush=True)
    models = {name: mean_and_error(each) for name, each in rows.items()}
    stages = stages_compared(min(n, 64), mixed_seed(seed, "stages"), device)
    markdown = as_markdown(models, stages, n, draws)
    print(markdown)
    return {"clips": n, "draws": draws, "models": models, "stages": stages, "markdown": markdown}


def drawn(triples: Tensor, seed: int, device: torch.device) -> Tensor:
    """Clips as they are drawn, (N, 3, 16, 32, 32)."""
    return MovingSprites().draw(triples.to(device), torch.Generator(device).manual_seed(seed))


def sampled(make: Maker, triples: Tensor, seed: int, device: torch.device, batch: int = 32) -> Tensor:
    """One clip for each triple, in a random wording."""
    generator, wording = torch.Generator(device).manual_seed(seed), torch.Generator().manual_seed(seed)
    prompts = MovingSprites().captions(triples, wording)
    parts = range(0, len(prompts), batch)
    return torch.cat([make(prompts[i : i + batch], generator).clamp(-1, 1) for i in parts])


@torch.no_grad()
def looked_at(clips: Tensor, triples: Tensor, judge: AttributeClassifier, clip: CLIP) -> dict[str, Tensor | float]:
    """What the metrics need to know of clips (N, 3, F, H, W): features, answers and embeddings, on the CPU."""
    seen: dict[str, list[Tensor]] = {name: [] for name in ("frames", "clips", "said", "right", "embedded")}
    for part, asked in zip(clips.split(64), triples.split(64)):
        part = resize_for_classifier(part)
        frames = part.transpose(1, 2).flatten(0, 1)  # (B F, 3, 32, 32)
        features = judge.features(part)
        answers = [head(features) for head in judge.heads.values()]
        right = torch.stack([answer.argmax(1).cpu() for answer in answers], dim=1) == asked  # (B, 3)
        looks = judge.frame(frames), features, answers[2].softmax(1), right
        for name, value in zip(seen, (*looks, clip.embed_images(frames).unflatten(0, (len(part), -1)))):
            seen[name].append(value.float().cpu() if value.dtype != torch.bool else value)
    tokens = Tokenizer().encode(MovingSprites().captions(triples)).to(clip.log_scale.device)
    whole = {"texts": clip.embed_texts(tokens).cpu(), "grain": grain(clips), "flicker": flicker(clips)}
    return {name: torch.cat(parts) for name, parts in seen.items()} | whole


def compared(made: dict[str, object], real: dict[str, object]) -> dict[str, float]:
    """All metrics of clips beside drawn ones; both as from `looked_at`."""
    right = made["right"].float()
    return {
        "prompt accuracy, %": 100 * right.amin(dim=1).mean().item(),
        **{f"{kind}, %": 100 * right[:, i].mean().item() for i, kind in enumerate(ATTRIBUTES)},
        "mini-FID": frechet_distance(made["frames"], real["frames"]),
        "mini-FVD": frechet_distance(made["clips"], real["clips"]),
        "mini-KVD": polynomial_mmd(made["clips"], real["clips"]),
        "video IS": inception_score(made["said"], 1)[0],
        "CLIPSIM": clipsim(made["embedded"], made["texts"]),
        "frame consistency": frame_consistency(made["embedded"]),
        "grain": made["grain"],
        "flicker": made["flicker"],
    }


def mean_and_error(draws: list[dict[str, float]]) -> dict[str, tuple[float, float | None]]:
    """For each metric its mean over the draws, and the standard error of it, if there are several."""
    several = {name: [each[name] for each in draws] for name in draws[0]}
    return {
        name: (statistics.fmean(v), statistics.stdev(v) / len(v) ** 0.5 if len(v) > 1 else None)
        for name, v in several.items()
    }


@torch.no_grad()
def stages_compared(n: int, seed: int, device: torch.device) -> dict[str, dict[str, float]]:
    """PSNR in dB and SSIM of what is filled in or enlarged, on n real clips, by the cascade and without a network."""
    whole, generator = load_cascade(shipped("data") / "cascade").to(device), torch.Generator(device).manual_seed(seed)
    real = MovingSprites(whole.frames, whole.size).sample(n, generator)[0]
    skip, facts = 2, {}
    truth = shrink(real, whole.size // whole.interpolation.size)
    known, hidden = truth[:, :, ::skip], torch.arange(truth.shape[2]) % skip != 0
    filled = {
        "frames in between: weighted means": linear_frames(known, skip, truth.shape[2]),
        "frames in between: the cascade's": interpolate_frames(whole.interpolation, known, skip, 8, generator),
    }
    for name, made in filled.items():
        facts[name] = likeness(made[:, :, hidden], truth[:, :, hidden])
    for model in (whole.spatiotemporal, whole.spatial):
        truth = shrink(real, whole.size // model.size)
        low, sizes = shrink(truth, FACTOR), f"{model.size // FACTOR} to {model.size} pixels"
        facts[f"{sizes}: bicubic"] = likeness(enlarge(low, FACTOR), truth)
        facts[f"{sizes}: the cascade's"] = likeness(upscale(model, low, 0, 4, generator), truth)
    return facts


def likeness(made: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR over all pixels, and the mean SSIM of the frames, of clips in [-1, 1]."""
    x, y = (((clips.clamp(-1, 1) + 1) / 2).transpose(1, 2).flatten(0, 1) for clips in (made, truth))
    return {"PSNR, dB": psnr(x, y), "SSIM": ssim(x, y)}


def as_markdown(models: dict, stages: dict, n: int, draws: int) -> str:
    """Both tables; the models are columns, since there are more metrics than models."""
    spread = f", mean ± standard error of {draws} draws" if draws > 1 else ""
    lines = [f"{n} clips{spread}:", "", f"| metric | {' | '.join(models)} |", "|---" * (1 + len(models)) + "|"]
    for name, (digits, better) in COLUMNS.items():
        cells = [shown(*models[model][name], digits) for model in models]
        lines.append(f"| {name}{ARROWS[better]} | {' | '.join(cells)} |")
    lines += ["", "| given a part of real clips | PSNR, dB ↑ | SSIM ↑ |", "|---|---|---|"]
    lines += [f"| {name} | {facts['PSNR, dB']:.1f} | {facts['SSIM']:.4f} |" for name, facts in stages.items()]
    return "\n".join(lines)


def shown(mean: float, error: float | None, digits: int) -> str:
    """A mean and its error as text."""
    return f"{mean:.{digits}f}" if error is None else f"{mean:.{digits}f} ± {error:.{digits}f}"
