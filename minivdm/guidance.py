r"""Following a condition more closely than the data do (Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022).

One network learns both eps(x, t, c) and, because the condition is dropped now and then, eps(x, t, null). At sampling
time the difference between the two points to where the condition matters, and guidance walks further that way:

    eps = eps_u + s (eps_c - eps_u)        s = 1: off;  s = 0: unconditional   (the paper's w is s - 1)
"""

import torch


def drop_condition(tokens, probability=0.1, generator=None):
    """Replace each *sample's* tokens by the null prompt, all or nothing, with a given probability.

    Args:
        tokens: (B, L) long.
        probability: of dropping, 0..1; 10 to 20% is usual (Ho and Salimans, 2022, section 4).
        generator: `torch.Generator` on the tokens' device.

    Returns:
        (B, L) long; a dropped row is all 0, the padding.
    """
    keep = torch.rand(len(tokens), 1, generator=generator, device=tokens.device) >= probability  # (B, 1)
    return tokens * keep


class ClassifierFreeGuidance:
    r"""A model that follows its condition `scale` times as far: eps_u + scale (eps_c - eps_u).

    Both estimates come from *one* call on a doubled batch, which keeps a GPU busier than two calls.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x.
        scale: guidance scale s; 1 = off, and then the batch is not doubled.
        null: the null condition, like `cond` or one row of it; default: all 0, the padding of tokens.

    Called as `guided(x, t, cond)` with x (B, ...), t (B,) long and cond (B, L) long or (B, L, D) float; returns a
    tensor like x.
    Raises a ValueError if there is no condition to follow.
    """

    def __init__(self, model, scale, null=None):
        self.model, self.scale, self.null = model, scale, null

    def __call__(self, x, t, cond=None):
        if cond is None:
            raise ValueError("guidance needs a condition: expected (B, L) tokens, got None")
        if self.scale == 1:
            return self.model(x, t, cond)
        null = torch.zeros_like(cond) if self.null is None else self.null.expand_as(cond)
        both = torch.cat([null, cond])  # (2B, L) or (2B, L, D)
        eps_u, eps_c = self.model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)  # 2 x (B, ...)
        return eps_u + self.scale * (eps_c - eps_u)
