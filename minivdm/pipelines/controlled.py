"""Pictures and clips that follow a hint: a text-to-image or text-to-video model with ControlNets beside it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..diffusion.predictions import EpsModel
from ..models.controlnet import ControlledUNet, ControlNet
from ..models.unet import Conditioned
from .text2image import sample_tokens

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
    cuda_graph: bool = False,
) -> Tensor:
    """Sample one picture or clip per prompt and hint.

    Args:
        tokens: (B, L) long, as the tokenizer of the model gives them.
        model, controls, strengths: as for `with_hints`.
        hints: for each ControlNet (B, c, H, W) or, for clips, (B, c, F, H, W), in [0, 1].
        steps, guidance_scale, generator, callback: as for `text_to_image`.
        batch_size: so many samples go through the model together; their noise is drawn part by part.
        cuda_graph: as for `text_to_video`; what is recorded serves one part.

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
            sample_tokens(
                tokens[part], shape, hinted, steps, guidance_scale, generator, callback, batch_size, cuda_graph
            )
        )
    return torch.cat(samples)
