"""Pictures and clips that follow a hint: sampling with ControlNets, training one, and its file.

A file holds the ControlNet alone. It says for which base it was trained, by a hash of the base's weights, and for which
kind of hint: beside another base its numbers mean nothing, and nobody would be told.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.hints import HINTS
from ..diffusion.forward_process import q_sample
from ..diffusion.guidance import drop_condition
from ..diffusion.predictions import EpsModel, to_v
from ..models.controlnet import ControlledUNet, ControlNet, control_for
from ..models.unet import Conditioned
from ..training.torch_files import load_torch, save_torch
from .pretrained import require_finite
from .text2image import sample_tokens
from .text2video import VideoModel

MAX_STRENGTH = 2.0


class WithHints(nn.Module):
    """A `ControlledUNet` that was told its hints: `forward(x, t, cond)`, as samplers call it.

    Args:
        net: a `ControlledUNet`.
        hints: one (B, c, ...) tensor for each ControlNet. A call with k B samples, such as that of guidance, which
            doubles the batch, gets them k times.
        strengths: one number for each ControlNet.
    """

    def __init__(self, net: ControlledUNet, hints: Sequence[Tensor], strengths: Sequence[float]):
        super().__init__()
        self.net, self.hints, self.strengths = net, list(hints), list(strengths)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        hints = [hint.repeat(len(x) // len(hint), *[1] * (hint.ndim - 1)) for hint in self.hints]
        return self.net(x, t, cond, hints, self.strengths)


def with_hints(
    model: EpsModel, controls: Sequence[ControlNet], hints: Sequence[Tensor], strengths: Sequence[float] | None = None
) -> EpsModel:
    """A text-to-image or text-to-video model that follows hints; the given one's U-Net is locked, and stays as it is.

    Args:
        model: as from `build_text2image` or `build_text2video`.
        controls: `ControlNet`s made for its U-Net, on its device.
        hints: for each of them (B, c, ...) in [0, 1], for B prompts.
        strengths: for each of them a number from 0 to `MAX_STRENGTH`; default: 1.

    Raises:
        ValueError: if a strength is another number, or there are not as many of each.
    """
    strengths = [1.0] * len(controls) if strengths is None else list(strengths)
    if not all(0 <= strength <= MAX_STRENGTH for strength in strengths):
        raise ValueError(f"strengths must lie in 0..{MAX_STRENGTH:g}, got {', '.join(f'{s:g}' for s in strengths)}")
    if not len(controls) == len(hints) == len(strengths):
        came = f"{len(controls)} ControlNets, {len(hints)} hints and {len(strengths)} strengths"
        raise ValueError(f"expected a hint and a strength for each ControlNet, got {came}")
    device = next(model.parameters()).device
    net = WithHints(ControlledUNet(model.net.net, *controls), [hint.to(device) for hint in hints], strengths)
    conditioned = Conditioned(net, model.net.encoder, model.net.length)
    return model.around(conditioned).to(device).eval()


def sample_with_hints(
    tokens: Tensor,
    model: EpsModel,
    controls: Sequence[ControlNet],
    hints: Sequence[Tensor],
    strengths: Sequence[float] | None = None,
    steps: int = 20,
    guidance_scale: float = 3.0,
    generator: torch.Generator | None = None,
    callback: Callable | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Sample one picture or clip per prompt and hint.

    Args:
        tokens: (B, L) long, as the tokenizer of the model gives them.
        model, controls, strengths: as for `with_hints`.
        hints: for each ControlNet (B, c, H, W) or, for clips, (B, c, F, H, W), in [0, 1].
        steps, guidance_scale, generator, callback: as for `text_to_image`.
        batch_size: so many samples go through the model together; their noise is drawn part by part.

    Returns:
        (B, 3, H, W) or (B, 3, F, H, W) float32 in [-1, 1] on the model's device.

    Raises:
        ValueError: if there is no hint for each prompt, or as for `with_hints` and `text_to_image`.
    """
    if not hints or any(len(hint) != len(tokens) for hint in hints):
        raise ValueError(f"expected a hint for each of {len(tokens)} prompts, got {[len(hint) for hint in hints]}")
    samples = []
    for i in range(0, len(tokens), batch_size):
        part = slice(i, i + batch_size)
        hinted = with_hints(model, controls, [hint[part] for hint in hints], strengths)
        shape = (3, *hints[0].shape[2:])
        samples.append(
            sample_tokens(tokens[part], shape, hinted, steps, guidance_scale, generator, callback, batch_size)
        )
    return torch.cat(samples)


