r"""Do generated clips do what their prompts say? `python -m minivdm evaluate`.

*Prompt accuracy* is the share of clips in which a judge, trained on drawn clips alone, finds the shape, the colour and
the motion that the prompt asked for. The *mini-FVD* (after Unterthiner et al., 2018, with that judge's features) is the
Frechet distance between generated clips and drawn ones of the same prompts. It depends on the number of clips, so it
stands beside its floor: the distance between two sets of drawn clips, each as large.
"""

import time
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..datasets.sprites import ATTRIBUTES, MovingSprites, all_triples
from ..evaluation.attribute_classifier import AttributeClassifier, accuracy_table
from ..evaluation.metrics import frechet_distance
from ..pipelines.pretrained import load_pretrained
from ..pipelines.text2video import VideoModel, text_to_video
from ..training.precision import best_device
from ..training.seeds import mixed_seed
from .sample import check_sampling, find_model

CPU_TRIPLES = 96  # triples that are enough on a CPU


def evaluate_text2video(
    checkpoint: str | Path | None = None,
    copies: int | None = None,
    steps: int = 20,
    guidance_scale: float = 2.0,
    seed: int = 0,
) -> dict[str, object]:
    """Sample clips for the prompts of all triples, judge them, and print a table.

    Args:
        checkpoint: a `model.pt`; see `find_model` for the default.
        copies: clips for each triple of (shape, colour, motion), with random wordings; default 2 on CUDA, and one
            clip for each of `CPU_TRIPLES` triples on the CPU.
        steps, guidance_scale: as for `text_to_video`.
        seed: of noise, wordings and drawn clips.

    Returns:
        A dict with everything that was measured.

    Raises:
        ValueError, OSError: as for `find_model`, and if a number makes no sense.
    """
    check_sampling(steps, guidance_scale, seed)
    if copies is not None and not 1 <= copies <= 1000:
        raise ValueError(f"copies must lie in 1..1000, got {copies}")
    model, source = find_model(checkpoint)
    device = best_device()
    generator = torch.Generator(device).manual_seed(seed)
    print(f"model: {source} ({model.frames} frames of {model.size} x {model.size} pixels)", flush=True)

    triples, classifier = triples_to_judge(copies, device), load_pretrained("video_classifier").to(device)
    print(f"{len(triples)} clips, {steps} steps, guidance {guidance_scale:g}, on {device.type}", flush=True)
    start = time.perf_counter()
    measured = evaluate_clips(
        model.to(device), classifier, triples, generator, steps=steps, guidance_scale=guidance_scale
    )
    facts = {
        "model": source,
        "frames": model.frames,
        "size": model.size,
        "steps": steps,
        "seed": seed,
        "guidance_scale": guidance_scale,
        **measured,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(table(facts))
    return facts


def triples_to_judge(copies: int | None, device: torch.device) -> Tensor:
    """The (N, 3) long triples to sample: all of them so many times, or by default as many as the device can bear."""
    triples = all_triples()
    if copies is None and device.type != "cuda":
        return triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))[:CPU_TRIPLES]]
    return triples.repeat(copies or 2, 1)


def evaluate_clips(
    model: VideoModel,
    classifier: AttributeClassifier,
    triples: Tensor,
    generator: torch.Generator,
    batch: int = 32,
    **sampling: float,
) -> dict[str, object]:
    """Sample one clip per triple, with a random wording, and measure them.

    Args:
        model: estimates eps, as from `build_text2video`; clips of its `frames` and `size` are sampled.
        classifier: the `AttributeClassifier` from `load_pretrained("video_classifier")`, on the generator's device.
        triples: (N, 3) long.
        generator: `torch.Generator` on the model's device.
        batch: clips per call of the model.
        sampling: steps and guidance_scale for `text_to_video`.

    Returns:
        A dict: "clips", their number N; "prompt_accuracy", shares in 0..1 of clips that are right in all three
        attributes (overall; of triples seen in training; of held-out ones) and in each one; "classifier_accuracy", its
        own share of right answers on 2 N drawn clips, for each attribute; "mini_fvd" between the N clips and N drawn
        ones; "mini_fvd_floor" between these and N others.
    """
    sprites = MovingSprites(model.frames, model.size)
    wording = mixed_seed(generator.initial_seed(), "wording")
    prompts = sprites.captions(triples, torch.Generator().manual_seed(wording))
    made = []
    with tqdm(total=len(prompts), disable=None, unit="clip", leave=False) as bar:
        for i in range(0, len(prompts), batch):
            clips = text_to_video(prompts[i : i + batch], model, generator=generator, cuda_graph=True, **sampling)
            made.append(features_and_hits(classifier, clips, triples[i : i + batch]))
            bar.update(len(clips))
    drawn, others = (
        [features_and_hits(classifier, sprites.draw(part, generator), part) for part in triples.split(batch)]
        for _ in range(2)
    )
    (generated, right), (real, known), (again, known_too) = (
        [torch.cat(parts) for parts in zip(*each)] for each in (made, drawn, others)
    )
    trust = torch.cat([known, known_too]).float().mean(dim=0).tolist()
    return {
        "clips": len(triples),
        "prompt_accuracy": accuracy_table(right, triples),
        "classifier_accuracy": {kind: round(share, 4) for kind, share in zip(ATTRIBUTES, trust)},
        "mini_fvd": round(frechet_distance(generated, real), 2),
        "mini_fvd_floor": round(frechet_distance(again, real), 2),
    }


@torch.no_grad()
def features_and_hits(
    classifier: AttributeClassifier, clips: Tensor, triples: Tensor, batch: int = 32
) -> tuple[Tensor, Tensor]:
    """The classifier's features of clips, (N, D), and which attributes are as in `triples`, (N, 3) bool; on the CPU."""
    features = torch.cat([classifier.features(resize_for_classifier(part)) for part in clips.split(batch)])
    guesses = torch.stack([head(features).argmax(dim=1) for head in classifier.heads.values()], dim=1)  # (N, 3)
    return features.cpu(), guesses.cpu() == triples


def resize_for_classifier(clips: Tensor, frames: int = 16, size: int = 32) -> Tensor:
    """Clips (B, 3, F, H, W) as those that the course's judge was trained on, (B, 3, frames, size, size).

    Smaller ones are enlarged, and their frames repeated. How well it judges these shows on drawn clips.
    """
    if clips.shape[2:] == (frames, size, size):
        return clips
    flat = rearrange(clips, "b c f h w -> (b f) c h w")
    flat = F.interpolate(flat, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
    return F.interpolate(rearrange(flat, "(b f) c h w -> b c f h w", b=len(clips)), (frames, size, size))


def percentages(shares: dict[str, float]) -> str:
    """A dict of shares as text."""
    return ", ".join(f"{name} {100 * share:.1f}%" for name, share in shares.items())


def table(facts: dict[str, object]) -> str:
    """The results as lines of text."""
    accuracy, n, floor = facts["prompt_accuracy"], facts["clips"], facts["mini_fvd_floor"]
    return "\n".join(
        [
            f"prompt accuracy: {percentages({k: v for k, v in accuracy.items() if k not in ATTRIBUTES})}",
            f"by attribute:    {percentages({k: v for k, v in accuracy.items() if k in ATTRIBUTES})}",
            f"the judge:       right on {2 * n} drawn clips: {percentages(facts['classifier_accuracy'])}",
            f"mini-FVD:        {facts['mini_fvd']:.1f} for N = {n} clips; {floor:.1f} among drawn ones",
            f"in {facts['seconds']:.0f} s",
        ]
    )
