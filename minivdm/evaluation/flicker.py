r"""How much a clip trembles: an error that stays is no flicker, one that comes and goes is."""

from torch import Tensor


def flicker(clips: Tensor, truth: Tensor) -> Tensor:
    r"""How far the change from each frame to the next is from the true one.

        flicker = sqrt( mean( ( (x_{f+1} - x_f) - (y_{f+1} - y_f) )^2 ) )

    A constant error, such as a blur that stays, is no flicker; a detail that comes and goes is. Where nothing
    moves the true change is 0.

    Args:
        clips, truth: (B, C, F, H, W) x and y, F >= 2.

    Returns:
        (B,), in units of the pixels.

    Raises:
        ValueError: if the shapes differ, or there is one frame only.
    """
    if clips.shape != truth.shape or clips.ndim != 5 or clips.shape[2] < 2:
        came = f"{tuple(clips.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"expected two sets of clips of one shape, with two frames or more, got {came}")
    return (clips - truth).diff(dim=2).square().flatten(1).mean(dim=1).sqrt()