def train_control(
    model: EpsModel,
    control: ControlNet,
    draw: Callable,
    steps: int,
    lr: float = 1e-3,
    drop: float = 0.5,
    lowest: int = 1,
    warm_up: int = 20,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[int, Tensor]]:
    """Train a ControlNet beside a locked model; a generator, so the caller looks on and may stop at any step.

    Zhang et al., ICCV 2023, section 3.3: the base's own loss, on data with their hints. Half of the prompts are taken
    away, so that the hint must be read for what it shows.

    Args:
        model: as from `build_text2image` or `build_text2video`; it stays as it is, and asks for no gradient any more.
        control: a `ControlNet` made for its U-Net, on its device.
        draw: `draw(generator)` returns clean data (B, 3, ...), hints (B, c, ...) and tokens (B, L).
        steps: number of optimiser steps.
        lr: learning rate of Adam; it grows for `warm_up` steps, then falls to 0 along a straight line. (No weight
            decays: those of the copy are good as they are.)
        drop: share of the prompts that are taken away.
        lowest: levels below it are left out. Where it is hardly noisy, x_t shows more than any hint.
        warm_up: steps in which the learning rate grows.
        generator: of data, levels and noise, on the model's device.
        dtype: autocast type on CUDA.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the lowest level is none of the schedule's.
        FloatingPointError: at the last step, if the loss is not finite.
    """
    if not 1 <= lowest <= model.schedule.T:
        raise ValueError(f"the lowest level must lie in 1..{model.schedule.T}, got {lowest}")
    model.requires_grad_(False).eval()
    net = ControlledUNet(model.net.net, control)
    device = next(control.parameters()).device
    schedule = model.schedule.to(device)
    optimizer = torch.optim.Adam(
        [p for p in control.parameters() if p.requires_grad], lr=lr, fused=device.type == "cuda"
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1 - step / (steps + 1)))
    for step in range(1, steps + 1):
        x0, hint, tokens = draw(generator)
        context = model.net.encoder(drop_condition(tokens, drop, generator))  # (B, L, D)
        like = dict(generator=generator, device=device)
        t = torch.randint(lowest, schedule.T + 1, x0.shape[:1], **like)  # (B,)
        eps = torch.randn(x0.shape, **like)  # like x0
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            guess = net(q_sample(x0, t, eps, schedule), t, context, [hint])
        targets = {"eps": eps, "x0": x0, "v": to_v(x0, t, eps, schedule)}
        loss = (guess.float() - targets[model.prediction_type]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(control.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step == steps and not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: try a smaller lr than {lr}")
        yield step, loss.detach()


def hash_of_weights(net: nn.Module) -> str:
    """The SHA-256 of a network's weights as float16, as files hold them: the same for a model and its file."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_control(path: str | Path, control: ControlNet, model: EpsModel, hint: str) -> None:
    """Write a ControlNet in float16, with what it was trained for, whole or not at all.

    Args:
        path: the file.
        control: the `ControlNet`.
        model: the model that it was trained beside.
        hint: the kind of hint, a name in `HINTS`.

    Raises:
        ValueError: if there is no such kind of hint; `NotFinite` if a weight is not finite in float16.
    """
    require_kind(hint)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in control.state_dict().items()}
    require_finite(weights, f"{path} was not written: in float16 the ControlNet has")
    facts = dict(hint=hint, channels=control.hint_channels, base=hash_of_weights(model.net.net))
    save_torch(path, {"kind": "controlnet", "model": name_of(model), **facts, "weights": weights})


def name_of(model: EpsModel) -> str:
    """Which of the course's models this is: "text2video" or "text2image"."""
    return "text2video" if isinstance(model, VideoModel) else "text2image"


def read_control(path: str | Path) -> dict[str, object]:
    """What `save_control` wrote; a ValueError if it is broken or something else."""
    saved = load_torch(path)
    if not isinstance(saved, dict) or saved.get("kind") != "controlnet":
        raise ValueError(f"{path} holds no ControlNet")
    missing = {"model", "hint", "channels", "base", "weights"} - set(saved)
    if missing or not all(isinstance(value, Tensor) for value in saved["weights"].values()):
        raise ValueError(f"{path} is no whole ControlNet: {', '.join(sorted(missing)) or 'a weight'} is missing")
    return saved


def made_for(path: str | Path) -> str:
    """Which model the ControlNet of a file steers: "text2image" or "text2video"."""
    return read_control(path)["model"]


def load_control(path: str | Path, model: EpsModel) -> tuple[ControlNet, str]:
    """A ControlNet from a file of `save_control`, on the model's device, and its kind of hint.

    Args:
        path: the file.
        model: the model that it is to steer.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is broken, holds something else, or was made for another base or other shapes; `NotFinite` if
            a weight is not finite.
    """
    saved, base = read_control(path), model.net.net
    found = hash_of_weights(base)
    if saved["base"] != found:
        its = f"{saved['model']}, {str(saved['base'])[:12]}..."
        raise ValueError(f"{path} was trained beside another model ({its}) than this one ({found[:12]}...)")
    require_kind(saved["hint"])
    control = control_for(base, saved["channels"])
    expected = {name: tuple(value.shape) for name, value in control.state_dict().items()}
    came = {name: tuple(value.shape) for name, value in saved["weights"].items()}
    other = [name for name in {**expected, **came} if expected.get(name) != came.get(name)]
    if other:
        shapes = f"{other[0]} is {came.get(other[0], 'missing')}, not {expected.get(other[0], 'known')}"
        raise ValueError(f"{path} holds a ControlNet of other shapes: {shapes}")
    require_finite(saved["weights"], f"{path} holds")
    control.load_state_dict({name: value.float() for name, value in saved["weights"].items()})
    return control.requires_grad_(False).eval(), saved["hint"]


def require_kind(hint: object) -> None:
    """Raise a ValueError unless this is a name in `HINTS`."""
    if hint not in HINTS:
        raise ValueError(f"the kind of hint must be one of {', '.join(HINTS)}; got {hint!r}")
