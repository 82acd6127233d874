"""Hints: edges beside SciPy and beside loops, masks beside the renderer's own, dots, key points and paths."""

import math

import pytest
import torch
from scipy import ndimage

from minivdm.datasets.hinted import hinted_stills, wandering_clips
from minivdm.datasets.hints import HINTS, box_points, centres, dots, edges, key_points, masks, of_frames, paths, sobel
from minivdm.datasets.shapes import SHAPES, coverage, paint
from minivdm.datasets.sprites import MovingSprites, all_triples, held_out
from minivdm.datasets.stills import STILL_ATTRIBUTES, SpriteStills
from minivdm.evaluation.overlap import centre_distance, corner_distance, iou


def drawn_stills(n=600, seed=0):
    """Stills of all triples with their exact masks."""
    generator, stills, triples = (
        torch.Generator().manual_seed(seed),
        SpriteStills(),
        all_triples("all", STILL_ATTRIBUTES),
    )
    shape, colour, place = triples[torch.randint(len(triples), (n,), generator=generator)].unbind(1)
    x, y, radius = stills.spots(place, generator)
    pictures = paint(shape, colour, x, y, radius, torch.ones_like(x), 32, generator)[:, :, 0]
    return pictures, coverage(shape, x, y, radius, 32), torch.cat([x, y], dim=1)


def test_sobel_is_that_of_scipy():
    images = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    for got, axis in zip(sobel(images), (1, 0)):
        for mine, channel in zip(got.flatten(0, 1), images.flatten(0, 1)):
            want = ndimage.sobel(channel.numpy(), axis, mode="nearest") / 8
            assert torch.allclose(mine, torch.from_numpy(want))


def edges_by_loops(image, threshold):
    """The definition, pixel by pixel."""
    right, down = (s[0] for s in sobel(image[None]))
    channels, height, width = image.shape
    length = torch.zeros(height + 2, width + 2, dtype=image.dtype)
    across = torch.zeros(height, width, dtype=torch.bool)
    for i in range(height):
        for j in range(width):
            best = max(range(channels), key=lambda c: math.hypot(right[c, i, j], down[c, i, j]))
            length[i + 1, j + 1] = math.hypot(right[best, i, j], down[best, i, j])
            across[i, j] = abs(right[best, i, j]) >= abs(down[best, i, j])
    out = torch.zeros(1, height, width, dtype=image.dtype)
    for i in range(height):
        for j in range(width):
            here = length[i + 1, j + 1]
            before, after = (
                (length[i + 1, j], length[i + 1, j + 2]) if across[i, j] else (length[i, j + 1], length[i + 2, j + 1])
            )
            out[0, i, j] = float(here >= threshold and here > before and here >= after)
    return out


def test_edges_are_those_of_the_definition():
    images = torch.rand(3, 3, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    got = edges(images, 0.2)
    assert 0.05 < got.mean() < 0.6
    for picture, lines in zip(images, got):
        assert torch.equal(lines, edges_by_loops(picture, 0.2))


def test_edges_of_a_square_are_one_pixel_wide_and_a_flat_picture_has_none():
    picture = -torch.ones(1, 3, 20, 20)
    picture[:, :, 5:15, 6:16] = 1
    lines = edges(picture)[0, 0]
    assert (lines[8:12].sum(dim=1) == 2).all() and (lines[:, 8:14].sum(dim=0) == 2).all()
    assert not edges(torch.full((2, 3, 8, 8), 0.4)).any()
    assert not edges(torch.linspace(-0.2, 0.2, 16).expand(1, 3, 16, 16)).any(), "a sloping ground is no edge"


def test_edges_see_blue_as_well_as_white():
    for colour in range(8):
        one = torch.zeros(1, 1)
        ring = [
            torch.tensor([5]),
            torch.tensor([colour]),
            one,
            one,
            one + 0.35,
            one + 1,
            32,
            torch.Generator().manual_seed(0),
        ]
        assert 25 < edges(paint(*ring)[:, :, 0]).sum() < 90


def test_masks_of_drawn_pictures_are_the_renderers():
    pictures, exact, _ = drawn_stills()
    overlap = iou(masks(pictures), exact)
    assert overlap.mean() > 0.985 and overlap.quantile(0.01) > 0.8
    noisy = (pictures + 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    assert iou(masks(noisy), exact).mean() > 0.95


def test_masks_of_clips_and_of_nothing():
    sprites, generator = MovingSprites(8, 32), torch.Generator().manual_seed(0)
    shape, colour, motion = all_triples("all")[::3].unbind(1)
    x, y, radius, visible = sprites.paths(motion, generator)
    clips = paint(shape, colour, x, y, radius, visible, 32, generator)
    found, exact = of_frames(masks, clips), (coverage(shape, x, y, radius, 32) * visible[:, :, None, None])[:, None]
    assert found.shape == exact.shape == (len(shape), 1, 8, 32, 32)
    assert iou(found[:, 0].flatten(0, 1), exact[:, 0].flatten(0, 1)).mean() > 0.985
    assert not found[:, 0][visible == 0].any(), "an empty ground has no sprite"


def test_iou_counts_pixels():
    a, b = torch.zeros(4, 1, 4, 4), torch.zeros(4, 1, 4, 4)
    a[0, 0, :2], b[0, 0, 1:3] = 1, 1  # 4 of 12
    a[1, 0, 0], b[1, 0, 0] = 1, 1
    a[2, 0, 0], b[2, 0, 3] = 1, 1
    assert torch.allclose(iou(a, b), torch.tensor([1 / 3, 1, 0, 1]))
    with pytest.raises(ValueError, match="finite masks of one shape"):
        iou(a, b[:3])
    with pytest.raises(ValueError, match="finite masks"):
        iou(a, b.log())


def test_centres_and_their_distance():
    _, exact, where = drawn_stills(100)
    assert (centres(exact) - where).abs().max() < 0.1  # a triangle's centre of mass is not the middle of its circle
    symmetric = coverage(
        torch.full((100,), list(SHAPES).index("ring")), where[:, :1], where[:, 1:], torch.full((100, 1), 0.3), 32
    )
    assert centre_distance(symmetric, where).max() < 0.05
    assert centre_distance(symmetric, where + torch.tensor([0.25, 0])).sub(4).abs().max() < 0.05  # 0.25 * 32 / 2 pixels
    assert centre_distance(torch.zeros(2, 3, 1, 8, 8), torch.zeros(2, 3, 2)).isinf().all()


def test_dots():
    points = torch.tensor([[[0.5 / 16, 0.5 / 16], [math.nan, 0.0]]])  # the centre of pixel (16, 16), and no point
    picture = dots(points, 32)
    assert picture.shape == (1, 1, 32, 32) and picture.max() == picture[0, 0, 16, 16] == 1
    assert torch.isclose(picture[0, 0, 16, 19], torch.tensor(math.exp(-(3**2) / (2 * 1.5**2))))
    assert (centres(dots(points[:, :1], 32)) - points[:, 0]).abs().max() < 1e-3
    assert not dots(torch.full((1, 2, 2), math.nan), 8).any()


def test_key_points_mark_the_box_and_the_centre():
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, 0, 4:11, 8:21] = 1
    lit = key_points(mask)
    assert not lit[1].any(), "an empty mask has no points"
    for row, column in ((4, 8), (4, 20), (10, 8), (10, 20), (7, 14)):
        assert lit[0, 0, row, column] == 1
    assert (lit[0, 0] > 0.99).sum() == 5


def test_corners_are_those_of_the_box_and_their_distance_is_in_pixels():
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, 0, 3:8, 2:13] = 1  # rows 3..7, columns 2..12; the other mask is empty
    points = box_points(mask)
    left, right, top, bottom = ((2 * i + 1) / 16 - 1 for i in (2, 12, 3, 7))
    expected = [[left, top], [left, bottom], [right, top], [right, bottom], [(left + right) / 2, (top + bottom) / 2]]
    assert torch.allclose(points[0], torch.tensor(expected)) and points[1].isnan().all()
    moved = mask.roll((4, 3), (2, 3))
    assert corner_distance(mask, moved)[0] == pytest.approx(5) and corner_distance(mask, moved)[1].isinf()
    assert corner_distance(mask, mask)[0] == 0


