"""Pictures and clips: the right pixels in the right place, and files that can be read back."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from minivdm.datasets.digits import digits
from minivdm.datasets.gif_files import save_gif
from minivdm.datasets.pixels import to_model_range
from minivdm.evaluation import viz
from minivdm.evaluation.digit_classifier import train_digit_classifier


def test_to_uint8():
    images = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 2, 2)
    assert viz.to_uint8(images).shape == (1, 2, 2, 3)
    assert viz.to_uint8(images)[0, :, :, 0].tolist() == [[0, 128], [255, 255]]


def test_bytes_survive_the_way_there_and_back():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert (viz.to_uint8(to_model_range(images))[..., 0] == images[0].numpy()).all()


def test_sheet_places_images_row_by_row():
    images = torch.stack([torch.full((1, 2, 2), v) for v in (-1.0, -0.5, 0.0, 0.5, 1.0)])
    page = viz.sheet(images, cols=3)
    assert page.shape == (5, 8, 3)
    assert page[0, 0, 0] == 0 and page[0, 3, 0] == 64 and page[3, 3, 0] == 255
    assert page[3, 6, 0] == 255 and page[0, 2, 0] == 255  # empty place and gap are white


def test_gif_holds_every_frame(tmp_path):
    clip = torch.linspace(-1, 1, 6)[None, :, None, None].expand(3, 6, 4, 4)
    path = save_gif(clip, tmp_path / "a" / "clip.gif", fps=10, scale=2)
    gif = Image.open(path)
    assert gif.n_frames == 6 and gif.size == (8, 8) and gif.info["loop"] == 0 and gif.info["duration"] == 100
    shades = []
    for i in range(6):
        gif.seek(i)
        shades.append(int(np.asarray(gif.convert("RGB"))[0, 0, 0]))
    assert shades == sorted(shades) and shades[0] == 0 and shades[-1] == 255
    assert [p.name for p in path.parent.iterdir()] == ["clip.gif"]


def test_a_clip_must_be_one_clip():
    with pytest.raises(ValueError, match=r"one clip of shape \(C, F, H, W\), got \(2, 3, 4, 8, 8\)"):
        viz.frames_of(torch.zeros(2, 3, 4, 8, 8))


def test_figures_are_drawn_without_a_screen(tmp_path):
    viz.show_images(torch.rand(10, 1, 8, 8), "ten", cols=5, labels=list("abcdefghij"))
    rows = viz.plt.gcf().axes[0]
    viz.show_images(torch.rand(10, 1, 8, 8), "two rows", cols=5, rows=["up", "down"], ax=rows)
    assert [text.get_text() for text in rows.texts[-2:]] == ["up", "down"]
    path = viz.save_figure(tmp_path / "b" / "figure.png")
    assert Image.open(path).width > 100
    png = viz.figure_png(lambda value: viz.show_images(torch.rand(4, 1, 8, 8), str(value)), 3)
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_digits():
    images, labels = digits()
    unseen, unseen_labels = digits(held_out=True)
    assert images.shape == (1498, 1, 8, 8) and unseen.shape == (299, 1, 8, 8)
    assert images.min() == -1 and images.max() == 1 and images.dtype == torch.float32
    assert set(labels.tolist()) == set(unseen_labels.tolist()) == set(range(10))
    assert torch.cdist(unseen.flatten(1), images.flatten(1)).min() > 0  # no digit is in both


def test_the_judge_reads_unseen_digits():
    state = torch.get_rng_state()
    classifier = train_digit_classifier()
    assert torch.equal(torch.get_rng_state(), state)
    images, labels = digits(held_out=True)
    assert (classifier(images).argmax(1) == labels).float().mean() > 0.95
    assert classifier.features(images).shape == (299, 64)


@pytest.mark.parametrize("missing", ["IPython.display", "ipywidgets"])
def test_without_a_notebooks_packages_one_line_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r'pip install "minivdm\[course\]"'):
        viz.slider(lambda value: None, [1, 2], "value")
    if missing == "IPython.display":
        with pytest.raises(ImportError, match="players and sliders need"):
            viz.play(torch.zeros(1, 3, 2, 4, 4))


def test_only_bytes_become_floats_and_only_floats_bytes():
    for images in (torch.rand(1, 2, 2), torch.zeros(1, 2, 2).long()):
        with pytest.raises(ValueError, match="expected bytes"):
            to_model_range(images)
    for images in (torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), float("nan"))):
        with pytest.raises(ValueError, match="expected pictures"):
            viz.to_uint8(images)
