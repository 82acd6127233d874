"""Where attention looks: the weights of one layer, while its network is at work."""

import torch
from einops import rearrange


@torch.no_grad()
def attention_weights(layer, run):
    r"""The weights softmax(Q K^T / sqrt(d)) of an attention layer inside a network.

    The layer's input is noted while the network runs, and Q and K are worked out from it once more.

    Args:
        layer: a `SelfAttention` or a `CrossAttention`; one that a learner wrote, too.
        run: called once, without arguments; should run the network that the layer belongs to.

    Returns:
        (B, heads, H W, L): for each place, how much it attends to each word, or, in self-attention, to each of
        L = H W places; the weights of a place add up to 1.

    Raises:
        ValueError: if `run` never came to the layer.
    """
    seen = []
    handle = layer.register_forward_hook(lambda layer, inputs, output: seen.append(inputs))
    try:
        run()
    finally:
        handle.remove()
    if not seen:
        raise ValueError("the attention layer was not called: run the network it belongs to")
    x, *context = seen[-1]
    if context:
        q, k = layer.q(layer.norm(x)).flatten(2), layer.kv(context[0]).transpose(1, 2).chunk(2, dim=1)[0]
    else:
        q, k, _ = layer.qkv(layer.norm(x)).flatten(2).chunk(3, dim=1)  # (B, C, HW) each
    q, k = (rearrange(part, "b (n d) p -> b n p d", n=layer.heads) for part in (q, k))  # (B, heads, HW or L, d)
    return (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
