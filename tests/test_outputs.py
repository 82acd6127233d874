"""What a worked notebook keeps of its outputs."""

import base64
import io

import numpy as np
import pytest
from nbformat.v4 import new_output
from PIL import Image

from minivdm.course.outputs import WIDGET, tidy
from minivdm.evaluation.diagrams import Diagram


def stream(name, text):
    return new_output("stream", name=name, text=text)


def test_prints_are_joined_and_progress_keeps_its_last_line():
    bar = [stream("stderr", f"\r {n}%|###| {n}/100") for n in (0, 50, 100)] + [stream("stderr", "\n")]
    kept = tidy([stream("stdout", "a\n"), stream("stdout", "b\n"), *bar, stream("stderr", "  \n")])
    assert [(o.name, o.text.strip()) for o in kept] == [("stdout", "a\nb"), ("stderr", "100%|###| 100/100")]


def as_png(pixels):
    png = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


@pytest.mark.parametrize("opaque", [True, False])
def test_a_picture_loses_its_alpha_channel_if_that_says_nothing(opaque):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 4))
    pixels[..., 3] = 255
    pixels[2, 3, 3] = 255 if opaque else 254
    before = new_output("display_data", {"image/png": as_png(pixels), "text/plain": "<Figure>"})
    png = tidy([before])[0].data["image/png"]
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    assert picture.mode == ("RGB" if opaque else "RGBA")
    assert np.array_equal(np.asarray(picture.convert("RGBA")), pixels)
    assert tidy(tidy([before])) == tidy([before]) and before.data["image/png"] == as_png(pixels)


def test_a_live_widget_becomes_a_line_of_text_and_pictures_stay():
    widget = new_output("display_data", {WIDGET: {"model_id": "x"}, "text/plain": "VBox(...)"})
    picture = new_output("display_data", {"image/png": as_png(np.zeros((2, 2, 3))), "text/plain": "<Figure>"})
    kept = tidy([widget, picture])
    assert kept[0].data == {"text/plain": "A slider: it appears when this cell is run."}
    assert kept[1].data == picture.data
    box = new_output("display_data", {WIDGET: {"model_id": "x"}, "text/plain": "Text(value='a red ring')"})
    screen = new_output("display_data", {WIDGET: {"model_id": "y"}, "text/plain": "Output()"})
    (kept,) = tidy([box, screen])
    assert kept.data == {"text/plain": "A box for text: it appears when this cell is run."}


def test_a_diagram_stays_as_it_is():
    diagram = Diagram("a box")
    diagram.box("x_t", 0, 0)
    shown = new_output("display_data", diagram._repr_mimebundle_())
    (kept,) = tidy([shown])
    assert kept == shown and set(kept.data) == {"text/html", "image/svg+xml", "text/plain"}


FOLDERS = ["/home/ada/lib/python3.12/site-packages/", "C:\\venv\\Lib\\site-packages\\"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_warning_does_not_tell_where_somebody_installed_a_package(folder):
    kept = tidy([stream("stderr", f"{folder}torch/x.py:8: UserWarning: slow\n  y = f(x)\n")])
    assert kept[0].text == "torch/x.py:8: UserWarning: slow\n  y = f(x)\n"


def test_tidying_twice_changes_nothing():
    once = tidy([stream("stdout", "x\ry\n"), stream("stdout", "z")])
    assert tidy(once) == once