@pytest.mark.parametrize("kind", HINTS)
def test_each_kind_of_hint_lies_between_0_and_1_and_belongs_to_its_own_picture(kind):
    pictures, _, _ = drawn_stills(6)
    hint = HINTS[kind](pictures)
    assert hint.shape == (6, 1, 32, 32) and hint.min() >= 0 and hint.max() == 1
    assert torch.equal(HINTS[kind](pictures[2:3]), hint[2:3])
    assert torch.equal(of_frames(HINTS[kind], pictures.unflatten(0, (2, 3)).transpose(1, 2))[1, :, 2], hint[5])


def test_a_path_is_walked_at_an_even_speed():
    line = paths([(-0.5, -0.5), (0.5, -0.5), (0.5, -0.5), (0.5, 0.5)], 9)
    steps = (line[1:] - line[:-1]).norm(dim=1)
    assert torch.allclose(steps, torch.full((8,), 0.25)) and line.dtype == torch.float32
    assert torch.allclose(line[[0, 4, 8]], torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5]]))
    assert torch.allclose(paths([(0.1, 0.2)], 4), torch.tensor([0.1, 0.2]).expand(4, 2))
    assert torch.allclose(paths([(0, 0), (0, 0)], 2), torch.zeros(2, 2))
    corner = paths([(0, 0), (1, 0), (1, 3)], 6)  # 4 units of line in 5 steps
    assert torch.allclose(corner[1:3], torch.tensor([[0.8, 0], [1, 0.6]]), atol=1e-6)


@pytest.mark.parametrize("points, frames", [([], 4), ([(0, math.nan)], 4), ([(0, 0, 0)], 4), ([(0, 0), (1, 1)], 1)])
def test_no_path(points, frames):
    with pytest.raises(ValueError, match="expected finite points"):
        paths(points, frames)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_hinted_stills_are_stills_with_their_masks(split):
    pictures, exact, attributes = hinted_stills(200, torch.Generator().manual_seed(0), split)
    assert pictures.shape == (200, 3, 32, 32) and exact.shape == (200, 1, 32, 32)
    assert (held_out(attributes) == (split == "held_out")).all()
    assert iou(masks(pictures), exact).mean() > 0.985


def test_wandering_clips_go_where_their_centres_say_and_stay_inside():
    clips, where, _ = wandering_clips(60, torch.Generator().manual_seed(0), frames=8)
    assert clips.shape == (60, 3, 8, 32, 32) and where.shape == (60, 8, 2) and where.abs().max() < 0.66
    off = centre_distance(of_frames(masks, clips).transpose(1, 2), where)
    assert off.mean() < 0.8 and off.max() < 2.5  # a triangle's centre of mass lies below the middle of its circle
    walked = (where[:, 1:] - where[:, :-1]).norm(dim=-1).sum(dim=1)
    assert walked.mean() > 0.5 and (walked[:, None] != walked).any()


def test_the_same_seed_draws_the_same():
    for draw in (hinted_stills, wandering_clips):
        one, two = (draw(3, torch.Generator().manual_seed(1)) for _ in range(2))
        assert all(map(torch.equal, one, two))
