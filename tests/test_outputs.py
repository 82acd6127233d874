"""What a worked notebook keeps of its outputs."""

from nbformat.v4 import new_output

from minivdm.course.outputs import WIDGET, tidy


def stream(name, text):
    return new_output("stream", name=name, text=text)


def test_prints_are_joined_and_progress_keeps_its_last_line():
    bar = [stream("stderr", f"\r {n}%|###| {n}/100") for n in (0, 50, 100)] + [stream("stderr", "\n")]
    kept = tidy([stream("stdout", "a\n"), stream("stdout", "b\n"), *bar, stream("stderr", "  \n")])
    assert [(o.name, o.text.strip()) for o in kept] == [("stdout", "a\nb"), ("stderr", "100%|###| 100/100")]


def test_a_live_widget_becomes_a_line_of_text_and_pictures_stay():
    widget = new_output("display_data", {WIDGET: {"model_id": "x"}, "text/plain": "VBox(...)"})
    picture = new_output("display_data", {"image/png": "abc", "text/plain": "<Figure>"})
    kept = tidy([widget, picture])
    assert kept[0].data == {"text/plain": "A slider: it appears when this cell is run."}
    assert kept[1].data == picture.data


def test_tidying_twice_changes_nothing():
    once = tidy([stream("stdout", "x\ry\n"), stream("stdout", "z")])
    assert tidy(once) == once
