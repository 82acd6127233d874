r"""DreamBooth: teach a trained model a new word from a few pictures, and keep what it knows.

Ruiz et al., "DreamBooth", CVPR 2023. What is trained is whatever the model leaves to be trained: an adapter and new
words (`add_concept`), or all of it (`model.requires_grad_(True)`), as the paper does. The prior pictures are the
model's own, drawn before it is tuned, so no training data are needed but the few new pictures.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ..datasets.captions import Tokenizer
from ..diffusion.dreambooth import prior_preservation_loss
from ..diffusion.guidance import drop_condition
from ..diffusion.predictions import EpsModel
from ..training.ema import EMA
from ..training.loop import train
from .text2image import sample_tokens

PICTURES_AT_A_TIME = 64  # in one call of the model, for memory's sake
DROP = 0.1  # the share of captions that is emptied in training, as guidance needs it


def prior_pictures(
    model: EpsModel,
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    shape: Sequence[int] = (3, 32, 32),
    steps: int = 15,
    guidance_scale: float = 3.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """What a model draws before it is tuned: pictures (N, *shape), and the tokens (N, L) they were drawn from.

    Args:
        model: as for `sample_tokens`.
        prompts: N captions.
        tokenizer: what the model reads them with.
        shape, steps, guidance_scale, generator: as for `sample_tokens`.
    """
    tokens = tokenizer.encode(prompts)
    drawn = sample_tokens(tokens, shape, model, steps, guidance_scale, generator, None, PICTURES_AT_A_TIME)
    return drawn, tokens.to(drawn.device)


def mixed_batches(
    pictures: Tensor, tokens: Tensor, prior: tuple[Tensor, Tensor] | None, new: int, old: int
) -> Callable:
    """A `batch(generator)` of `new` pictures of the new thing and, behind them, `old` prior pictures.

    Args:
        pictures: (N, ...) of the new thing.
        tokens: (N, W, L) long, W wordings of each caption.
        prior: pictures (M, ...) and tokens (M, L); None if `old` is 0.
        new, old: how many of each.

    Returns:
        `batch(generator)`, which gives clean data (new + old, ...) and tokens (new + old, L), some of them emptied.
    """

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        like = dict(generator=generator, device=pictures.device)
        pick = torch.randint(len(pictures), (new,), **like)
        wording = torch.randint(tokens.shape[1], (new,), **like)
        x0, cond = pictures[pick], tokens[pick, wording]
        if old:
            pick = torch.randint(len(prior[0]), (old,), **like)
            x0, cond = torch.cat([x0, prior[0][pick]]), torch.cat([cond, prior[1][pick]])
        return x0, drop_condition(cond, DROP, generator)

    return batch


def tune(
    model: EpsModel,
    pictures: Tensor,
    tokens: Tensor,
    prior: tuple[Tensor, Tensor] | None = None,
    steps: int = 250,
    lr: float = 4e-3,
    batch: int = 4,
    weight: float = 1.0,
    seed: int = 0,
    loss: Callable = prior_preservation_loss,
    **options: object,
) -> Iterator[tuple[int, Tensor]]:
    """Tune what a model leaves to be trained; a generator, as `train` is.

    Args:
        model: predicts v; on its device, changed in place.
        pictures: (N, ...) of the new thing, in [-1, 1].
        tokens: (N, W, L) long, W wordings of the caption of each.
        prior: prior pictures and their tokens, as from `prior_pictures`; None: none.
        steps, lr, seed, options: as for `train`; the rate falls along a straight line.
        batch: pictures of the new thing in a step; as many prior ones come with them.
        weight: how much the prior pictures count.
        loss: `loss(net, x0, schedule, cond, generator, prior, weight)`.

    Yields:
        (step, loss).

    Raises:
        ValueError: if nothing is left to be trained, or the pictures and the tokens are not as many; and from `train`.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("nothing is left to be trained: give the model an adapter, or model.requires_grad_(True)")
    if tokens.ndim != 3 or len(tokens) != len(pictures) or not len(pictures):
        came = f"{len(pictures)} pictures and tokens of shape {tuple(tokens.shape)}"
        raise ValueError(f"expected pictures, and (N, W, L) tokens, the wordings of each; got {came}")
    device, old = pictures.device, batch if prior else 0
    draw = mixed_batches(pictures, tokens.to(device), prior, batch, old)
    chosen = dict(loss=partial(loss, prior=old, weight=weight), decay="linear", warm_up=20, progress=False)
    yield from train(
        model.net, EMA(model.net), draw, model.schedule.to(device), steps, lr, seed=seed, **(chosen | options)
    )
    model.eval()
