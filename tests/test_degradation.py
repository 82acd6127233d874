"""What stages start from: fewer pixels, fewer frames, and a mask that says which are known."""

import pytest
import torch

from minivdm.datasets.degradation import enlarge, guessed_frames, known_frames, linear_frames, shrink, spread_frames


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_shrinking_is_the_mean_of_each_square():
    x = draw(2, 3, 4, 6, 9)
    small = shrink(x, 3)
    assert small.shape == (2, 3, 4, 2, 3)
    assert torch.allclose(small[1, 2, 3, 1, 2], x[1, 2, 3, 3:, 6:].mean(), atol=1e-6)
    assert torch.equal(shrink(x[:, :, 1], 3), small[:, :, 1])
    with pytest.raises(ValueError, match=r"multiples of 2, got \(6, 9\)"):
        shrink(x, 2)


def test_enlarging_keeps_each_frame_for_itself():
    x = draw(2, 3, 4, 5, 6)
    large = enlarge(x, 2)
    assert large.shape == (2, 3, 4, 10, 12)
    for f in range(4):
        assert torch.equal(enlarge(x[:, :, f], 2), large[:, :, f])
    assert torch.allclose(enlarge(torch.full((1, 3, 2, 4, 4), 0.3), 2), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("frames, skip", [(16, 2), (16, 3), (16, 5), (5, 4), (5, 1), (3, 7)])
def test_guess_and_mask_are_right_at_both_ends(frames, skip):
    clip = draw(3, 2, frames, 2, 4)
    skips = torch.tensor([skip, 1, frames])
    out = guessed_frames(clip, skips)
    assert out.shape == (3, 3, frames, 2, 4)
    for b, s in enumerate(skips.tolist()):
        for f in range(frames):
            known = f in range(0, frames, s)
            assert (out[b, 2, f] == float(known)).all()
            p, w = f - f % s, f % s / s
            after = clip[b, :, p + s] if p + s < frames else clip[b, :, p]
            assert torch.allclose(out[b, :2, f], (1 - w) * clip[b, :, p] + w * after, atol=1e-6)
            assert not known or torch.equal(out[b, :2, f], clip[b, :, f])
    assert (out[:, 2, 0] == 1).all(), "the first frame is always known"
    assert (out[0, 2, -1] == float((frames - 1) % skip == 0)).all(), "the last one where skip divides F - 1"


def test_what_is_not_known_has_no_effect():
    clip = draw(1, 3, 4, 2, 2)
    spoilt = clip.clone()
    spoilt[:, :, [1, 3]] = float("nan")
    assert torch.equal(guessed_frames(spoilt, torch.tensor([2])), guessed_frames(clip, torch.tensor([2])))
    with pytest.raises(ValueError, match=r"got shapes \(1, 3, 4, 2, 2\) and \(2,\)"):
        guessed_frames(clip, torch.tensor([2, 2]))


def test_known_frames_are_put_in_their_places():
    known = draw(2, 3, 4, 2, 2)
    clip = spread_frames(known, 2, 8)
    assert torch.equal(clip[:, :, ::2], known) and (clip[:, :, 1::2] == 0).all()
    assert [known_frames(16, skip) for skip in (1, 2, 3, 4, 5, 15, 16)] == [16, 8, 6, 4, 4, 2, 1]
    with pytest.raises(ValueError, match=r"every frame in 2 of 9 are 5 frames, \(B, C, 5, H, W\), got shape"):
        spread_frames(known, 2, 9)


def test_between_known_frames_lie_their_weighted_means():
    known = draw(1, 1, 3, 1, 1)
    a, b, c = known.flatten().tolist()
    made = linear_frames(known, 3, 9).flatten().tolist()
    expected = [a, (2 * a + b) / 3, (a + 2 * b) / 3, b, (2 * b + c) / 3, (b + 2 * c) / 3, c, c, c]
    assert made == pytest.approx(expected, abs=1e-6), "behind the last known frame it stays"
