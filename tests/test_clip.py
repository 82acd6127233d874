"""CLIP: what its parts must do, against hand-made numbers, identities and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from minivdm.models.clip import CLIP, ImageEncoder, clip_loss, pool_words


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pooling_by_hand():
    h = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[5.0, 5.0], [7.0, 7.0], [8.0, 8.0]]])
    assert pool_words(h, torch.tensor([[4, 2, 0], [0, 0, 0]])).tolist() == [[2, 4], [0, 0]]
    assert pool_words(h, torch.tensor([[1, 1, 1], [3, 0, 0]]))[1].tolist() == [5, 5]


def test_what_stands_in_the_padding_does_not_matter():
    h, tokens = torch.randn(3, 6, 4, generator=seeded(), requires_grad=True), torch.tensor([[5, 1, 2, 0, 0, 0]] * 3)
    pool_words(h, tokens).sum().backward()
    assert torch.allclose(h.grad[:, :3], torch.full((3, 3, 4), 1 / 3)) and not h.grad[:, 3:].any()


def test_the_loss_of_known_logits():
    """Orthogonal unit vectors: each right answer has the odds e^scale against B - 1 others of odds 1."""
    for B, scale in ((2, 1.0), (5, 3.0)):
        u = 7 * torch.eye(B)
        want = math.log(math.exp(scale) + B - 1) - scale
        assert clip_loss(u, u, scale).item() == pytest.approx(want, abs=1e-6)
        assert clip_loss(u, u.roll(1, 0), scale).item() == pytest.approx(want + scale, abs=1e-6)
        assert clip_loss(u, torch.ones(B, B), scale).item() == pytest.approx(math.log(B), abs=1e-6)


def test_the_loss_is_the_same_for_both_sides_any_order_and_any_length():
    u, w = torch.randn(2, 7, 5, generator=seeded(), dtype=torch.float64)
    order, lengths = torch.randperm(7, generator=seeded()), torch.rand(7, 1, generator=seeded()) + 0.1
    loss = clip_loss(u, w, 4.0)
    assert torch.allclose(loss, clip_loss(w, u, 4.0)) and torch.allclose(loss, clip_loss(u[order], w[order], 4.0))
    assert torch.allclose(loss, clip_loss(u * lengths, w / lengths, 4.0))
    assert clip_loss(u, u, 50.0) < 1e-3 < loss


def test_the_loss_by_finite_differences():
    u, w = torch.randn(2, 4, 3, generator=seeded(), dtype=torch.float64).requires_grad_().unbind()
    assert torch.autograd.gradcheck(clip_loss, (u, w, torch.tensor(2.0, dtype=torch.float64, requires_grad=True)))


def test_the_image_encoder_keeps_the_place():
    """A bright spot moved by half a picture changes the embedding as much as its absence."""
    torch.manual_seed(0)
    encoder = ImageEncoder(dim=16, width=8, size=32).eval()
    images = -torch.ones(3, 3, 32, 32)
    images[0, :, 4:12, 4:12] = images[1, :, 4:12, 20:28] = 1
    with torch.no_grad():
        left, right, nothing = encoder(images)
        assert encoder(images[:2]).shape == (2, 16)
        assert torch.allclose(encoder(images[:1])[0], left, atol=1e-5), "no sample sees the others in its batch"
    assert (left - right).norm() > 0.7 * (left - nothing).norm() > 0.01
    assert ImageEncoder(dim=4, width=8, size=16)(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(RuntimeError):
        encoder(torch.zeros(2, 3, 16, 16))


def test_clip_returns_unit_vectors_and_a_bounded_scale():
    torch.manual_seed(0)
    clip = CLIP(words=20, length=6, dim=16, width=8, size=16)
    images, tokens = torch.randn(3, 3, 16, 16), torch.randint(1, 20, (3, 6))
    for embedded in (clip.embed_images(images), clip.embed_texts(tokens)):
        assert embedded.shape == (3, 16) and torch.allclose(embedded.norm(dim=1), torch.ones(3), atol=1e-5)
    assert clip.embed_texts(torch.zeros(1, 6).long()).isfinite().all(), "the empty prompt has no direction, but no NaN"
    assert clip.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        clip.log_scale.fill_(9.0)
    assert clip.scale().item() == 100
    with pytest.raises(ValueError, match=r"expected \(B, 6\) long tokens, got torch.int64 of shape \(3, 5\)"):
        clip.embed_texts(tokens[:, :5])


def test_clip_learns_four_pairs():
    torch.manual_seed(0)
    clip = CLIP(words=10, length=4, dim=16, width=8, size=16)
    images, tokens = torch.randn(4, 3, 16, 16), torch.tensor([[1, 2, 0, 0], [1, 3, 0, 0], [4, 2, 5, 0], [6, 0, 0, 0]])
    optimizer = torch.optim.Adam(clip.parameters(), lr=3e-3)
    for _ in range(25):
        loss = clip_loss(clip.embed_images(images), clip.embed_texts(tokens), clip.scale())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosines = F.normalize(clip.image(images), dim=1) @ clip.embed_texts(tokens).T
    assert cosines.argmax(dim=1).tolist() == cosines.argmax(dim=0).tolist() == [0, 1, 2, 3]
    assert loss < 0.2 and all(p.grad is not None and p.grad.any() for p in clip.parameters())


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
@pytest.mark.parametrize("start", [math.log(100) - 0.05, math.log(100), math.log(100) + 0.05, 9.0, 200.0])
def test_a_scale_at_its_bound_can_be_trained_back(optimizer, start):
    """Unrelated pairs: the smaller the scale, the smaller the loss."""
    clip, images, texts = CLIP(words=5, width=8, size=8), *torch.randn(2, 8, 64, generator=seeded())
    weights = {**clip.state_dict(), "log_scale": torch.tensor(start)}
    clip.load_state_dict(weights)
    assert clip.scale() <= 100
    optimizer = optimizer([clip.log_scale], lr=1e-2 if optimizer is torch.optim.SGD else 0.1)
    for _ in range(40):
        loss = clip_loss(images, texts, clip.scale())
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        assert clip.scale() <= 100 and clip.log_scale.grad.abs() > 0
    assert clip.scale() < 50


def test_a_scale_pushed_against_its_bound_stays_there_and_comes_back_at_once():
    clip, (u, w) = CLIP(words=5, width=8, size=8), torch.randn(2, 8, 64, generator=seeded())
    sgd = torch.optim.SGD([clip.log_scale], lr=1.0)
    for step in range(60):
        scale = clip.scale()
        loss = -0.01 * scale if step < 50 else clip_loss(u, w, scale)
        sgd.zero_grad(), loss.backward(), sgd.step()
        if step == 49:
            assert clip.scale() == 100
    assert clip.scale() < 50


@pytest.mark.parametrize("shape", [(2, 3, 16, 64), (2, 3, 31, 31), (2, 3, 64, 64), (2, 1, 32, 32)])
def test_pictures_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"pictures \(B, 3, 32, 32\)"):
        CLIP(20).embed_images(torch.zeros(shape))
