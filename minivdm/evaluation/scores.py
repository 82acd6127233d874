r"""Numbers for generated clips that need no drawn ones beside them: functions of probabilities and embeddings.

Each takes what a network found, never the network. Cosines are on the scale of 1; some papers report 100 times as much.
"""

import torch
from torch import Tensor


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    r"""Are samples clear, each by itself, and varied, all together? (Salimans et al., NeurIPS 2016)

    A classifier has told what it sees in each sample. The score lies between 1 and the number of
    classes K: 1 if it says the same about all samples, K if it is sure about each, and finds all
    classes equally often.

    Equation:
        score = exp( mean_n KL( p(y | x_n) || p(y) ) ),    p(y) = mean_n p(y | x_n)
        KL(p || q) = sum_y p_y ln( p_y / q_y ),            0 ln 0 = 0

    The samples are cut into `splits` parts, in the order in which they come. All samples are used,
    and no part is larger than another by more than one. Each has a p(y) and a score of its own.

    Args:
        probabilities: (N, K), each row adds up to 1.
        splits: number of parts, 1 to N; 10 in the paper.

    Returns:
        (mean, std) over the parts, floats; the standard deviation with ddof = 0, as in the paper's
        code.

    Raises:
        ValueError: if the rows are no probabilities, such as logits, or there are more parts than
            samples.
    """
    p = checked_probabilities(probabilities)
    if not 1 <= splits <= len(p):
        raise ValueError(f"expected 1 to {len(p)} splits for {len(p)} samples, got {splits}")
    edges, scores = [len(p) * i // splits for i in range(splits + 1)], []
    for begin, end in zip(edges, edges[1:]):
        part = p[begin:end]
        marginal = part.mean(dim=0, keepdim=True)  # (1, K)
        kl = torch.xlogy(part, part) - torch.xlogy(part, marginal)  # 0 where part is 0
        scores.append(kl.sum(dim=1).mean().exp())
    scores = torch.stack(scores)
    return scores.mean().item(), scores.std(correction=0).item()


def clipsim(frames: Tensor, texts: Tensor) -> float:
    r"""Does each frame show what the prompt says? Mean cosine of frames and prompts.

    Wu et al., "GODIVA", 2021.

        CLIPSIM = mean_{b, f} cos( frame_bf, text_b )

    Args:
        frames: (B, F, D) embeddings of the frames of B clips.
        texts: (B, D) embeddings of their prompts, from the same CLIP.

    Returns:
        A float in -1..1.

    Raises:
        ValueError: if the shapes do not fit, or an embedding is not finite or 0, which has no
            direction.
    """
    if frames.ndim != 3 or texts.shape != (len(frames), frames.shape[2]) or not frames.numel():
        came = f"{tuple(frames.shape)} and {tuple(texts.shape)}"
        wanted = "embeddings of frames (B, F, D) and of prompts (B, D)"
        raise ValueError(f"expected {wanted}, got {came}")
    return (unit(frames) * unit(texts)[:, None]).sum(dim=2).mean().item()


def frame_consistency(frames: Tensor) -> float:
    r"""How like is each frame to the next? Mean cosine of the embeddings of adjacent frames.

    Esser et al., "Structure and Content-Guided Video Synthesis", ICCV 2023. (Wu et al.,
    "Tune-A-Video", ICCV 2023, take all pairs of frames.)

        consistency = mean_{b, f} cos( frame_bf, frame_b(f+1) )

    Args:
        frames: (B, F, D) embeddings of the frames of B clips, F >= 2.

    Returns:
        A float in -1..1; 1 for a frozen clip.

    Raises:
        ValueError: if there are fewer than two frames, or an embedding is not finite or 0.
    """
    if frames.ndim != 3 or frames.shape[1] < 2 or not frames.numel():
        came = tuple(frames.shape)
        raise ValueError(f"expected embeddings (B, F, D) of at least 2 frames, got {came}")
    frames = unit(frames)
    return (frames[:, :-1] * frames[:, 1:]).sum(dim=2).mean().item()


def unit(x: Tensor) -> Tensor:
    """Vectors (..., D) at length 1 in float64, or a ValueError."""
    if x.is_complex() or not x.isfinite().all():
        raise ValueError("embeddings must be finite real numbers, got NaN, infinity or complex numbers")
    x = x.double()
    largest = x.abs().amax(dim=-1, keepdim=True)
    if (largest == 0).any():
        raise ValueError("an embedding is 0, which has no direction: cosines need vectors with a length")
    x = x / largest  # so that no square overflows
    return x / x.norm(dim=-1, keepdim=True)


def checked_probabilities(p: Tensor) -> Tensor:
    """As float64, or a ValueError that says what is wrong."""
    if p.ndim != 2 or not p.numel():
        raise ValueError(f"expected probabilities (N, K), got shape {tuple(p.shape)}")
    if p.is_complex() or not p.isfinite().all():
        raise ValueError("probabilities must be finite real numbers, got NaN, infinity or complex numbers")
    sums = p.double().sum(dim=1)
    if (p < 0).any() or (sums - 1).abs().max() > 1e-3:
        came = f"values from {p.min():.3g} on, and rows that add up to {sums.min():.4g}..{sums.max():.4g}"
        raise ValueError(f"expected rows of probabilities that add up to 1, got {came}: softmax first?")
    return p.double()
