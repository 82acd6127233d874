r"""Features of the networks that papers use, from a TorchScript file of your own.

FID is defined by the 2,048 features of one Inception network, FVD by the 400 logits of one I3D network trained on
Kinetics-400. Neither comes with this course. Whoever has such a file, as StyleGAN3 (`inception-2015-12-05.pt`) and
StyleGAN-V (`i3d_torchscript.pt`) provide them, names its path:

    features = TorchScriptFeatures("i3d_torchscript.pt", "i3d")
    frechet_distance(features(drawn), features(made))

A TorchScript file is a program. Load only files that you trust.
"""

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .metrics import OVERSHOOT, require_pictures

# What each network expects: pixels per side, the values that -1 and 1 become, and how those files are called.
KINDS = {
    "inception": dict(size=299, low=0.0, high=255.0, frames=1, options={"return_features": True}),
    "i3d": dict(
        size=224,
        low=-1.0,
        high=1.0,
        frames=10,  # fewer do not survive its strides
        options={"rescale": False, "resize": False, "return_features": True},
    ),
}


class TorchScriptFeatures:
    """A network from a file, and what its input has to look like.

    Args:
        path: a TorchScript file.
        kind: "inception", for pictures (B, 3, H, W) or the frames of clips; or "i3d", for clips (B, 3, F, H, W) of at
            least 10 frames. Pictures are resized to 299 x 299 pixels with values in 0..255, clips to 224 x 224 in
            -1..1 (bilinear, with antialiasing; scores depend on it, so compare only what was resized alike).
        device: where it runs.
        options: what its `forward` is given besides the pictures, where that differs from the files named above.

    Calling it with pictures or clips in [-1, 1] returns features on the CPU, (B, D) float64; with frames of clips for
    "inception", (B F, D).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the kind is unknown, the file is no TorchScript, or, when it is called, the pictures do not fit,
            or what the network returns is no (N, D) of finite numbers.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        device: str | torch.device = "cpu",
        options: dict[str, object] | None = None,
    ):
        if kind not in KINDS:
            raise ValueError(f"expected one of {', '.join(map(repr, KINDS))} as the kind, got {kind!r}")
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no TorchScript file at {path}")
        try:
            self.network = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"{path} is no TorchScript file that PyTorch can load: {reason}") from error
        self.path, self.kind, self.device = path, kind, torch.device(device)
        self.options = KINDS[kind]["options"] if options is None else options

    @torch.no_grad()
    def __call__(self, x: Tensor, batch: int = 32) -> Tensor:
        """Features of pictures or clips in [-1, 1], so many at a time."""
        x = self.fitting(x)
        return torch.cat([self.network_on(part) for part in x.split(batch)])

    def fitting(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), or clips (B, 3, F, H, W) for I3D, as they came; or a ValueError."""
        require_pictures(x)
        axes = (4, 5) if self.kind == "inception" else (5,)
        if x.ndim not in axes or x.shape[1] != 3:
            wanted = "pictures (B, 3, H, W) or clips (B, 3, F, H, W)" if 4 in axes else "clips (B, 3, F, H, W)"
            raise ValueError(f"{self.kind} expects {wanted}, got shape {tuple(x.shape)}")
        if self.kind == "inception" and x.ndim == 5:
            x = rearrange(x, "b c f h w -> (b f) c h w")
        least = KINDS[self.kind]["frames"]
        if x.ndim == 5 and x.shape[2] < least:
            raise ValueError(f"{self.kind} needs clips of at least {least} frames, got {x.shape[2]}")
        if x.min() < -1 - OVERSHOOT or x.max() > 1 + OVERSHOOT:
            raise ValueError(f"expected values in [-1, 1], got {x.min():.3g}..{x.max():.3g}")
        return x

    def prepared(self, x: Tensor) -> Tensor:
        """At the size and in the range that the network expects."""
        frames = rearrange(x, "b c f h w -> (b f) c h w") if x.ndim == 5 else x
        kind = KINDS[self.kind]
        frames = frames.to(self.device, torch.float32).clamp(-1, 1)
        frames = F.interpolate(frames, (kind["size"],) * 2, mode="bilinear", antialias=True)
        frames = kind["low"] + (frames + 1) / 2 * (kind["high"] - kind["low"])
        return rearrange(frames, "(b f) c h w -> b c f h w", b=len(x)) if x.ndim == 5 else frames

    def network_on(self, x: Tensor) -> Tensor:
        """The network's features of one batch, checked."""
        try:
            found = self.network(self.prepared(x), **self.options)
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[-1][:200]
            given = f"with the options {self.options}" if self.options else "without options"
            raise ValueError(f"{self.path.name} cannot be called {given} ({reason}): give `options`") from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(x):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"expected features ({len(x)}, D) from {self.path.name}, got {came}")
        if not found.isfinite().all():
            raise ValueError(f"{self.path.name} returned features that are not finite")
        return found.double().cpu()
